//! What other registries had to mend, as scenarios, named by what is seen.

mod import;
mod lists;
mod repair;
mod requests;
mod uploads;
