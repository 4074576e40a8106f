//! A registry and a KhulnaSoft that are not kdk's own, and this root uses.

use camino::Utf8PathBuf;
use url::Url;

use super::Config;

impl Config {
    /// Says whether kdk runs the registry.
    pub fn runs_registry(&self) -> bool {
        self.registry_enabled() && self.registry_mode() == "embedded"
    }

    /// Says whether the registry is one that runs elsewhere.
    pub fn registry_is_elsewhere(&self) -> bool {
        self.registry_enabled() && self.registry_mode() == "external"
    }

    /// Says whether clients get tokens at the address of a registry that runs
    /// elsewhere, as behind one proxy.
    pub fn realm_is_at_registry(&self) -> bool {
        let origin = |url: &str| Url::parse(url).ok().map(|url| url.origin());
        let registry = origin(&self.registry_url());
        self.registry_is_elsewhere() && registry.is_some() && registry == origin(&self.registry_token_realm())
    }

    /// Says whether kdk runs KhulnaSoft: the stand-in, or a real one.
    pub fn runs_rails(&self) -> bool {
        self.rails_mode() == "embedded" || self.rails_command().is_some()
    }

    /// Checks that a real KhulnaSoft is where the settings say.
    ///
    /// # Errors
    /// When nothing is there.
    pub fn check_rails_dir(&self) -> Result<(), String> {
        let directory = self.rails_dir().filter(|_| self.rails_mode() != "embedded");
        match directory.map(|directory| self.path(&directory)) {
            Some(path) if !path.is_dir() => Err(format!(
                "rails.dir: {path} is no directory; set it with: kdk config set rails.dir DIRECTORY"
            )),
            _ => Ok(()),
        }
    }

    /// Returns the file that KhulnaSoft reads its settings of the registry from.
    pub fn khulnasoft_yml(&self) -> Utf8PathBuf {
        match self.rails_dir().filter(|_| self.rails_mode() != "embedded") {
            Some(directory) => self.path(&directory).join("config/khulnasoft.yml"),
            None => self.root.khulnasoft_yml(),
        }
    }

    /// Returns the URL at which KhulnaSoft reaches a registry that runs elsewhere.
    pub(super) fn url_elsewhere(&self) -> Option<Url> {
        if self.registry_mode() != "external" {
            return None;
        }
        let given = self.given("registry.api_url")?.as_str()?;
        let is_web = |url: &Url| {
            let has_login = !url.username().is_empty() || url.password().is_some();
            matches!(url.scheme(), "http" | "https")
                && url.host_str().is_some()
                && !has_login
                && url.query().is_none()
                && url.fragment().is_none()
        };
        Url::parse(given).ok().filter(is_web)
    }

    /// Returns the URL at which users reach it: there too, unless
    /// `registry.host` is given, which `registry.port` goes with. A port alone
    /// was for a registry of this root's own.
    pub(super) fn public_url_elsewhere(&self) -> Option<String> {
        let mut url = self.url_elsewhere()?;
        if self.is_given("registry.host") {
            url.set_host(Some(&self.registry_host())).ok()?;
            url.set_port(Some(self.registry_port())).ok()?;
        }
        Some(url.as_str().trim_end_matches('/').to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::super::Config;
    use crate::root::Root;

    #[test]
    fn users_reach_it_where_khulnasoft_does_or_as_told() {
        for (settings, expected) in [
            ("api_url: http://localhost:5000/", "http://localhost:5000"),
            ("api_url: http://localhost:5000, port: 5001", "http://localhost:5000"),
            (
                "api_url: 'https://registry.example.com'",
                "https://registry.example.com",
            ),
            (
                "api_url: 'https://10.0.0.7:5000', host: registry.example.com, port: 5005",
                "https://registry.example.com:5005",
            ),
            (
                "api_url: 'https://10.0.0.7:5000', host: registry.example.com, port: 443",
                "https://registry.example.com",
            ),
            (
                "api_url: 'http://10.0.0.7:5000', external_url: 'https://registry.example.com'",
                "https://registry.example.com",
            ),
        ] {
            let text = format!("registry: {{enabled: true, mode: external, {settings}}}\n");
            let config = Config::parse(&Root::example(), text).expect("valid");
            assert_eq!(config.registry_url(), expected, "{settings}");
            assert!(!config.runs_registry());
        }
    }
}
