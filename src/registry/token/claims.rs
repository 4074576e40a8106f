//! The claims of a token (distribution, "Token Authentication Implementation").

use serde::{Deserialize, Serialize};

use super::scope::Scope;

/// What a token says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Claims {
    /// Who made it.
    pub iss: String,
    /// Whom it is about; empty for nobody in particular.
    #[serde(default)]
    pub sub: String,
    /// For which service.
    pub aud: Audience,
    /// Until when it holds, in seconds since 1970.
    pub exp: u64,
    /// From when it holds, in seconds since 1970.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub nbf: Option<u64>,
    /// When it was made, in seconds since 1970.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub iat: Option<u64>,
    /// Its own id.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub jti: Option<String>,
    /// What it grants.
    #[serde(default, deserialize_with = "null_as_empty")]
    pub access: Vec<Scope>,
}

fn null_as_empty<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Vec<Scope>, D::Error> {
    Ok(Option::<Vec<Scope>>::deserialize(deserializer)?.unwrap_or_default())
}

/// One service or several.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Audience(pub Vec<String>);

impl Serialize for Audience {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.0.as_slice() {
            [one] => serializer.serialize_str(one),
            many => many.serialize(serializer),
        }
    }
}

impl<'de> Deserialize<'de> for Audience {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        use serde::de::Error as _;
        match serde_json::Value::deserialize(deserializer)? {
            serde_json::Value::String(one) => Ok(Self(vec![one])),
            serde_json::Value::Array(many) => many
                .into_iter()
                .map(|item| {
                    item.as_str()
                        .map(str::to_owned)
                        .ok_or_else(|| D::Error::custom("aud holds no text"))
                })
                .collect::<Result<_, _>>()
                .map(Self),
            _ => Err(D::Error::custom("aud is neither text nor list")),
        }
    }
}
