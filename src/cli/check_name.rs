//! `kdk registry check-name`: whether an image may be called so, before a push says that it may not.

use clap::Args;
use serde_json::json;

use super::error::{CommandError, USER};
use super::ui::Ui;
use crate::registry::oci::{RepoName, Tag};

/// Longest name of a repository (distribution-spec, "Pulling manifests"), in characters.
const LONGEST: usize = 255;
/// Longest tag, in characters.
const LONGEST_TAG: usize = 128;

/// Arguments of `kdk registry check-name`.
#[derive(Debug, Args)]
pub struct CheckNameArgs {
    /// What is to be pushed.
    #[arg(help = "GROUP/PROJECT[/BRANCH][:TAG], as it stands in a pipeline")]
    name: String,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// One part that cannot stay as it is.
#[derive(Debug, PartialEq, Eq)]
struct Fault {
    part: String,
    reason: String,
}

/// Names what is wrong with a name, and prints one that works.
pub fn run(ui: &Ui, args: &CheckNameArgs) -> Result<(), CommandError> {
    let (faults, works) = check(&args.name);
    if args.json {
        let listed: Vec<_> = faults
            .iter()
            .map(|fault| json!({"part": fault.part, "reason": fault.reason}))
            .collect();
        ui.json(&json!({"name": args.name, "valid": faults.is_empty(), "problems": listed, "works": works}))?;
    } else {
        for fault in &faults {
            ui.error(&format!("{:?}: {}", fault.part, fault.reason));
        }
        match &works {
            Some(works) if !faults.is_empty() => {
                ui.hint("this works:");
                ui.out(works);
            }
            Some(works) => ui.out(works),
            None => ui.hint("no part of it can stay; choose another name"),
        }
    }
    if faults.is_empty() {
        Ok(())
    } else {
        Err(CommandError::silent(USER))
    }
}

/// Returns what is wrong with a name, and what it may be called instead, if
/// anything is left of it.
fn check(name: &str) -> (Vec<Fault>, Option<String>) {
    let (path, tag) = match name.rsplit_once(':') {
        Some((path, tag)) if !tag.contains('/') => (path, Some(tag)),
        _ => (name, None),
    };
    let mut faults = Vec::new();
    let mut fault = |part: &str, reason: String| {
        faults.push(Fault {
            part: part.to_owned(),
            reason,
        });
    };
    let mut works: Vec<String> = Vec::new();
    for part in path.split('/') {
        // What is too long is said of the whole.
        if part.len() <= LONGEST && part.parse::<RepoName>().is_err() {
            fault(part, reason_of(part));
        }
        works.extend(Some(slug(part)).filter(|slug| !slug.is_empty()));
    }
    let mut works = works.join("/");
    if path.len() > LONGEST {
        fault(
            path,
            format!("has {} characters; a name has at most {LONGEST}", path.len()),
        );
        works.truncate(LONGEST);
        works.truncate(works.trim_end_matches(|end: char| !end.is_ascii_alphanumeric()).len());
    }
    let is_left = works.parse::<RepoName>().is_ok();
    if let Some(tag) = tag {
        if tag.parse::<Tag>().is_err() {
            fault(tag, reason_of_tag(tag));
        }
        let tag = tag_of(tag);
        if !tag.is_empty() {
            works = format!("{works}:{tag}");
        }
    }
    (faults, is_left.then_some(works))
}

fn reason_of(part: &str) -> String {
    let is_known = |letter: char| letter.is_ascii_alphanumeric() || ".-_".contains(letter);
    let (first, last) = (part.chars().next(), part.chars().next_back());
    let is_separator = |letter: Option<char>| letter.filter(|letter| ".-_".contains(*letter));
    if part.is_empty() {
        "there is nothing between two slashes, or at an end".to_owned()
    } else if let Some(letter) = part.chars().find(|letter| !is_known(*letter)) {
        format!("{letter:?} is no letter, digit, '.', '-' or '_'")
    } else if part.bytes().any(|byte| byte.is_ascii_uppercase()) {
        "has upper case letters".to_owned()
    } else if let Some(letter) = is_separator(first) {
        format!("begins with {letter:?}")
    } else if let Some(letter) = is_separator(last) {
        format!("ends with {letter:?}")
    } else {
        "has separators beside each other: only \"__\" and several '-' may stand there".to_owned()
    }
}

/// As `CI_COMMIT_REF_SLUG`: lower case, and '-' for what is not known.
fn slug(part: &str) -> String {
    let mut slug = String::new();
    for letter in part.chars() {
        let letter = letter.to_ascii_lowercase();
        if letter.is_ascii_alphanumeric() {
            slug.push(letter);
        } else if !slug.is_empty() && !slug.ends_with(['.', '-', '_']) {
            slug.push(if ".-_".contains(letter) { letter } else { '-' });
        } else if slug.ends_with('-') && letter == '-' || slug.ends_with('_') && !slug.ends_with("__") && letter == '_'
        {
            slug.push(letter);
        }
    }
    slug.trim_end_matches(['.', '-', '_']).to_owned()
}

fn reason_of_tag(tag: &str) -> String {
    let is_known = |letter: char| letter.is_ascii_alphanumeric() || ".-_".contains(letter);
    if tag.is_empty() {
        "there is no tag behind the colon".to_owned()
    } else if let Some(letter) = tag.chars().find(|letter| !is_known(*letter)) {
        format!("{letter:?} is no letter, digit, '.', '-' or '_'")
    } else if tag.len() > LONGEST_TAG {
        format!("has {} characters; a tag has at most {LONGEST_TAG}", tag.len())
    } else {
        "a tag begins with a letter, a digit or '_'".to_owned()
    }
}

fn tag_of(tag: &str) -> String {
    let known = |letter: char| {
        if letter.is_ascii_alphanumeric() || ".-_".contains(letter) {
            letter
        } else {
            '-'
        }
    };
    let tag: String = tag.chars().map(known).collect();
    let mut tag = tag.trim_start_matches(['.', '-']).to_owned();
    tag.truncate(LONGEST_TAG);
    tag
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_suggested_always_works() {
        for (name, reasons, works) in [
            ("group/project", 0, Some("group/project")),
            ("group/project/main:v1.2_3", 0, Some("group/project/main:v1.2_3")),
            ("a--b/c__d.e", 0, Some("a--b/c__d.e")),
            (
                "_group/Project-/feature/JIRA#12:-x",
                4,
                Some("group/project/feature/jira-12:x"),
            ),
            ("group//x:", 2, Some("group/x")),
            ("Ünïcode/x", 1, Some("n-code/x")),
            ("a.-b/c___d", 2, Some("a.b/c__d")),
            ("///", 4, None),
        ] {
            let (faults, found) = check(name);
            assert_eq!(faults.len(), reasons, "{name}: {faults:?}");
            assert_eq!(found.as_deref(), works, "{name}");
            if let Some(found) = found {
                assert_eq!(check(&found).0, [], "{name}: {found}");
            }
        }
        let long = format!("{}/x:{}", "a".repeat(300), "t".repeat(200));
        let (faults, found) = check(&long);
        assert_eq!(faults.len(), 2);
        assert_eq!(check(&found.expect("something")).0, []);
    }
}
