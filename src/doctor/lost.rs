//! Processes of roots that are not there any more.

use camino::{Utf8Path, Utf8PathBuf};

use super::finding::{Finding, Verdict};
use super::scene::Scene;
use crate::sys;

/// Looks for processes of ours whose root is gone.
pub fn check(_: &Scene) -> Verdict {
    let mut found = Vec::new();
    for pid in sys::running::of_this_machine("kdk", sys::process::user_id()) {
        let Some(started) = sys::process::started_with(pid) else {
            continue;
        };
        if let Some(root) = root_of(&started.argv, &started.cwd).filter(|root| !root.is_dir()) {
            let what: Vec<&str> = started.argv.iter().skip(1).map(String::as_str).collect();
            found.push(
                Finding::warning(
                    "lost-process",
                    format!(
                        "process {pid} (kdk {}) is of the root {root}, which is gone",
                        what.join(" ")
                    ),
                )
                .why("it holds ports and files of nobody")
                .by_hand(format!("kill {pid}")),
            );
        }
    }
    found.into()
}

/// Returns the root of a supervisor, or of a service, by its command line and
/// its working directory, as the system tells them.
fn root_of(argv: &[String], cwd: &Utf8Path) -> Option<Utf8PathBuf> {
    let after = |word: &str| {
        let at = argv.iter().position(|part| part == word)?;
        argv.get(at + 1).map(String::as_str)
    };
    if argv.iter().any(|part| part == "supervise") {
        return after("--root").map(Utf8PathBuf::from);
    }
    // Services are started in their root, with files below it.
    let is_service = ["registry/config.yml", "khulnasoft/config/khulnasoft.yml"].contains(&after("serve")?);
    let cwd = cwd.as_str().trim_end_matches(" (deleted)");
    is_service.then(|| Utf8PathBuf::from(cwd))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn roots_are_told_by_command_lines() {
        let of = |line: &str, cwd: &str| {
            let argv: Vec<String> = line.split(' ').map(str::to_owned).collect();
            root_of(&argv, Utf8Path::new(cwd)).map(Utf8PathBuf::into_string)
        };
        assert_eq!(of("kdk --root /a/b supervise", "/").as_deref(), Some("/a/b"));
        let service = of("kdk registry serve registry/config.yml", "/a/b (deleted)");
        assert_eq!(service.as_deref(), Some("/a/b"));
        assert_eq!(of("kdk registry serve /etc/config.yml", "/a"), None);
        assert_eq!(of("kdk status --root /a", "/a"), None);
    }
}
