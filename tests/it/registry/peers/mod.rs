//! What other registries had to mend, as scenarios, named by what is seen.

mod collection;
mod events;
mod import;
mod lists;
mod manifests;
mod repair;
mod requests;
mod tokens;
mod uploads;
