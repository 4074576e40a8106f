//! What services have in their environment.

use crate::config::Config;
use crate::root::Root;
use crate::sys;

/// Returns what `registry.env` adds to the registry's environment.
pub fn registry_env(config: &Config) -> Vec<(String, String)> {
    let env = config.registry_env().into_iter();
    env.map(|(name, value)| (name, env_text(&value))).collect()
}

/// Returns the environment of services: what a login would give, not what happens to
/// be exported in the shell that starts them.
pub fn environment() -> Vec<(String, String)> {
    const KEPT: [&str; 12] = [
        "HOME",
        "LANG",
        "LOGNAME",
        "NO_PROXY",
        "PATH",
        "SHELL",
        "SSL_CERT_DIR",
        "SSL_CERT_FILE",
        "TMPDIR",
        "TZ",
        "USER",
        "XDG_RUNTIME_DIR",
    ];
    let bundle = "SSL_CERT_FILE";
    let mut kept: Vec<(String, String)> = sys::env::all()
        .into_iter()
        .filter(|(name, _)| KEPT.contains(&name.as_str()) || name.starts_with("LC_"))
        .collect();
    // One that `kdk env` exported is for clients, and perhaps another root's:
    // what it took the place of counts.
    let ours = |(name, value): &(String, String)| name == bundle && Root::is_ca_bundle(value);
    if kept.iter().any(ours) {
        kept.retain(|pair| !ours(pair));
        kept.extend(sys::env::var("KDK_SSL_CERT_FILE_BEFORE").map(|before| (bundle.to_owned(), before)));
    }
    kept
}

/// Writes a value of `registry.env` as the process sees it.
fn env_text(value: &serde_json::Value) -> String {
    match value {
        serde_json::Value::Null => String::new(),
        serde_json::Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}
