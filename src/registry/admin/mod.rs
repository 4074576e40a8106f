//! The verbs beside `serve`: what `registry garbage-collect config.yml` does.

mod access;
mod collect;
mod databases;
mod error;
mod import;
mod report;
mod schema;
mod verify;

pub use collect::garbage_collect;
pub use databases::{create_database, drop_database, may_create_database};
pub use error::CommandError;
pub use import::{Imported, import};
pub use report::{forget_database, misplaced, online_gc, stored_blobs};
pub use schema::{Migrate, migrate, migrations_of, schema_version};
pub use verify::verify;
