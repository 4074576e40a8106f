//! The user's own CI/CD runner: its Docker executor.

use super::client::{Client, Scene};
use super::docker::ENGINE;
use super::edit::Edit;
use super::plan::{Plan, SetupError};
use super::toml::Toml;
use crate::clients::trust;
use crate::sys;

/// Who mounts `~/.docker/certs.d`.
pub const JOBS: &str = "CI/CD jobs";

/// `kdk setup runner`.
pub struct Runner;

impl Client for Runner {
    fn name(&self) -> &'static str {
        "runner"
    }

    fn about(&self) -> &'static str {
        "a runner's config.toml: certificates, hosts, pull policy"
    }

    fn is_here(&self) -> bool {
        file(&sys::env::home().unwrap_or_default()).exists()
            || sys::process::find_program("khulnasoft-runner").is_some()
    }

    fn plan(&self, scene: &Scene<'_>) -> Result<Plan, SetupError> {
        let config = scene.config;
        let home = scene.home();
        let certificates = home.join(".docker/certs.d");
        let is_privileged = config.runner_privileged();
        let mut plan = Plan::default();
        let mut volumes = Vec::new();
        if let Some(pem) = scene.pem()? {
            let (reader, from) = if is_privileged {
                volumes.push(format!("{certificates}:/etc/docker/certs.d"));
                volumes.push("/certs/client".to_owned());
                (JOBS, certificates)
            } else {
                // Jobs use this machine's Engine, which reads its own.
                (ENGINE, "/etc/docker/certs.d".into())
            };
            for name in scene.names() {
                plan = plan.file(from.join(name).join("ca.crt"), reader, Edit::Whole(pem.clone()));
            }
        }
        if !is_privileged {
            volumes.insert(0, "/var/run/docker.sock:/var/run/docker.sock".to_owned());
        }
        volumes.push("/cache".to_owned());
        let mut toml = Toml {
            each: Some("runners".to_owned()),
            ..Toml::default()
        };
        toml = toml
            .add(&["docker", "volumes"], volumes)
            .default_to(&["docker", "pull_policy"], config.runner_pull_policy());
        if !is_privileged {
            // It goes before the daemon that is mounted.
            toml = toml.set(&["docker", "privileged"], false);
        }
        let hosts = extra_hosts(scene);
        if !hosts.is_empty() {
            toml = toml.add(&["docker", "extra_hosts"], hosts);
        }
        let path = file(&home);
        if !path.exists() {
            plan = plan.note(format!(
                "{path} is not there yet: register a runner first, and this goes into each [[runners]]"
            ));
        }
        plan = plan.file(path, "khulnasoft-runner", Edit::Toml(toml));
        Ok(scene.of_proxy(plan))
    }
}

/// Plans the certificates that jobs mount.
///
/// # Errors
/// When there is none yet.
pub fn certificates(scene: &Scene<'_>) -> Result<Plan, SetupError> {
    let mut plan = Plan::default();
    if let Some(pem) = scene.pem()? {
        let directory = scene.home().join(".docker/certs.d");
        for name in scene.names() {
            plan = plan.file(directory.join(name).join("ca.crt"), JOBS, Edit::Whole(pem.clone()));
        }
    }
    Ok(plan)
}

/// Returns the file of the user's runner.
fn file(home: &camino::Utf8Path) -> camino::Utf8PathBuf {
    let own = home.join(".khulnasoft-runner/config.toml");
    let system = camino::Utf8PathBuf::from("/etc/khulnasoft-runner/config.toml");
    if !own.exists() && system.exists() { system } else { own }
}

/// Returns what containers cannot resolve by themselves: names that the hosts
/// file of this machine gives an address that containers reach.
fn extra_hosts(scene: &Scene<'_>) -> Vec<String> {
    let config = scene.config;
    let mut hosts = config.runner_extra_hosts();
    for name in trust::hosts(config) {
        let found = sys::net::resolve(&name).unwrap_or_default();
        let address = found
            .into_iter()
            .find(|address| !address.is_loopback() && sys::net::is_own(*address));
        let is_name = name.parse::<std::net::IpAddr>().is_err();
        if let Some(address) = address.filter(|_| is_name) {
            let line = format!("{name}:{address}");
            if !hosts.contains(&line) {
                hosts.push(line);
            }
        }
    }
    hosts
}
