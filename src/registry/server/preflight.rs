//! What would keep a server from starting, found before it is tried.

use camino::Utf8Path;

use crate::registry::auth::Authorizer;
use crate::registry::config::Config;
use crate::registry::config::database::Mode;
use crate::registry::metadata::postgres::tls;
use crate::registry::storage::Filesystem;
use crate::serve::{self, Forward};

/// Finds what would keep the server from starting although the file is
/// right: certificates, keys and directories. What `is_made` says of a file
/// that it will be there by then, is not looked at.
pub fn problems(config: &Config, is_made: impl Fn(&Utf8Path) -> bool) -> Vec<String> {
    let mut found = Vec::new();
    let is_there = |files: &[Option<&Utf8Path>]| !files.iter().flatten().any(|path| is_made(path));
    if let Some(auth) = &config.auth
        && is_there(&auth.files())
        && let Err(error) = Authorizer::new(Some(auth))
    {
        let cause = std::error::Error::source(&error).map_or(String::new(), |cause| format!(": {cause}"));
        found.push(format!("{error}{cause}"));
    }
    found.extend(config.forward_problem());
    if let Some(forward) = config.forward()
        && is_there(&[forward.authority.as_deref()])
        && let Err(error) = Forward::new(forward.target.clone(), forward.authority.as_deref(), false)
    {
        found.push(format!("auth.token.forwardca: {error}"));
    }
    if let Some(pair) = &config.http.tls
        && is_there(&[Some(&pair.certificate), Some(&pair.key)])
    {
        let settings = serve::tls::Settings {
            client_cas: pair.client_cas.clone(),
            ..serve::tls::Settings::new(pair.certificate.clone(), pair.key.clone())
        };
        if let Err(error) = settings.load() {
            found.push(format!("cannot use the TLS certificate: {error}"));
        }
    }
    if config.database.mode != Mode::Files
        && let Err(error) = tls::check(&config.database)
    {
        found.push(error.to_string());
    }
    if !config.storage.in_memory
        && let Err(reason) = Filesystem::check(&config.storage.root)
    {
        found.push(format!("storage.filesystem.rootdirectory: {reason}"));
    }
    found
}
