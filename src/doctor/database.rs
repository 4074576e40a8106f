//! The metadata database.

use super::finding::{Finding, Verdict};
use super::scene::Scene;
use super::storage;
use crate::config::Config;
use crate::registry::admin;
use crate::registry::config::Source;
use crate::services::{self, POSTGRESQL};

/// Looks whether the database can be used, and has the schema that is needed.
/// It never advises to remove one.
pub fn check(scene: &Scene) -> Verdict {
    let config = match scene.registry() {
        Ok(config) => config,
        Err(verdict) => return verdict,
    };
    let enabled = config.registry_database_enabled() != "false";
    if !enabled && storage::is_in_database(config) {
        let found = Finding::problem(
            "database-disabled",
            "the metadata of the images are in a database, and registry.database.enabled is false",
        )
        .why("the registry would serve none of them")
        .suggest(&["config", "set", "registry.database.enabled", "true"])
        .suggest(&["reconfigure"]);
        return Verdict::Found(vec![found]);
    }
    if !enabled {
        return Verdict::Skipped("registry.database.enabled is false".to_owned());
    }
    if config.registry_database_enabled() == "prefer" && !storage::is_in_database(config) {
        return Verdict::Skipped(
            "the metadata are in files, which registry.database.enabled: prefer leaves so".to_owned(),
        );
    }
    if !config.registry_is_embedded() {
        return Verdict::Skipped("another registry than the built-in one looks after its own".to_owned());
    }
    if !config.root().registry_config().exists() {
        return Verdict::Skipped("nothing was applied yet".to_owned());
    }
    if scene.jobs.is_err() {
        return Verdict::Unknown("the supervisor does not say what runs".to_owned());
    }
    if is_own_down(scene, config) {
        // That is what the check of services says.
        return Verdict::Skipped("PostgreSQL does not run".to_owned());
    }
    let mut environment = crate::sys::env::all();
    environment.extend(services::registry_env(config));
    let source = Source {
        path: config.root().registry_config(),
        environment,
    };
    match admin::migrations_of(&source, true) {
        Ok(lines) => {
            let missing = lines.iter().filter(|line| line.applied.is_none()).count();
            if missing == 0 {
                return Verdict::Healthy;
            }
            let found = Finding::problem("database-schema", format!("{missing} migrations are not applied"))
                .why("the registry does not start on an older schema")
                .mended_by(&["reconfigure"]);
            Verdict::Found(vec![found])
        }
        Err(error) => {
            let mut text = error.to_string();
            let mut cause = std::error::Error::source(&error);
            while let Some(next) = cause {
                text = format!("{text}: {next}");
                cause = next.source();
            }
            Verdict::Found(vec![
                Finding::problem("database-unavailable", text).why("the registry answers 503 to what needs it"),
            ])
        }
    }
}

/// Says whether PostgreSQL is kdk's own to start, and does not run.
fn is_own_down(scene: &Scene, config: &Config) -> bool {
    let own = services::catalogue(config).iter().any(|spec| spec.name == POSTGRESQL);
    own && scene.running(POSTGRESQL).is_none()
}
