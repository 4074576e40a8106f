//! A development version of the registry: cloned, checked out, built.
//!
//! Local work is never lost: a checkout with changes is left as it is, and
//! said so. A branch follows its remote as long as that is a fast-forward.

use std::io;
use std::process::{Command, Stdio};

use camino::{Utf8Path, Utf8PathBuf};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use crate::config::Config;
use crate::sys;

/// What a clone has whose files differ from every commit.
const CHANGES: &str = "changes of yours";
/// Lines of a failed build that are shown.
const SHOWN_LINES: usize = 25;

/// Why there is no such registry.
#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    /// git is not installed.
    #[error("registry.version needs git, which is not on the PATH")]
    NoGit,
    /// A git command failed.
    #[error("git {command} failed: {reason}")]
    Git {
        /// The command.
        command: String,
        /// What it said last.
        reason: String,
    },
    /// The ref is neither a branch nor a tag nor a commit.
    #[error("registry.version {version:?} is no branch, tag or commit of {repository}")]
    NoRef {
        /// The ref.
        version: String,
        /// The repository.
        repository: String,
    },
    /// The build failed.
    #[error("the build of {version} failed ({how}); its log is {log}\n{last}")]
    Build {
        /// The ref.
        version: String,
        /// How it ended.
        how: String,
        /// Where its output is.
        log: Utf8PathBuf,
        /// Its last lines.
        last: String,
    },
    /// The build ended well but made no binary.
    #[error("the build of {version} made no {binary}")]
    NoBinary {
        /// The ref.
        version: String,
        /// What it should have made.
        binary: Utf8PathBuf,
    },
    /// The directory is something else.
    #[error("{0} is no clone of the registry; move it away, or set registry.dir")]
    NotAClone(Utf8PathBuf),
    /// Files could not be handled.
    #[error(transparent)]
    Io(#[from] io::Error),
}

/// What a build was made from.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Stamp {
    /// `registry.version` at that time.
    #[serde(default)]
    version: String,
    commit: String,
    command: String,
    /// What stands for changes beside the commit; empty where there are none.
    #[serde(default)]
    changes: String,
}

/// What came of preparing the version.
#[derive(Debug, PartialEq, Eq)]
pub enum Prepared {
    /// A new binary was built from this commit.
    Built(String),
    /// The binary was built from this commit before.
    Current(String),
}

/// Says whether the settings ask for a version that must be built.
pub fn is_wanted(config: &Config) -> bool {
    config.registry_enabled() && config.registry_bin().is_none() && config.registry_version() != "embedded"
}

/// Clones, checks out and builds `registry.version`. `say` is told what happens.
///
/// # Errors
/// When a step fails. A binary that was there before stays.
pub fn prepare(config: &Config, mut say: impl FnMut(&str)) -> Result<Prepared, SourceError> {
    if sys::process::find_program("git").is_none() {
        return Err(SourceError::NoGit);
    }
    let version = config.registry_version();
    let directory = config.path(&config.registry_dir());
    let repository = config.repositories_registry();
    let fresh = !directory.join(".git").exists();
    if fresh {
        say(&format!("cloning {repository}"));
        clone(config, &repository, &directory)?;
    }
    let git = |arguments: &[&str]| git_in(&directory, arguments);
    // Never work on a repository that merely lies around this directory.
    let top = git(&["rev-parse", "--show-toplevel"])?;
    if directory.canonicalize_utf8().ok().as_deref() != Some(Utf8Path::new(&top)) {
        return Err(SourceError::NotAClone(directory));
    }
    let reason = own_work(&directory)?;
    if let Some(reason) = reason {
        say(&format!(
            "{directory} has {reason}: it is built as it is, nothing is fetched or checked out"
        ));
        if !exists(&directory, &format!("refs/remotes/origin/{version}")) && !exists(&directory, &version) {
            return Err(SourceError::NoRef { version, repository });
        }
    } else {
        if fresh || config.registry_auto_update() {
            if !fresh {
                say(&format!("fetching {repository}"));
            }
            git(&["remote", "set-url", "origin", &absolute(config, &repository)])?;
            if let Err(error) = git(&["fetch", "--tags", "--force", "--prune", "origin"]) {
                if fresh || !config.root().built_registry().exists() {
                    return Err(error);
                }
                say(&format!("{error}; going on with what was fetched before"));
            }
        }
        check_out(
            &directory,
            &version,
            &repository,
            config.registry_auto_update(),
            &mut say,
        )?;
    }
    let commit = git(&["rev-parse", "HEAD"])?;
    let command = config.registry_build_command();
    let binary = directory.join("bin/registry");
    let stamp_path = config.root().build_stamp();
    let stamp = Stamp {
        version: version.clone(),
        commit: commit.clone(),
        command: command.clone(),
        changes: if reason == Some(CHANGES) {
            changes(&directory)?
        } else {
            String::new()
        },
    };
    let last: Option<Stamp> = sys::fs::read_optional(&stamp_path)?.and_then(|text| serde_json::from_str(&text).ok());
    let own = config.root().built_registry();
    if own.exists() && last.as_ref() == Some(&stamp) {
        return Ok(Prepared::Current(commit));
    }
    say(&format!(
        "building {version} ({}) with: {command}",
        &commit[..commit.len().min(12)]
    ));
    // Set aside, so that an old binary cannot pass for a new one; put back when there is none.
    let aside = directory.join("bin/.registry.previous");
    let had_binary = std::fs::rename(&binary, &aside).is_ok();
    let built = build(config, &version, &directory, &command).and_then(|()| {
        if binary.exists() {
            Ok(())
        } else {
            Err(SourceError::NoBinary {
                version,
                binary: binary.clone(),
            })
        }
    });
    if let Err(error) = built {
        if had_binary {
            std::fs::rename(&aside, &binary)?;
        }
        return Err(error);
    }
    sys::fs::remove(&aside)?;
    // What runs is a file of its own: a build that goes on, or is interrupted,
    // keeps nobody from starting it.
    let draft = own.with_extension("new");
    if let Some(parent) = own.parent() {
        sys::fs::create_private_dir(parent)?;
    }
    std::fs::copy(&binary, &draft)?;
    std::fs::rename(&draft, &own)?;
    write_stamp(&stamp_path, &stamp)?;
    Ok(Prepared::Built(commit))
}

