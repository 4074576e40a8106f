//! containerd: `ctr`, `nerdctl`, `lima`, and the kubelet's runtime.

use super::client::{Client, Scene};
use super::edit::Edit;
use super::plan::{Plan, SetupError};
use super::toml::Toml;
use crate::sys;
use crate::sys::shell::word;

const DIRECTORY: &str = "/etc/containerd/certs.d";
const SETTINGS: &str = "/etc/containerd/config.toml";
const READERS: &str = "containerd";

/// `kdk setup containerd`.
pub struct Containerd;

impl Client for Containerd {
    fn name(&self) -> &'static str {
        "containerd"
    }

    fn aliases(&self) -> &'static [&'static str] {
        &["nerdctl", "ctr", "lima"]
    }

    fn about(&self) -> &'static str {
        "containerd's ctr and nerdctl, and lima"
    }

    fn is_here(&self) -> bool {
        ["containerd", "nerdctl", "ctr", "limactl"]
            .iter()
            .any(|program| sys::process::find_program(program).is_some())
    }

    fn plan(&self, scene: &Scene<'_>) -> Result<Plan, SetupError> {
        if scene.asked == "lima" {
            return lima(scene);
        }
        let version = version();
        if version.is_some_and(|version| version < (1, 5)) {
            return old(scene);
        }
        let mut plan = Plan::default();
        let pem = scene.pem()?;
        for name in scene.names() {
            let directory = format!("{DIRECTORY}/{name}");
            let text = hosts_toml(scene, &name, pem.as_ref().map(|_| format!("{directory}/ca.crt")))?;
            plan = plan.file(format!("{directory}/hosts.toml"), READERS, Edit::Whole(text));
            if let Some(pem) = &pem {
                plan = plan.file(format!("{directory}/ca.crt"), READERS, Edit::Whole(pem.clone()));
            }
        }
        let settings = sys::fs::read_optional(SETTINGS.into()).ok().flatten();
        let plan = plan.note(format!(
            "ctr reads this with --hosts-dir {DIRECTORY}; nerdctl reads it by itself"
        ));
        let plan = match unread(version, settings.as_deref().unwrap_or_default()) {
            Some(note) => plan.note(note),
            None => plan,
        };
        Ok(scene.of_proxy(plan))
    }
}

/// Returns the `hosts.toml` of a registry, with the file of its certificate.
pub fn hosts_toml(scene: &Scene<'_>, name: &str, ca: Option<String>) -> Result<String, SetupError> {
    let scheme = if scene.is_https() { "https" } else { "http" };
    let url = format!("{scheme}://{name}");
    let host = ["host", &url];
    let mut toml = Toml::default().set(&["server"], url.as_str()).set(
        &[host[0], host[1], "capabilities"],
        vec!["pull".to_owned(), "resolve".to_owned(), "push".to_owned()],
    );
    if let Some(ca) = ca {
        toml = toml.set(&[host[0], host[1], "ca"], ca);
    }
    toml.put("").map_err(|reason| SetupError::Format {
        path: "hosts.toml".into(),
        reason,
    })
}

/// Returns the version of containerd on this machine: the first two numbers.
fn version() -> Option<(u32, u32)> {
    let program = sys::process::find_program("containerd")?;
    let output = std::process::Command::new(program).arg("--version").output().ok()?;
    parse_version(&String::from_utf8_lossy(&output.stdout))
}

/// Reads `containerd github.com/containerd/containerd v1.6.20 …`.
fn parse_version(text: &str) -> Option<(u32, u32)> {
    text.split_whitespace().find_map(|word| {
        let mut numbers = word.trim_start_matches('v').split('.');
        Some((numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?))
    })
}

