//! What the system lets processes have.

use super::finding::{Finding, Verdict};
use super::scene::Scene;
use crate::sys::usage;

/// Open files that a registry under load needs: a few for each connection.
const DESCRIPTORS: u64 = 1024;
/// Files that a real KhulnaSoft watches for changes, as its documents advise.
const WATCHES: u64 = 524_288;

/// Looks at limits.
pub fn check(scene: &Scene) -> Verdict {
    let mut found = Vec::new();
    let most = usage::hard_descriptors();
    if most < DESCRIPTORS {
        found.push(
            Finding::warning("few-descriptors", format!("a process may have {most} files open"))
                .why("many connections at once fail")
                .by_hand(format!(
                    "ulimit -Hn {DESCRIPTORS}, or raise nofile in /etc/security/limits.conf"
                )),
        );
    }
    // kdk itself watches nothing.
    let runs_real = scene
        .config()
        .is_ok_and(|config| config.runs_rails() && config.rails_mode() != "embedded");
    if let Some(watches) = usage::watches().filter(|watches| runs_real && *watches < WATCHES) {
        found.push(
            Finding::warning("few-watches", format!("a user may watch {watches} files (inotify)"))
                .why("a real KhulnaSoft (rails.command) watches its files, and does not see all changes")
                .by_hand(format!("sudo sysctl fs.inotify.max_user_watches={WATCHES}")),
        );
    }
    found.into()
}
