//! Real shells complete.

use std::path::Path;
use std::process::Command;

use crate::support::{KDK, Output, temporary};

/// What of a shell's own stands around what it asks for.
struct Shell {
    name: &'static str,
    /// Prints what completes `WORDS`, whose last is being typed.
    program: &'static str,
}

const SHELLS: [Shell; 3] = [
    Shell {
        name: "bash",
        program: r#"
source <(kdk completions bash)
COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); COMP_TYPE=9
_clap_complete_kdk kdk "${COMP_WORDS[COMP_CWORD]}" "${COMP_WORDS[COMP_CWORD - 1]}"
printf '%s\n' "${COMPREPLY[@]}""#,
    },
    Shell {
        name: "zsh",
        // What the shell's own functions are told is what they would show.
        program: r#"
compdef() { :; }
_describe() { local -a all; all=("${(@P)3}"); print -rl -- "${all[@]%%:*}"; }
source <(kdk completions zsh)
words=("$@"); CURRENT=$#
_clap_dynamic_completer_kdk"#,
    },
    Shell {
        name: "fish",
        program: r"
kdk completions fish | source
complete --do-complete (string join ' ' -- $argv) | string replace --regex '\t.*' ''
true",
    },
];

impl Shell {
    fn completes(&self, home: &Path, words: &[&str]) -> Vec<String> {
        let bin = Path::new(KDK).parent().expect("a directory");
        let mut command = Command::new(self.name);
        command.env_clear().env("HOME", home).current_dir(home);
        command.env("PATH", format!("{}:/usr/bin:/bin", bin.display()));
        command.args(["-c", self.program]);
        if self.name != "fish" {
            command.arg(self.name);
        }
        let told = Output::of(command.args(words)).ok();
        told.lines()
            .map(|line| line.trim_end().to_owned())
            // Options may come anywhere.
            .filter(|line| !line.is_empty() && !line.starts_with("--"))
            .collect()
    }
}

#[test]
fn shells_complete_commands_services_settings_and_their_values() {
    let home = temporary();
    for shell in &SHELLS {
        let completes = |words: &[&str]| shell.completes(home.path(), words);
        let name = shell.name;
        assert_eq!(completes(&["kdk", "reconf"]), ["reconfigure"], "{name}");
        let all = completes(&["kdk", ""]);
        assert!(all.iter().any(|word| word == "up"), "{name}: {all:?}");
        assert!(
            all.iter().all(|word| word != "generate"),
            "{name}: an internal command: {all:?}"
        );
        for command in ["restart", "tail", "logs", "status"] {
            assert_eq!(completes(&["kdk", command, "post"]), ["postgresql"], "{name} {command}");
        }
        for command in ["get", "set", "unset"] {
            assert_eq!(
                completes(&["kdk", "config", command, "registry.self_s"]),
                ["registry.self_signed"],
                "{name} {command}"
            );
        }
        assert_eq!(
            completes(&["kdk", "config", "set", "registry.self_signed", ""]),
            ["true", "false"],
            "{name}"
        );
        assert_eq!(
            completes(&["kdk", "config", "set", "registry.self_signed", "f"]),
            ["false"],
            "{name}"
        );
        assert_eq!(
            completes(&["kdk", "config", "set", "rails.mode", "em"]),
            ["embedded"],
            "{name}"
        );
        // Bash itself takes the word apart.
        let joined: &[&str] = match name {
            "bash" => &["kdk", "config", "set", "registry.self_signed", "=", "t"],
            _ => &["kdk", "config", "set", "registry.self_signed=t"],
        };
        let value = completes(joined);
        assert!(
            value == ["registry.self_signed=true"] || name == "bash" && value == ["true"],
            "{name}: {value:?}"
        );
    }
}
