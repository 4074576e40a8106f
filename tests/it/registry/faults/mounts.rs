//! A storage whose file system is not as it was: mounted read-only, or not at all.

use std::process::Command;

use crate::support::registry::digest;
use crate::support::{Output, TestRegistry, TestRoot, may_skip, temporary, wait};

const READ_ONLY: &str = "299 - \"the registry's storage is read-only: pushes fail, pulls go on\"";

fn config_in(directory: &tempfile::TempDir) -> std::path::PathBuf {
    let config = directory.path().join("config.yml");
    let storage = directory.path().join("storage");
    std::fs::create_dir_all(&storage).expect("made");
    let text = format!(
        "version: 0.1\nstorage: {{filesystem: {{rootdirectory: {}}}}}\nhttp: {{addr: '127.0.0.1:0'}}\n",
        storage.display()
    );
    std::fs::write(&config, text).expect("written");
    config
}

fn warning(registry: &TestRegistry) -> String {
    let answer = registry.get("/v2/");
    assert_eq!(answer.status(), 200);
    let warning = answer.headers().get("warning");
    warning.map_or(String::new(), |value| value.to_str().expect("text").to_owned())
}

#[test]
fn a_storage_mounted_read_only_is_told_and_goes_on_with_pulls() {
    if !nix::unistd::geteuid().is_root() {
        assert!(may_skip(), "mounts need root");
        eprintln!("passed over: mounts need root");
        return;
    }
    let directory = temporary();
    let config = config_in(&directory);
    let storage = directory.path().join("storage").display().to_string();
    let serve = |options: &str, directory: tempfile::TempDir| {
        let own = format!("mount --bind {storage} {storage} && mount -o remount,bind,{options} {storage}");
        let first = format!("exec unshare --mount sh -c '{own} && exec \"$0\" registry serve \"$1\"' \"$0\" \"$1\"");
        TestRegistry::under(&first, directory, &config)
    };
    let mut registry = serve("rw", directory);
    registry.push_image("a/b", "t", "before");
    assert_eq!(warning(&registry), "");
    let pid = registry.pid().to_string();
    let inside = |command: &[&str]| {
        let mut entered = Command::new("nsenter");
        Output::of(entered.args(["--mount", "--target", &pid]).args(command)).ok();
    };
    // What is mounted above it now lets nobody write; what is open stays so.
    inside(&["mount", "-o", "bind,ro", &storage, &storage]);
    // Before anybody pushes.
    wait("it is told", || (warning(&registry) == READ_ONLY).then_some(()));
    assert_eq!(registry.get("/v2/a/b/manifests/t").status(), 200);
    let path = format!("/v2/a/b/blobs/uploads/?digest={}", digest(b"x"));
    let pushed = registry.request("POST", &path).body("x").send().expect("answered");
    assert_eq!(pushed.status(), 503);
    inside(&["umount", &storage]);
    wait("it is over", || warning(&registry).is_empty().then_some(()));
    registry.push_image("a/b", "t2", "after");
    // And when it was so from the start.
    registry.stop();
    let directory = std::mem::replace(&mut registry.directory, temporary());
    let registry = serve("ro", directory);
    wait("it is told", || (warning(&registry) == READ_ONLY).then_some(()));
    assert_eq!(registry.get("/v2/a/b/manifests/t2").status(), 200);
}

#[test]
fn a_storage_that_is_not_there_any_more_is_told() {
    let directory = temporary();
    let config = config_in(&directory);
    let registry = TestRegistry::on(directory, &config, &[]);
    registry.push_image("a/b", "t", "before");
    let storage = registry.directory.path().join("storage");
    // What is seen of a file system that is not mounted any more: the directory below.
    std::fs::rename(&storage, registry.directory.path().join("aside")).expect("moved");
    std::fs::create_dir(&storage).expect("made");
    let expected = "299 - \"the registry's storage fails or does not answer\"";
    wait("it is told", || (warning(&registry) == expected).then_some(()));
    let reason = registry.wait_for_line(|line| line["error"].as_str().map(str::to_owned));
    assert!(reason.contains("was its file system unmounted?"), "{reason}");
}

/// What is missing is not made anew without a word.
#[test]
fn a_storage_that_is_gone_is_not_replaced_by_an_empty_one() {
    let root = TestRoot::with_registry("  auth_enabled: false\n");
    root.up();
    let registry = TestRegistry::in_root(&root);
    registry.push_image("a/b", "t", "x");
    root.kdk(&["stop"]).ok();
    let (storage, aside) = (root.join("registry/storage"), root.join("aside"));
    std::fs::rename(&storage, &aside).expect("moved");
    let told = format!(
        "the registry's images were in {}, which is gone, or empty now",
        storage.display()
    );
    for command in [&["start"][..], &["restart", "registry"], &["reconfigure"], &["up"]] {
        let refused = root.kdk(command).fails(1);
        assert!(refused.contains(&told), "{command:?}: {refused}");
        assert!(!storage.exists(), "{command:?}");
    }
    // What is below a file system that is not mounted.
    std::fs::create_dir(&storage).expect("made");
    assert!(root.kdk(&["start"]).fails(1).contains(&told));
    std::fs::remove_dir(&storage).expect("removed");
    // Put back, or begun anew.
    std::fs::rename(&aside, &storage).expect("moved back");
    root.kdk(&["start"]).ok();
    assert_eq!(TestRegistry::in_root(&root).get("/v2/a/b/manifests/t").status(), 200);
    root.kdk(&["stop"]).ok();
    std::fs::rename(&storage, &aside).expect("moved");
    std::fs::remove_file(root.join(".kdk/storage.json")).expect("removed");
    root.kdk(&["start"]).ok();
    assert!(storage.exists());
}
