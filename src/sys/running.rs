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

#[cfg(target_os = "linux")]
mod platform {
    pub(super) fn all() -> Vec<i32> {
        let entries = std::fs::read_dir("/proc").into_iter().flatten().flatten();
        entries
            .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
            .collect()
    }
}

#[cfg(not(target_os = "linux"))]
mod platform {
    pub(super) fn all() -> Vec<i32> {
        let output = std::process::Command::new("ps").args(["-axo", "pid="]).output();
        let text = output.map(|output| output.stdout).unwrap_or_default();
        String::from_utf8_lossy(&text)
            .split_whitespace()
            .filter_map(|pid| pid.parse().ok())
            .collect()
    }
}
