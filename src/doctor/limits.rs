//! What the system lets processes have.

use super::finding::{Finding, Verdict};
use super::scene::Scene;
use crate::sys::usage;

/// Open files that a registry under load needs: a few for each connection.
const DESCRIPTORS: u64 = 1024;

/// Looks at limits.
pub fn check(_: &Scene) -> Verdict {
    let most = usage::hard_descriptors();
    if most >= DESCRIPTORS {
        return Verdict::Healthy;
    }
    let found = Finding::warning("few-descriptors", format!("a process may have {most} files open"))
        .why("many connections at once fail")
        .by_hand(format!(
            "ulimit -Hn {DESCRIPTORS}, or raise nofile in /etc/security/limits.conf"
        ));
    Verdict::Found(vec![found])
}
