//! What once told KDK something, and does so no longer.

use crate::config::Config;

/// Files of old times that KDK once read, and the settings instead of them.
const LOOSE_FILES: [(&str, &str); 8] = [
    ("registry_enabled", "registry.enabled"),
    ("registry_port", "registry.port"),
    ("registry_host", "registry.host"),
    ("registry_image", "registry.image"),
    ("registry_external_port", "registry.external_url"),
    ("host", "hostname"),
    ("port", "port"),
    (
        "auto_devops_enabled",
        "nothing: the tunnel for Auto DevOps was removed in 2020",
    ),
];

/// Says what is still there of old habits, and what takes its place.
pub fn left(config: &Config) -> Vec<String> {
    let root = config.root();
    let mut notices = Vec::new();
    for (file, instead) in LOOSE_FILES {
        if root.join(file).is_file() {
            notices.push(format!(
                "the file {file} is not read any more; use the setting {instead}, and remove the file"
            ));
        }
    }
    let unmanaged = config.unmanaged();
    let removed = crate::config::schema::REMOVED
        .iter()
        .filter(|(key, _)| unmanaged.contains(key));
    notices.extend(removed.map(|(key, instead)| format!("{key} in kdk.yml has no effect: {instead}")));
    notices
}
