//! From link files to the database: GitLab's three steps. (1) Manifests that
//! are tagged, with all that they refer to and all that is attached to them;
//! (2) tags; (3) blobs that nothing refers to, for the collection to remove.
//!
//! Nothing of the files changes, but that content which a database could not
//! find gets one more name. An image that is broken is reported and left
//! out; whatever was done is found done when the import is run again.

mod find;
mod importer;
mod options;
mod run;

pub use importer::Importer;
pub use options::{Event, Options};
