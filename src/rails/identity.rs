//! Users and personal access tokens, in one private file.
//!
//! Tokens are 160 random bits; only their SHA-256 is kept, which suffices for
//! a secret that cannot be guessed. Passwords are kept as bcrypt hashes. The
//! file is read again for every login, so that a revoked token is refused at
//! once, and written whole under a lock.

use std::io;

use camino::{Utf8Path, Utf8PathBuf};
use data_encoding::{BASE32_NOPAD, HEXLOWER};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use crate::sys::clock::Clock;
use crate::sys::fs::{Lock, PRIVATE, read_optional, write_atomic};

/// What every token starts with, so that scanners and people recognise one.
pub const TOKEN_PREFIX: &str = "khpat-";
/// A bcrypt hash of random bytes, at the cost of real ones.
const NOBODYS_PASSWORD: &str = "$2b$12$C6UzMDM.H6dfI/f/IKcEeO7ZBqJ3tqgLrCO1kpkLa7UQk2mpIrk4W";
/// Version of the file's format.
const VERSION: u32 = 1;

/// A person who may log in.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct User {
    /// Name, which is also the user's namespace.
    pub name: String,
    /// Whether everything is allowed.
    pub admin: bool,
    /// bcrypt hash of a password.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub password: Option<String>,
    /// When the user was added.
    pub created_at: Timestamp,
}

/// A personal access token, without its secret.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Token {
    /// Number by which it is revoked.
    pub id: u64,
    /// Whose it is.
    pub user: String,
    /// What it is for.
    pub name: String,
    /// SHA-256 of the secret, in hex.
    pub sha256: String,
    /// When it was made.
    pub created_at: Timestamp,
    /// Until when it holds; nothing means until it is revoked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<Timestamp>,
}

#[derive(Serialize, Deserialize)]
struct File {
    version: u32,
    next_id: u64,
    users: Vec<User>,
    tokens: Vec<Token>,
}

impl Default for File {
    fn default() -> Self {
        Self {
            version: VERSION,
            next_id: 1,
            users: Vec::new(),
            tokens: Vec::new(),
        }
    }
}

/// Somebody who proved who they are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Caller {
    /// The user's name.
    pub name: String,
    /// Whether everything is allowed.
    pub admin: bool,
}

impl Caller {
    fn of(user: &User) -> Self {
        Self {
            name: user.name.clone(),
            admin: user.admin,
        }
    }
}

/// Why users or tokens could not be read or changed.
#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    /// The file cannot be read or written.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// The file is damaged.
    #[error("{path} is damaged: {source}")]
    Damaged {
        /// The file.
        path: Utf8PathBuf,
        /// What the parser says.
        #[source]
        source: serde_json::Error,
    },
    /// The file is from a newer kdk.
    #[error("{path} has format {version}, which a newer kdk wrote")]
    Newer {
        /// The file.
        path: Utf8PathBuf,
        /// Its version.
        version: u32,
    },
    /// There is no such user.
    #[error("there is no user {0:?}")]
    NoUser(String),
    /// There is such a user already.
    #[error("there is a user {0:?} already")]
    UserExists(String),
    /// There is no such token.
    #[error("there is no token {0}")]
    NoToken(u64),
    /// A name cannot be a namespace.
    #[error(
        "{0:?} cannot be a user's name: it is also a namespace of images, whose names are lowercase letters, digits, and single '.', '_' or '-' between them"
    )]
    Name(String),
    /// The password cannot be used.
    #[error("the password cannot be used: {0}")]
    Password(String),
}

/// The file of users and tokens.
#[derive(Clone, Debug)]
pub struct Identity {
    path: Utf8PathBuf,
    clock: Clock,
}

impl Identity {
    /// Names the file; it need not exist.
    pub fn new(path: &Utf8Path) -> Self {
        Self {
            path: path.to_owned(),
            clock: Clock::System,
        }
    }

