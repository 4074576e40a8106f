//! Judging the settings of what is not kdk's own: images, a registry and a
//! KhulnaSoft that run elsewhere.

use super::Config;

/// A setting, what is wrong with it, and what to do.
type Fault = (&'static str, String, Option<String>);

impl Config {
    /// Returns everything that is wrong with them.
    pub(super) fn faults_of_others(&self) -> Vec<Fault> {
        let mut found = Vec::new();
        elsewhere(self, &mut found);
        rails(self, &mut found);
        image_name(self, &mut found);
        image_user(self, &mut found);
        found
    }
}

/// An image's name must be one, and no option to the engine.
fn image_name(config: &Config, found: &mut Vec<Fault>) {
    let Some(image) = config.registry_image() else { return };
    let (path, rest) = image.split_once('@').unwrap_or((&image, "sha256"));
    let (path, tag) = match path.rsplit_once(':') {
        Some((path, tag)) if !tag.contains('/') => (path, tag),
        _ => (path, "latest"),
    };
    let is_word = |text: &str, more: &str| {
        text.starts_with(|letter: char| letter.is_ascii_alphanumeric() || letter == '_')
            && text
                .chars()
                .all(|letter| letter.is_ascii_alphanumeric() || more.contains(letter))
    };
    // The first part may be a host, which may have capitals and a port.
    let repository = path.split_once('/').map_or(path, |(_, repository)| repository);
    let is_name = is_word(path, "._-/:")
        && is_word(tag, "._-")
        && is_word(rest, ":")
        && !path.ends_with(['/', ':'])
        && !path.contains("//")
        && !repository.contains(|letter: char| letter.is_ascii_uppercase() || letter == ':');
    if !is_name {
        let message = format!("registry.image must be the name of an image, such as registry:dev, not {image:?}");
        found.push(("registry.image", message, None));
    }
}

/// Only root may run an image as somebody else, who has the files then.
fn image_user(config: &Config, found: &mut Vec<Fault>) {
    let (own, _) = crate::sys::running::ids();
    let is_own = config.registry_uid().is_none_or(|user| user == own);
    if config.registry_image().is_none() || is_own || own == 0 {
        return;
    }
    let message = "registry.uid is not yours, and only root may hand the registry's files over to others".to_owned();
    let hint = "leave it to yours: kdk config unset registry.uid".to_owned();
    found.push(("registry.uid", message, Some(hint)));
}

/// A command runs KhulnaSoft where that is.
fn rails(config: &Config, found: &mut Vec<Fault>) {
    let is_url = |url: &str| {
        url::Url::parse(url).is_ok_and(|url| matches!(url.scheme(), "http" | "https") && url.host_str().is_some())
    };
    let is_external = config.rails_mode() != "embedded";
    if is_external && !is_url(&config.rails_url()) {
        let message = format!(
            "rails.url must be the URL of KhulnaSoft, such as https://khulnasoft.example.com, not {:?}",
            config.rails_url()
        );
        found.push(("rails.url", message, None));
    }
    if config.rails_command().is_some_and(|command| command.trim().is_empty()) {
        let message = "rails.command is empty".to_owned();
        found.push((
            "rails.command",
            message,
            Some("kdk config unset rails.command".to_owned()),
        ));
    }
    if config.rails_command().is_some() && config.rails_dir().is_none() {
        let message = "rails.command runs in rails.dir, which is not set".to_owned();
        let hint = "set it to where KhulnaSoft is: kdk config set rails.dir DIRECTORY".to_owned();
        found.push(("rails.command", message, Some(hint)));
    }
}

/// A registry that runs elsewhere must be found there.
fn elsewhere(config: &Config, found: &mut Vec<Fault>) {
    if config.registry_mode() != "external" || config.url_elsewhere().is_some() {
        return;
    }
    let example = "such as http://registry.example.com:5000";
    let (key, message) = if config.is_given("registry.api_url") {
        let url = config.registry_api_url();
        (
            "registry.api_url",
            if url.contains('@') {
                format!("registry.api_url must be a URL {example}, without a name and a password")
            } else {
                format!("registry.api_url must be the URL of the registry that runs elsewhere, {example}, not {url:?}")
            },
        )
    } else {
        (
            "registry.mode",
            "registry.mode is external, and registry.api_url does not say where that registry is".to_owned(),
        )
    };
    let hint = "set both at once: kdk config set registry.mode=external registry.api_url=URL".to_owned();
    found.push((key, message, Some(hint)));
}
