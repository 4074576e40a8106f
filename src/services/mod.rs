//! The services of a root: what runs, as which command, when it is ready.

pub mod container;
pub mod endpoint;
mod environment;
mod logged;
pub mod origin;
pub mod postgresql;
pub mod source;
mod unready;

use camino::Utf8PathBuf;
use sha2::{Digest as _, Sha256};

use crate::config::Config;
use crate::supervisor::Paths;
use crate::supervisor::client::Client;
use crate::supervisor::log::Limits;
use crate::supervisor::protocol::{JobSpec, Ready, StopSpec};
use crate::sys;
use crate::sys::signal::StopSignal;
use endpoint::{Endpoint, rails_endpoint, rails_prefix};
pub use endpoint::{
    public_address, public_endpoint, rails_url, reachable, registry_endpoint, token_service, token_url,
};
use environment::environment;
pub use environment::registry_env;
pub use logged::logged;
pub use postgresql::POSTGRESQL;
pub use unready::Unready;

/// The registry's name.
pub const REGISTRY: &str = "registry";
/// The name of the front before another registry than the built-in one.
pub const FRONT: &str = "registry-front";
/// The Rails stand-in's name.
pub const RAILS: &str = "rails-web";

/// Names that may be typed instead of a service's own.
const ALIASES: [(&str, &str); 5] = [
    ("front", FRONT),
    ("rails", RAILS),
    ("web", RAILS),
    ("db", POSTGRESQL),
    ("postgres", POSTGRESQL),
];

/// Names of services that KDK once had.
const REMOVED: [(&str, &str); 2] = [
    (
        "tunnel",
        "the tunnel for Auto DevOps was removed in 2020; the registry is reached at registry.host directly",
    ),
    (
        "registry-tunnel",
        "the tunnel for Auto DevOps was removed in 2020; the registry is reached at registry.host directly",
    ),
];

/// A name that is no service.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// There is no such service.
    #[error("there is no service {name:?}")]
    Unknown {
        /// The name.
        name: String,
        /// What was meant, perhaps.
        suggestion: Option<String>,
        /// The services that there are.
        known: Vec<String>,
    },
    /// The service is switched off.
    #[error("the service {name} is not enabled")]
    Disabled {
        /// The name.
        name: String,
        /// How to enable it.
        hint: String,
    },
    /// The service is one that runs elsewhere.
    #[error("the {name} of this root runs at {url}: kdk neither starts nor stops it")]
    Elsewhere {
        /// The name.
        name: String,
        /// Where.
        url: String,
    },
    /// The service does not exist any more.
    #[error("there is no service {name:?} any more: {instead}")]
    Removed {
        /// The name.
        name: String,
        /// What is instead of it.
        instead: &'static str,
    },
}

/// Returns the service that listens where clients reach the registry.
pub fn public_service(config: &Config) -> &'static str {
    if config.registry_has_front() { FRONT } else { REGISTRY }
}

/// Returns the enabled services, those that others depend on first.
pub fn catalogue(config: &Config) -> Vec<JobSpec> {
    let mut services = Vec::new();
    if config.postgresql_enabled() {
        services.push(postgresql(config));
    }
    if config.rails_mode() == "embedded" {
        services.push(rails(config));
    } else if let Some(command) = config.rails_command() {
        services.push(real_rails(config, command));
    }
    if config.runs_registry() {
        services.push(registry(config));
    }
    if config.registry_has_front() {
        services.push(front(config));
    }
    services
}

/// Returns the setting of a service's port.
pub fn port_key(config: &Config, name: &str) -> &'static str {
    match name {
        REGISTRY if config.registry_has_front() => "registry.backend_port",
        REGISTRY | FRONT => "registry.port",
        POSTGRESQL => "postgresql.port",
        _ => "port",
    }
}

/// Picks services by name or alias; all when none is named.
///
/// # Errors
/// When a name is no enabled service.
pub fn pick(config: &Config, names: &[String]) -> Result<Vec<JobSpec>, NameError> {
    let all = catalogue(config);
    if names.is_empty() {
        return Ok(all);
    }
    let mut picked: Vec<JobSpec> = Vec::new();
    for name in names {
        let service = resolve(config, name, &all)?;
        if !picked.iter().any(|known| known.name == service.name) {
            picked.push(service);
        }
    }
    Ok(picked)
}

