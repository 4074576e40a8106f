//! Lines for a shell, to be read or piped into one.
//!
//! No command may read what follows it in the script, and no name is taken for
//! anything but a name.

use crate::sys::shell::word;

/// Lines for a shell.
#[derive(Debug)]
pub struct Script {
    lines: Vec<String>,
}

impl Script {
    /// Begins one that ends where anything fails.
    pub fn new() -> Self {
        Self {
            lines: vec!["set -eu".to_owned()],
        }
    }

    /// Adds a line that runs nothing, such as the head of a loop.
    #[must_use]
    pub fn line(mut self, line: impl Into<String>) -> Self {
        self.lines.push(line.into());
        self
    }

    /// Adds a command.
    #[must_use]
    pub fn run(self, command: impl Into<String>) -> Self {
        let command = command.into();
        self.line(format!("{command} </dev/null"))
    }

    /// Adds a command that reads a text.
    #[must_use]
    pub fn feed(self, command: &str, text: &str) -> Self {
        self.line(format!("{command} <<'END_OF_KDK'\n{}\nEND_OF_KDK", text.trim_end()))
    }

    /// Adds lines that make a directory and the files in it, by what runs a
    /// command there.
    #[must_use]
    pub fn files(self, there: &str, directory: &str, files: &[(&str, &str)]) -> Self {
        let made = self.run(format!("{there}mkdir -p {}", word(directory)));
        files.iter().fold(made, |script, (name, text)| {
            let path = word(&format!("{directory}/{name}"));
            script.feed(&format!("{there}tee {path} >/dev/null"), text)
        })
    }

    /// Ends it.
    pub fn end(self) -> String {
        format!("{}\n", self.lines.join("\n"))
    }
}
