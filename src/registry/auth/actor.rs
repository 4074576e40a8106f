//! Who makes a request.

use super::protection::Protection;

/// Who made a request, as far as that is known.
#[derive(Clone, Debug, Default)]
pub struct Actor {
    /// The token's subject, or the user's name; empty for nobody in particular.
    pub name: String,
    /// How the user proved who it is, as the token says.
    pub user_type: Option<String>,
    /// The user as the token passes it through.
    pub user: Option<String>,
    /// Tags that the token protects.
    pub protection: Protection,
    /// The project that the repository belongs to, as the token says.
    pub project_path: Option<String>,
}
