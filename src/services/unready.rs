//! Why a service could not even be tried.

use camino::Utf8PathBuf;

use super::postgresql;

/// Why a service could not even be tried.
#[derive(Debug, thiserror::Error)]
pub enum Unready {
    /// Nothing was rendered yet.
    #[error("{name} has no configuration yet: {file} does not exist")]
    NoConfiguration {
        /// The service.
        name: String,
        /// The file.
        file: Utf8PathBuf,
    },
    /// The configuration cannot be read.
    #[error("cannot read {file}: {reason}")]
    Unreadable {
        /// The file.
        file: Utf8PathBuf,
        /// Why.
        reason: String,
    },
    /// PostgreSQL cannot be run.
    #[error(transparent)]
    Postgresql(#[from] postgresql::PostgresqlError),
    /// There is no directory to run it in.
    #[error("{name} cannot run: {reason}")]
    NoDirectory {
        /// The service.
        name: String,
        /// Why.
        reason: String,
    },
    /// There is no engine for an image.
    #[error("registry.image needs {engine}, which is not on the PATH")]
    NoEngine {
        /// Which.
        engine: String,
    },
    /// An engine does not do what it should.
    #[error("{engine} cannot run registry.image: {reason}")]
    Engine {
        /// Which.
        engine: &'static str,
        /// What it says.
        reason: String,
    },
    /// An engine does not have the image.
    #[error("{engine} has no image {image} (registry.image)")]
    NoImage {
        /// Which engine.
        engine: &'static str,
        /// The image.
        image: String,
    },
    /// An engine could not get the image.
    #[error("{engine} has no image {image} (registry.image), and cannot pull it: {reason}")]
    NotPulled {
        /// Which engine.
        engine: &'static str,
        /// The image.
        image: String,
        /// What it says.
        reason: String,
    },
    /// The program is not there.
    #[error("{name} cannot run: {program} does not exist or is no program")]
    NoProgram {
        /// The service.
        name: String,
        /// The program.
        program: String,
        /// Log of the build that should have made it.
        log: Option<Utf8PathBuf>,
    },
}
