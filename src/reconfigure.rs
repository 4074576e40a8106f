//! Bringing a root in line with its `kdk.yml`: plan, then apply.
//!
//! Planning changes nothing. Applying writes only what differs, backs up
//! what it replaces, and says which services must be restarted.

pub mod applied;
pub mod exposure;
mod habits;

pub mod notices;
mod pair;
pub mod pending;

use std::io;

use camino::{Utf8Path, Utf8PathBuf};
use jiff::Timestamp;

pub use self::pair::{check as check_pair, registry_pair, wanted_pairs};
use crate::certs::{Authority, CertError, Verdict, Wanted};
use crate::config::Config;
use crate::rails::identity::{Identity, IdentityError};
use crate::render::context::Secrets;
use crate::render::{self, Ownership, RenderError, Rendered, graft};
use crate::root::Root;
use crate::sys::clock::backup_stamp;
use crate::sys::fs::{
    PRIVATE, PUBLIC, back_up, create_dir, create_private_dir, mode, read, read_optional, write_atomic,
};

/// The user that exists from the first reconfigure.
pub const ADMIN: &str = "root";

/// Why a root could not be brought in line.
#[derive(Debug, thiserror::Error)]
pub enum ReconfigureError {
    /// A file could not be read or written.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// A file could not be rendered.
    #[error(transparent)]
    Render(#[from] RenderError),
    /// Certificates could not be handled.
    #[error(transparent)]
    Certificates(#[from] CertError),
    /// Users could not be handled.
    #[error(transparent)]
    Identity(#[from] IdentityError),
    /// The built-in registry would not start with its new file.
    #[error("the registry would not start with these settings: {reason}; nothing was written")]
    Registry {
        /// Why.
        reason: String,
    },
    /// Something that is given, such as a key and a certificate that are not
    /// kdk's, cannot be used.
    #[error("{reason}; nothing was written")]
    Given {
        /// Why.
        reason: String,
    },
    /// Another tool's file could not be changed in part.
    #[error("{path} is another tool's file and cannot be changed in part: {reason}")]
    Graft {
        /// The file.
        path: Utf8PathBuf,
        /// Why.
        reason: String,
    },
}

/// What would happen to a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// It is made.
    Create,
    /// Its text changes.
    Update,
    /// Only its permission bits change.
    Restrict,
    /// It is as it should be.
    Keep,
    /// It would change, but is protected in `kdk.yml`.
    Protected,
}

/// A file and what would happen to it.
#[derive(Clone, Debug)]
pub struct FileChange {
    /// The file.
    pub path: Utf8PathBuf,
    /// What happens to it.
    pub action: Action,
    /// Its text now, empty when it does not exist.
    pub old: String,
    /// Its text afterwards.
    pub new: String,
    /// Whether it is a private key, which is never shown.
    pub is_key: bool,
    mode: u32,
}

/// A certificate pair and what would happen to it.
#[derive(Clone, Debug)]
pub struct PairChange {
    /// The pair.
    pub wanted: Wanted,
    /// What happens to it.
    pub verdict: Verdict,
}

/// Everything that would happen.
#[derive(Debug)]
pub struct Plan {
    /// The files, in order.
    pub files: Vec<FileChange>,
    /// The certificate pairs.
    pub pairs: Vec<PairChange>,
    /// Things that the user should know.
    pub notices: Vec<String>,
    new_secrets: Option<Secrets>,
    new_admin: bool,
    loose_keys: Vec<Utf8PathBuf>,
}

impl Plan {
    /// Says whether a file that was rendered before is out of date.
    pub fn outdated(&self) -> bool {
        self.files.iter().any(|file| file.action == Action::Update)
    }

    /// Returns the services that read something which would change.
    pub fn affected(&self, config: &Config) -> Vec<&'static str> {
        let root = config.root();
        let changed = |path: Utf8PathBuf| {
            self.files
                .iter()
                .any(|file| file.path == path && matches!(file.action, Action::Create | Action::Update))
        };
        let renewed = |path: Utf8PathBuf| {
            self.pairs.iter().any(|pair| {
                pair.wanted.certificate == path && matches!(pair.verdict, Verdict::Make | Verdict::Renew(_))
            })
        };
        let (signing, serving) = (renewed(root.signing_pair().0), renewed(root.registry_pair().0));
        let keys = self
            .files
            .iter()
            .any(|file| file.is_key && file.action == Action::Update);
        let signing = signing || keys;
        let registry = changed(root.registry_config()) || signing || serving;
        let rails = changed(config.khulnasoft_yml()) || changed(root.stand_in()) || signing || serving;
        [(crate::services::REGISTRY, registry), (crate::services::RAILS, rails)]
            .into_iter()
            .filter_map(|(name, is)| is.then_some(name))
            .collect()
    }

    /// Says whether anything would change.
    pub fn changes_anything(&self) -> bool {
        self.new_secrets.is_some()
            || self.new_admin
            || !self.loose_keys.is_empty()
            || self
                .files
                .iter()
                .any(|file| !matches!(file.action, Action::Keep | Action::Protected))
            || self
                .pairs
                .iter()
                .any(|pair| matches!(pair.verdict, Verdict::Make | Verdict::Renew(_)))
    }
}

/// Plans; changes nothing.
///
/// # Errors
/// When something cannot be read or rendered.
pub fn plan(config: &Config, now: Timestamp) -> Result<Plan, ReconfigureError> {
    let root = config.root();
    let kept = Secrets::load(&root.secrets())?;
    let new_secrets = if kept.is_some() {
        None
    } else {
        Some(Secrets::generate()?)
    };
    let secrets = kept
        .as_ref()
        .or(new_secrets.as_ref())
        .cloned()
        .unwrap_or_else(Secrets::example);
    let mut files = Vec::new();
    for rendered in render::render(config, &secrets)? {
        files.push(file_change(config, rendered)?);
    }
    for rendered in pair::files(config) {
        files.push(file_change(config, rendered)?);
    }
    let planned = |path: &Utf8Path| files.iter().find(|file| file.path == path).map(|file| file.new.clone());
    pair::check(config, &planned)
        .and_then(|()| pair::check_https(config, &planned))
        .and_then(|()| config.check_rails_dir())
        .map_err(|reason| ReconfigureError::Given { reason })?;
    let authority = Authority::new(root.certificates());
    let mut pairs = Vec::new();
    for wanted in wanted_pairs(config) {
        let verdict = authority.judge(&wanted, now)?;
        pairs.push(PairChange { wanted, verdict });
    }
    let makefile = root.makefile();
    if !makefile.exists() {
        files.push(file_change(
            config,
            Rendered {
                path: makefile,
                text: makefile_text(),
                mode: PUBLIC,
                ownership: Ownership::Theirs,
            },
        )?);
    }
    let keys = [
        root.signing_pair().1,
        root.registry_pair().1,
        config.https_pair().1,
        config.path(&config.registry_key()),
    ];
    let loose_keys = keys
        .into_iter()
        .filter(|key| mode(key).is_some_and(|bits| bits & 0o077 != 0))
        .collect();
    let embedded = config.rails_mode() == "embedded";
    let new_admin = embedded && Identity::new(&root.identity()).users()?.is_empty();
    Ok(Plan {
        notices: notices::notices(config),
        files,
        pairs,
        new_secrets,
        new_admin,
        loose_keys,
    })
}

fn file_change(config: &Config, rendered: Rendered) -> Result<FileChange, ReconfigureError> {
    let Rendered {
        path,
        mut text,
        mode: wanted_mode,
        ownership,
    } = rendered;
    let old = read_optional(&path)?;
    let current_mode = mode(&path);
    let relative = config.root().relative(&path);
    let globs = config.protected_config_files();
    let protected = !config.overwrite_changes() && globs.iter().any(|glob| matches(glob, relative.as_str()));
    let theirs = old.as_deref().filter(|old| !graft::is_ours(old));
    let mut kept_away = protected;
    match (ownership, theirs) {
        (Ownership::Shared(keys), Some(theirs)) => match graft::graft(theirs, &text, keys) {
            Ok(grafted) => text = grafted,
            // It would not have been written anyway.
            Err(_) if protected => {}
            Err(reason) => return Err(ReconfigureError::Graft { path, reason }),
        },
        (Ownership::Theirs, Some(_)) => kept_away = true,
        _ => {}
    }
    // A file that gets a secret must not be readable by others, whoever made it.
    let shared = matches!(ownership, Ownership::Shared(_)) && theirs.is_some();
    let mode = if shared {
        current_mode.unwrap_or(wanted_mode) & (wanted_mode | 0o100)
    } else {
        wanted_mode
    };
    let loose = current_mode.is_some_and(|bits| bits & 0o077 & !mode != 0);
    let action = match &old {
        None => Action::Create,
        Some(old) if *old == text && loose => Action::Restrict,
        Some(old) if *old == text => Action::Keep,
        Some(_) if kept_away => Action::Protected,
        Some(_) => Action::Update,
    };
    Ok(FileChange {
        path,
        action,
        old: old.unwrap_or_default(),
        new: text,
        mode,
        is_key: ownership == Ownership::Key,
    })
}

/// Matches a glob in which `*` stands for any characters.
fn matches(glob: &str, path: &str) -> bool {
    let mut parts = glob.split('*');
    let first = parts.next().unwrap_or_default();
    let Some(mut rest) = path.strip_prefix(first) else {
        return false;
    };
    let Some((last, middle)) = parts
        .clone()
        .collect::<Vec<_>>()
        .split_last()
        .map(|(last, middle)| (*last, middle.to_vec()))
    else {
        return rest.is_empty();
    };
    for part in middle {
        match rest.find(part) {
            Some(at) => rest = &rest[at + part.len()..],
            None => return false,
        }
    }
    rest.ends_with(last)
}

/// Commands that the root's Makefile passes on.
const TARGETS: &str = "reconfigure start stop restart status tail trust-docker-registry diff-config";

/// Returns the thin Makefile of a root.
pub fn makefile_text() -> String {
    let exe = crate::sys::env::current_exe().unwrap_or_else(|_| "kdk".into());
    // Twice quoted: for make, then for the shell.
    let exe = exe
        .as_str()
        .replace('\'', "'\\''")
        .replace('$', "$$")
        .replace('#', "\\#");
    format!(
        "# Forwards KDK's usual make targets to kdk. Written by kdk.\n\
         KDK ?= $(shell command -v kdk || echo '{exe}')\n\n\
         .PHONY: {TARGETS}\n{TARGETS}:\n\t@\"$(KDK)\" --root . $@\n"
    )
}

/// What was done.
#[derive(Debug, Default)]
pub struct Applied {
    /// Files that were written.
    pub written: Vec<Utf8PathBuf>,
    /// Backups of what was replaced.
    pub backups: Vec<Utf8PathBuf>,
    /// Whether clients must be told to trust a new certificate.
    pub trust_again: bool,
}

/// Does what was planned.
///
/// # Errors
/// When something cannot be written. What was written before stays; running
/// it again goes on from there.
pub fn apply(config: &Config, plan: &Plan, now: Timestamp) -> Result<Applied, ReconfigureError> {
    let root = config.root();
    let mut applied = Applied::default();
    let stamp = backup_stamp(now);
    create_private_dir(&root.state())?;
    if let Some(secrets) = &plan.new_secrets {
        secrets.save(&root.secrets())?;
    }
    let authority = Authority::new(root.certificates());
    for pair in &plan.pairs {
        if matches!(pair.verdict, Verdict::Make | Verdict::Renew(_)) {
            applied
                .backups
                .extend(make_pair(root, &authority, &pair.wanted, &stamp, now)?);
            applied.written.push(pair.wanted.certificate.clone());
            // Who trusts the authority need not be told again.
            applied.trust_again |= pair.wanted.certificate == root.registry_anchor();
        }
    }
    for key in &plan.loose_keys {
        write_atomic(key, read(key)?.as_bytes(), PRIVATE)?;
    }
    if config.runs_registry()
        && let Some(images) = config.registry_storage_path()
    {
        create_dir(&images)?;
    }
    for file in &plan.files {
        match file.action {
            Action::Keep | Action::Protected => continue,
            Action::Update => applied.backups.push(back_up(
                &file.path,
                root.relative(&file.path).as_str(),
                &root.backups(),
                &stamp,
            )?),
            Action::Create | Action::Restrict => {}
        }
        if let Some(parent) = file.path.parent() {
            create_dir(parent)?;
        }
        write_atomic(&file.path, file.new.as_bytes(), file.mode)?;
        applied.written.push(file.path.clone());
    }
    if config.registry_needs_bundle() {
        let own = read(&config.https_pair().0)?;
        let text = crate::clients::shell::with_authorities(&own)?;
        write_atomic(&root.service_bundle(), text.as_bytes(), PUBLIC)?;
    }
    if plan.new_admin {
        Identity::new(&root.identity()).add_user(ADMIN, true, None)?;
    }
    Ok(applied)
}

/// Makes a pair; what is there is backed up first.
///
/// # Errors
/// When it cannot be made or written.
pub fn make_pair(
    root: &Root,
    authority: &Authority,
    wanted: &Wanted,
    stamp: &str,
    now: Timestamp,
) -> Result<Vec<Utf8PathBuf>, ReconfigureError> {
    let mut backups = Vec::new();
    for path in [&wanted.certificate, &wanted.key] {
        if path.exists() {
            backups.push(back_up(path, label(root, path), &root.backups(), stamp)?);
        }
    }
    authority.make(wanted, now)?;
    Ok(backups)
}

fn label<'a>(root: &Root, path: &'a Utf8Path) -> &'a str {
    root.relative(path).as_str().trim_start_matches('/')
}

#[cfg(test)]
mod tests {
    use super::matches;

    #[test]
    fn globs_match() {
        for (glob, path, expected) in [
            ("registry/config.yml", "registry/config.yml", true),
            ("registry/config.yml", "registry/config.yml.x", false),
            ("registry/*", "registry/config.yml", true),
            ("*.yml", "a/b.yml", true),
            ("*/config/*.yml", "khulnasoft/config/khulnasoft.yml", true),
            ("*/other/*.yml", "khulnasoft/config/khulnasoft.yml", false),
            ("**", "anything", true),
        ] {
            assert_eq!(matches(glob, path), expected, "{glob} {path}");
        }
    }
}
