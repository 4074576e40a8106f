//! `kdk cert`: the certificates of a root, seen, made anew, brought, and signed
//! by an authority of its own.

use camino::{Utf8Path, Utf8PathBuf};
use clap::{Subcommand, ValueEnum};

use super::cert_show;
use super::error::CommandError;
use super::ui::Ui;
use crate::certs::{Authority, Verdict, exchange, given};
use crate::config::{Config, edit};
use crate::reconfigure::{make_pair, registry_pair, wanted_pairs};
use crate::sys::clock::{Clock, backup_stamp};
use crate::sys::fs::{Lock, back_up, create_private_dir, read};

/// Variable that says yes beforehand.
const CONFIRM: &str = "KDK_CERT_CONFIRM";

/// Subcommands of `kdk cert`.
#[derive(Debug, Subcommand)]
#[command(
    after_help = "Examples:\n  kdk cert show\n  kdk cert renew\n  kdk cert install fullchain.pem privkey.pem --for registry\n  kdk cert ca && kdk setup trust-store --apply"
)]
pub enum CertCommand {
    /// Show each certificate, who made it, until when it holds, and what is really served
    Show {
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Make certificates anew that kdk made, with new keys
    Renew {
        /// What they are for
        #[arg(long = "for", value_name = "WHAT", default_value = "registry")]
        purpose: Renewable,
    },
    /// Put a certificate of your own in place of kdk's
    Install {
        /// The certificate, and those that lead from it to an authority (PEM)
        certificate: Utf8PathBuf,
        /// Its key, unless it is in the same file (PEM)
        key: Option<Utf8PathBuf>,
        /// What it is for
        #[arg(long = "for", value_name = "WHAT")]
        purpose: Purpose,
    },
    /// Make an authority of this root's own, which signs the registry's certificate
    Ca {
        /// Take it away again
        #[arg(long)]
        remove: bool,
        /// Do not ask before that
        #[arg(long, short, requires = "remove")]
        yes: bool,
    },
}

/// What a certificate of one's own is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Purpose {
    /// HTTPS of the registry
    Registry,
    /// HTTPS of the pages and the token service
    Rails,
    /// Both
    Both,
}

/// What a certificate that kdk makes is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Renewable {
    /// HTTPS of the registry
    Registry,
    /// Signing tokens
    Tokens,
    /// Both
    All,
}

/// Carries out a subcommand; `bring_in_line` is what `kdk reconfigure` does.
pub fn run(
    ui: &Ui,
    config: &Config,
    command: CertCommand,
    bring_in_line: &dyn Fn() -> Result<(), CommandError>,
) -> Result<(), CommandError> {
    if let CertCommand::Show { json } = command {
        return cert_show::run(ui, config, json);
    }
    let state = config.root().state();
    create_private_dir(&state)?;
    let lock = Lock::take(&config.root().reconfiguring())?;
    exchange::finish_locked(&state)?;
    match command {
        CertCommand::Show { .. } => {}
        CertCommand::Renew { purpose } => renew(ui, config, purpose)?,
        CertCommand::Install {
            certificate,
            key,
            purpose,
        } => install(ui, config, &certificate, key.as_deref(), purpose)?,
        CertCommand::Ca { remove, yes } => {
            if !authority(ui, config, remove, yes)? {
                return Ok(());
            }
        }
    }
    drop(lock);
    bring_in_line()
}

/// Checks that the registry's certificate is this root's.
fn check_here(config: &Config) -> Result<(), CommandError> {
    if !config.registry_is_elsewhere() {
        return Ok(());
    }
    Err(CommandError::user(format!(
        "the registry of this root runs at {} (registry.mode: external): its certificate is put in its place there",
        config.registry_api_url()
    )))
}

