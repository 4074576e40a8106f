//! containerd: `ctr`, `nerdctl`, `lima`, and the kubelet's runtime.

use super::client::{Client, Scene};
use super::edit::Edit;
use super::plan::{Plan, SetupError};
use super::script::Script;
use super::toml::Toml;
use crate::sys;
use crate::sys::shell::word;

/// Where containerd looks for what it is told of registries.
pub const DIRECTORY: &str = "/etc/containerd/certs.d";
/// Where a containerd without root's rights looks, below the home.
const OWN: &str = ".config/containerd/certs.d";
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
        let directory = if is_rootless() {
            scene.home().join(OWN)
        } else {
            DIRECTORY.into()
        };
        let mut plan = Plan::default();
        let pem = scene.pem()?;
        for name in scene.names() {
            let text = hosts_toml(scene, &name, pem.is_some())?;
            plan = plan.file(directory.join(&name).join("hosts.toml"), READERS, Edit::Whole(text));
            if let Some(pem) = &pem {
                plan = plan.file(directory.join(&name).join("ca.crt"), READERS, Edit::Whole(pem.clone()));
            }
        }
        let plan = plan.note(format!(
            "ctr reads this with --hosts-dir {directory}; nerdctl reads it by itself"
        ));
        let settings = sys::fs::read_optional(SETTINGS.into()).ok().flatten();
        let plan = match unread(version, settings.as_deref().unwrap_or_default()) {
            Some(note) => plan.note(note),
            None => plan,
        };
        Ok(scene.of_proxy(plan))
    }
}

/// Says whether this user's containerd runs without root's rights.
fn is_rootless() -> bool {
    let runtime = sys::env::var("XDG_RUNTIME_DIR").map(camino::Utf8PathBuf::from);
    sys::process::user_id() != 0 && runtime.is_some_and(|runtime| runtime.join("containerd-rootless").exists())
}

/// Returns the `hosts.toml` of a registry; its certificate is beside it.
pub fn hosts_toml(scene: &Scene<'_>, name: &str, has_certificate: bool) -> Result<String, SetupError> {
    let scheme = if scene.is_https() { "https" } else { "http" };
    let url = format!("{scheme}://{name}");
    let mut toml = Toml::default().set(&["server"], url.as_str()).set(
        &["host", &url, "capabilities"],
        vec!["pull".to_owned(), "resolve".to_owned(), "push".to_owned()],
    );
    if has_certificate {
        // From where this file is.
        toml = toml.set(&["host", &url, "ca"], "ca.crt");
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
    let images = if version >= (2, 0) {
        "io.containerd.cri.v1.images"
    } else {
        "io.containerd.grpc.v1.cri"
    };
    let settings = settings.parse::<toml_edit::DocumentMut>().unwrap_or_default();
    let found = ["plugins", images, "registry", "config_path"]
        .iter()
        .try_fold(settings.as_item(), |item, part| item.get(part));
    let path = found.and_then(toml_edit::Item::as_str).unwrap_or_default();
    if path.split(':').any(|part| part.trim_end_matches('/') == DIRECTORY) {
        return None;
    }
    // Since 2.1 another service pulls, which knows of no such setting.
    let local = if version >= (2, 1) {
        format!(" [plugins.'{images}'] use_local_image_pull = true, and")
    } else {
        String::new()
    };
    Some(format!(
        "pods' images: a kubelet's containerd reads hosts.toml once {SETTINGS} holds{local} [plugins.'{images}'.registry] config_path = \"{DIRECTORY}\"; restart containerd then"
    ))
}

/// Plans settings for versions before 1.5, which have no `hosts.toml`.
fn old(scene: &Scene<'_>) -> Result<Plan, SetupError> {
    let scheme = if scene.is_https() { "https" } else { "http" };
    let registry = ["plugins", "io.containerd.grpc.v1.cri", "registry"];
    // In a file of the first format these tables would not be read.
    let mut toml = Toml::default().default_to(&["version"], 2);
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

/// Plans lines for lima's machine, whose containerd runs without root's rights
/// unless it was made otherwise.
fn lima(scene: &Scene<'_>) -> Result<Plan, SetupError> {
    scene.check_reachable()?;
    let pem = scene.pem()?;
    let mut script = Script::new();
    for name in scene.names() {
        let directory = format!("$HOME/{OWN}/{name}");
        let text = hosts_toml(scene, &name, pem.is_some())?;
        let inside = |line: &str| format!("limactl shell default sh -c {}", word(line));
        script = script
            .run(inside(&format!("mkdir -p \"{directory}\"")))
            .feed(&inside(&format!("cat >\"{directory}/hosts.toml\"")), &text);
        if let Some(pem) = &pem {
            script = script.feed(&inside(&format!("cat >\"{directory}/ca.crt\"")), pem);
        }
    }
    Ok(scene.of_proxy(
        Plan::text(script.end()).note("run these lines with: kdk setup lima | sh; then lima nerdctl pushes and pulls"),
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
        let told = |version, settings: &str| unread(Some(version), settings).unwrap_or_default();
        assert!(told((2, 1), "version = 3\n").contains("use_local_image_pull = true"));
        assert!(told((2, 0), "").contains("io.containerd.cri.v1.images"));
        assert!(told((1, 6), "# config_path = x").contains("io.containerd.grpc.v1.cri"));
        let with = |plugin: &str, path: &str| format!("[plugins.'{plugin}'.registry]\n  config_path = '{path}'\n");
        let (old, new) = ("io.containerd.grpc.v1.cri", "io.containerd.cri.v1.images");
        for path in ["/etc/containerd/certs.d", "/etc/containerd/certs.d:/etc/docker/certs.d"] {
            assert_eq!(told((1, 6), &with(old, path)), "");
            assert_eq!(told((2, 1), &with(new, path)), "");
        }
        // What `containerd config default` writes, and what another service reads.
        assert_ne!(told((1, 6), &with(old, "")), "");
        assert_ne!(
            told(
                (2, 1),
                &with("io.containerd.transfer.v1.local", "/etc/containerd/certs.d")
            ),
            ""
        );
        assert_eq!(unread(None, ""), None);
    }
}
