//! A repository of a registry's source code, to be cloned and built.

use std::path::Path;
use std::process::Command;

use super::Output;

/// What it builds writes down how it was called, and is a registry.
const MAKEFILE: &str = "VERSION ?= unknown\nSUFFIX =\n\nbin/registry: Makefile\n\tmkdir -p bin\n\tprintf '#!/bin/sh\\necho \"$$@\" >> registry-calls\\nREGISTRY_LOG_FIELDS_VERSION=$(VERSION)$(SUFFIX) exec %s registry \"$$@\"\\n' 'KDK' > $@\n\tchmod +x $@\n";

/// Makes a repository with a branch `registry_dev`, whose build yields a
/// registry that says which version it is. `kdk` is what the build wraps.
pub fn repository(directory: &Path, kdk: &str) {
    std::fs::create_dir_all(directory).expect("made");
    git(directory, &["init", "--quiet"]);
    std::fs::write(directory.join("Makefile"), MAKEFILE.replace("KDK", kdk)).expect("written");
    git(directory, &["add", "."]);
    git(directory, &["commit", "--quiet", "-m", "first"]);
    git(directory, &["branch", "registry_dev"]);
}

pub fn git(directory: &Path, arguments: &[&str]) -> String {
    let mut command = Command::new("git");
    command
        .args([
            "-c",
            "user.name=t",
            "-c",
            "user.email=t@example.org",
            "-c",
            "init.defaultBranch=main",
        ])
        .args(arguments)
        .current_dir(directory);
    Output::of(&mut command).ok().trim().to_owned()
}