/// Makes pairs of kdk's anew.
fn renew(ui: &Ui, config: &Config, purpose: Renewable) -> Result<(), CommandError> {
    if purpose == Renewable::Registry {
        check_here(config)?;
    }
    let root = config.root();
    let (now, authority) = (Clock::System.now(), Authority::new(root.certificates()));
    let of_registry = root.registry_pair().0;
    let mut pairs = wanted_pairs(config);
    pairs.retain(|pair| match purpose {
        Renewable::Registry => pair.certificate == of_registry,
        Renewable::Tokens => pair.certificate != of_registry,
        Renewable::All => true,
    });
    if pairs.is_empty() {
        return Err(match purpose {
            Renewable::Tokens => {
                CommandError::user("tokens are signed with a key of your own (registry.key): kdk does not make it")
            }
            _ => CommandError::user(
                "the registry serves no HTTPS itself (registry.self_signed is false): it has no certificate",
            ),
        });
    }
    // All of them, or none.
    for pair in &pairs {
        let verdict = authority.judge(pair, now)?;
        if matches!(verdict, Verdict::Complain(_) | Verdict::Useless(_))
            || (verdict == Verdict::Keep && !authority.has_made(&read(&pair.certificate)?)?)
        {
            return Err(CommandError::user(format!(
                "{} was not made by kdk: it is yours to renew",
                pair.certificate
            ))
            .hint(pair.remedy()));
        }
    }
    for pair in &pairs {
        let kept = make_pair(root, &authority, pair, &backup_stamp(now), now)?;
        ui.say(&format!(
            "  new  {} for {}",
            root.relative(&pair.certificate),
            pair.purpose
        ));
        for backup in kept {
            ui.say(&format!("  the old one is kept in {}", root.relative(&backup)));
        }
    }
    let is_new = pairs.iter().any(|pair| pair.certificate == root.registry_anchor());
    if is_new {
        ui.tip("let clients trust the new certificate with: kdk trust-docker-registry");
    }
    Ok(())
}

/// Puts a pair that somebody brings where it is read.
fn install(
    ui: &Ui,
    config: &Config,
    certificate: &Utf8Path,
    key: Option<&Utf8Path>,
    purpose: Purpose,
) -> Result<(), CommandError> {
    let texts = (read(certificate)?, key.map(read).transpose()?);
    let mut work = Vec::new();
    if matches!(purpose, Purpose::Registry | Purpose::Both) {
        check_here(config)?;
        if !config.registry_self_signed() {
            return Err(CommandError::user(
                "the registry serves plain HTTP (registry.self_signed is false), and reads no certificate",
            )
            .hint("let it serve HTTPS with: kdk config set registry.self_signed true"));
        }
        let wanted = registry_pair(config);
        let name = shown_name(config);
        work.push((wanted.certificate, wanted.key, name, wanted.names));
    }
    if matches!(purpose, Purpose::Rails | Purpose::Both) {
        if !config.https_enabled() {
            return Err(CommandError::user(
                "the pages are served over plain HTTP (https.enabled is false), and read no certificate",
            )
            .hint("let them be served over HTTPS with: kdk config set https.enabled true"));
        }
        let (certificate, key) = pages_pair(config)?;
        work.push((certificate, key, config.hostname(), Vec::new()));
    }
    let now = Clock::System.now();
    let mut looked = Vec::new();
    for (to, to_key, name, others) in work {
        let given = given::look(&texts.0, texts.1.as_deref(), &name, &others, now).map_err(|reason| {
            let file = key.filter(|_| reason.starts_with("its key")).unwrap_or(certificate);
            CommandError::user(format!("{file}: {reason}; nothing was changed"))
        })?;
        looked.push((to, to_key, given));
    }
    let stamp = backup_stamp(now);
    let root = config.root();
    for (to, to_key, given) in looked {
        for path in [&to, &to_key] {
            if path.exists() {
                back_up(
                    path,
                    root.relative(path).as_str().trim_start_matches('/'),
                    &root.backups(),
                    &stamp,
                )?;
            }
        }
        exchange::make(&root.state(), (&to, &given.chain), (&to_key, &given.key))?;
        ui.say(&format!("  installed  {}", root.relative(&to)));
        if !given.missing.is_empty() {
            ui.warn(&format!(
                "it does not hold for {}: clients that use such a name refuse it",
                given.missing.join(", ")
            ));
        }
        if to == root.join("https.crt") {
            tell(config, &to, &to_key)?;
        }
    }
    Ok(())
}

