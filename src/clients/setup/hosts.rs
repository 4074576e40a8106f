//! The hosts file, and the loopback alias that containers reach.

use std::net::IpAddr;

use super::client::{Client, Scene};
use super::edit::Edit;
use super::plan::{Plan, SetupError};
use crate::clients::hosts;
use crate::sys::{self, net};

const FILE: &str = "/etc/hosts";

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
        let root = scene.config.root().path();
        let text = sys::fs::read_optional(FILE.into())?.unwrap_or_default();
        let own = Edit::Lines {
            root: root.to_owned(),
            lines: Vec::new(),
        };
        let others = own.take(&text, "").ok().flatten().unwrap_or_default();
        let mut plan = Plan::default();
        let mut wanted = hosts::wanted(scene.config);
        for (address, names) in &mut wanted {
            names.retain(|name| match elsewhere(&others, name) {
                // Whoever wrote it did what is to be done.
                Some((_, there)) if net::is_own(there) => false,
                Some((line, there)) => {
                    plan.blocked = Some((
                        format!("line {line} of {FILE} says that {name} is {there}, not {address}"),
                        "take it out first: of two lines the first counts".to_owned(),
                    ));
                    true
                }
                None => true,
            });
        }
        wanted.retain(|(_, names)| !names.is_empty());
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
            return Ok(plan.note("all names lead to this machine: nothing goes into the hosts file"));
        }
        let lines = wanted
            .iter()
            .map(|(address, names)| format!("{address} {}", names.join(" ")))
            .collect();
        Ok(plan.file(
            FILE,
            "everything on this machine",
            Edit::Lines {
                root: root.to_owned(),
                lines,
            },
        ))
    }
}

fn is_private(address: IpAddr) -> bool {
    matches!(address, IpAddr::V4(address) if address.is_private())
}

/// Returns the line in which others gave a name an address, and the address.
fn elsewhere(text: &str, name: &str) -> Option<(usize, IpAddr)> {
    text.lines().enumerate().find_map(|(number, line)| {
        let mut words = line.split('#').next().unwrap_or_default().split_whitespace();
        let address = words.next()?.parse().ok()?;
        words
            .any(|word| word.eq_ignore_ascii_case(name))
            .then_some((number + 1, address))
    })
}
