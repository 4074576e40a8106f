//! What other registries had to mend, as scenarios, named by what is seen.

mod collection;
mod database;
mod events;
mod import;
mod lists;
mod manifests;
mod repair;
mod requests;
mod server;
mod tokens;
mod uploads;
