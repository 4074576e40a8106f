//! Tokens, their claims and keys, and scopes.

#![no_main]

mod bounds;

use kdk::registry::token::{Claims, PublicKey, Scope};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|content: &[u8]| {
    if let Ok(key) = PublicKey::from_spki(content) {
        let _ = (key.libtrust_id(), key.thumbprint(), key.decoding_key().is_ok());
    }
    let Ok(text) = std::str::from_utf8(content) else { return };
    if let Ok(claims) = serde_json::from_str::<Claims>(text) {
        let _ = claims.access.iter().any(|scope| scope.grants("repository", "a", "pull"));
        let written = serde_json::to_string(&claims).expect("claims are written");
        assert_eq!(serde_json::from_str::<Claims>(&written).ok(), Some(claims));
    }
    if let Ok(value) = serde_json::from_str::<serde_json::Value>(text) {
        if let Ok(key) = PublicKey::from_jwk(&value) {
            let _ = (key.thumbprint(), key.decoding_key().is_ok());
        }
    }
    if let Ok(scopes) = Scope::parse_all([text]) {
        for scope in scopes {
            assert!(!scope.name.is_empty());
        }
    }
});
