//! KhulnaSoft itself: the stand-in, or a real one.

use serde_json::Value;

use crate::config::settings::settings;
use crate::config::types::Kind;

settings! { RAILS;
    /// Who serves tokens and pages: the built-in stand-in, or a KhulnaSoft that runs elsewhere.
    rails_mode: String = "rails.mode", Kind::Choice(&["embedded", "external"]), |_| "embedded";
    /// URL of a KhulnaSoft that runs elsewhere (rails.mode: external).
    rails_url: String = "rails.url", Kind::Text, from "hostname, port, https.enabled, relative_url_root" |c| c.url();
    /// Certificates that the registry checks the KhulnaSoft at rails.url with, instead of the system's.
    rails_ca_file: Option<String> = "rails.ca_file", Kind::Path, from "https.enabled, rails.mode" |c| {
        if c.https_enabled() && c.rails_mode() == "embedded" {
            c.https_certificate().into()
        } else {
            Value::Null
        }
    };
    /// Repositories that everybody may pull from; a * at the end stands for the rest of the name.
    rails_public_repositories: Vec<String> = "rails.public_repositories", Kind::List, |_| Vec::<String>::new();
}
