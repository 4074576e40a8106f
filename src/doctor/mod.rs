//! What keeps a registry from being used, and what helps.
//!
//! Checks run side by side and change nothing. A new one is a file and a line
//! in [`CHECKS`].

mod agreement;
mod certificates;
mod clients;
mod database;
pub mod elsewhere;
mod engines;
pub mod finding;
mod held;
mod limits;
mod links;
mod login;
pub mod logins;
mod lost;
mod names;
mod ports;
pub mod preflight;
pub mod scene;
mod services;
mod settings;
pub mod storage;
mod store;

use finding::Verdict;
use scene::Scene;

/// A check, by its name.
pub type Check = (&'static str, fn(&Scene) -> Verdict);

/// All checks, in the order in which they are shown.
pub const CHECKS: [Check; 15] = [
    ("settings", settings::check),
    ("services", services::check),
    ("ports", ports::check),
    ("names", names::check),
    ("elsewhere", elsewhere::check),
    ("certificates", certificates::check),
    ("login", login::check),
    ("agreement", agreement::check),
    ("clients", clients::check),
    ("engines", engines::check),
    ("storage", store::check),
    ("links", links::check),
    ("database", database::check),
    ("limits", limits::check),
    ("lost", lost::check),
];

/// Runs checks at once; returns what each came to, in their order.
pub fn examine(scene: &Scene, checks: &[Check]) -> Vec<(&'static str, Verdict)> {
    std::thread::scope(|scope| {
        let running: Vec<_> = checks
            .iter()
            .map(|(name, check)| (*name, scope.spawn(|| check(scene))))
            .collect();
        let ended = running.into_iter().map(|(name, check)| {
            let verdict = check.join();
            (
                name,
                verdict.unwrap_or_else(|_| Verdict::Unknown("the check itself failed".to_owned())),
            )
        });
        ended.collect()
    })
}
