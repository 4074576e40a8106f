//! What all checks look at.

use super::finding::Verdict;
use crate::config::{Config, ConfigError};
use crate::root::Root;
use crate::services;
use crate::supervisor::client::ClientError;
use crate::supervisor::protocol::{JobSpec, JobStatus};

/// A root as it is.
pub struct Scene {
    /// The root.
    pub root: Root,
    /// Its settings, or why they cannot be used.
    pub settings: Result<Config, ConfigError>,
    /// What runs, or why that cannot be told.
    pub jobs: Result<Vec<JobStatus>, ClientError>,
}

impl Scene {
    /// Looks at a root.
    pub fn of(root: Root) -> Self {
        Self {
            settings: Config::load(&root),
            jobs: services::supervisor(&root).status(),
            root,
        }
    }

    /// Returns the settings, for checks that need them.
    ///
    /// # Errors
    /// What such a check comes to without them.
    pub fn config(&self) -> Result<&Config, Verdict> {
        self.settings
            .as_ref()
            .map_err(|_| Verdict::Skipped("kdk.yml cannot be used".to_owned()))
    }

    /// Returns the settings of a root that uses a registry, wherever that runs.
    ///
    /// # Errors
    /// What a check of it comes to otherwise.
    pub fn used_registry(&self) -> Result<&Config, Verdict> {
        let config = self.config()?;
        if config.registry_enabled() {
            Ok(config)
        } else {
            Err(Verdict::Skipped("the registry is not enabled".to_owned()))
        }
    }

    /// Returns the settings of a root that runs a registry.
    ///
    /// # Errors
    /// What a check of it comes to otherwise.
    pub fn registry(&self) -> Result<&Config, Verdict> {
        let config = self.used_registry()?;
        if config.runs_registry() {
            Ok(config)
        } else {
            let url = config.registry_api_url();
            Err(Verdict::Skipped(format!("the registry runs at {url}")))
        }
    }

    /// Says whether clients could reach the registry by now: it runs, or it is
    /// one that runs elsewhere.
    pub fn registry_may_answer(&self, config: &Config) -> bool {
        config.registry_is_elsewhere() || self.running(services::public_service(config)).is_some()
    }

    /// Returns a service that runs.
    pub fn running(&self, name: &str) -> Option<&JobStatus> {
        let mut jobs = self.jobs.iter().flatten();
        jobs.find(|job| job.name == name && job.state.is_alive())
    }

    /// Returns the services that are enabled and do not run, as far as that can be told.
    pub fn down(&self, config: &Config) -> Vec<JobSpec> {
        if self.jobs.is_err() {
            return Vec::new();
        }
        let all = services::catalogue(config).into_iter();
        all.filter(|spec| self.running(&spec.name).is_none()).collect()
    }
}
