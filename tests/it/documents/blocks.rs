//! The blocks of the documents that count.
//!
//! In Markdown those whose info string is shell, sh, bash or console, and in
//! the administration guide ruby and yaml; in reStructuredText those after a
//! paragraph that is `::` alone. What is hashed: the lines between the fences,
//! without a quote's mark and common indentation, blank lines empty, each
//! ended by a newline.

use std::path::Path;

use data_encoding::HEXLOWER;
use regex::Regex;
use sha2::{Digest as _, Sha256};

const NAMES: [&str; 5] = [
    "kdk-container-registry.md",
    "gdk-registry.md",
    ADMINISTRATION,
    "microk8s-builtin-registry.md",
    "starlingx-local-registry.rst",
];
const ADMINISTRATION: &str = "gitlab-registry-administration.md";

/// Document, heading, number, SHA-256.
pub type Block = (String, String, usize, String);

/// Returns all blocks that count, in the order of the documents.
pub fn of(directory: &Path) -> Vec<Block> {
    let mut all = Vec::new();
    for name in NAMES {
        let text = std::fs::read_to_string(directory.join(name)).unwrap_or_else(|error| panic!("{name}: {error}"));
        let lines: Vec<&str> = text.split('\n').map(|line| line.trim_end_matches('\r')).collect();
        let blocks = if Path::new(name).extension().is_some_and(|ending| ending == "rst") {
            restructured(&lines)
        } else {
            markdown(name, &lines)
        };
        for (number, (heading, content)) in blocks.into_iter().enumerate() {
            let hash = HEXLOWER.encode(&Sha256::digest(dedented(&content)));
            all.push((name.to_owned(), heading, number + 1, hash));
        }
    }
    all
}

fn dedented(lines: &[String]) -> String {
    let indent = |line: &String| line.len() - line.trim_start().len();
    let common = lines
        .iter()
        .filter(|line| !line.trim().is_empty())
        .map(indent)
        .min()
        .unwrap_or(0);
    let lines = lines.iter().map(|line| {
        if line.trim().is_empty() {
            "\n".to_owned()
        } else {
            format!("{}\n", &line[common..])
        }
    });
    lines.collect()
}

fn markdown(name: &str, lines: &[&str]) -> Vec<(String, Vec<String>)> {
    let re = |text: &str| Regex::new(text).expect("valid");
    let (quote, opening) = (re(r"^ {0,3}> ?"), re(r"^\s*(`{3,})\s*([^\s`]*)[^`]*$"));
    let title = re(r"^#{1,6}\s+(.*?)\s*#*$");
    let mut found = Vec::new();
    let mut heading = String::new();
    // The fence, its language, whether it is quoted, and what is in it.
    let mut open: Option<(String, String, bool, Vec<String>)> = None;
    for line in lines {
        let may_be_quoted = open.as_ref().is_none_or(|(_, _, is_quoted, _)| *is_quoted);
        let mark = quote.find(line).filter(|_| may_be_quoted);
        let bare = mark.map_or(*line, |mark| &line[mark.end()..]);
        if let Some((fence, language, _, content)) = &mut open {
            let ticks = bare.trim();
            if ticks.len() >= fence.len() && ticks.bytes().all(|byte| byte == b'`') {
                let is_setting = name == ADMINISTRATION && ["ruby", "yaml"].contains(&language.as_str());
                if is_setting || ["shell", "sh", "bash", "console"].contains(&language.as_str()) {
                    found.push((heading.clone(), std::mem::take(content)));
                }
                open = None;
            } else {
                content.push(bare.to_owned());
            }
        } else if let Some(opened) = opening.captures(bare) {
            open = Some((
                opened[1].to_owned(),
                opened[2].to_lowercase(),
                mark.is_some(),
                Vec::new(),
            ));
        } else if let Some(head) = title.captures(line) {
            heading = head[1].to_owned();
        }
    }
    found
}

fn restructured(lines: &[&str]) -> Vec<(String, Vec<String>)> {
    let is_rule = |line: &str| {
        line.len() >= 4 && (line.bytes().all(|byte| byte == b'=') || line.bytes().all(|byte| byte == b'-'))
    };
    let indent = |line: &str| line.len() - line.trim_start().len();
    let mut found = Vec::new();
    let mut heading = String::new();
    let mut at = 0;
    while at < lines.len() {
        let line = lines[at];
        if at + 2 < lines.len() && is_rule(line) && lines[at + 2] == line {
            heading = lines[at + 1].trim().to_owned();
            at += 3;
            continue;
        }
        at += 1;
        if line.trim() != "::" {
            continue;
        }
        let mut content: Vec<String> = Vec::new();
        while at < lines.len() && (lines[at].trim().is_empty() || indent(lines[at]) > indent(line)) {
            content.push(lines[at].to_owned());
            at += 1;
        }
        let is_blank = |line: &String| line.trim().is_empty();
        while content.first().is_some_and(is_blank) {
            content.remove(0);
        }
        while content.last().is_some_and(is_blank) {
            content.pop();
        }
        found.push((heading.clone(), content));
    }
    found
}
