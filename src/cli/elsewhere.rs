//! What is said of a registry that kdk does not run.

use super::error::CommandError;
use super::ui::Ui;
use crate::config::Config;
use crate::doctor::elsewhere;

/// Refuses what is done where the storage and the database of a registry are.
///
/// # Errors
/// When the root's registry runs elsewhere.
pub fn refuse(config: &Config) -> Result<(), CommandError> {
    if !config.registry_is_elsewhere() {
        return Ok(());
    }
    let url = config.registry_api_url();
    Err(CommandError::user(format!(
        "the registry of this root runs at {url} (registry.mode: external), and so do its storage and its metadata: this is done there"
    ))
    .hint("to let kdk run one: kdk config unset registry.mode registry.api_url && kdk up"))
}

/// Says how a registry is that runs elsewhere; nothing where kdk runs it.
pub fn announce(ui: &Ui, config: &Config) {
    if !config.registry_is_elsewhere() {
        return;
    }
    let (address, url) = (config.registry_address(), config.registry_api_url());
    match elsewhere::registry(config) {
        None => ui.done(&format!(
            "A container registry is available at {address}; it runs at {url}, not in this root."
        )),
        Some(finding) => {
            ui.warn(&finding.evidence);
            ui.tip("see what helps with: kdk doctor");
        }
    }
}
