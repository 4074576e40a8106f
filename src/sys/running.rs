//! Processes by name.

/// Returns the processes with a name, oldest first.
pub fn named(name: &str) -> Vec<i32> {
    let mut found: Vec<i32> = platform::all()
        .into_iter()
        .filter(|pid| super::process::name_of(*pid).as_deref() == Some(name))
        .collect();
    found.sort_unstable();
    found
}

/// Returns the processes with a name, of a user, that see the files of this
/// machine as this process does, oldest first.
pub fn of_this_machine(name: &str, user: u32) -> Vec<i32> {
    let mut found = named(name);
    found.retain(|pid| platform::is_of(*pid, user));
    found
}

#[cfg(target_os = "linux")]
mod platform {
    use std::os::unix::fs::MetadataExt as _;

    pub(super) fn is_of(pid: i32, user: u32) -> bool {
        let mounts = |pid: &str| std::fs::read_link(format!("/proc/{pid}/ns/mnt"));
        let owner = std::fs::metadata(format!("/proc/{pid}")).map(|metadata| metadata.uid());
        // One that may not be looked at is taken for what it seems.
        let is_here = mounts(&pid.to_string()).map_or(true, |there| mounts("self").is_ok_and(|own| own == there));
        owner.is_ok_and(|owner| owner == user) && (is_here || user != 0)
    }

    pub(super) fn all() -> Vec<i32> {
        let entries = std::fs::read_dir("/proc").into_iter().flatten().flatten();
        entries
            .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
            .collect()
    }
}

#[cfg(not(target_os = "linux"))]
mod platform {
    pub(super) fn is_of(pid: i32, user: u32) -> bool {
        let output = std::process::Command::new("ps")
            .args(["-o", "uid=", "-p", &pid.to_string()])
            .output();
        let text = output.map(|output| output.stdout).unwrap_or_default();
        String::from_utf8_lossy(&text).trim().parse() == Ok(user)
    }

    pub(super) fn all() -> Vec<i32> {
        let output = std::process::Command::new("ps").args(["-axo", "pid="]).output();
        let text = output.map(|output| output.stdout).unwrap_or_default();
        String::from_utf8_lossy(&text)
            .split_whitespace()
            .filter_map(|pid| pid.parse().ok())
            .collect()
    }
}

/// Returns the ids of the user and of the group that this process acts as.
pub fn ids() -> (u64, u64) {
    (
        nix::unistd::geteuid().as_raw().into(),
        nix::unistd::getegid().as_raw().into(),
    )
}
