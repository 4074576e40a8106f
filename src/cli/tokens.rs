//! The users and tokens of a root, for commands that make tokens.

use jiff::SignedDuration;

use super::error::CommandError;
use crate::config::Config;
use crate::rails::identity::Identity;
use crate::reconfigure::ADMIN;
use crate::sys::clock::Clock;

/// Returns the users and tokens of a root.
pub fn identity(config: &Config) -> Result<Identity, CommandError> {
    check(config)?;
    let identity = Identity::new(&config.root().identity());
    if identity.users()?.is_empty() {
        return Err(CommandError::user("there are no users yet").hint("the user root is made by: kdk reconfigure"));
    }
    Ok(identity)
}

/// Checks that users and tokens are this root's.
pub fn check(config: &Config) -> Result<(), CommandError> {
    if config.rails_mode() != "embedded" {
        return Err(CommandError::user(
            "users and tokens are those of the KhulnaSoft at rails.url (rails.mode is external)",
        )
        .hint(format!(
            "make a token there, and log in with it: docker login {}",
            config.registry_address()
        )));
    }
    Ok(())
}

/// Makes a token of the admin's that is printed for a purpose, and holds for
/// some hours; it replaces the one before of that purpose.
pub fn for_purpose(config: &Config, purpose: &str, hours: i64) -> Result<String, CommandError> {
    let identity = identity(config)?;
    let end = Clock::System.now() + SignedDuration::from_hours(hours);
    let (made, secret) = identity.create_token(ADMIN, purpose, Some(end))?;
    identity.revoke_before(&made)?;
    Ok(secret)
}
