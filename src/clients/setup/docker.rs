//! Docker: the Engine, rootless or not, Docker Desktop, Colima, and those that
//! are elsewhere.

use camino::{Utf8Path, Utf8PathBuf};

use super::client::{Client, Scene};
use super::docker_elsewhere as elsewhere;
use super::docker_kind::Kind;
use super::edit::Edit;
use super::plan::{Plan, Reload, SetupError};
use crate::sys;
use crate::sys::shell::word;

/// Who reads `/etc/docker`.
pub const ENGINE: &str = "Docker Engine";
/// Who reads `~/.docker`.
pub const DESKTOP: &str = "Docker Desktop";
/// Who reads what is below Colima's directory.
pub const COLIMA: &str = "Colima";

/// `kdk setup docker`.
pub struct Docker;

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

    fn key(&self, scene: &Scene<'_>) -> String {
        match Kind::of(scene) {
            Kind::Engine => self.name().to_owned(),
            Kind::Desktop => "docker-desktop".to_owned(),
            Kind::Rootless => "docker-rootless".to_owned(),
            Kind::Colima { profile, .. } => format!("docker-colima-{profile}"),
            Kind::Rancher | Kind::Machine(_) | Kind::Remote(_) => "docker-elsewhere".to_owned(),
        }
    }

    fn plan(&self, scene: &Scene<'_>) -> Result<Plan, SetupError> {
        let plan = match Kind::of(scene) {
            Kind::Machine(name) => elsewhere::machine(scene, &name)?,
            Kind::Rancher => elsewhere::rancher(scene)?,
            Kind::Remote(host) => elsewhere::remote(scene, &host)?,
            kind => files(scene, &kind)?,
        };
        Ok(scene.of_proxy(plan))
    }
}

/// Plans files of this machine.
fn files(scene: &Scene<'_>, kind: &Kind) -> Result<Plan, SetupError> {
    let home = scene.home();
    let reader = match kind {
        Kind::Desktop => DESKTOP,
        Kind::Colima { .. } => COLIMA,
        _ => ENGINE,
    };
    let mut plan = Plan::default();
    if let Some(pem) = scene.pem()? {
        let directory = match kind {
            // Colima takes what stands there into its machine when it starts.
            Kind::Desktop | Kind::Colima { .. } => home.join(".docker/certs.d"),
            Kind::Rootless => home.join(".config/docker/certs.d"),
            _ => Utf8PathBuf::from("/etc/docker/certs.d"),
        };
        for name in scene.names() {
            plan = plan.file(directory.join(name).join("ca.crt"), reader, Edit::Whole(pem.clone()));
        }
    } else if !scene.is_https() {
        // The loopback of a machine inside this one is another one.
        let is_inside = matches!(kind, Kind::Desktop | Kind::Colima { .. });
        if is_inside {
            scene.check_reachable()?;
        }
        let values = if is_inside {
            scene.names()
        } else {
            scene.names_to_tell()
        };
        if values.is_empty() {
            return Ok(plan.note("Docker takes plain HTTP from loopback by itself: nothing to set up"));
        }
        plan = match kind {
            Kind::Colima { directory, .. } => plan.file(
                directory.join("colima.yaml"),
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
    Ok(taken_up(plan, kind))
}

/// Adds what lets the Docker at hand take its files up.
fn taken_up(mut plan: Plan, kind: &Kind) -> Plan {
    match kind {
        Kind::Colima { profile, directory } => {
            plan.reload = Some(Reload {
                what: "Restart Colima, and all containers in it?".to_owned(),
                argv: ["colima", "restart", profile].map(str::to_owned).to_vec(),
                needs_root: false,
                of_file: None,
            });
            plan.note(format!(
                "what looks for Docker at its usual place finds Colima's after: sudo ln -sf {} /var/run/docker.sock (the link goes when the machine is restarted)",
                word(directory.join("docker.sock").as_str())
            ))
        }
        Kind::Desktop => plan.note("restart Docker Desktop, which reads its files when it starts"),
        _ => {
            // Certificates are read at each connection, its settings when it is told to.
            if let Some((pid, _)) = kind.daemon() {
                plan.reload = Some(Reload {
                    what: "Let dockerd read daemon.json again? Containers go on.".to_owned(),
                    argv: vec!["kill".to_owned(), "-HUP".to_owned(), pid.to_string()],
                    needs_root: *kind == Kind::Engine,
                    of_file: Some("daemon.json"),
                });
            }
            plan
        }
    }
}

/// Returns the file of the daemon's settings.
fn daemon_json(kind: &Kind, home: &Utf8Path) -> Utf8PathBuf {
    let usual = match kind {
        Kind::Desktop => return home.join(".docker/daemon.json"),
        Kind::Rootless => home.join(".config/docker/daemon.json"),
        _ => Utf8PathBuf::from("/etc/docker/daemon.json"),
    };
    let Some((_, argv)) = kind.daemon() else { return usual };
    let given = argv.iter().enumerate().find_map(|(at, part)| {
        let joined = part.strip_prefix("--config-file=").map(str::to_owned);
        joined.or_else(|| (part == "--config-file").then(|| argv.get(at + 1).cloned())?)
    });
    given.map_or(usual, Utf8PathBuf::from)
}
