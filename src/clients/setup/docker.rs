//! Docker: the Engine, rootless or not, Docker Desktop, Colima, Rancher
//! Desktop, docker-machine. Which one `docker` talks to is told by the
//! environment, its context, and sockets.

use camino::Utf8PathBuf;
use serde_json::{Value, json};

use super::client::{Client, Scene};
use super::edit::Edit;
use super::pipeline;
use super::plan::{Plan, Reload, SetupError};
use crate::clients::trust;
use crate::sys;
use crate::sys::shell::word;

/// Who reads `/etc/docker`.
pub const ENGINE: &str = "Docker Engine";
/// Who reads `~/.docker`.
pub const DESKTOP: &str = "Docker Desktop";
const COLIMA: &str = "Colima";

/// `kdk setup docker`.
pub struct Docker;

/// Which Docker it is.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Kind {
    Engine,
    Rootless,
    Desktop,
    Colima(String),
    Rancher,
    Machine(String),
}

impl Client for Docker {
    fn name(&self) -> &'static str {
        "docker"
    }

    fn about(&self) -> &'static str {
        "Docker Engine, Docker Desktop, Colima, Rancher Desktop, docker-machine"
    }

    fn is_here(&self) -> bool {
        ["docker", "dockerd"]
            .iter()
            .any(|program| sys::process::find_program(program).is_some())
    }

    fn plan(&self, scene: &Scene<'_>) -> Result<Plan, SetupError> {
        let plan = match kind(scene) {
            Kind::Machine(name) => machine(scene, &name)?,
            Kind::Rancher => rancher(scene)?,
            kind => files(scene, &kind)?,
        };
        Ok(scene.of_proxy(plan))
    }
}

/// Tells which Docker `docker` talks to.
fn kind(scene: &Scene<'_>) -> Kind {
    if let Some(name) = sys::env::var("DOCKER_MACHINE_NAME") {
        return Kind::Machine(name);
    }
    let host = sys::env::var("DOCKER_HOST").unwrap_or_default();
    let home = scene.home();
    let context = sys::env::var("DOCKER_CONTEXT").or_else(|| {
        let text = sys::fs::read_optional(&home.join(".docker/config.json")).ok()??;
        let file: Value = serde_json::from_str(&text).ok()?;
        Some(file.get("currentContext")?.as_str()?.to_owned())
    });
    // The variable goes before the context, as for docker itself.
    let context = context.filter(|_| host.is_empty()).unwrap_or_default();
    let profile = host.split_once("/.colima/").and_then(|(_, rest)| rest.split_once('/'));
    if let Some((profile, _)) = profile {
        return Kind::Colima(profile.to_owned());
    }
    if context == "colima" {
        return Kind::Colima("default".to_owned());
    }
    if let Some(profile) = context.strip_prefix("colima-") {
        return Kind::Colima(profile.to_owned());
    }
    if context == "rancher-desktop" || host.contains("/.rd/") {
        return Kind::Rancher;
    }
    if context == "rootless" || (host.contains("/run/user/") && !host.contains("/run/user/0/")) {
        return Kind::Rootless;
    }
    if context.starts_with("desktop") || trust::is_desktop(&home) {
        return Kind::Desktop;
    }
    Kind::Engine
}

/// Plans files of this machine.
fn files(scene: &Scene<'_>, kind: &Kind) -> Result<Plan, SetupError> {
    let home = scene.home();
    let reader = match kind {
        Kind::Desktop => DESKTOP,
        Kind::Colima(_) => COLIMA,
        _ => ENGINE,
    };
    let mut plan = Plan::default();
    if let Some(pem) = scene.pem()? {
        let directory = match kind {
            // Colima takes what stands there into its machine when it starts.
            Kind::Desktop | Kind::Colima(_) => home.join(".docker/certs.d"),
            Kind::Rootless => home.join(".config/docker/certs.d"),
            _ => Utf8PathBuf::from("/etc/docker/certs.d"),
        };
        for name in scene.names() {
            plan = plan.file(directory.join(name).join("ca.crt"), reader, Edit::Whole(pem.clone()));
        }
    } else if !scene.is_https() {
        let values = scene.names_to_tell();
        if values.is_empty() {
            return Ok(plan.note("Docker takes plain HTTP from loopback by itself: nothing to set up"));
        }
        plan = match kind {
            Kind::Colima(profile) => plan.file(
                home.join(".colima").join(profile).join("colima.yaml"),
                reader,
                Edit::YamlList {
                    key: "docker.insecure-registries".to_owned(),
                    values,
                },
            ),
            _ => plan.file(
                daemon_json(kind, &home),
                reader,
                Edit::JsonList {
                    key: "insecure-registries".to_owned(),
                    values,
                },
            ),
        };
    }
    Ok(taken_up(plan, kind, scene.is_https(), &home))
}

