//! The hosts file, and the loopback alias that containers reach.

use std::net::IpAddr;

use super::client::{Client, Scene};
use super::edit::Edit;
use super::plan::{Plan, SetupError};
use crate::clients::hosts;
use crate::sys::net;

/// `kdk setup hosts`.
pub struct Hosts;

impl Client for Hosts {
    fn name(&self) -> &'static str {
        "hosts"
    }

    fn about(&self) -> &'static str {
        "the names in /etc/hosts, and the address they lead to"
    }

    fn is_here(&self) -> bool {
        true
    }

    fn plan(&self, scene: &Scene<'_>) -> Result<Plan, SetupError> {
        let wanted = hosts::wanted(scene.config);
        let mut plan = Plan::default();
        for address in wanted
            .iter()
            .map(|(address, _)| *address)
            .filter(|address| !net::is_own(*address))
        {
            plan = plan.note(format!(
                "{address} is no address of this machine yet; add it, after each start of the machine, with: {}",
                net::alias_command(address)
            ));
            if is_private(address) {
                plan = plan.note(format!(
                    "on a network in which {address} is this machine's address, others there reach the registry"
                ));
            }
        }
        if wanted.is_empty() {
            return Ok(plan.note("all names are addresses: nothing goes into the hosts file"));
        }
        let lines = wanted
            .iter()
            .map(|(address, names)| format!("{address} {}", names.join(" ")))
            .collect();
        Ok(plan.file(
            "/etc/hosts",
            "everything on this machine",
            Edit::Lines {
                root: scene.config.root().path().to_owned(),
                lines,
            },
        ))
    }
}

fn is_private(address: IpAddr) -> bool {
    matches!(address, IpAddr::V4(address) if address.is_private())
}