    /// Checks a token. The name that comes with it does not matter, as with Rails.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn by_token(&self, token: &str) -> Result<Option<Caller>, IdentityError> {
        let file = self.read()?;
        let hash = hash(token);
        let now = self.clock.now();
        let known = file
            .tokens
            .iter()
            .find(|token| token.sha256 == hash && token.expires_at.is_none_or(|end| end > now));
        let user = known.and_then(|token| file.users.iter().find(|known| known.name == token.user));
        Ok(user.map(Caller::of))
    }

    /// Checks a user's password, which takes a while on purpose.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn by_password(&self, user: &str, password: &str) -> Result<Option<Caller>, IdentityError> {
        let file = self.read()?;
        let known = file
            .users
            .iter()
            .find(|known| known.name == user && known.password.is_some());
        // A name that nobody has takes as long, so that time tells no names.
        let hash = known
            .and_then(|known| known.password.as_deref())
            .unwrap_or(NOBODYS_PASSWORD);
        let right = bcrypt::verify(password, hash).unwrap_or(false);
        Ok(known.filter(|_| right).map(Caller::of))
    }

    /// Returns all users.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn users(&self) -> Result<Vec<User>, IdentityError> {
        Ok(self.read()?.users)
    }

    /// Adds a user.
    ///
    /// # Errors
    /// When there is one of that name, the name cannot be a namespace, or the
    /// file cannot be written.
    pub fn add_user(&self, name: &str, admin: bool, password: Option<&str>) -> Result<User, IdentityError> {
        let valid = name.parse::<crate::registry::oci::RepoName>().is_ok() && !name.contains('/');
        if !valid {
            return Err(IdentityError::Name(name.to_owned()));
        }
        let password = match password {
            None => None,
            Some(password) => Some(
                bcrypt::hash(password, bcrypt::DEFAULT_COST)
                    .map_err(|error| IdentityError::Password(error.to_string()))?,
            ),
        };
        let user = User {
            name: name.to_owned(),
            admin,
            password,
            created_at: self.clock.now(),
        };
        self.edit(|file| {
            if file.users.iter().any(|known| known.name == name) {
                return Err(IdentityError::UserExists(name.to_owned()));
            }
            file.users.push(user.clone());
            Ok(user)
        })
    }

    /// Removes a user and the user's tokens; returns how many tokens those were.
    ///
    /// # Errors
    /// When there is no such user or the file cannot be written.
    pub fn remove_user(&self, name: &str) -> Result<usize, IdentityError> {
        self.edit(|file| {
            let before = (file.users.len(), file.tokens.len());
            file.users.retain(|known| known.name != name);
            file.tokens.retain(|token| token.user != name);
            if file.users.len() == before.0 {
                Err(IdentityError::NoUser(name.to_owned()))
            } else {
                Ok(before.1 - file.tokens.len())
            }
        })
    }

    /// Makes a token and returns it with its secret, which is kept nowhere.
    /// Tokens that have expired are dropped on the way.
    ///
    /// # Errors
    /// When there is no such user or the file cannot be written.
    pub fn create_token(
        &self,
        user: &str,
        name: &str,
        expires_at: Option<Timestamp>,
    ) -> Result<(Token, String), IdentityError> {
        let mut random = [0_u8; 20];
        crate::sys::random::fill(&mut random)?;
        let secret = format!("{TOKEN_PREFIX}{}", BASE32_NOPAD.encode(&random).to_lowercase());
        let now = self.clock.now();
        let token = self.edit(|file| {
            if !file.users.iter().any(|known| known.name == user) {
                return Err(IdentityError::NoUser(user.to_owned()));
            }
            file.tokens.retain(|token| token.expires_at.is_none_or(|end| end > now));
            let token = Token {
                id: file.next_id,
                user: user.to_owned(),
                name: name.to_owned(),
                sha256: hash(&secret),
                created_at: now,
                expires_at,
            };
            file.next_id += 1;
            file.tokens.push(token.clone());
            Ok(token)
        })?;
        Ok((token, secret))
    }

    /// Returns all tokens, without their secrets.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn tokens(&self) -> Result<Vec<Token>, IdentityError> {
        Ok(self.read()?.tokens)
    }

    /// Revokes a token.
    ///
    /// # Errors
    /// When there is no such token or the file cannot be written.
    pub fn revoke_token(&self, id: u64) -> Result<Token, IdentityError> {
        self.edit(|file| {
            let at = file
                .tokens
                .iter()
                .position(|token| token.id == id)
                .ok_or(IdentityError::NoToken(id))?;
            Ok(file.tokens.remove(at))
        })
    }

    /// Revokes the tokens of the same name that were made before one.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn revoke_before(&self, token: &Token) -> Result<(), IdentityError> {
        self.edit(|file| {
            file.tokens
                .retain(|other| other.name != token.name || other.id >= token.id);
            Ok(())
        })
    }

    /// Revokes all tokens of a name.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn revoke_named(&self, name: &str) -> Result<(), IdentityError> {
        self.edit(|file| {
            file.tokens.retain(|token| token.name != name);
            Ok(())
        })
    }

    fn read(&self) -> Result<File, IdentityError> {
        let Some(text) = read_optional(&self.path)? else {
            return Ok(File::default());
        };
        let file: File = serde_json::from_str(&text).map_err(|source| IdentityError::Damaged {
            path: self.path.clone(),
            source,
        })?;
        if file.version > VERSION {
            return Err(IdentityError::Newer {
                path: self.path.clone(),
                version: file.version,
            });
        }
        Ok(file)
    }

    fn edit<T>(&self, change: impl FnOnce(&mut File) -> Result<T, IdentityError>) -> Result<T, IdentityError> {
        if let Some(parent) = self.path.parent() {
            crate::sys::fs::create_private_dir(parent)?;
        }
        let _lock = Lock::take(&self.path.with_extension("lock"))?;
        let mut file = self.read()?;
        let outcome = change(&mut file)?;
        let text = serde_json::to_string_pretty(&file).map_err(io::Error::other)?;
        write_atomic(&self.path, text.as_bytes(), PRIVATE)?;
        Ok(outcome)
    }
}

