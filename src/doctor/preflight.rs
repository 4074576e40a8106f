//! Whether the built-in registry would start, looked at before anything that runs is stopped for it.

use camino::Utf8Path;

use super::storage::{self, holds_images};
use crate::config::Config;
use crate::reconfigure::applied::Applied;
use crate::reconfigure::{Action, Plan, ReconfigureError, check_pair, pending, wanted_pairs};
use crate::registry::config::Config as RegistryConfig;
use crate::registry::{admin, server};
use crate::services;
use crate::sys::shell::word;

/// Checks a plan's file of the registry, and what that names: certificates,
/// keys, passwords, directories, and where the metadata of the images are.
///
/// # Errors
/// With the first reason why the registry would not start.
pub fn check(config: &Config, plan: &Plan) -> Result<(), ReconfigureError> {
    let path = config.root().registry_config();
    let planned = plan.files.iter().find(|file| file.path == path);
    let Some(file) = planned.filter(|file| file.action != Action::Protected) else {
        return Ok(());
    };
    let pairs = wanted_pairs(config);
    // What is yet to be made, or made anew.
    let is_made = |path: &Utf8Path| {
        plan.files.iter().any(|file| file.path == path)
            || pairs.iter().any(|pair| pair.certificate == path || pair.key == path)
    };
    check_text(config, &file.new, is_made).map_err(|reason| ReconfigureError::Registry { reason })
}

/// Checks the registry's file as it is.
///
/// # Errors
/// With the first reason why the registry would not start.
pub fn check_rendered(config: &Config) -> Result<(), String> {
    match crate::sys::fs::read_optional(&config.root().registry_config()) {
        Ok(Some(text)) => check_text(config, &text, |_| false),
        // What lacks is said by whoever needs it.
        Ok(None) | Err(_) => Ok(()),
    }
}

fn check_text(config: &Config, text: &str, is_made: impl Fn(&Utf8Path) -> bool) -> Result<(), String> {
    if !config.registry_enabled() || !config.registry_is_embedded() {
        return Ok(());
    }
    let path = config.root().registry_config();
    let env = services::registry_env(config);
    let parsed = RegistryConfig::parse(&path, text, &env).map_err(|error| error.to_string())?;
    let found = server::problems(&parsed, is_made).into_iter().next();
    let found = found.or_else(|| admin::misplaced(&parsed));
    found.or_else(|| storage::gone(config)).map_or(Ok(()), Err)
}

/// Refuses to start what was rendered for another place: it would work there.
///
/// # Errors
/// When the root is not where it was.
pub fn check_place(config: &Config) -> Result<(), String> {
    let applied = Applied::load(config);
    let was = applied.as_ref().and_then(|applied| applied.elsewhere(config));
    was.map_or(Ok(()), |was| Err(pending::moved(config, was)))
}

/// Says so when the registry will look for images elsewhere than where they are.
pub fn images_left(config: &Config) -> Option<String> {
    let applied = Applied::load(config)?;
    let was = applied.other_storage(config).filter(|was| holds_images(was))?;
    match config.registry_storage_path() {
        Some(now) if holds_images(&now) => None,
        Some(now) => Some(format!(
            "the images in {was} will not be seen any more: the registry looks in {now}; to move them, stop the registry and run: cp -a {}/. {}/",
            word(was.as_str()),
            word(now.as_str())
        )),
        None => Some(format!(
            "the images in {was} will not be seen any more: the registry keeps images elsewhere"
        )),
    }
}

/// Checks that the registry would accept what KhulnaSoft signs.
///
/// # Errors
/// Why it would not.
pub fn check_keys(config: &Config) -> Result<(), String> {
    check_pair(config, &|_| None)
}

/// As [`pending()`], without what is to be said of certificates.
pub fn pending_settings(config: &Config) -> Vec<String> {
    pending::settings(config, |plan| check(config, plan)).0
}

/// Says what of `kdk.yml` has yet to be applied, and why it cannot be.
pub fn pending(config: &Config) -> Vec<String> {
    pending::pending(config, |plan| check(config, plan))
}
