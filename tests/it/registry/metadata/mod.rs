//! Metadata in a database: what only it has, the import, the GitLab API.

mod database;
mod gitlab;
mod import;
mod rename;
