//! The KDK root: where it is, and every path below it.

use std::io;

use camino::{Utf8Path, Utf8PathBuf};
use sha2::{Digest as _, Sha256};

use crate::sys;

/// Longest path of a unix socket that every supported system takes, in bytes.
const SOCKET_PATH_LIMIT: usize = 100;

/// Where the bundle for other clients is, below the root.
const CA_BUNDLE: &str = ".kdk/ca-bundle.crt";

/// A KDK root: a directory that holds `kdk.yml`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Root(Utf8PathBuf);

/// Why there is no root to work in.
#[derive(Debug, thiserror::Error)]
pub enum RootError {
    /// No directory on the way up holds `kdk.yml`.
    #[error("{start} is not in a KDK root: neither it nor a directory above holds kdk.yml")]
    NotFound {
        /// Where the search started.
        start: Utf8PathBuf,
    },
    /// A directory that was named holds no `kdk.yml`.
    #[error("{path}, named by {by}, is no KDK root: it holds no kdk.yml")]
    NotARoot {
        /// The directory.
        path: Utf8PathBuf,
        /// `--root` or `KDK_ROOT`.
        by: &'static str,
    },
    /// Somebody else could have put commands into the root.
    #[error("{path} is not safe to use as a KDK root: {reason}")]
    Unsafe {
        /// The directory.
        path: Utf8PathBuf,
        /// Why.
        reason: String,
    },
    /// The system did not say.
    #[error("cannot look for a KDK root: {0}")]
    Io(#[from] io::Error),
}

impl Root {
    /// Finds the root: `--root`, else `KDK_ROOT`, else the nearest directory
    /// upwards that holds `kdk.yml`.
    ///
    /// # Errors
    /// When there is none, or it is not safe: the root holds commands that
    /// are run, so nobody else may be able to change it.
    pub fn find(argument: Option<&Utf8Path>) -> Result<Self, RootError> {
        let from_environment = sys::env::var("KDK_ROOT").map(Utf8PathBuf::from);
        let named = argument
            .map(|path| (path.to_owned(), "--root"))
            .or(from_environment.map(|path| (path, "KDK_ROOT")));
        let start = sys::env::current_dir()?;
        let path = match named {
            Some((path, by)) => {
                let path = start.join(path);
                if !Self::is_one(&path) {
                    return Err(RootError::NotARoot { path, by });
                }
                path
            }
            None => start
                .ancestors()
                .find(|directory| Self::is_one(directory))
                .ok_or_else(|| RootError::NotFound { start: start.clone() })?
                .to_owned(),
        };
        let root = Self::at(&path)?;
        root.check_safety()?;
        Ok(root)
    }

    /// Says whether a directory is a root. Where services were started it is
    /// one without its `kdk.yml`, too: they can still be seen and stopped.
    pub fn is_one(directory: &Utf8Path) -> bool {
        directory.join("kdk.yml").is_file() || directory.join(".kdk/supervisor.json").is_file()
    }

    /// Takes a directory as root, whatever it holds.
    ///
    /// # Errors
    /// When it does not exist.
    pub fn at(path: &Utf8Path) -> io::Result<Self> {
        Ok(Self(
            path.canonicalize_utf8()
                .map_err(|error| sys::fs::named(&error, "cannot open", path))?,
        ))
    }

    /// Returns a root at a path that need not exist, for documents about one.
    pub fn example() -> Self {
        Self("/home/git/kdk".into())
    }

    fn refused(&self, reason: String) -> RootError {
        RootError::Unsafe {
            path: self.0.clone(),
            reason,
        }
    }

    /// Checks that a directory may be a root: nobody else can change what kdk
    /// does there.
    ///
    /// # Errors
    /// Why not.
    pub fn check_directory(&self) -> Result<(), RootError> {
        let refuse = |reason: String| self.refused(reason);
        let owner = sys::fs::owner(&self.0)?;
        let me = sys::process::user_id();
        // Root's own files are no danger to anybody; root itself must not run others' commands.
        if owner != me && owner != 0 {
            return Err(refuse(format!(
                "it belongs to another user (id {owner}); run kdk as that user"
            )));
        }
        self.check_mode(&self.0)
    }