/// Adds what lets the Docker at hand take its files up.
fn taken_up(mut plan: Plan, kind: &Kind, is_https: bool, home: &Utf8PathBuf) -> Plan {
    let reload = |what: &str, argv: &[&str]| Reload {
        what: what.to_owned(),
        argv: argv.iter().map(|part| (*part).to_owned()).collect(),
    };
    match kind {
        Kind::Colima(profile) => {
            plan.reload = Some(reload(
                "Restart Colima, and all containers in it",
                &["colima", "restart", profile],
            ));
            plan.note(format!(
                "what looks for Docker at its usual place finds Colima's after: sudo ln -sf {} /var/run/docker.sock (the link goes when the machine is restarted)",
                word(home.join(".colima").join(profile).join("docker.sock").as_str())
            ))
        }
        Kind::Desktop => plan.note("restart Docker Desktop, which reads its files when it starts"),
        // Certificates are read at each connection.
        _ if is_https => plan,
        _ => {
            if let Some((pid, _)) = dockerd(kind) {
                plan.reload = Some(reload(
                    "Let dockerd read daemon.json again? Containers go on",
                    &["kill", "-HUP", &pid.to_string()],
                ));
            }
            plan
        }
    }
}

/// Returns dockerd's process and arguments.
fn dockerd(kind: &Kind) -> Option<(i32, Vec<String>)> {
    let is_rootless = *kind == Kind::Rootless;
    let mut running = sys::running::named("dockerd").into_iter().map(|pid| {
        let started = sys::process::started_with(pid);
        (pid, started.map(|started| started.argv).unwrap_or_default())
    });
    running.find(|(_, argv)| argv.iter().any(|part| part == "--rootless") == is_rootless)
}

/// Returns the file of the daemon's settings.
fn daemon_json(kind: &Kind, home: &Utf8PathBuf) -> Utf8PathBuf {
    let usual = match kind {
        Kind::Desktop => return home.join(".docker/daemon.json"),
        Kind::Rootless => home.join(".config/docker/daemon.json"),
        _ => Utf8PathBuf::from("/etc/docker/daemon.json"),
    };
    let Some((_, argv)) = dockerd(kind) else { return usual };
    let given = argv.iter().enumerate().find_map(|(at, part)| {
        let joined = part.strip_prefix("--config-file=").map(str::to_owned);
        joined.or_else(|| (part == "--config-file").then(|| argv.get(at + 1).cloned())?)
    });
    given.map_or(usual, Utf8PathBuf::from)
}

/// Plans lines for a docker-machine.
fn machine(scene: &Scene<'_>, name: &str) -> Result<Plan, SetupError> {
    let mut lines = vec!["set -eu".to_owned()];
    let ssh = format!("docker-machine ssh {}", word(name));
    if let Some(pem) = scene.pem()? {
        for registry in scene.names() {
            let target = format!("/etc/docker/certs.d/{registry}");
            lines.push(format!("{ssh} sudo mkdir -p {target}"));
            lines.push(format!(
                "{ssh} sudo tee {target}/ca.crt >/dev/null <<'EOF'\n{}\nEOF",
                pem.trim_end()
            ));
        }
    } else {
        for registry in scene.names() {
            let extra = format!("EXTRA_ARGS=\"$EXTRA_ARGS --insecure-registry {registry}\"");
            lines.push(format!(
                "{ssh} sudo tee -a /var/lib/boot2docker/profile >/dev/null <<'EOF'\n{extra}\nEOF"
            ));
        }
        lines.push(format!("docker-machine restart {}", word(name)));
    }
    Ok(Plan::text(lines.join("\n"))
        .note(format!("docker talks to the docker-machine {name}: run these lines with: kdk setup docker | sh"))
        .note(format!(
            "in the hosts file, the registry's names lead to the address of: docker-machine ip {}",
            word(name)
        ))
        .note("for the Docker of this machine instead: unset DOCKER_CERT_PATH DOCKER_HOST DOCKER_MACHINE_NAME DOCKER_TLS_VERIFY"))
}

/// Plans a provisioning script for Rancher Desktop's machine.
fn rancher(scene: &Scene<'_>) -> Result<Plan, SetupError> {
    let mut lines = vec!["set -eu".to_owned()];
    if let Some(pem) = scene.pem()? {
        for registry in scene.names() {
            let target = format!("/etc/docker/certs.d/{registry}");
            lines.push(format!(
                "mkdir -p {target}\ncat >{target}/ca.crt <<'EOF'\n{}\nEOF",
                pem.trim_end()
            ));
        }
    } else {
        let daemon = json!({"insecure-registries": scene.names()});
        lines.push(format!(
            "mkdir -p /etc/docker\ncat >/etc/docker/daemon.json <<'EOF'\n{daemon}\nEOF"
        ));
    }
    let script = format!("#!/bin/sh\n{}\n", lines.join("\n"));
    let text = pipeline::yaml(&json!({"provision": [{"mode": "system", "script": script}]}))?;
    let place = if cfg!(target_os = "macos") {
        "~/Library/Application Support/rancher-desktop/lima/_config/override.yaml"
    } else {
        "~/.local/share/rancher-desktop/lima/_config/override.yaml"
    };
    Ok(Plan::text(text).note(format!(
        "docker talks to Rancher Desktop: put this into {place}, and restart Rancher Desktop"
    )))
}
