//! What a client is, and what it is told of.

use camino::Utf8PathBuf;

use super::plan::{Plan, SetupError};
use crate::clients::{needs, trust};
use crate::config::Config;
use crate::sys;

/// A client that can be set up.
pub trait Client: Sync {
    /// Its name.
    fn name(&self) -> &'static str;

    /// Other names of it.
    fn aliases(&self) -> &'static [&'static str] {
        &[]
    }

    /// What is set up, in a few words.
    fn about(&self) -> &'static str;

    /// Says whether this machine has it.
    fn is_here(&self) -> bool {
        sys::process::find_program(self.name()).is_some()
    }

    /// What a token in its text is for, where there is one: each has a name,
    /// expires, and replaces the one before.
    fn token_purpose(&self) -> Option<&'static str> {
        None
    }

    /// Plans what is to be done.
    ///
    /// # Errors
    /// When something is missing that must be there before.
    fn plan(&self, scene: &Scene<'_>) -> Result<Plan, SetupError>;
}

/// What a client is told of.
#[derive(Debug)]
pub struct Scene<'a> {
    /// The settings.
    pub config: &'a Config,
    /// The name by which the client was asked for.
    pub asked: &'a str,
    /// A token for what is printed.
    pub token: Option<&'a str>,
    /// The secret of notifications, for what is printed.
    pub secret: Option<&'a str>,
    /// How a proxy is to be.
    pub nginx: NginxOptions,
}

/// How a proxy is to be.
#[derive(Clone, Debug, Default)]
pub struct NginxOptions {
    /// The port it listens on, unless it is the external URL's.
    pub listen: Option<u16>,
    /// Whether HTTP leads to HTTPS.
    pub redirect_http: bool,
    /// Its certificate and key.
    pub pair: Option<(Utf8PathBuf, Utf8PathBuf)>,
}

impl<'a> Scene<'a> {
    /// Returns what clients of a root are told of, where no more is asked.
    pub fn of(config: &'a Config) -> Self {
        Self {
            config,
            asked: "",
            token: None,
            secret: None,
            nginx: NginxOptions::default(),
        }
    }
}

impl Scene<'_> {
    /// Says whether clients reach the registry by HTTPS.
    pub fn is_https(&self) -> bool {
        needs::is_https(self.config)
    }

    /// Returns `host:port` with which images are named.
    pub fn address(&self) -> String {
        self.config.registry_address()
    }

    /// Returns every `host:port` by which the registry is addressed. Behind a
    /// proxy that speaks HTTPS that is the proxy's.
    pub fn names(&self) -> Vec<String> {
        if self.is_https() && !self.config.clients_see_own_certificate() {
            return vec![self.address()];
        }
        trust::names(self.config)
    }

    /// Returns the names whose plain HTTP a Docker Engine does not take by
    /// itself: all but those that lead to loopback.
    pub fn names_to_tell(&self) -> Vec<String> {
        let mut names = self.names();
        names.retain(|name| !needs::leads_to_loopback(name));
        names
    }

    /// Returns the certificate that clients must trust; nothing over HTTP, and
    /// where it is a proxy's.
    ///
    /// # Errors
    /// When it is not made yet, or cannot be read.
    pub fn pem(&self) -> Result<Option<String>, SetupError> {
        if !self.is_https() || !self.config.clients_see_own_certificate() {
            return Ok(None);
        }
        let pem = trust::bundle(self.config)?;
        pem.map(Some).ok_or_else(|| SetupError::Missing {
            what: "the registry has no certificate yet".to_owned(),
            remedy: "make it, and all the rest, with: kdk reconfigure".to_owned(),
        })
    }

    /// Returns the user's home.
    pub fn home(&self) -> Utf8PathBuf {
        sys::env::home().unwrap_or_else(|| "/root".into())
    }

    /// Says that a proxy's certificate is the proxy's business, where it is.
    pub fn of_proxy(&self, plan: Plan) -> Plan {
        if self.is_https() && !self.config.clients_see_own_certificate() {
            return plan.note(format!(
                "{} is HTTPS behind a proxy: where its certificate is not one that this client trusts, that is set up there",
                self.config.registry_url()
            ));
        }
        plan
    }
}