/// Returns the service's own name for a name or alias.
pub fn canonical(name: &str) -> &str {
    ALIASES
        .iter()
        .find(|(alias, _)| *alias == name)
        .map_or(name, |(_, own)| own)
}

fn resolve(config: &Config, name: &str, all: &[JobSpec]) -> Result<JobSpec, NameError> {
    let own = canonical(name);
    if let Some(service) = all.iter().find(|service| service.name == own) {
        return Ok(service.clone());
    }
    if let Some((_, instead)) = REMOVED.iter().find(|(removed, _)| *removed == name) {
        return Err(NameError::Removed {
            name: name.to_owned(),
            instead,
        });
    }
    match own {
        REGISTRY if config.registry_is_elsewhere() => {
            return Err(NameError::Elsewhere {
                name: own.to_owned(),
                url: config.registry_api_url(),
            });
        }
        REGISTRY => {
            return Err(NameError::Disabled {
                name: own.to_owned(),
                hint: "kdk config set registry.enabled true && kdk reconfigure".into(),
            });
        }
        FRONT => {
            return Err(NameError::Disabled {
                name: own.to_owned(),
                hint: "another registry (registry.bin, registry.image or registry.version) and registry.front true"
                    .into(),
            });
        }
        RAILS if !config.runs_rails() => {
            return Err(NameError::Elsewhere {
                name: own.to_owned(),
                url: config.rails_url(),
            });
        }
        RAILS => {
            return Err(NameError::Disabled {
                name: own.to_owned(),
                hint: "kdk config set rails.mode embedded && kdk reconfigure".into(),
            });
        }
        POSTGRESQL => {
            return Err(NameError::Disabled {
                name: own.to_owned(),
                hint: "kdk config set postgresql.enabled true && kdk reconfigure".into(),
            });
        }
        _ => {}
    }
    let known: Vec<String> = all.iter().map(|service| service.name.clone()).collect();
    let candidates = known
        .iter()
        .map(String::as_str)
        .chain(ALIASES.iter().map(|(alias, _)| *alias));
    let suggestion = candidates
        .map(|known| (strsim::damerau_levenshtein(known, name), known))
        // A short word is near to everything.
        .filter(|(distance, known)| distance * 3 <= known.len().max(name.len()))
        .min()
        .map(|(_, known)| known.to_owned());
    Err(NameError::Unknown {
        name: name.to_owned(),
        suggestion,
        known,
    })
}

/// Returns a client of the root's supervisor.
pub fn supervisor(config_root: &crate::root::Root) -> Client {
    let root = config_root;
    let exe = sys::env::current_exe().unwrap_or_else(|_| "kdk".into());
    let daemon = vec![
        exe.into_string(),
        "--root".to_owned(),
        root.path().to_string(),
        "supervise".to_owned(),
    ];
    Client::new(paths(root), daemon)
}

/// Lets the root's logs be bounded as its settings say.
///
/// # Errors
/// Those of the file system.
pub fn limit_logs(config: &Config) -> std::io::Result<()> {
    let limits = Limits {
        max_size: config.log_max_size() << 20,
        keep: usize::try_from(config.log_keep()).unwrap_or(usize::MAX),
    };
    limits.save(&paths(config.root()))
}

/// Returns where the root's supervisor keeps its things.
pub fn paths(root: &crate::root::Root) -> Paths {
    Paths {
        state: root.state(),
        socket: root.socket(),
        logs: root.logs(),
    }
}

/// Returns the binary that serves as registry, and what stands before `serve`.
pub fn registry_command(config: &Config) -> Vec<String> {
    if let Some(bin) = config.registry_bin() {
        return vec![config.path(&bin).into_string()];
    }
    if config.registry_version() != "embedded" {
        let own = config.root().built_registry();
        // One that was built by an older kdk is where it was built.
        let built = config.path(&config.registry_dir()).join("bin/registry");
        return vec![if own.exists() { own } else { built }.into_string()];
    }
    if let Some(image) = config.registry_image() {
        return container::command(config, &image, false);
    }
    let exe = sys::env::current_exe().unwrap_or_else(|_| "kdk".into());
    vec![exe.into_string(), "registry".to_owned()]
}

/// Returns PostgreSQL, enabled or not: some commands need it for a while.
pub fn postgresql(config: &Config) -> JobSpec {
    postgresql::service(config, environment())
}