/// Says what the settings lack so that a kubelet's pulls read `hosts.toml`.
fn unread(version: Option<(u32, u32)>, settings: &str) -> Option<String> {
    let version = version?;
    let has = |text: &str| settings.lines().any(|line| line.trim_start().starts_with(text));
    let path = format!("config_path = \"{DIRECTORY}\"");
    if version >= (2, 1) && !has("config_path") && !has("use_local_image_pull") {
        return Some(format!(
            "pods' images: containerd 2.1 and later ignores hosts.toml unless {SETTINGS} holds [plugins.'io.containerd.cri.v1.images'] use_local_image_pull = true, and below it [plugins.'io.containerd.cri.v1.images'.registry] {path}; restart containerd then"
        ));
    }
    let section = if version >= (2, 0) {
        "[plugins.'io.containerd.cri.v1.images'.registry]"
    } else {
        "[plugins.\"io.containerd.grpc.v1.cri\".registry]"
    };
    (!has("config_path")).then(|| {
        format!("pods' images: a kubelet's containerd reads hosts.toml once {SETTINGS} holds {section} {path}; restart containerd then")
    })
}

/// Plans settings for versions before 1.5, which have no `hosts.toml`.
fn old(scene: &Scene<'_>) -> Result<Plan, SetupError> {
    let scheme = if scene.is_https() { "https" } else { "http" };
    let registry = ["plugins", "io.containerd.grpc.v1.cri", "registry"];
    let mut toml = Toml::default();
    let pem = scene.pem()?;
    let mut plan = Plan::default();
    for name in scene.names() {
        let mirror = [&registry[..], &["mirrors", &name, "endpoint"]].concat();
        toml = toml.add(&mirror, vec![format!("{scheme}://{name}")]);
        if let Some(pem) = &pem {
            let file = format!("{DIRECTORY}/{name}/ca.crt");
            let ca = [&registry[..], &["configs", &name, "tls", "ca_file"]].concat();
            toml = toml.set(&ca, file.as_str());
            plan = plan.file(file, READERS, Edit::Whole(pem.clone()));
        }
    }
    let plan = plan.file(SETTINGS, READERS, Edit::Toml(toml));
    Ok(scene.of_proxy(plan.note("restart containerd, which reads its settings when it starts")))
}

/// Plans lines for lima's machine.
fn lima(scene: &Scene<'_>) -> Result<Plan, SetupError> {
    let pem = scene.pem()?;
    let mut lines = vec!["set -eu".to_owned()];
    for name in scene.names() {
        let directory = format!("{DIRECTORY}/{name}");
        let text = hosts_toml(scene, &name, pem.as_ref().map(|_| format!("{directory}/ca.crt")))?;
        lines.push(format!("limactl shell default sudo mkdir -p {}", word(&directory)));
        let mut put = |file: &str, text: &str| {
            lines.push(format!(
                "limactl shell default sudo tee {} >/dev/null <<'EOF'\n{}\nEOF",
                word(&format!("{directory}/{file}")),
                text.trim_end()
            ));
        };
        put("hosts.toml", &text);
        if let Some(pem) = &pem {
            put("ca.crt", pem);
        }
    }
    Ok(scene.of_proxy(
        Plan::text(lines.join("\n"))
            .note("run these lines with: kdk setup lima | sh; then lima nerdctl pushes and pulls"),
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_and_what_they_do_not_read() {
        let version = |text| parse_version(text);
        assert_eq!(
            version("containerd github.com/containerd/containerd v1.6.20~ds1 1.6.20~ds1-1+b1"),
            Some((1, 6))
        );
        assert_eq!(
            version("containerd github.com/containerd/containerd/v2 v2.1.4 75cb2b7"),
            Some((2, 1))
        );
        let told = |version, settings| unread(Some(version), settings).unwrap_or_default();
        assert!(told((2, 1), "version = 3\n").contains("use_local_image_pull = true"));
        assert!(told((2, 0), "").contains("io.containerd.cri.v1.images"));
        assert!(told((1, 6), "# config_path = x").contains("io.containerd.grpc.v1.cri"));
        for version in [(1, 6), (2, 0), (2, 1)] {
            assert_eq!(told(version, "[a]\n  config_path = '/etc/containerd/certs.d'\n"), "");
        }
        assert_eq!(unread(None, ""), None);
    }
}
