//! Which Docker `docker` talks to: told by the environment, its context, and
//! sockets, as docker itself decides.

use camino::{Utf8Path, Utf8PathBuf};
use serde_json::Value;

use super::client::Scene;
use crate::clients::trust;
use crate::sys;

/// Which Docker it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Kind {
    /// The Engine of this machine.
    Engine,
    /// An Engine of this user's, without root's rights.
    Rootless,
    /// Docker Desktop.
    Desktop,
    /// Colima, by its profile and its directory.
    Colima {
        /// The profile.
        profile: String,
        /// Where its settings and its socket are.
        directory: Utf8PathBuf,
    },
    /// Rancher Desktop.
    Rancher,
    /// A docker-machine, by its name.
    Machine(String),
    /// One on another machine, by its address.
    Remote(String),
}

impl Kind {
    /// Tells which Docker `docker` talks to.
    pub fn of(scene: &Scene<'_>) -> Self {
        if let Some(name) = sys::env::var("DOCKER_MACHINE_NAME") {
            return Self::Machine(name);
        }
        let home = scene.home();
        let host = sys::env::var("DOCKER_HOST").filter(|host| !host.is_empty());
        if let Some(host) = host {
            return Self::of_host(&host);
        }
        let settings = sys::env::var("DOCKER_CONFIG").map_or_else(|| home.join(".docker"), Utf8PathBuf::from);
        let context = sys::env::var("DOCKER_CONTEXT").or_else(|| current_context(&settings));
        match context.as_deref() {
            Some("colima") => Self::colima(&home, "default"),
            Some("rancher-desktop") => Self::Rancher,
            Some("rootless") => Self::Rootless,
            Some(name) if name.starts_with("colima-") => Self::colima(&home, &name["colima-".len()..]),
            Some(name) if name.starts_with("desktop") => Self::Desktop,
            Some("default") if cfg!(target_os = "linux") => Self::Engine,
            _ if trust::is_desktop(&home) => Self::Desktop,
            _ => Self::Engine,
        }
    }

    /// Tells by the address of the engine.
    fn of_host(host: &str) -> Self {
        let Some(socket) = host.strip_prefix("unix://").map(Utf8Path::new) else {
            return Self::Remote(host.to_owned());
        };
        let has = |part: &str| socket.components().any(|component| component.as_str() == part);
        let directory = socket.parent().unwrap_or(socket);
        if has(".colima") || has("colima") {
            return Self::Colima {
                profile: directory.file_name().unwrap_or("default").to_owned(),
                directory: directory.to_owned(),
            };
        }
        if has(".rd") {
            return Self::Rancher;
        }
        if has("desktop") || socket.as_str().contains("/.docker/run/") {
            return Self::Desktop;
        }
        let is_own = socket.starts_with("/run/user") && !socket.starts_with("/run/user/0");
        if is_own && socket.file_name() == Some("docker.sock") && !has("podman") {
            return Self::Rootless;
        }
        Self::Engine
    }

    fn colima(home: &Utf8Path, profile: &str) -> Self {
        let given = sys::env::var("COLIMA_HOME").map(Utf8PathBuf::from);
        let old = home.join(".colima");
        let xdg = sys::env::var("XDG_CONFIG_HOME").map(|path| Utf8PathBuf::from(path).join("colima"));
        let base = given.or_else(|| xdg.filter(|_| !old.exists())).unwrap_or(old);
        Self::Colima {
            profile: profile.to_owned(),
            directory: base.join(profile),
        }
    }

    /// Returns its daemon's process and arguments, where it is one of this machine's.
    pub fn daemon(&self) -> Option<(i32, Vec<String>)> {
        let owner = if *self == Self::Rootless {
            sys::process::user_id()
        } else {
            0
        };
        // Those in containers are other ones.
        let mut running = sys::running::of_this_machine("dockerd", owner).into_iter();
        running.next().map(|pid| {
            let started = sys::process::started_with(pid);
            (pid, started.map(|started| started.argv).unwrap_or_default())
        })
    }
}

fn current_context(settings: &Utf8Path) -> Option<String> {
    let text = sys::fs::read_optional(&settings.join("config.json")).ok()??;
    let file: Value = serde_json::from_str(&text).ok()?;
    Some(file.get("currentContext")?.as_str()?.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn engines_are_told_by_their_sockets() {
        let of = |host: &str| Kind::of_host(host);
        assert_eq!(of("unix:///var/run/docker.sock"), Kind::Engine);
        assert_eq!(of("unix:///run/user/1000/docker.sock"), Kind::Rootless);
        assert_eq!(of("unix:///run/user/1000/podman/podman.sock"), Kind::Engine);
        assert_eq!(of("unix:///Users/me/.rd/docker.sock"), Kind::Rancher);
        assert_eq!(of("unix:///home/me/.docker/desktop/docker.sock"), Kind::Desktop);
        assert_eq!(of("ssh://me@server"), Kind::Remote("ssh://me@server".to_owned()));
        for directory in ["/Users/me/.colima/work", "/home/me/.config/colima/work"] {
            let expected = Kind::Colima {
                profile: "work".to_owned(),
                directory: directory.into(),
            };
            assert_eq!(of(&format!("unix://{directory}/docker.sock")), expected);
        }
    }
}