fn write_stamp(path: &Utf8Path, stamp: &Stamp) -> io::Result<()> {
    let text = serde_json::to_string(stamp).map_err(io::Error::other)?;
    sys::fs::write_atomic(path, text.as_bytes(), sys::fs::PUBLIC)
}

/// Returns which version was built last.
pub fn built(config: &Config) -> Option<String> {
    let text = sys::fs::read_optional(&config.root().build_stamp()).ok().flatten()?;
    let built: Stamp = serde_json::from_str(&text).ok()?;
    Some(built.version)
}

/// Says whether the version that the settings name is not the one that was built.
pub fn is_pending(config: &Config) -> bool {
    is_wanted(config) && built(config).is_none_or(|built| built != config.registry_version())
}

/// Says what of the user's own work is in a clone and nowhere else.
fn own_work(directory: &Utf8Path) -> Result<Option<&'static str>, SourceError> {
    let git = |arguments: &[&str]| git_in(directory, arguments);
    if !git(&["status", "--porcelain", "--untracked-files=no"])?.is_empty() {
        return Ok(Some(CHANGES));
    }
    let detached = git(&["symbolic-ref", "--quiet", "HEAD"]).is_err();
    let unborn = git(&["rev-parse", "--verify", "--quiet", "HEAD"]).is_err();
    if detached && !unborn && git(&["for-each-ref", "--contains", "HEAD"])?.is_empty() {
        return Ok(Some("commits of yours on no branch"));
    }
    Ok(None)
}

/// Returns what stands for all changes beside the commit.
fn changes(directory: &Utf8Path) -> Result<String, SourceError> {
    let mut hasher = Sha256::new();
    hasher.update(git_in(directory, &["diff", "--binary", "HEAD"])?);
    // Not what was built.
    let others = ["ls-files", "--others", "--exclude-standard", "--exclude", "bin/", "-z"];
    let others = git_in(directory, &others)?;
    for name in others.split('\0').filter(|name| !name.is_empty()) {
        hasher.update(name);
        hasher.update(std::fs::read(directory.join(name)).unwrap_or_default());
    }
    Ok(data_encoding::HEXLOWER.encode(&hasher.finalize()))
}

/// Says whether a branch holds nothing but what its remote once was: then the
/// remote was pushed anew, by force.
fn once_was_remote(directory: &Utf8Path, version: &str) -> Result<bool, SourceError> {
    let log = git_in(
        directory,
        &[
            "rev-parse",
            "--git-path",
            &format!("logs/refs/remotes/origin/{version}"),
        ],
    )?;
    let log = sys::fs::read_optional(&directory.join(log))?.unwrap_or_default();
    // Each line names the commit before, and the one from then on.
    let mut known = log.lines().flat_map(|line| line.split(' ').take(2));
    Ok(known.any(|commit| git_in(directory, &["merge-base", "--is-ancestor", "HEAD", commit]).is_ok()))
}

fn exists(directory: &Utf8Path, name: &str) -> bool {
    git_in(
        directory,
        &[
            "rev-parse",
            "--verify",
            "--quiet",
            "--end-of-options",
            &format!("{name}^{{commit}}"),
        ],
    )
    .is_ok()
}

/// A path counts from the root; anything with a colon is a URL.
fn absolute(config: &Config, repository: &str) -> String {
    if repository.contains(':') {
        repository.to_owned()
    } else {
        config.path(repository).into_string()
    }
}