fn hash(secret: &str) -> String {
    HEXLOWER.encode(&Sha256::digest(secret.as_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn identity() -> (tempfile::TempDir, Identity) {
        let directory = tempfile::tempdir().expect("a directory");
        let path = Utf8PathBuf::from_path_buf(directory.path().join("sub/identity.json")).expect("UTF-8");
        (directory, Identity::new(&path))
    }

    #[test]
    fn a_token_logs_in_until_it_is_revoked() {
        let (_directory, identity) = identity();
        identity.add_user("root", true, None).expect("added");
        let (token, secret) = identity.create_token("root", "test", None).expect("made");
        let caller = identity.by_token(&secret).expect("read");
        assert_eq!(
            caller,
            Some(Caller {
                name: "root".into(),
                admin: true
            })
        );
        assert_eq!(identity.by_token("khpat-wrong").expect("read"), None);
        let kept = crate::sys::fs::read(&identity.path).expect("there");
        assert!(!kept.contains(&secret), "the secret is kept");
        assert_eq!(crate::sys::fs::mode(&identity.path), Some(PRIVATE));
        identity.revoke_token(token.id).expect("revoked");
        assert_eq!(identity.by_token(&secret).expect("read"), None);
    }

    #[test]
    fn nobody_s_password_is_a_hash_that_takes_time() {
        assert_eq!(bcrypt::verify("x", NOBODYS_PASSWORD).ok(), Some(false));
    }

    #[test]
    fn an_expired_token_is_refused() {
        let (_directory, mut identity) = identity();
        identity.add_user("a", false, None).expect("added");
        let end = identity.clock.now() + jiff::SignedDuration::from_mins(5);
        let (_, secret) = identity.create_token("a", "t", Some(end)).expect("made");
        assert!(identity.by_token(&secret).expect("read").is_some());
        identity.clock = Clock::Fixed(end);
        assert_eq!(identity.by_token(&secret).expect("read"), None);
    }

    #[test]
    fn passwords_work_for_their_user_only_and_names_are_namespaces() {
        let (_directory, identity) = identity();
        identity.add_user("anna", false, Some("open sesame")).expect("added");
        identity.add_user("ben", false, None).expect("added");
        assert!(identity.by_password("anna", "open sesame").expect("read").is_some());
        assert!(identity.by_password("ben", "open sesame").expect("read").is_none());
        assert!(identity.by_password("ben", "").expect("read").is_none());
        assert!(matches!(
            identity.add_user("Anna", false, None),
            Err(IdentityError::Name(_))
        ));
        assert!(matches!(
            identity.add_user("anna", false, None),
            Err(IdentityError::UserExists(_))
        ));
    }
}
