//! PostgreSQL as a service: where its programs and data are, and how it runs.
//!
//! It listens on a unix socket in a directory of its owner alone, so that
//! whoever may enter needs no password. It refuses to run as root: there it
//! runs as the user `postgres`, with everything of it under `/var/lib/kdk`,
//! since that user cannot enter every root; the root holds a link to it.

use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::process::{Command, Stdio};

use camino::{Utf8Path, Utf8PathBuf};

use crate::config::Config;
use crate::supervisor::protocol::{JobSpec, Ready, StopSpec};
use crate::sys;
use crate::sys::signal::StopSignal;

/// The service's name.
pub const POSTGRESQL: &str = "postgresql";
/// Oldest major version that the metadata database takes.
const OLDEST: u32 = 15;
/// The user that PostgreSQL runs as when kdk runs as root.
const OWNER: &str = "postgres";

/// Why PostgreSQL cannot be run.
#[derive(Debug, thiserror::Error)]
pub enum PostgresqlError {
    /// It is not installed.
    #[error("PostgreSQL {OLDEST} or later is not installed{}", found.as_ref().map_or(String::new(), |found| format!(" ({found} is)")))]
    NotInstalled {
        /// An older one that is.
        found: Option<String>,
    },
    /// The data were made by another version.
    #[error("{data} was made by PostgreSQL {version}, which is not installed")]
    OtherVersion {
        /// The data.
        data: Utf8PathBuf,
        /// The version.
        version: String,
    },
    /// There is no user to run it as.
    #[error("PostgreSQL does not run as root, and there is no user {OWNER} to run it as")]
    NoOwner,
    /// Something else is where the link to the data belongs.
    #[error(
        "{0} is in the way: when kdk runs as root, PostgreSQL's data are kept under /var/lib/kdk, and {0} must be a link to them"
    )]
    InTheWay(Utf8PathBuf),
    /// The root was somewhere else.
    #[error("{link} leads to {target}, which belongs to another place of this root")]
    Moved {
        /// The link.
        link: Utf8PathBuf,
        /// Where it leads.
        target: Utf8PathBuf,
        /// Where it should lead.
        own: Utf8PathBuf,
    },
    /// The data are gone, and were in use.
    #[error("PostgreSQL's data in {0} are gone, and the registry's storage says that its metadata are there")]
    Gone(Utf8PathBuf),
    /// The data cannot be made.
    #[error("cannot make PostgreSQL's data in {data}: {reason}")]
    Init {
        /// Where.
        data: Utf8PathBuf,
        /// What initdb said.
        reason: String,
    },
    /// The system refused.
    #[error(transparent)]
    Io(#[from] io::Error),
}

/// What must be there of it.
const PROGRAMS: [&str; 4] = ["initdb", "postgres", "pg_isready", "psql"];

/// The command that installs PostgreSQL here.
pub fn install_command() -> &'static str {
    if cfg!(target_os = "macos") {
        "brew install postgresql@16"
    } else {
        "sudo apt-get install postgresql"
    }
}

/// PostgreSQL as it runs for a root.
#[derive(Clone, Debug)]
pub struct Postgresql {
    /// Directory of its programs.
    pub programs: Utf8PathBuf,
    data: Utf8PathBuf,
    socket: Utf8PathBuf,
    port: u16,
    /// The link, and where it leads, when another user owns the data.
    link: Option<(Utf8PathBuf, Utf8PathBuf)>,
    /// The file that tells this root from others at the same path.
    id: Utf8PathBuf,
}

/// Returns the role that kdk and its registry are: what a client is without naming one.
fn role() -> String {
    sys::process::user_name().unwrap_or_else(|| OWNER.to_owned())
}

impl Postgresql {
    /// Finds the programs, and says where everything is.
    ///
    /// # Errors
    /// When there is no PostgreSQL that can be used.
    pub fn find(config: &Config) -> Result<Self, PostgresqlError> {
        let mut found = Self::at(config, Utf8PathBuf::new());
        let mut installed = installed(config);
        installed.sort();
        let newest = installed.last().cloned();
        let usable = if let Some(version) = sys::fs::read_optional(&found.data.join("PG_VERSION"))? {
            let version = version.trim().to_owned();
            let same = installed.into_iter().find(|(known, _)| known.to_string() == version);
            Some(same.ok_or_else(|| PostgresqlError::OtherVersion {
                data: found.data.clone(),
                version,
            })?)
        } else {
            newest.clone().filter(|(version, _)| *version >= OLDEST)
        };
        let (_, programs) = usable.ok_or_else(|| PostgresqlError::NotInstalled {
            found: newest.map(|(version, path)| format!("{version} in {path}")),
        })?;
        found.programs = programs;
        Ok(found)
    }

