//! The storage of the images.

use super::finding::{Finding, Verdict};
use super::scene::Scene;
use super::storage;
use crate::sys::usage;

/// From how few free bytes on the user is told: a large layer fills that.
const LOW: u64 = 1 << 30;

/// Looks whether the storage is there, and has room.
pub fn check(scene: &Scene) -> Verdict {
    let config = match scene.registry() {
        Ok(config) => config,
        Err(verdict) => return verdict,
    };
    let Some(path) = config.registry_storage_path() else {
        return Verdict::Skipped("the images are in no directory".to_owned());
    };
    if let Some((what, remedy)) = storage::missing(config) {
        return Verdict::Found(vec![Finding::problem("storage-gone", what).by_hand(remedy)]);
    }
    let Some(there) = path.ancestors().find(|path| path.exists()) else {
        return Verdict::Unknown(format!("nothing of {path} exists"));
    };
    let space = match usage::space(there) {
        Ok(space) => space,
        Err(error) => return Verdict::Unknown(format!("{there}: {error}")),
    };
    let free = indicatif::BinaryBytes(space.free);
    let collect = ["registry", "garbage-collect", "--dry-run"];
    let found = if space.is_read_only && !config.registry_read_only() {
        Finding::problem(
            "storage-read-only",
            format!("{path} is on a file system that is mounted read-only"),
        )
        .why("pushes fail, pulls go on")
        .by_hand("mount it for writing, then: kdk restart registry")
    } else if space.has_no_files_left {
        Finding::problem("storage-full", format!("the file system of {path} has no inodes left")).suggest(&collect)
    } else if space.is_full() {
        Finding::problem("storage-full", format!("{free} are free for {path}")).suggest(&collect)
    } else if space.free < LOW {
        Finding::warning("storage-low", format!("{free} are free for {path}")).suggest(&collect)
    } else {
        return Verdict::Healthy;
    };
    Verdict::Found(vec![found])
}
