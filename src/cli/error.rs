//! Errors at the edge: a message, hints, an exit code.

use std::io;

use crate::sys::shell::word;

/// Why a command ends badly.
#[derive(Debug)]
pub struct CommandError {
    /// What went wrong.
    pub message: String,
    /// What to do about it.
    pub hints: Vec<String>,
    /// Exit code.
    pub code: u8,
}

/// Exit code for a mistake of the user's, of the configuration, or findings.
pub const USER: u8 = 1;
/// Exit code for a command line that says nothing that can be done.
pub const USAGE: u8 = 2;
/// Exit code for a dry run that would change something.
pub const WOULD_CHANGE: u8 = 3;

impl CommandError {
    /// Makes an error that the user can mend.
    pub fn user(message: impl Into<String>) -> Self {
        Self {
            message: message.into(),
            hints: Vec::new(),
            code: USER,
        }
    }

    /// Ends with an exit code; all has been said.
    pub fn silent(code: u8) -> Self {
        Self {
            message: String::new(),
            hints: Vec::new(),
            code,
        }
    }

    /// Adds what to do.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hints.push(hint.into());
        self
    }
}

/// Joins an error with its causes.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let more = cause.to_string();
        if !text.contains(&more) {
            text.push_str(": ");
            text.push_str(&more);
        }
        source = cause.source();
    }
    text
}

macro_rules! from {
    ($($error:ty),+ $(,)?) => {
        $(impl From<$error> for CommandError {
            fn from(error: $error) -> Self {
                Self::user(chain(&error))
            }
        })+
    };
}

from!(
    io::Error,
    crate::certs::CertError,
    crate::front::StartError,
    crate::rails::StartError,
    crate::rails::config::ConfigError,
    crate::rails::jwt_auth::KeyError,
    crate::registry::server::ServeError,
    crate::registry::token::scope::ScopeError,
    crate::render::RenderError,
    jsonwebtoken::errors::Error,
);

impl From<crate::reconfigure::ReconfigureError> for CommandError {
    fn from(error: crate::reconfigure::ReconfigureError) -> Self {
        use crate::reconfigure::ReconfigureError;
        match error {
            ReconfigureError::Identity(error) => error.into(),
            other => Self::user(chain(&other)),
        }
    }
}

impl From<crate::supervisor::client::ClientError> for CommandError {
    fn from(error: crate::supervisor::client::ClientError) -> Self {
        use crate::supervisor::client::ClientError;
        let hint = match &error {
            ClientError::Silent(Some(pid)) => Some(format!(
                "if it is only suspended, resume it with: kill -CONT {pid}; or end it and all services with: kdk kill"
            )),
            ClientError::Silent(None) => Some("find it with: ps -ef | grep 'kdk supervise'".to_owned()),
            ClientError::NotUp(_) | ClientError::Io(_) | ClientError::Refused(_) => None,
        };
        let plain = Self::user(chain(&error));
        hint.into_iter().fold(plain, Self::hint)
    }
}

impl From<crate::registry::admin::CommandError> for CommandError {
    fn from(error: crate::registry::admin::CommandError) -> Self {
        use crate::registry::admin::CommandError as Verb;
        use crate::registry::metadata::{DatabaseError, MetadataError};
        let hint = match &error {
            Verb::Writing(_) => Some("stop it with: kdk stop registry"),
            Verb::Database(DatabaseError::Unavailable { outage, place, .. })
            | Verb::Metadata(MetadataError::Database(DatabaseError::Unavailable { outage, place, .. })) => {
                Some(database_hint(*outage, place))
            }
            _ if chain(&error).contains("permission denied to create database") => {
                Some("make it there yourself, for this role, or let it: ALTER ROLE … CREATEDB")
            }
            _ => None,
        };
        let plain = Self::user(chain(&error));
        hint.into_iter().fold(plain, Self::hint)
    }
}

