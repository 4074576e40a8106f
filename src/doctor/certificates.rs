//! Certificates: those that are there, and the one that is served.

use super::finding::{Finding, Verdict};
use super::scene::Scene;
use crate::certs::{self, Authority, Wanted};
use crate::config::Config;
use crate::reconfigure::{registry_pair, wanted_pairs};
use crate::services;
use crate::sys::clock::Clock;

/// Looks at every pair that the settings ask for.
pub fn check(scene: &Scene) -> Verdict {
    let config = match scene.config() {
        Ok(config) => config,
        Err(verdict) => return verdict,
    };
    let pairs = wanted_pairs(config);
    if pairs.is_empty() {
        return Verdict::Skipped("the settings ask for none".to_owned());
    }
    let authority = Authority::new(config.root().certificates());
    let mut found = Vec::new();
    for pair in &pairs {
        match authority.judge(pair, Clock::System.now()) {
            Ok(verdict) => found.extend(judged(config, pair, verdict)),
            Err(error) => return Verdict::Unknown(error.to_string()),
        }
    }
    if found.is_empty() {
        found.extend(stale(scene, config));
    }
    for pair in &pairs {
        if crate::sys::fs::mode(&pair.key).is_some_and(|bits| bits & 0o077 != 0) {
            let name = config.root().relative(&pair.key);
            found.push(
                Finding::warning("key-readable", format!("others may read the key {name}")).mended_by(&["reconfigure"]),
            );
        }
    }
    found.into()
}

fn judged(config: &Config, pair: &Wanted, verdict: certs::Verdict) -> Option<Finding> {
    let name = config.root().relative(&pair.certificate);
    let found = match verdict {
        certs::Verdict::Keep => return None,
        certs::Verdict::Make => {
            Finding::problem("certificate-missing", format!("{name} for {} is missing", pair.purpose))
                .mended_by(&["reconfigure"])
        }
        certs::Verdict::Renew(reason) => {
            Finding::problem("certificate-outdated", format!("{name}: {reason}")).mended_by(&["reconfigure"])
        }
        certs::Verdict::Complain(reason) => {
            Finding::warning("certificate-odd", format!("{name}: {reason}; it was not made by kdk"))
                .by_hand(pair.remedy())
        }
        certs::Verdict::Useless(reason) => Finding::problem(
            "certificate-useless",
            format!("{name}: {reason}; it was not made by kdk"),
        )
        .why("clients refuse it")
        .by_hand(pair.remedy()),
    };
    Some(found)
}

/// Says so when the registry serves another certificate than its file holds.
fn stale(scene: &Scene, config: &Config) -> Option<Finding> {
    let name = services::public_service(config);
    if !config.runs_registry() || !config.registry_self_signed() {
        return None;
    }
    scene.running(name)?;
    let pem = crate::sys::fs::read(&registry_pair(config).certificate).ok()?;
    let endpoint = services::public_endpoint(config);
    let address = services::reachable(&endpoint.host, endpoint.port);
    let served = certs::served_fingerprint(&address, &config.registry_host()).ok()?;
    (Some(served) != certs::fingerprint(&pem)).then(|| {
        Finding::problem(
            "certificate-stale",
            format!("{name} serves another certificate than its file holds"),
        )
        .mended_by(&["restart", name])
    })
}