fn front(config: &Config) -> JobSpec {
    let root = config.root();
    let exe = sys::env::current_exe().unwrap_or_else(|_| "kdk".into());
    let endpoint = public_endpoint(config);
    JobSpec {
        name: FRONT.to_owned(),
        argv: vec![
            exe.into_string(),
            "front".into(),
            "serve".into(),
            root.relative(&root.front()).to_string(),
        ],
        env: environment(),
        cwd: root.path().to_owned(),
        stop: StopSpec {
            signal: StopSignal::Term,
            grace_seconds: config.wait_seconds(),
        },
        ready: Ready::Http(endpoint.url("/v2/")),
        depends_on: Vec::new(),
        remains: Vec::new(),
        listen: Some(endpoint.listen()),
        address: shown(config, &endpoint),
        fingerprint: String::new(),
    }
    .fingerprinted(
        &serde_json::Map::new(),
        &[vec![root.front()], token_service_ca(config)].concat(),
    )
}

fn registry(config: &Config) -> JobSpec {
    let root = config.root();
    let (mut argv, file) = match config.registry_image() {
        // It works in a directory of the image's own.
        Some(image) => (container::command(config, &image, true), root.registry_config()),
        None => (
            registry_command(config),
            root.relative(&root.registry_config()).to_owned(),
        ),
    };
    argv.extend(["serve".to_owned(), file.into_string()]);
    let remains = container::remains(config);
    let mut env = environment();
    if config.registry_image().is_some() {
        env.extend(container::environment());
    }
    if config.registry_needs_bundle() {
        env.retain(|(known, _)| known != "SSL_CERT_FILE");
        env.push(("SSL_CERT_FILE".to_owned(), root.service_bundle().into_string()));
    }
    if !config.registry_is_embedded() {
        // distribution sends traces to a collector unless told not to, and complains that there is none.
        env.push(("OTEL_TRACES_EXPORTER".to_owned(), "none".to_owned()));
    }
    let is_image = config.registry_image().is_some();
    for (name, value) in registry_env(config) {
        if is_image && container::is_of_engine(&name) {
            continue;
        }
        env.retain(|(known, _)| *known != name);
        env.push((name, value));
    }
    let endpoint = registry_endpoint(config);
    let mut needs = Vec::new();
    if config.postgresql_enabled() && config.registry_database_enabled() != "false" {
        needs.push(POSTGRESQL.to_owned());
    }
    if config.registry_has_front() {
        // Clients find it there only.
        needs.push(FRONT.to_owned());
    }
    JobSpec {
        name: REGISTRY.to_owned(),
        argv,
        env,
        cwd: root.path().to_owned(),
        stop: StopSpec {
            signal: StopSignal::Term,
            grace_seconds: config.wait_seconds(),
        },
        ready: Ready::Http(endpoint.url("/v2/")),
        depends_on: needs,
        remains,
        address: if config.registry_has_front() {
            endpoint.url("")
        } else {
            shown(config, &endpoint)
        },
        listen: Some(endpoint.listen()),
        fingerprint: String::new(),
    }
    .fingerprinted(
        &config.registry_env(),
        &[
            vec![
                root.registry_config(),
                root.registry_pair().0,
                config.path(&config.registry_rootcertbundle()),
                container::stamp(root),
            ],
            token_service_ca(config),
        ]
        .concat(),
    )
}

/// Returns where clients reach a registry that listens at an endpoint.
fn shown(config: &Config, endpoint: &Endpoint) -> String {
    if config.registry_external_url().is_some() {
        config.registry_url()
    } else {
        endpoint.named(&config.registry_host())
    }
}

fn rails(config: &Config) -> JobSpec {
    let root = config.root();
    let exe = sys::env::current_exe().unwrap_or_else(|_| "kdk".into());
    let endpoint = rails_endpoint(config);
    JobSpec {
        name: RAILS.to_owned(),
        argv: vec![
            exe.into_string(),
            "rails".into(),
            "serve".into(),
            root.relative(&root.khulnasoft_yml()).to_string(),
            "--settings".into(),
            root.relative(&root.stand_in()).to_string(),
        ],
        env: environment(),
        cwd: root.path().to_owned(),
        stop: StopSpec {
            signal: StopSignal::Term,
            grace_seconds: config.wait_seconds(),
        },
        ready: Ready::Http(endpoint.url(&format!("{}/-/health", rails_prefix(config)))),
        depends_on: Vec::new(),
        remains: Vec::new(),
        listen: Some(endpoint.listen()),
        address: format!("{}{}", endpoint.named(&config.hostname()), rails_prefix(config)),
        fingerprint: String::new(),
    }
    .fingerprinted(
        &serde_json::Map::new(),
        &[
            root.khulnasoft_yml(),
            root.stand_in(),
            config.path(&config.registry_key()),
            config.https_pair().0,
            root.registry_pair().0,
        ],
    )
}

