//! The container clients of this machine.

use std::fmt;

use camino::Utf8PathBuf;

use crate::sys;

/// A client that is found on this machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Found {
    /// Docker, and those that read its login.
    Docker,
    /// podman, and those that read its login.
    Podman,
}

impl Found {
    /// Returns the program's name.
    pub fn program(self) -> &'static str {
        match self {
            Self::Docker => "docker",
            Self::Podman => "podman",
        }
    }

    /// Says whether it is on the PATH.
    pub fn is_here(self) -> bool {
        sys::process::find_program(self.program()).is_some()
    }

    /// Returns which clients read its login.
    pub fn readers(self) -> &'static str {
        match self {
            Self::Docker => "docker, crane, oras, regctl, helm, cosign and skopeo",
            Self::Podman => "podman, buildah and skopeo",
        }
    }

    /// Returns the file in which it keeps logins.
    pub fn login_file(self) -> Utf8PathBuf {
        let home = sys::env::home().unwrap_or_default();
        match self {
            Self::Docker => sys::env::var("DOCKER_CONFIG")
                .map_or_else(|| home.join(".docker"), Utf8PathBuf::from)
                .join("config.json"),
            Self::Podman => {
                if let Some(file) = sys::env::var("REGISTRY_AUTH_FILE") {
                    return file.into();
                }
                let runtime = sys::env::var("XDG_RUNTIME_DIR").filter(|_| cfg!(target_os = "linux"));
                match runtime {
                    Some(directory) => Utf8PathBuf::from(directory).join("containers/auth.json"),
                    None if cfg!(target_os = "linux") && sys::process::user_id() == 0 => {
                        "/run/containers/0/auth.json".into()
                    }
                    None => home.join(".config/containers/auth.json"),
                }
            }
        }
    }
}

impl fmt::Display for Found {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.program())
    }
}

/// Returns the client that is logged in unless another one is named.
pub fn preferred() -> Option<Found> {
    [Found::Docker, Found::Podman]
        .into_iter()
        .find(|client| client.is_here())
}
