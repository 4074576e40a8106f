//! podman, buildah and skopeo, which read the same files.

use super::client::{Client, Scene};
use super::edit::Edit;
use super::plan::{Plan, SetupError};
use crate::clients::insecure;
use crate::sys;

/// Who reads podman's files.
pub const READERS: &str = "podman, buildah, skopeo";

/// `kdk setup podman`.
pub struct Podman;

impl Client for Podman {
    fn name(&self) -> &'static str {
        "podman"
    }

    fn aliases(&self) -> &'static [&'static str] {
        &["buildah", "skopeo"]
    }

    fn about(&self) -> &'static str {
        "podman, buildah and skopeo"
    }

    fn is_here(&self) -> bool {
        ["podman", "buildah", "skopeo"]
            .iter()
            .any(|program| sys::process::find_program(program).is_some())
    }

    fn plan(&self, scene: &Scene<'_>) -> Result<Plan, SetupError> {
        let mut plan = Plan::default();
        if let Some(pem) = scene.pem()? {
            let directory = scene.home().join(".config/containers/certs.d");
            for name in scene.names() {
                plan = plan.file(directory.join(name).join("ca.crt"), READERS, Edit::Whole(pem.clone()));
            }
        } else if !scene.is_https() {
            plan = plan.file(
                insecure::podman_file(),
                READERS,
                Edit::Podman {
                    root: scene.config.root().path().to_owned(),
                    addresses: scene.names(),
                },
            );
        }
        if cfg!(target_os = "macos") {
            plan = plan.note("podman's machine has files of its own: certs.d is copied when it is made (podman machine init), and the rest goes in by podman machine ssh");
        }
        Ok(scene.of_proxy(plan))
    }
}