    fn at(config: &Config, programs: Utf8PathBuf) -> Self {
        let root = config.root();
        let directory = root.join(&config.postgresql_dir());
        let socket = root.postgresql_socket(&directory);
        if sys::process::user_id() == 0 {
            let own = root.postgresql_of_another_user();
            return Self {
                programs,
                data: own.join("data"),
                socket: own.clone(),
                port: config.postgresql_port(),
                link: Some((directory, own)),
                id: root.state().join("root-id"),
            };
        }
        Self {
            programs,
            data: root.join(&config.postgresql_data_dir()),
            socket,
            port: config.postgresql_port(),
            link: None,
            id: root.state().join("root-id"),
        }
    }

    /// Returns what tells this root from others that were at its path.
    fn id(&self) -> Result<String, PostgresqlError> {
        if let Some(id) = sys::fs::read_optional(&self.id)? {
            return Ok(id);
        }
        let mut bytes = [0_u8; 16];
        crate::sys::random::fill(&mut bytes)?;
        let id = data_encoding::HEXLOWER.encode(&bytes);
        if let Some(directory) = self.id.parent() {
            sys::fs::create_private_dir(directory)?;
        }
        sys::fs::write_atomic(&self.id, id.as_bytes(), sys::fs::PRIVATE)?;
        Ok(id)
    }

    /// Checks that data which are in use are there: without them an empty
    /// database would be made, and every image would seem gone.
    ///
    /// # Errors
    /// When they are not.
    pub fn check_data(&self) -> Result<(), PostgresqlError> {
        // A moved root is another matter, which `prepare` finds.
        let elsewhere = |(link, own): &(Utf8PathBuf, Utf8PathBuf)| {
            fs::read_link(link).is_ok_and(|target| target != own.as_std_path())
        };
        let moved = self.link.as_ref().is_some_and(elsewhere);
        if !moved && !self.data.join("PG_VERSION").exists() {
            return Err(PostgresqlError::Gone(self.data.clone()));
        }
        Ok(())
    }

    /// Makes the data when they are missing; says whether they were.
    ///
    /// # Errors
    /// When they cannot be made.
    pub fn prepare(&self) -> Result<bool, PostgresqlError> {
        let owner = match &self.link {
            None => None,
            Some((link, own)) => {
                let account = sys::process::account(OWNER)?.ok_or(PostgresqlError::NoOwner)?;
                make_link(link, own, &self.id()?)?;
                sys::fs::give_to(own, account)?;
                Some(account)
            }
        };
        if owner.is_none() {
            sys::fs::create_private_dir(&self.socket)?;
        }
        if self.data.join("PG_VERSION").exists() {
            return Ok(false);
        }
        if let Some(above) = self.data.parent() {
            sys::fs::create_dir(above)?;
        }
        // Under its own name only when it is whole.
        let fresh = Utf8PathBuf::from(format!("{}.new", self.data));
        let _ = fs::remove_dir_all(&fresh);
        let mut command = Command::new(self.programs.join("initdb"));
        command
            .args(["--auth=trust", "--encoding=UTF8", "--locale=C", "--username"])
            .arg(role())
            .arg("--pgdata")
            .arg(&fresh)
            .current_dir("/")
            .stdin(Stdio::null());
        if let Some(account) = owner {
            sys::process::run_as(&mut command, account);
        }
        let output = command.output()?;
        if output.status.success() {
            fs::rename(&fresh, &self.data)?;
            return Ok(true);
        }
        let said = String::from_utf8_lossy(&output.stderr);
        Err(PostgresqlError::Init {
            data: self.data.clone(),
            reason: said.lines().last().unwrap_or("initdb failed").to_owned(),
        })
    }
}

/// Makes the directory of the other user, and the root's link to it.
fn make_link(link: &Utf8Path, own: &Utf8Path, id: &str) -> Result<(), PostgresqlError> {
    let above = own.parent().unwrap_or(own);
    sys::fs::create_dir(above)?;
    // The other user passes through; what is inside is nobody else's.
    fs::set_permissions(above, fs::Permissions::from_mode(0o711))?;
    let linked = fs::read_link(link).is_ok_and(|target| target == own.as_std_path());
    // Beside it: inside, another user might put something in its place.
    let (theirs, ours) = (Utf8PathBuf::from(format!("{own}.root")), id);
    if !linked {
        let known = sys::fs::read_optional(&theirs)?;
        if own.exists() && known.as_deref() != Some(ours) {
            // Of a root that was here before, and is gone.
            let stamp = sys::clock::Clock::System.now().as_second();
            fs::rename(own, format!("{own}.{stamp}"))?;
        }
        if let Ok(target) = fs::read_link(link)
            && target.join("data/PG_VERSION").exists()
            && let Ok(target) = Utf8PathBuf::try_from(target)
        {
            return Err(PostgresqlError::Moved {
                link: link.to_owned(),
                target,
                own: own.to_owned(),
            });
        }
        // An empty directory is nobody's; all else is.
        if fs::symlink_metadata(link).is_ok() && fs::remove_dir(link).is_err() {
            return Err(PostgresqlError::InTheWay(link.to_owned()));
        }
    }
    if !own.exists() {
        sys::fs::create_private_dir(own)?;
    }
    sys::fs::write_atomic(&theirs, ours.as_bytes(), sys::fs::PRIVATE)?;
    if !linked {
        std::os::unix::fs::symlink(own, link)?;
    }
    Ok(())
}

