//! Whether clients can log in, and what else follows from how that is set.

use super::finding::{Finding, Verdict};
use super::scene::Scene;
use super::{logins, preflight};
use crate::certs;
use crate::config::Config;
use crate::reconfigure::exposure;
use crate::services::{self, RAILS};

/// Looks at tokens: their service, their keys, and where clients are sent for them.
pub fn check(scene: &Scene) -> Verdict {
    let config = match scene.used_registry() {
        Ok(config) => config,
        Err(verdict) => return verdict,
    };
    let mut found: Vec<Finding> = exposure::exposure(config)
        .map(|text| Finding::warning("exposed", text))
        .into_iter()
        .collect();
    if !config.registry_auth_enabled() {
        return found.into();
    }
    if let Err(reason) = preflight::check_keys(config) {
        let evidence = moduli(config).map_or(reason.clone(), |moduli| format!("{reason}; {moduli}"));
        found.push(
            Finding::problem("token-key-mismatch", evidence)
                .why("the registry's log says: token signed by untrusted key")
                .by_hand("or take kdk's own pair: kdk config unset registry.key; kdk config unset registry.rootcertbundle; kdk reconfigure"),
        );
    }
    found.extend(exposure::realm(config).map(|text| Finding::warning("realm-local", text)));
    if !config.has_one_origin() && !config.realm_is_at_registry() {
        let realm = config.registry_token_realm();
        let key = if config.is_given("registry.token_realm") {
            "registry.token_realm"
        } else {
            "registry.front"
        };
        let finding = Finding::warning(
            "two-origins",
            format!("tokens come from {realm}, not from the registry's own address"),
        )
        .why("crane, ko and cosign refuse to log in; over HTTPS regctl, oras and helm, too");
        found.push(if config.registry_is_elsewhere() {
            finding.by_hand("put one proxy before both, and name it in registry.external_url and in the realm")
        } else {
            finding.suggest(&["config", "unset", key]).suggest(&["reconfigure"])
        });
    }
    // Of what does not run it is said elsewhere.
    let rails_runs = !config.runs_rails() || scene.running(RAILS).is_some();
    if rails_runs
        && scene.running(services::public_service(config)).is_some()
        && let Some(no_logins) = logins::impossible(config)
    {
        let finding = Finding::problem("no-logins", no_logins.reason);
        found.push(match no_logins.restart {
            Some(name) => finding.suggest(&["restart", name]),
            None => finding,
        });
    }
    if found.is_empty() && !scene.registry_may_answer(config) {
        return Verdict::Skipped("the registry does not run, and nobody could be asked".to_owned());
    }
    if found.is_empty() && !rails_runs {
        return Verdict::Skipped(format!("{RAILS} does not run, and nobody can log in"));
    }
    found.into()
}

/// Says both moduli, as the administration guide compares them.
fn moduli(config: &Config) -> Option<String> {
    let read = |path: String| crate::sys::fs::read_optional(&config.path(&path)).ok().flatten();
    let (certificate, key) = (read(config.registry_rootcertbundle())?, read(config.registry_key())?);
    let (certificate, key) = certs::moduli(&certificate, &key)?;
    (certificate != key).then(|| {
        format!("the certificate's modulus has the SHA-256 {certificate}, and the key's {key} (openssl x509 -noout -modulus, openssl rsa -noout -modulus)")
    })
}