/// Clones beside the directory first: an interrupted clone is no clone.
fn clone(config: &Config, repository: &str, directory: &Utf8Path) -> Result<(), SourceError> {
    if directory
        .read_dir_utf8()
        .is_ok_and(|mut entries| entries.next().is_some())
    {
        return Err(SourceError::NotAClone(directory.to_owned()));
    }
    let draft = directory.with_file_name(format!(".{}.clone", directory.file_name().unwrap_or("registry")));
    let mut last = None;
    for _ in 0..3 {
        if draft.exists() {
            std::fs::remove_dir_all(&draft)?;
        }
        match git_in(
            config.root().path(),
            &["clone", "--quiet", "--", &absolute(config, repository), draft.as_str()],
        ) {
            Ok(_) => {
                let _ = std::fs::remove_dir(directory);
                return Ok(std::fs::rename(&draft, directory)?);
            }
            Err(error) => last = Some(error),
        }
    }
    Err(last.unwrap_or(SourceError::NoGit))
}

/// Checks the ref out: a branch as a branch that follows its remote, all else detached.
fn check_out(
    directory: &Utf8Path,
    version: &str,
    repository: &str,
    follow: bool,
    say: &mut impl FnMut(&str),
) -> Result<(), SourceError> {
    let git = |arguments: &[&str]| git_in(directory, arguments);
    let exists = |name: &str| exists(directory, name);
    let remote = format!("refs/remotes/origin/{version}");
    let local = format!("refs/heads/{version}");
    if exists(&remote) {
        if exists(&local) {
            git(&["checkout", "--quiet", version, "--"])?;
            if follow && git(&["merge", "--quiet", "--ff-only", &remote]).is_err() {
                if once_was_remote(directory, version)? {
                    git(&["reset", "--quiet", "--hard", &remote])?;
                } else {
                    say(&format!(
                        "the branch {version} has commits of yours: it is built as it is"
                    ));
                }
            }
        } else {
            git(&[
                "checkout",
                "--quiet",
                "-b",
                version,
                "--track",
                &format!("origin/{version}"),
            ])?;
        }
    } else if exists(version) {
        git(&["checkout", "--quiet", "--detach", version, "--"])?;
    } else {
        return Err(SourceError::NoRef {
            version: version.to_owned(),
            repository: repository.to_owned(),
        });
    }
    Ok(())
}

/// Runs git in a directory, and in no repository but the one that is there.
fn git_in(directory: &Utf8Path, arguments: &[&str]) -> Result<String, SourceError> {
    let mut command = Command::new("git");
    for variable in [
        "GIT_DIR",
        "GIT_WORK_TREE",
        "GIT_INDEX_FILE",
        "GIT_OBJECT_DIRECTORY",
        "GIT_COMMON_DIR",
        "GIT_NAMESPACE",
    ] {
        command.env_remove(variable);
    }
    let ceiling = directory.parent().unwrap_or(directory);
    let output = command
        .args(arguments)
        .current_dir(directory)
        .env("GIT_TERMINAL_PROMPT", "0")
        .env("GIT_CEILING_DIRECTORIES", ceiling)
        .env("LC_ALL", "C")
        .stdin(Stdio::null())
        .output()?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned());
    }
    let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
    let reason = if said.is_empty() {
        format!("it said nothing ({})", output.status)
    } else {
        said
    };
    Err(SourceError::Git {
        command: arguments.first().copied().unwrap_or_default().to_owned(),
        reason,
    })
}

fn build(config: &Config, version: &str, directory: &Utf8Path, command: &str) -> Result<(), SourceError> {
    let log_path = config.root().build_log();
    sys::fs::create_dir(&config.root().logs())?;
    sys::fs::remove(&log_path)?;
    let log = sys::fs::append(&log_path, sys::fs::PUBLIC)?;
    // A branch is shown as GitLab's documents do.
    let shown = if exists(directory, &format!("refs/remotes/origin/{version}")) {
        version.replace('_', "-")
    } else {
        version.to_owned()
    };
    // The command is the user's own, from kdk.yml, and may need a shell.
    let status = Command::new("sh")
        .args(["-c", command])
        .current_dir(directory)
        .env("VERSION", shown)
        .stdin(Stdio::null())
        .stdout(log.try_clone()?)
        .stderr(log)
        .status()?;
    if status.success() {
        return Ok(());
    }
    let text = sys::fs::read_optional(&log_path)?.unwrap_or_default();
    let lines: Vec<&str> = text.lines().collect();
    let last = lines[lines.len().saturating_sub(SHOWN_LINES)..].join("\n");
    Err(SourceError::Build {
        version: version.to_owned(),
        how: status.to_string(),
        log: log_path,
        last,
    })
}
