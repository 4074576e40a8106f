//! What GitLab's documents set, and what does the same here.

/// The file that a key stands in there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum File {
    /// `/etc/gitlab/gitlab.rb` of a Linux package.
    GitlabRb,
    /// `gitlab.yml` of an installation from source.
    GitlabYml,
    /// The registry's own `config.yml`.
    ConfigYml,
}

impl File {
    /// Returns its name.
    pub fn name(self) -> &'static str {
        match self {
            Self::GitlabRb => "gitlab.rb",
            Self::GitlabYml => "gitlab.yml",
            Self::ConfigYml => "config.yml",
        }
    }
}

/// What does the same here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Here {
    /// These settings.
    Keys(&'static [&'static str]),
    /// Something else, in a sentence.
    Instead(&'static str),
    /// Nothing, for this reason.
    NotApplicable(&'static str),
}

/// A key of GitLab's.
#[derive(Clone, Copy, Debug)]
pub struct Row {
    /// The key; with a dot at its end it stands for all below it.
    pub there: &'static str,
    /// The file that it stands in.
    pub file: File,
    /// What does the same here.
    pub here: Here,
}

const fn rb(there: &'static str, here: Here) -> Row {
    Row {
        there,
        file: File::GitlabRb,
        here,
    }
}

const fn yml(there: &'static str, here: Here) -> Row {
    Row {
        there,
        file: File::GitlabYml,
        here,
    }
}

const fn own(there: &'static str, here: Here) -> Row {
    Row {
        there,
        file: File::ConfigYml,
        here,
    }
}

const PROXY: &str = "by hand, in the proxy's own configuration: see \"Behind a proxy\" in the guide";
const FEATURE: &str = "kdk has no projects with such a feature";

/// All keys of GitLab's page on administering a registry.
pub static ROWS: &[Row] = &[
    rb("registry_external_url", Here::Keys(&["registry.external_url"])),
    rb("registry_nginx['ssl_certificate']", Here::Instead(PROXY)),
    rb("registry_nginx['ssl_certificate_key']", Here::Instead(PROXY)),
    rb("registry_nginx['redirect_http_to_https']", Here::Instead(PROXY)),
    rb("registry_nginx['listen_port']", Here::Instead(PROXY)),
    rb("registry['enable']", Here::Keys(&["registry.enabled"])),
    rb("registry['storage']", Here::Keys(&["registry.storage"])),
    rb(
        "registry['registry_http_addr']",
        Here::Keys(&["registry.listen_address", "registry.port"]),
    ),
    rb("registry['internal_key']", Here::Keys(&["registry.internal_key"])),
    rb(
        "registry['internal_certificate']",
        Here::Keys(&["registry.internal_certificate"]),
    ),
    rb(
        "registry['notifications']",
        Here::Keys(&["registry.notifications.endpoints", "registry.notification_secret"]),
    ),
    rb("registry['token_realm']", Here::Keys(&["registry.token_realm"])),
    rb("registry['http_secret']", Here::Keys(&["registry.http_secret"])),
    rb("registry['rootcertbundle']", Here::Keys(&["registry.rootcertbundle"])),
    rb(
        "registry['health_storagedriver_enabled']",
        Here::Keys(&["registry.health_storagedriver_enabled"]),
    ),
    rb("registry['env']", Here::Keys(&["registry.env"])),
    rb("registry['debug_addr']", Here::Keys(&["registry.debug_addr"])),
    rb(
        "registry['compatibility_schema1_enabled']",
        Here::Keys(&["registry.compatibility_schema1_enabled"]),
    ),
    rb("gitlab_rails['registry_enabled']", Here::Keys(&["registry.enabled"])),
    rb("gitlab_rails['registry_host']", Here::Keys(&["registry.host"])),
    rb("gitlab_rails['registry_port']", Here::Keys(&["registry.port"])),
    rb("gitlab_rails['registry_api_url']", Here::Keys(&["registry.api_url"])),
    rb("gitlab_rails['registry_key_path']", Here::Keys(&["registry.key"])),
    rb("gitlab_rails['registry_path']", Here::Keys(&["registry.path"])),
    rb("gitlab_rails['registry_issuer']", Here::Keys(&["registry.issuer"])),
    rb("gitlab_rails['internal_key']", Here::Keys(&["registry.internal_key"])),
    rb(
        "gitlab_rails['gitlab_default_projects_features_container_registry']",
        Here::Keys(&["default_projects_features.container_registry"]),
    ),
    yml("registry.enabled", Here::Keys(&["registry.enabled"])),
    yml("registry.host", Here::Keys(&["registry.host"])),
    yml("registry.port", Here::Keys(&["registry.port"])),
    yml("registry.api_url", Here::Keys(&["registry.api_url"])),
    yml("registry.key", Here::Keys(&["registry.key"])),
    yml("registry.path", Here::Keys(&["registry.path"])),
    yml("registry.issuer", Here::Keys(&["registry.issuer"])),
    yml(
        "registry.notification_secret",
        Here::Keys(&["registry.notification_secret"]),
    ),
    yml("default_projects_features.issues", Here::NotApplicable(FEATURE)),
    yml("default_projects_features.merge_requests", Here::NotApplicable(FEATURE)),
    yml("default_projects_features.wiki", Here::NotApplicable(FEATURE)),
    yml("default_projects_features.snippets", Here::NotApplicable(FEATURE)),
    yml("default_projects_features.builds", Here::NotApplicable(FEATURE)),
    yml(
        "default_projects_features.container_registry",
        Here::Keys(&["default_projects_features.container_registry"]),
    ),
    own("auth.token.realm", Here::Keys(&["registry.token_realm"])),
    own(
        "auth.token.service",
        Here::Instead("always container_registry, as KhulnaSoft asks for it"),
    ),
    own("auth.token.issuer", Here::Keys(&["registry.issuer"])),
    own("auth.token.rootcertbundle", Here::Keys(&["registry.rootcertbundle"])),
    own(
        "auth.token.autoredirect",
        Here::Instead("not needed: clients get tokens at the registry's own address; else registry.config"),
    ),
    own("storage.s3.", Here::Keys(&["registry.storage"])),
    own("storage.azure.", Here::Keys(&["registry.storage"])),
    own(
        "storage.filesystem.rootdirectory",
        Here::Keys(&["registry.path", "registry.storage"]),
    ),
    own("storage.cache.blobdescriptor", Here::Keys(&["registry.storage"])),
    own("storage.delete.enabled", Here::Keys(&["registry.storage"])),
    own(
        "storage.redirect.disable",
        Here::Keys(&["registry.redirect", "registry.storage"]),
    ),
    own(
        "storage.maintenance.readonly.enabled",
        Here::Keys(&["registry.read_only_maintenance_enabled", "registry.storage"]),
    ),
    own("http.addr", Here::Keys(&["registry.listen_address", "registry.port"])),
    own("http.relativeurls", Here::Keys(&["registry.relativeurls"])),
    own(
        "compatibility.schema1.enabled",
        Here::Keys(&["registry.compatibility_schema1_enabled"]),
    ),
    own(
        "notifications.endpoints.",
        Here::Keys(&["registry.notifications.endpoints"]),
    ),
];

/// What stands in GitLab's page without being a key, and why there is none of it here.
pub static NOT_APPLICABLE: &[(&str, &str)] = &[
    (
        "Let's Encrypt",
        "a development machine has no public name; certificates are made by kdk, or are the proxy's",
    ),
    (
        "replacing the registry's binary in a package or a chart",
        "registry.bin runs any binary, registry.image any image, registry.version builds any ref",
    ),
    ("Sidekiq nodes", "there is no Sidekiq"),
    (
        "manifests of schema 1",
        "no client pushes them any more, and registries reject them",
    ),
    (
        "gitlab-secrets.json",
        "secrets are kept in .kdk of the root; registry.internal_key and registry.notification_secret share them",
    ),
    (
        "the admin area's form for the tokens' duration",
        "registry.token_expire_delay",
    ),
    (
        "an insecure registry because auth is off",
        "Docker calls a registry insecure by its TLS, not by its auth: kdk trust-docker-registry",
    ),
];

/// Finds the row of a key as somebody may have typed it.
pub fn find(typed: &str) -> Option<&'static Row> {
    let plain = |text: &str| text.replace('"', "'").replace(' ', "");
    let typed = plain(typed);
    ROWS.iter().find(|row| {
        let there = plain(row.there);
        typed == there || (there.ends_with('.') && typed.starts_with(&there))
    })
}