    fn check_mode(&self, path: &Utf8Path) -> Result<(), RootError> {
        if sys::fs::mode(path).is_some_and(|mode| mode & 0o002 != 0) {
            return Err(self.refused(format!("everybody may write to {path}; run: chmod o-w {path}")));
        }
        Ok(())
    }

    fn check_safety(&self) -> Result<(), RootError> {
        self.check_directory()?;
        if !self.kdk_yml().exists() {
            return Ok(());
        }
        self.check_mode(&self.kdk_yml())?;
        let refuse = |reason: String| self.refused(reason);
        let me = sys::process::user_id();
        let owner = sys::fs::owner(&self.kdk_yml())?;
        if owner != me && owner != 0 {
            return Err(refuse(format!("its kdk.yml belongs to another user (id {owner})")));
        }
        Ok(())
    }

    /// Returns the root's own path.
    pub fn path(&self) -> &Utf8Path {
        &self.0
    }

    /// Returns a path below the root; an absolute one stays as it is.
    pub fn join(&self, path: &str) -> Utf8PathBuf {
        self.0.join(path)
    }

    /// The settings.
    pub fn kdk_yml(&self) -> Utf8PathBuf {
        self.join("kdk.yml")
    }

    /// The settings, as they were applied last.
    pub fn kdk_yml_applied(&self) -> Utf8PathBuf {
        self.state().join("applied.yml")
    }

    /// The thin Makefile that `kdk init` writes.
    pub fn makefile(&self) -> Utf8PathBuf {
        self.join("Makefile")
    }

    /// What kdk keeps for itself; only its owner may enter.
    pub fn state(&self) -> Utf8PathBuf {
        self.join(".kdk")
    }

    /// Old versions of files that were replaced.
    pub fn backups(&self) -> Utf8PathBuf {
        self.join(".backups")
    }

    /// The user's own templates.
    pub fn templates(&self) -> Utf8PathBuf {
        self.join("templates")
    }

    /// Logs of all services.
    pub fn logs(&self) -> Utf8PathBuf {
        self.join("log")
    }

    /// The supervisor's socket. A deep root gets one in a directory of the
    /// user's own, since socket paths are short.
    pub fn socket(&self) -> Utf8PathBuf {
        let near = self.state().join("socket");
        if near.as_str().len() <= SOCKET_PATH_LIMIT {
            return near;
        }
        Utf8PathBuf::from(format!("/tmp/kdk-{}-{}", sys::process::user_id(), self.hash())).join("socket")
    }

    /// Where PostgreSQL's socket is: in its own directory, unless that is too
    /// deep for one.
    pub fn postgresql_socket(&self, directory: &Utf8Path) -> Utf8PathBuf {
        const LONGEST_NAME: usize = "/.s.PGSQL.65535".len();
        if directory.as_str().len() + LONGEST_NAME <= SOCKET_PATH_LIMIT {
            directory.to_owned()
        } else if sys::process::user_id() == 0 {
            self.postgresql_of_another_user()
        } else {
            Utf8PathBuf::from(format!("/tmp/kdk-{}-{}", sys::process::user_id(), self.hash()))
        }
    }

    /// Where everything of PostgreSQL is when it runs as another user, who
    /// cannot enter every root.
    pub fn postgresql_of_another_user(&self) -> Utf8PathBuf {
        Utf8PathBuf::from("/var/lib/kdk").join(self.hash())
    }

    /// Stands for the root in names of directories outside of it.
    pub fn hash(&self) -> String {
        data_encoding::HEXLOWER.encode(&Sha256::digest(self.0.as_str().as_bytes())[..8])
    }

    /// Lock of whoever brings files and certificates in line with the settings.
    pub fn reconfiguring(&self) -> Utf8PathBuf {
        self.state().join("reconfigure.lock")
    }

    /// Secrets that were generated once.
    pub fn secrets(&self) -> Utf8PathBuf {
        self.state().join("secrets.json")
    }

    /// The stand-in's own settings, beside those that it shares with Rails.
    pub fn stand_in(&self) -> Utf8PathBuf {
        self.state().join("rails/stand-in.yml")
    }

