//! KhulnaSoft itself: the stand-in, or a real one.

use serde_json::Value;

use crate::config::settings::settings;
use crate::config::types::Kind;

settings! { RAILS;
    /// Who serves tokens and pages: the built-in stand-in (embedded), or a real KhulnaSoft at rails.url, or in rails.dir (external).
    rails_mode: String = "rails.mode", Kind::Choice(&["embedded", "external"]), |_| "embedded";
    /// URL of a KhulnaSoft that is not the stand-in (rails.mode: external).
    rails_url: String = "rails.url", Kind::Text, from "hostname, port, https.enabled, relative_url_root" |c| c.url();
    /// Directory of a real KhulnaSoft on this machine (rails.mode: external); its config/khulnasoft.yml gets the registry's settings.
    rails_dir: Option<String> = "rails.dir", Kind::Path, |_| Value::Null;
    /// Command that runs it, in rails.dir, as the service rails-web; without one, somebody else does.
    rails_command: Option<String> = "rails.command", Kind::Text, |_| Value::Null;
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
