//! The system's store of authorities, for everything that reads it.

use super::client::{Client, Scene};
use super::edit::Edit;
use super::plan::{Plan, Reload, SetupError};
use crate::sys;
use crate::sys::shell::word;

/// `kdk setup trust-store`.
pub struct TrustStore;

/// Where systems take authorities from, and what takes them up.
const STORES: [(&str, &str, &str); 3] = [
    ("/usr/local/share/ca-certificates", "crt", "update-ca-certificates"),
    ("/etc/pki/ca-trust/source/anchors", "pem", "update-ca-trust"),
    ("/etc/ca-certificates/trust-source/anchors", "crt", "update-ca-trust"),
];

impl Client for TrustStore {
    fn name(&self) -> &'static str {
        "trust-store"
    }

    fn about(&self) -> &'static str {
        "the system's store of certificates"
    }

    fn is_here(&self) -> bool {
        true
    }

    fn plan(&self, scene: &Scene<'_>) -> Result<Plan, SetupError> {
        let Some(pem) = scene.pem()? else {
            let why = "over plain HTTP there is no certificate to trust";
            return Ok(if scene.is_https() {
                scene.of_proxy(Plan::default())
            } else {
                Plan::default().note(why)
            });
        };
        if cfg!(target_os = "macos") {
            let file = scene.config.root().registry_anchor();
            return Ok(Plan::text(format!(
                "security add-trusted-cert -k ~/Library/Keychains/login.keychain-db {}\n",
                word(file.as_str())
            )));
        }
        let has = |store: &&(&str, &str, &str)| sys::process::find_program(store.2).is_some();
        let Some((directory, ending, program)) = STORES.iter().find(has) else {
            return Err(SetupError::Missing {
                what: "neither update-ca-certificates nor update-ca-trust is on the PATH".to_owned(),
                remedy: "install the package ca-certificates".to_owned(),
            });
        };
        let name = scene.address().replace([':', '[', ']'], "-");
        let mut plan = Plan::default().file(
            format!("{directory}/kdk-{name}.{ending}"),
            "the system's store",
            Edit::Whole(pem),
        );
        plan.reload = Some(Reload {
            what: format!(
                "Let all programs of this machine that read the system's store trust {}?",
                scene.address()
            ),
            // What was taken out is only taken up so.
            argv: if *program == "update-ca-certificates" {
                vec![(*program).to_owned(), "--fresh".to_owned()]
            } else {
                vec![(*program).to_owned()]
            },
            needs_root: true,
            of_file: None,
        });
        Ok(plan)
    }
}