    /// The front's configuration.
    pub fn front(&self) -> Utf8PathBuf {
        self.state().join("front.yml")
    }

    /// Users and tokens of the Rails stand-in.
    pub fn identity(&self) -> Utf8PathBuf {
        self.state().join("rails/identity.json")
    }

    /// Fingerprints of the certificates that kdk made.
    pub fn certificates(&self) -> Utf8PathBuf {
        self.state().join("certificates.json")
    }

    /// The certificate of this root's own authority, and its key.
    pub fn authority(&self) -> (Utf8PathBuf, Utf8PathBuf) {
        let directory = self.state().join("authority");
        (directory.join("ca.crt"), directory.join("ca.key"))
    }

    /// The certificate that clients of the registry are to trust: the root's
    /// own authority's where there is one, else the registry's.
    pub fn registry_anchor(&self) -> Utf8PathBuf {
        let (authority, own) = (self.authority().0, self.registry_pair().0);
        let read = |path: &Utf8Path| sys::fs::read_optional(path).ok().flatten();
        // What it signed has it below itself; a certificate of somebody else's has not.
        let signs = read(&authority).is_some_and(|pem| read(&own).is_some_and(|own| own.contains(pem.trim())));
        if signs { authority } else { own }
    }

    /// Files that were put where container clients look for certificates.
    pub fn trusted(&self) -> Utf8PathBuf {
        self.state().join("trusted.json")
    }

    /// Settings that the last reconfigure applied.
    pub fn applied(&self) -> Utf8PathBuf {
        self.state().join("applied.json")
    }

    /// Authorities that programs of this machine trust, and the registry's certificate.
    pub fn ca_bundle(&self) -> Utf8PathBuf {
        self.join(CA_BUNDLE)
    }

    /// The same with KhulnaSoft's certificate, for another registry than the built-in one.
    pub fn service_bundle(&self) -> Utf8PathBuf {
        self.state().join("service-ca-bundle.crt")
    }

    /// Says whether a path is that file, of whichever root.
    pub fn is_ca_bundle(path: &str) -> bool {
        path.strip_suffix(CA_BUNDLE).is_some_and(|root| root.ends_with('/'))
    }

    /// Commit that a registry was last built from.
    pub fn build_stamp(&self) -> Utf8PathBuf {
        self.state().join("registry-build.json")
    }

    /// The registry that was last built.
    pub fn built_registry(&self) -> Utf8PathBuf {
        self.state().join("built/registry")
    }

    /// Log of the last build of a registry.
    pub fn build_log(&self) -> Utf8PathBuf {
        self.logs().join("registry-build.log")
    }

    /// The registry's rendered configuration.
    pub fn registry_config(&self) -> Utf8PathBuf {
        self.join("registry/config.yml")
    }

    /// Rails' rendered configuration.
    pub fn khulnasoft_yml(&self) -> Utf8PathBuf {
        self.join("khulnasoft/config/khulnasoft.yml")
    }

    /// The registry's TLS certificate and key.
    pub fn registry_pair(&self) -> (Utf8PathBuf, Utf8PathBuf) {
        (self.join("registry_host.crt"), self.join("registry_host.key"))
    }

    /// The certificate and key that tokens are signed with.
    pub fn signing_pair(&self) -> (Utf8PathBuf, Utf8PathBuf) {
        (self.join("localhost.crt"), self.join("localhost.key"))
    }

    /// Returns a path relative to the root where it lies below it.
    pub fn relative<'a>(&self, path: &'a Utf8Path) -> &'a Utf8Path {
        path.strip_prefix(&self.0).unwrap_or(path)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_deep_root_gets_a_short_socket_path() {
        let near = Root("/home/a/kdk".into());
        assert_eq!(near.socket(), "/home/a/kdk/.kdk/socket");
        let deep = Root(format!("/home/{}", "deep/".repeat(30)).into());
        assert!(deep.socket().as_str().len() <= SOCKET_PATH_LIMIT);
        let other = Root(format!("/home/x{}", "deep/".repeat(30)).into());
        assert_ne!(deep.socket(), other.socket());
    }
}
