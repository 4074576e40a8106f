//! `kdk registry token`: a bearer token for curl.

use crate::cli::error::CommandError;
use crate::cli::tokens::identity;
use crate::cli::ui::Ui;
use crate::config::Config;
use crate::doctor::elsewhere;
use crate::rails::config::{Config as RailsConfig, RegistryConfig};
use crate::rails::identity::{Caller, IdentityError};
use crate::rails::jwt_auth::{TokenService, grant};
use crate::reconfigure::ADMIN;
use crate::registry::token::scope::{Scope, ScopeError};

/// For whom a token is signed, and with what.
struct Signer {
    caller: Caller,
    registry: RegistryConfig,
    public: Vec<String>,
}

/// Prints a token that grants scopes.
pub fn run(ui: &Ui, config: &Config, scopes: &[String], user: &str) -> Result<(), CommandError> {
    let asked = Scope::parse_all(scopes.iter().map(String::as_str))?;
    let signer = if config.rails_mode() == "embedded" {
        as_user(config, user)?
    } else {
        as_administrator(config, &asked)?
    };
    let mut granted = Vec::new();
    for scope in asked {
        let shown = scope.to_string();
        match grant(scope.clone(), Some(&signer.caller), &signer.public) {
            Some(mut given) if given == scope => {
                // As Rails does where it asks for something itself: renaming needs it.
                let project = given.name.trim_end_matches("/*").to_owned();
                if given.kind == "repository" {
                    given.meta.get_or_insert_default().project_path = Some(project);
                }
                granted.push(given);
            }
            _ if !["repository", "registry"].contains(&scope.kind.as_str()) => return Err(ScopeError(shown).into()),
            _ => {
                return Err(CommandError::user(format!(
                    "the user {} has no right to {shown}",
                    signer.caller.name
                )));
            }
        }
    }
    let service = TokenService::new(&signer.registry)?;
    ui.out(&service.token(&signer.caller.name, granted)?);
    Ok(())
}

/// Signs for one of the stand-in's users.
fn as_user(config: &Config, user: &str) -> Result<Signer, CommandError> {
    let known = identity(config)?.users()?;
    let user = known
        .into_iter()
        .find(|known| known.name == user)
        .ok_or_else(|| IdentityError::NoUser(user.to_owned()))?;
    let rails = RailsConfig::load(&config.root().khulnasoft_yml(), &config.root().stand_in())
        .map_err(|error| CommandError::from(error).hint("render it with: kdk reconfigure"))?;
    let registry = rails.registry.ok_or_else(|| {
        CommandError::user("the registry is not enabled")
            .hint("enable it with: kdk config set registry.enabled true && kdk reconfigure")
    })?;
    Ok(Signer {
        caller: Caller {
            name: user.name,
            admin: user.admin,
        },
        registry,
        public: rails.public_repositories,
    })
}

/// Signs as the administrator of a KhulnaSoft that is not the stand-in, with
/// the key that it has, too.
fn as_administrator(config: &Config, asked: &[Scope]) -> Result<Signer, CommandError> {
    let key = config.path(&config.registry_key());
    if !key.exists() {
        let line = asked.iter().find(|scope| scope.kind == "repository").map_or(
            "pull_access_token('your/project/path')".to_owned(),
            |scope| {
                let is_pull = scope.actions.iter().all(|action| action == "pull");
                let method = if is_pull { "pull" } else { "full" };
                format!("{method}_access_token({:?})", scope.name)
            },
        );
        return Err(CommandError::user(format!(
            "{key} (registry.key) is not here: only the KhulnaSoft at {} signs tokens",
            config.rails_url()
        ))
        .hint(format!(
            "in its Rails console: ::Auth::ContainerRegistryAuthenticationService.{line}"
        )));
    }
    Ok(Signer {
        caller: Caller {
            name: ADMIN.to_owned(),
            admin: true,
        },
        registry: elsewhere::signing(config),
        public: Vec::new(),
    })
}