/// Returns where the pages' own pair is, or is to be.
fn pages_pair(config: &Config) -> Result<(Utf8PathBuf, Utf8PathBuf), CommandError> {
    let (root, pair) = (config.root(), config.https_pair());
    if pair.0 == pair.1 {
        return Err(
            CommandError::user("https.certificate and https.key name one file: give each a file of its own")
                .hint("kdk config set https.certificate=https.crt https.key=https.key"),
        );
    }
    // kdk's own there signs tokens, and stays.
    Ok(if pair == root.signing_pair() {
        (root.join("https.crt"), root.join("https.key"))
    } else {
        pair
    })
}

/// Returns the name by which clients know the registry first.
fn shown_name(config: &Config) -> String {
    config
        .registry_host()
        .trim_start_matches('[')
        .trim_end_matches(']')
        .to_owned()
}

/// Writes where the pages' pair is into `kdk.yml`.
fn tell(config: &Config, certificate: &Utf8Path, key: &Utf8Path) -> Result<(), CommandError> {
    let root = config.root();
    let _turn = edit::turn(root)?;
    let mut text = config.text().to_owned();
    for (setting, path) in [("https.certificate", certificate), ("https.key", key)] {
        let path = root.relative(path).as_str();
        text = edit::set_in(&text, setting, &path.into())
            .map_err(|reason| CommandError::user(format!("kdk.yml cannot be edited: {reason}")))?;
    }
    Ok(edit::replace(config, &text, false)?)
}

/// Makes the root's own authority, or takes it away; says whether it did.
fn authority(ui: &Ui, config: &Config, remove: bool, yes: bool) -> Result<bool, CommandError> {
    let root = config.root();
    let (certificate, key) = root.authority();
    let local = Authority::new(root.certificates()).local();
    let now = Clock::System.now();
    if remove {
        if !key.exists() && !certificate.exists() {
            ui.say("There is no authority.");
            return Ok(false);
        }
        ui.consent(
            "Take the authority away? Clients that trust it will not trust the registry any more.",
            yes,
            CONFIRM,
        )?;
        for path in [&certificate, &key].into_iter().filter(|path| path.exists()) {
            back_up(path, root.relative(path).as_str(), &root.backups(), &backup_stamp(now))?;
            crate::sys::fs::remove(path)?;
        }
        ui.done(
            "The authority is gone (its files are kept in .backups); the registry's certificate signs itself again.",
        );
        return Ok(true);
    }
    check_here(config)?;
    if local.pem()?.is_some() {
        ui.say(&format!("There is an authority already: {certificate}"));
        return Ok(true);
    }
    if !config.registry_self_signed() {
        return Err(CommandError::user(
            "the registry serves plain HTTP (registry.self_signed is false): there is no certificate to sign",
        )
        .hint("let it serve HTTPS with: kdk config set registry.self_signed true"));
    }
    let wanted = registry_pair(config);
    let own = crate::sys::fs::read_optional(&wanted.certificate)?;
    if let Some(own) = own
        && !Authority::new(root.certificates()).has_made(&own)?
    {
        return Err(CommandError::user(format!(
            "{} is yours: an authority of kdk's would have nothing to sign",
            wanted.certificate
        ))
        .hint(wanted.remedy()));
    }
    let names = wanted.names;
    local.make(&format!("KDK authority of {}", root.path()), &names, now)?;
    ui.done(&format!("{certificate} signs the registry's certificate from now on."));
    ui.say("  It may sign for .test, .localhost, .local, .internal and the like, for private addresses,");
    ui.say(&format!("  and for {}; for nothing else.", names.join(", ")));
    ui.tip("let clients trust it with: kdk trust-docker-registry");
    ui.tip("let all of this machine trust it with: kdk setup trust-store --apply");
    Ok(true)
}
