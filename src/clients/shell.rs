//! What a shell exports so that other clients find the registry and trust it.

use std::io;

use camino::{Utf8Path, Utf8PathBuf};

use super::needs;
use crate::config::Config;
use crate::root::Root;
use crate::sys;
use crate::sys::fs::{PUBLIC, read_optional, write_atomic};
pub use crate::sys::shell::{quote, word};

/// Variable that Go programs, OpenSSL and others read authorities from.
pub const BUNDLE: &str = "SSL_CERT_FILE";
/// Variable that keeps what [`BUNDLE`] was before.
pub const BEFORE: &str = "KDK_SSL_CERT_FILE_BEFORE";
/// Where systems keep the authorities that they trust.
const SYSTEM: [&str; 5] = [
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem",
    "/etc/ssl/cert.pem",
];

/// Returns the host and the port by which clients reach the registry.
pub fn host_and_port(config: &Config) -> (String, u16) {
    let url = url::Url::parse(&config.registry_url()).ok();
    let found = url.and_then(|url| Some((url.host_str()?.to_owned(), url.port_or_known_default()?)));
    found.unwrap_or_else(|| (config.registry_host(), config.registry_port()))
}

/// Says whether clients need the registry's certificate beside the system's authorities.
pub fn needs_bundle(config: &Config) -> bool {
    needs::is_https(config) && config.clients_see_own_certificate()
}

/// Returns the bundle that counted before kdk's; nothing means the system's.
pub fn before() -> Option<String> {
    match sys::env::var(BUNDLE) {
        Some(bundle) if Root::is_ca_bundle(&bundle) => sys::env::var(BEFORE),
        other => other,
    }
}

/// Makes the bundle: the authorities that counted before, and the registry's certificate.
///
/// # Errors
/// When a file cannot be read or written.
pub fn make_bundle(config: &Config) -> io::Result<Utf8PathBuf> {
    let text = with_authorities(&sys::fs::read(&config.root().registry_anchor())?)?;
    let path = config.root().ca_bundle();
    sys::fs::create_private_dir(&config.root().state())?;
    write_atomic(&path, text.as_bytes(), PUBLIC)?;
    Ok(path)
}

/// Returns the authorities that counted before, and a certificate.
///
/// # Errors
/// When a file cannot be read.
pub fn with_authorities(own: &str) -> io::Result<String> {
    let mut text = if let Some(path) = before() {
        sys::fs::read(Utf8Path::new(&path)).map_err(|error| {
            io::Error::new(
                error.kind(),
                format!("{BUNDLE} names a file that cannot be read: {error}; correct it, or: unset {BUNDLE}"),
            )
        })?
    } else {
        let system = SYSTEM
            .iter()
            .find_map(|path| read_optional(Utf8Path::new(path)).ok().flatten());
        system.unwrap_or_default()
    };
    if !text.is_empty() && !text.ends_with('\n') {
        text.push('\n');
    }
    text.push_str(own);
    Ok(text)
}