/// Says what helps against a database that is away. `place` is how messages name it.
fn database_hint(outage: crate::registry::metadata::Outage, place: &str) -> &'static str {
    use crate::registry::metadata::Outage;
    // Kdk's own server is reached by a socket, whose path this is.
    let is_own = place.contains('/');
    match outage {
        Outage::NoDatabase if !is_own => {
            "make it there, or correct registry.database.dbname in kdk.yml, then: kdk reconfigure"
        }
        Outage::NoDatabase => {
            "make it with: kdk reconfigure, while registry.database.enabled is true; or: kdk registry database migrate up"
        }
        Outage::Authentication => {
            "correct registry.database.user and registry.database.password in kdk.yml, then: kdk reconfigure"
        }
        Outage::Starting | Outage::Shutdown => "try again in a moment",
        Outage::ReadOnly => "it is a standby, or set to be read only: name the one that may be written to",
        Outage::OutOfConnections | Outage::PoolTimeout => {
            "too many use it at once: try again, or raise max_connections in postgresql.conf"
        }
        Outage::NoTls => {
            "let that server speak TLS, or connect without: kdk config set registry.database.sslmode disable && kdk reconfigure"
        }
        Outage::Silent if is_own => {
            "it takes connections and answers nothing; start it anew with: kdk restart postgresql"
        }
        Outage::Silent | Outage::Lost | Outage::Unreachable if !is_own => {
            "see whether that server runs and takes connections from here; or correct registry.database in kdk.yml, then: kdk reconfigure"
        }
        Outage::Silent | Outage::Lost | Outage::Unreachable => {
            "see whether it runs: kdk status; start it with: kdk start postgresql; or correct registry.database in kdk.yml, and kdk reconfigure"
        }
    }
}

impl From<crate::root::RootError> for CommandError {
    fn from(error: crate::root::RootError) -> Self {
        use crate::root::RootError;
        let hint = match &error {
            RootError::NotFound { .. } => {
                Some("make one with: kdk init, or name one with --root or KDK_ROOT".to_owned())
            }
            RootError::NotARoot { by: "KDK_ROOT", .. } => {
                Some("correct the variable, or take it away: unset KDK_ROOT".to_owned())
            }
            RootError::NotARoot { path, .. } => Some(format!("make it one with: kdk init {path}")),
            RootError::Unsafe { .. } | RootError::Io(_) => None,
        };
        let plain = Self::user(chain(&error));
        hint.into_iter().fold(plain, Self::hint)
    }
}

impl From<crate::config::ConfigError> for CommandError {
    fn from(error: crate::config::ConfigError) -> Self {
        use crate::config::ConfigError;
        let hint = match &error {
            ConfigError::UnknownKey { hint, .. } => hint.clone(),
            ConfigError::Changed(_) => Some("run the command again".to_owned()),
            ConfigError::Gone {
                path,
                backup: Some(backup),
            } => Some(format!(
                "take it as it was applied last: cp {} {}; what runs can be seen and stopped without it",
                word(backup.as_str()),
                word(path.as_str())
            )),
            ConfigError::Gone { path, backup: None } => Some(format!(
                "make a new one with: kdk init {}; what runs can be seen and stopped without it",
                word(path.parent().map_or("", camino::Utf8Path::as_str))
            )),
            ConfigError::NotEditable { .. } => Some("edit it with: kdk config edit".to_owned()),
            ConfigError::Io(_) | ConfigError::Yaml { .. } | ConfigError::Problems(_) => None,
        };
        let plain = Self::user(chain(&error));
        hint.into_iter().fold(plain, Self::hint)
    }
}

impl From<crate::services::NameError> for CommandError {
    fn from(error: crate::services::NameError) -> Self {
        use crate::services::NameError;
        let hint = match &error {
            NameError::Unknown {
                suggestion: Some(near), ..
            } => Some(format!("did you mean {near}?")),
            NameError::Unknown { known, .. } => Some(format!("the services are: {}", known.join(", "))),
            NameError::Disabled { hint, .. } => Some(format!("enable it with: {hint}")),
            NameError::Elsewhere { name, .. } if name == crate::services::REGISTRY => {
                Some("to let kdk run one: kdk config unset registry.mode registry.api_url && kdk up".to_owned())
            }
            NameError::Elsewhere { .. } => {
                Some("to let kdk run its own: kdk config set rails.mode embedded && kdk reconfigure".to_owned())
            }
            NameError::Removed { .. } => None,
        };
        let plain = Self::user(chain(&error));
        hint.into_iter().fold(plain, Self::hint)
    }
}

