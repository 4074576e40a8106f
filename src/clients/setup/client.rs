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

    /// By what it is noted what was put where for it: one name for each place
    /// that it may be in.
    fn key(&self, _scene: &Scene<'_>) -> String {
        self.name().to_owned()
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

    /// Refuses an address that leads whoever asks to itself.
    ///
    /// # Errors
    /// When that is so.
    pub fn check_reachable(&self) -> Result<(), SetupError> {
        let address = self.address();
        if !needs::leads_to_loopback(&address) {
            return Ok(());
        }
        Err(SetupError::Missing {
            what: format!("{address} is this machine's own loopback: from another machine, or a node, it leads nowhere"),
            remedy: "give the registry an address that is reached from there, and a name for it: kdk config set registry.host=registry.test registry.listen_address=172.16.123.1 && kdk reconfigure && kdk setup hosts".to_owned(),
        })
    }

    /// Says so where jobs in containers would be led to themselves.
    pub fn of_jobs(&self, plan: Plan) -> Plan {
        let address = self.address();
        if !needs::leads_to_loopback(&address) {
            return plan;
        }
        plan.note(format!(
            "in a job's own network {address} is the job itself: give the registry an address that is reached from there, as kdk setup kubernetes says"
        ))
    }

    /// Returns the names of this machine that no name server knows: those that
    /// lead to an address of its own, and that address.
    pub fn known_only_here(&self) -> Vec<(String, std::net::IpAddr)> {
        let mut known: Vec<(String, std::net::IpAddr)> = Vec::new();
        for name in trust::hosts(self.config) {
            let found = sys::net::resolve(&name).unwrap_or_default();
            let address = found
                .into_iter()
                .find(|address| !address.is_loopback() && sys::net::is_own(*address));
            let is_name = name.parse::<std::net::IpAddr>().is_err();
            if let Some(address) = address.filter(|_| is_name && known.iter().all(|(there, _)| *there != name)) {
                known.push((name, address));
            }
        }
        known
    }

    /// Returns the registry's address with a number in place of a name that only
    /// this machine knows.
    pub fn numeric_address(&self) -> Option<String> {
        let address = self.address();
        let (host, port) = address.rsplit_once(':')?;
        let known = self.known_only_here();
        let (_, number) = known.iter().find(|(name, _)| name == host)?;
        Some(sys::net::host_port(&number.to_string(), port.parse().ok()?))
    }

    /// Says whether the certificate that clients see is kdk's own.
    pub fn has_own_certificate(&self) -> bool {
        self.is_https() && self.config.clients_see_own_certificate()
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
