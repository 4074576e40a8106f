//! Where what a service runs comes from.

use std::process::Command;
use std::time::Duration;

use crate::config::Config;
use crate::services::postgresql::{POSTGRESQL, Postgresql};
use crate::services::{RAILS, REGISTRY, registry_command, source};
use crate::sys;

/// How long a program may take to say its version.
const PATIENCE: Duration = Duration::from_secs(1);

/// Where what a service runs comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Origin {
    /// `embedded`, `source`, `binary`, `image` or `external`.
    pub kind: &'static str,
    /// Its version, as far as it is known.
    pub version: String,
}

impl Origin {
    /// Returns it for people.
    pub fn text(&self) -> String {
        match self.kind {
            "embedded" => self.kind.to_owned(),
            _ if self.version.is_empty() => self.kind.to_owned(),
            kind => format!("{kind} {}", self.version),
        }
    }
}

/// Says where what a service runs comes from.
pub fn of(config: &Config, name: &str) -> Option<Origin> {
    let (kind, version) = match name {
        POSTGRESQL => {
            let found = Postgresql::find(config).ok()?;
            ("binary", asked(found.programs.join("postgres").as_str()))
        }
        RAILS if config.rails_mode() != "embedded" => ("external", String::new()),
        REGISTRY if config.registry_image().is_some() => ("image", config.registry_image()?),
        REGISTRY if config.registry_bin().is_some() => ("binary", asked(registry_command(config).first()?)),
        REGISTRY if !config.registry_is_embedded() => ("source", source::built(config).unwrap_or_default()),
        _ => ("embedded", env!("CARGO_PKG_VERSION").to_owned()),
    };
    Some(Origin { kind, version })
}

/// Asks a program for its version; empty when it does not say.
fn asked(program: &str) -> String {
    let mut command = Command::new(program);
    command.arg("--version");
    let output = sys::running::output_within(&mut command, PATIENCE);
    let said = output.map(|output| output.stdout).unwrap_or_default();
    let said = String::from_utf8_lossy(&said);
    let is_version = |word: &&str| {
        let word = word.trim_start_matches('v');
        word.starts_with(|letter: char| letter.is_ascii_digit()) && word.contains('.')
    };
    said.split_whitespace().find(is_version).unwrap_or_default().to_owned()
}