/// Returns a real KhulnaSoft, which a command of the user's runs.
fn real_rails(config: &Config, command: String) -> JobSpec {
    let url = config.rails_url();
    let url = url.trim_end_matches('/');
    JobSpec {
        name: RAILS.to_owned(),
        // The command is the user's own, from kdk.yml, and may need a shell.
        argv: vec!["sh".to_owned(), "-c".to_owned(), command],
        env: environment(),
        cwd: config.path(&config.rails_dir().unwrap_or_default()),
        stop: StopSpec {
            signal: StopSignal::Term,
            grace_seconds: config.wait_seconds(),
        },
        ready: Ready::Http(format!("{url}/-/health")),
        depends_on: Vec::new(),
        remains: Vec::new(),
        // Where it listens is its own business.
        listen: None,
        address: url.to_owned(),
        fingerprint: String::new(),
    }
    .fingerprinted(
        &serde_json::Map::new(),
        &[config.khulnasoft_yml(), config.path(&config.registry_key())],
    )
}

/// Returns the certificates that the token service is checked with.
fn token_service_ca(config: &Config) -> Vec<Utf8PathBuf> {
    config.rails_ca_file().iter().map(|path| config.path(path)).collect()
}

impl JobSpec {
    /// Adds the fingerprint: of what it runs, with which settings, and of the
    /// files that it reads. The inherited environment does not count: it
    /// differs from shell to shell.
    fn fingerprinted(mut self, env: &serde_json::Map<String, serde_json::Value>, reads: &[Utf8PathBuf]) -> Self {
        let mut hasher = Sha256::new();
        hasher.update(serde_json::json!([self.argv, self.cwd, self.listen, env]).to_string());
        let program = self.argv.first().map(Utf8PathBuf::from);
        for path in reads {
            // What cannot be read is the service's own business to complain about.
            hasher.update(std::fs::read(path).unwrap_or_default());
            hasher.update([0]);
        }
        // A binary that was built anew.
        let built = program
            .and_then(|path| std::fs::metadata(path).ok())
            .and_then(|metadata| metadata.modified().ok());
        hasher.update(format!("{built:?}"));
        self.fingerprint = data_encoding::HEXLOWER.encode(&hasher.finalize()[..8]);
        self
    }
}

/// Says why a service could not even be tried.
///
/// # Errors
/// A reason, when its configuration or its program is missing.
pub fn preflight(config: &Config, spec: &JobSpec) -> Result<(), Unready> {
    let root = config.root();
    if spec.name == POSTGRESQL {
        return Ok(postgresql::Postgresql::find(config).map(drop)?);
    }
    if spec.name == RAILS {
        config.check_rails_dir().map_err(|reason| Unready::NoDirectory {
            name: spec.name.clone(),
            reason,
        })?;
    }
    let file = match spec.name.as_str() {
        REGISTRY => root.registry_config(),
        FRONT => root.front(),
        _ => config.khulnasoft_yml(),
    };
    if let Err(error) = std::fs::File::open(&file) {
        return Err(if error.kind() == std::io::ErrorKind::NotFound {
            Unready::NoConfiguration {
                name: spec.name.clone(),
                file,
            }
        } else {
            Unready::Unreadable {
                file,
                reason: error.to_string(),
            }
        });
    }
    if let Some(image) = config.registry_image().filter(|_| spec.name == REGISTRY) {
        return container::check(config, &image);
    }
    let program = spec.argv.first().cloned().unwrap_or_default();
    if which::which(&program).is_err() {
        let built = config.registry_version() != "embedded" && spec.name == REGISTRY && config.registry_bin().is_none();
        return Err(Unready::NoProgram {
            name: spec.name.clone(),
            program,
            log: built.then(|| root.build_log()),
        });
    }
    Ok(())
}