impl From<crate::rails::identity::IdentityError> for CommandError {
    fn from(error: crate::rails::identity::IdentityError) -> Self {
        use crate::rails::identity::IdentityError;
        let hint = match &error {
            IdentityError::NoUser(_) => Some("see the users with: kdk user list".to_owned()),
            IdentityError::NoToken(_) => Some("see the tokens with: kdk token list".to_owned()),
            IdentityError::Damaged { path, .. } => Some(format!(
                "put a backup of it back; without one, users and tokens are to be made anew: mv {} {} && kdk reconfigure",
                word(path.as_str()),
                word(&format!("{path}.damaged"))
            )),
            _ => None,
        };
        let plain = Self::user(chain(&error));
        hint.into_iter().fold(plain, Self::hint)
    }
}

impl From<crate::services::Unready> for CommandError {
    fn from(error: crate::services::Unready) -> Self {
        use crate::services::Unready;
        use crate::services::postgresql::{PostgresqlError, install_command};
        let hint = match &error {
            Unready::Postgresql(PostgresqlError::NotInstalled { .. } | PostgresqlError::OtherVersion { .. }) => {
                format!("install it with: {}", install_command())
            }
            Unready::Postgresql(PostgresqlError::Moved { link, target, own }) => format!(
                "when the root was moved, move its data, too: mv {target} {own} && ln -sfn {own} {link}; when it was copied, remove the link and import or reset: rm {link}"
            ),
            Unready::Postgresql(PostgresqlError::Gone(_)) => {
                "restore them from a backup; or start over, without the images: kdk reset-registry-data".to_owned()
            }
            Unready::Postgresql(PostgresqlError::InTheWay(path)) => format!("move it away: mv {path} {path}.old"),
            Unready::Postgresql(_) => "see its log with: kdk tail --no-follow postgresql".to_owned(),
            Unready::NoConfiguration { .. } => "make it with: kdk reconfigure".to_owned(),
            Unready::Unreadable { .. } => "see its permissions".to_owned(),
            Unready::NoProgram { log: Some(log), .. } => {
                let log = if log.exists() {
                    format!("; the last build's log is {log}")
                } else {
                    String::new()
                };
                format!(
                    "build it with: kdk reconfigure{log}; or take the built-in one: kdk config set registry.version embedded && kdk reconfigure"
                )
            }
            Unready::NoDirectory { .. } => {
                "start the others with: kdk start registry; or leave KhulnaSoft to the stand-in: kdk config set rails.mode embedded".to_owned()
            }
            Unready::NoEngine { .. } => {
                "install it, or take the built-in registry: kdk config unset registry.image && kdk reconfigure"
                    .to_owned()
            }
            Unready::Engine { engine, .. } => format!(
                "start it, or let the other engine run it: kdk config set registry.engine {}",
                if *engine == "docker" { "podman" } else { "docker" }
            ),
            Unready::NoImage { engine, image } => {
                format!("get it with: kdk reconfigure; or build it with: {engine} build -t {image} DIRECTORY")
            }
            Unready::NotPulled { engine, image, .. } => {
                format!("build it with: {engine} build -t {image} DIRECTORY; or correct registry.image")
            }
            Unready::NoProgram { log: None, .. } => "correct it with: kdk config set registry.bin PATH".to_owned(),
        };
        Self::user(chain(&error)).hint(hint)
    }
}

impl From<crate::services::source::SourceError> for CommandError {
    fn from(error: crate::services::source::SourceError) -> Self {
        Self::user(chain(&error)).hint(
            "the previous registry keeps running; to use the built-in one: kdk config set registry.version embedded",
        )
    }
}
