//! What is asked and shown in a terminal.

use std::io::{Read as _, Write as _};
use std::process::{Command, Stdio};

use crate::support::{KDK, TestRoot, wait};

/// What a terminal shows in the end, line by line: only what kdk's own output needs is understood.
fn screen(output: &str) -> Vec<String> {
    let mut lines = vec![Vec::<char>::new()];
    let (mut row, mut column) = (0, 0);
    let mut rest = output.chars().peekable();
    while let Some(next) = rest.next() {
        match next {
            '\r' => column = 0,
            '\n' => {
                (row, column) = (row + 1, 0);
                lines.resize(lines.len().max(row + 1), Vec::new());
            }
            '\u{1b}' if rest.next_if_eq(&'[').is_some() => {
                let mut number = String::new();
                while let Some(digit) = rest.next_if(|next| !next.is_ascii_alphabetic()) {
                    number.push(digit);
                }
                match rest.next() {
                    Some('A') => row -= number.parse().unwrap_or(1).min(row),
                    Some('K') if number == "2" => lines[row].clear(),
                    Some('K') => lines[row].truncate(column),
                    _ => {}
                }
            }
            next if next.is_control() => {}
            next => {
                let line = &mut lines[row];
                line.resize(line.len().max(column + 1), ' ');
                line[column] = next;
                column += 1;
            }
        }
    }
    let lines = lines.into_iter().map(|line| line.into_iter().collect::<String>());
    lines
        .map(|line| line.trim_end().to_owned())
        .filter(|line| !line.is_empty())
        .collect()
}

/// Runs a command in a terminal, whose user types when asked; returns what was written to it, and the exit code.
fn in_terminal(root: &TestRoot, arguments: &str, typed: &str) -> (String, i32) {
    let line = format!("env TERM=xterm {KDK} --root {} {arguments}", root.path().display());
    let mut child = Command::new("script")
        .args(["-qec", &line, "/dev/null"])
        .env("HOME", root.path())
        .env_remove("NO_COLOR")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("started");
    let mut keyboard = child.stdin.take().expect("piped");
    let mut shown = child.stdout.take().expect("piped");
    let mut output = Vec::new();
    let mut piece = [0; 4096];
    let mut is_asked = typed.is_empty();
    while let Ok(read) = shown.read(&mut piece)
        && read > 0
    {
        output.extend_from_slice(&piece[..read]);
        if !is_asked && String::from_utf8_lossy(&output).contains("[y/N]") {
            is_asked = true;
            keyboard.write_all(typed.as_bytes()).expect("typed");
        }
    }
    let code = child.wait().expect("ended").code().unwrap_or(-1);
    drop(keyboard);
    (String::from_utf8(output).expect("UTF-8"), code)
}

#[test]
fn a_question_is_answered_in_the_terminal() {
    let root = TestRoot::with_registry("");
    root.up();
    for (typed, shown) in [("n\n", "[y/N] n"), ("\n", "[y/N]"), ("\u{4}", "[y/N]")] {
        let (output, code) = in_terminal(&root, "kill", typed);
        assert_eq!(code, 1, "{output}");
        let lines = screen(&output);
        let asked = lines.iter().position(|line| line.contains("[y/N]"));
        let asked = asked.unwrap_or_else(|| panic!("{typed:?}: {lines:?}"));
        assert!(lines[asked].contains(shown), "{lines:?}");
        // Nothing is written onto the line of the question.
        assert_eq!(lines[asked + 1..], ["Nothing was done."], "{lines:?}");
    }
    root.wait_for_state("registry", "up");
    let (output, code) = in_terminal(&root, "kill", "y\n");
    assert_eq!(code, 0, "{output}");
    wait("all are gone", || root.processes().is_empty().then_some(()));
}

#[test]
fn what_was_drawn_of_progress_is_gone_in_the_end() {
    const DRAWN: &str = "⠁⠂⠄⡀⢀⠠⠐⠈⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏█░";
    let root = TestRoot::with_registry("");
    root.kdk(&["reconfigure"]).ok();
    for (command, word) in [("start", "up"), ("restart", "up"), ("stop", "down")] {
        let (output, code) = in_terminal(&root, command, "");
        assert_eq!(code, 0, "{output}");
        assert!(
            output.contains(|letter| DRAWN.contains(letter)),
            "{command}: nothing was drawn: {output:?}"
        );
        // The first lines that are left are those of the result.
        let lines = screen(&output);
        for (line, service) in lines.iter().zip(["rails-web", "registry"]) {
            assert!(
                line.starts_with(&format!("  {word} {service}")),
                "{command}: {lines:#?}"
            );
        }
        let left = lines.iter().any(|line| line.contains(|letter| DRAWN.contains(letter)));
        assert!(!left, "{command}: {lines:#?}");
    }
}
