//! The user's own CI/CD runner: its Docker executor.

use super::client::{Client, Scene};
use super::docker::ENGINE;
use super::edit::Edit;
use super::file::{There, look};
use super::plan::{Plan, SetupError};
use super::toml::Toml;
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
            .mount(&["docker", "volumes"], volumes)
            .default_to(&["docker", "pull_policy"], config.runner_pull_policy());
        if is_privileged {
            toml = toml.default_to(&["docker", "privileged"], true);
            plan = plan.note("Docker in Docker needs privileged = true: a runner that has it false is left so");
        } else {
            // It goes before the daemon that is mounted.
            toml = toml.set(&["docker", "privileged"], false);
        }
        let hosts = extra_hosts(scene);
        if !hosts.is_empty() {
            toml = toml.add(&["docker", "extra_hosts"], hosts);
        }
        let path = file(&home);
        if let Ok(There::Nothing) = look(&path) {
            plan.blocked = Some((
                format!("{path} is not there: no runner is registered, and what is set goes into each [[runners]]"),
                "register one first, with: khulnasoft-runner register".to_owned(),
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
    // One that only root may see is there, too.
    let is_there = |path: &camino::Utf8Path| !matches!(look(path), Ok(There::Nothing));
    if !is_there(&own) && is_there(&system) {
        system
    } else {
        own
    }
}

/// Returns what containers cannot resolve by themselves.
fn extra_hosts(scene: &Scene<'_>) -> Vec<String> {
    let mut hosts = scene.config.runner_extra_hosts();
    for (name, address) in scene.known_only_here() {
        let line = format!("{name}:{address}");
        if !hosts.contains(&line) {
            hosts.push(line);
        }
    }
    hosts
}
