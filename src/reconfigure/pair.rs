//! The pairs of certificates and keys: those that kdk makes, and those that are given.

use camino::Utf8Path;

use crate::certs::{self, Wanted};
use crate::config::Config;
use crate::render::{Ownership, Rendered};
use crate::sys::fs::{PRIVATE, PUBLIC, read_optional};

/// Returns the pairs that the settings ask for.
pub fn wanted_pairs(config: &Config) -> Vec<Wanted> {
    let mut pairs = Vec::new();
    let (certificate, key) = config.root().signing_pair();
    let signs = config.path(&config.registry_key()) == key && config.registry_internal_key().is_none();
    let serves = config.https_enabled()
        && config.registry_internal_key().is_none()
        && config.https_pair() == (certificate.clone(), key.clone());
    if signs || serves {
        let names = unique([config.hostname(), "localhost".into(), "127.0.0.1".into()]);
        pairs.push(Wanted {
            purpose: if signs { "signing tokens" } else { "HTTPS of KhulnaSoft" },
            certificate,
            key,
            names,
            is_signed_by_authority: false,
        });
    }
    if config.runs_registry() && config.registry_self_signed() {
        pairs.push(registry_pair(config));
    }
    pairs
}

/// Returns the registry's own TLS pair.
pub fn registry_pair(config: &Config) -> Wanted {
    let (certificate, key) = config.root().registry_pair();
    let external = config
        .registry_external_url()
        .and_then(|url| url::Url::parse(&url).ok()?.host_str().map(str::to_owned));
    // Who reaches the registry by its address alone has no other name for it.
    let listen = config.registry_listen_address();
    let bare = listen.trim_start_matches('[').trim_end_matches(']');
    let is_one = bare.parse().is_ok_and(|ip: std::net::IpAddr| !ip.is_unspecified());
    let names = [
        Some(config.registry_host()),
        Some(config.hostname()),
        external,
        Some("localhost".into()),
        Some("127.0.0.1".into()),
        is_one.then_some(listen),
    ];
    let names = names.into_iter().flatten().chain(config.registry_certificate_names());
    Wanted {
        purpose: "the registry's HTTPS",
        certificate,
        key,
        names: unique(names),
        is_signed_by_authority: true,
    }
}

fn unique(names: impl IntoIterator<Item = String>) -> Vec<String> {
    let mut all: Vec<String> = Vec::new();
    for name in names {
        let bare = name.trim_start_matches('[').trim_end_matches(']');
        // An address has many spellings; certificates know one.
        let name = bare
            .parse::<std::net::IpAddr>()
            .map_or_else(|_| bare.to_owned(), |address| address.to_string());
        if !all.contains(&name) {
            all.push(name);
        }
    }
    all
}

/// Returns the files of a pair that is given as text, where they are read.
pub fn files(config: &Config) -> Vec<Rendered> {
    let given = (config.registry_internal_key(), config.registry_internal_certificate());
    let (Some(key), Some(certificate)) = given else {
        return Vec::new();
    };
    let file = |path: String, text: String, mode, ownership| Rendered {
        path: config.path(&path),
        text: if text.ends_with('\n') {
            text
        } else {
            format!("{text}\n")
        },
        mode,
        ownership,
    };
    vec![
        file(config.registry_key(), key, PRIVATE, Ownership::Key),
        file(config.registry_rootcertbundle(), certificate, PUBLIC, Ownership::Ours),
    ]
}

/// Checks that the certificates of `registry.rootcertbundle` hold the key that
/// KhulnaSoft signs with, where both are there or about to be: else nobody
/// could log in. `planned` gives the text that a file is about to have.
pub fn check(config: &Config, planned: &impl Fn(&Utf8Path) -> Option<String>) -> Result<(), String> {
    if !config.registry_enabled() || !config.registry_auth_enabled() || config.rails_mode() != "embedded" {
        return Ok(());
    }
    let key_path = config.path(&config.registry_key());
    let bundle_path = config.path(&config.registry_rootcertbundle());
    // Kdk's own pair is judged, and made anew, with the other certificates.
    let made = config.root().signing_pair();
    if (&bundle_path, &key_path) == (&made.0, &made.1) && config.registry_internal_key().is_none() {
        return Ok(());
    }
    let text = |path: &Utf8Path| text_of(path, planned);
    let key = match text(&key_path)? {
        None if key_path != made.1 => {
            return Err(format!(
                "registry.key: {key_path} does not exist; take kdk's own with: kdk config unset registry.key"
            ));
        }
        key => key,
    };
    let (Some(key), Some(bundle)) = (key, text(&bundle_path)?) else {
        return Ok(());
    };
    let from = |setting: &str, inline: &str, path: &Utf8Path| {
        if config.is_given(inline) {
            inline.to_owned()
        } else {
            format!("{setting} ({path})")
        }
    };
    let key_from = from("registry.key", "registry.internal_key", &key_path);
    let bundle_from = from("registry.rootcertbundle", "registry.internal_certificate", &bundle_path);
    match certs::go_together(&bundle, &key) {
        Some(true) => Ok(()),
        None => Err(format!("{key_from} is no private key in PEM")),
        Some(false) => Err(format!(
            "{key_from} signs tokens, and no certificate of {bundle_from} has its public key: give them together, as by: kdk config set registry.internal_key=\"$(cat KEY)\" registry.internal_certificate=\"$(cat CERTIFICATE)\""
        )),
    }
}

/// Checks a pair of one's own for KhulnaSoft's HTTPS: else it would not start.
pub fn check_https(config: &Config, planned: &impl Fn(&Utf8Path) -> Option<String>) -> Result<(), String> {
    let made = config.root().signing_pair();
    let (certificate, key) = config.https_pair();
    if !config.https_enabled() || config.rails_mode() != "embedded" || (&certificate, &key) == (&made.0, &made.1) {
        return Ok(());
    }
    let text = |setting: &str, path: &Utf8Path| {
        let text = text_of(path, planned)?;
        text.ok_or_else(|| format!("{setting}: {path} does not exist; give both of a pair, or neither for kdk's own"))
    };
    let pair = (text("https.certificate", &certificate)?, text("https.key", &key)?);
    match certs::go_together(&pair.0, &pair.1) {
        Some(true) => Ok(()),
        None => Err(format!("https.key: {key} is no private key in PEM")),
        Some(false) => Err(format!(
            "https.key: {key} is not the key of a certificate in {certificate} (https.certificate)"
        )),
    }
}

/// Returns what a file is about to hold, or holds.
fn text_of(path: &Utf8Path, planned: &impl Fn(&Utf8Path) -> Option<String>) -> Result<Option<String>, String> {
    match planned(path) {
        Some(text) => Ok(Some(text)),
        None => read_optional(path).map_err(|error| format!("{path} cannot be read: {error}")),
    }
}