/// Returns the installed versions and where they are.
fn installed(config: &Config) -> Vec<(u32, Utf8PathBuf)> {
    let named = config.postgresql_bin_dir();
    let mut places: Vec<Utf8PathBuf> = Vec::new();
    if named.is_empty() {
        places.extend(which::which("postgres").ok().and_then(|path| above(&path)));
        let told = Command::new("pg_config").arg("--bindir").stdin(Stdio::null()).output();
        places.extend(told.ok().and_then(|output| {
            let text = String::from_utf8(output.stdout).ok()?;
            Some(Utf8PathBuf::from(text.trim()))
        }));
        for (top, inner) in [
            ("/usr/lib/postgresql", "bin"),
            ("/opt/homebrew/opt", "bin"),
            ("/usr/local/opt", "bin"),
        ] {
            let entries = Utf8Path::new(top).read_dir_utf8().into_iter().flatten().flatten();
            places.extend(entries.map(|entry| entry.path().join(inner)));
        }
    } else {
        places.push(config.path(&named));
    }
    places
        .into_iter()
        .filter(|place| PROGRAMS.iter().all(|program| place.join(program).is_file()))
        .filter_map(|place| Some((major_version(&place)?, place)))
        .collect()
}

fn above(path: &std::path::Path) -> Option<Utf8PathBuf> {
    Utf8PathBuf::try_from(path.parent()?.to_owned()).ok()
}

/// Returns the major version of the programs in a directory.
fn major_version(programs: &Utf8Path) -> Option<u32> {
    let output = Command::new(programs.join("postgres"))
        .arg("--version")
        .stdin(Stdio::null())
        .output()
        .ok()?;
    // postgres (PostgreSQL) 15.8 (Debian 15.8-0+deb12u1)
    let text = String::from_utf8(output.stdout).ok()?;
    let version = text
        .split_whitespace()
        .find(|word| word.starts_with(|letter: char| letter.is_ascii_digit()))?;
    let digits: String = version.chars().take_while(char::is_ascii_digit).collect();
    digits.parse().ok()
}

/// Seconds that PostgreSQL may take to recover after a kill, and to write
/// everything down before it ends, on a slow disk.
const PATIENCE: u64 = 120;

/// Returns how many seconds services may take to be ready, longer when
/// PostgreSQL or a real KhulnaSoft is among them and no setting says how long.
pub fn patience(config: &Config, specs: &[JobSpec]) -> u64 {
    let is_among = specs.iter().any(|spec| spec.name == POSTGRESQL);
    if is_among || config.rails_command().is_some() {
        own_patience(config)
    } else {
        config.wait_seconds()
    }
}

fn own_patience(config: &Config) -> u64 {
    if config.is_given("kdk.runit_wait_secs") {
        config.wait_seconds()
    } else {
        config.wait_seconds().max(PATIENCE)
    }
}

/// Returns the service. Without programs it cannot start, which `preflight` explains.
pub fn service(config: &Config, env: Vec<(String, String)>) -> JobSpec {
    let found = Postgresql::find(config).unwrap_or_else(|_| Postgresql::at(config, Utf8PathBuf::new()));
    let mut argv = Vec::new();
    if found.link.is_some() {
        let exe = sys::env::current_exe().unwrap_or_else(|_| "kdk".into());
        argv.extend([exe.into_string(), "run-as".to_owned(), OWNER.to_owned()]);
    }
    argv.push(found.programs.join("postgres").into_string());
    for (option, value) in [
        ("-D", found.data.to_string()),
        ("-k", found.socket.to_string()),
        ("-p", found.port.to_string()),
        ("-c", "listen_addresses=".to_owned()),
        ("-c", "unix_socket_permissions=0700".to_owned()),
        // The schema has 64 partitions a table, and a statement may lock them all.
        ("-c", "max_locks_per_transaction=1024".to_owned()),
    ] {
        argv.extend([option.to_owned(), value]);
    }
    let endpoint = config
        .root()
        .postgresql_socket(&config.root().join(&config.postgresql_dir()));
    JobSpec {
        name: POSTGRESQL.to_owned(),
        argv,
        env,
        cwd: "/".into(),
        stop: StopSpec {
            signal: StopSignal::Int,
            grace_seconds: own_patience(config),
        },
        ready: Ready::Succeeds(vec![
            found.programs.join("pg_isready").into_string(),
            "-q".to_owned(),
            "-d".to_owned(),
            "postgres".to_owned(),
            "-h".to_owned(),
            found.socket.to_string(),
            "-p".to_owned(),
            found.port.to_string(),
        ]),
        depends_on: Vec::new(),
        remains: Vec::new(),
        listen: None,
        address: format!("{endpoint}/.s.PGSQL.{}", found.port),
        fingerprint: String::new(),
    }
    .fingerprinted(&serde_json::Map::new(), &[found.data.join("postgresql.conf")])
}
