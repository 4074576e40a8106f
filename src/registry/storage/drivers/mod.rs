//! The drivers: a folder and a line each.

pub mod filesystem;
pub mod object;

use self::filesystem::Filesystem;
use self::object::Objects;

/// One of the drivers.
#[derive(Clone, Debug)]
pub enum Drivers {
    /// Files on a local disk.
    Filesystem(Filesystem),
    /// Objects in a store.
    Objects(Objects),
}

/// Passes a call on to whichever driver it is, and waits for it.
macro_rules! pass {
    ($drivers:expr, $call:ident($($argument:expr),*)) => {
        match $drivers {
            $crate::registry::storage::drivers::Drivers::Filesystem(driver) => driver.$call($($argument),*).await,
            $crate::registry::storage::drivers::Drivers::Objects(driver) => driver.$call($($argument),*).await,
        }
    };
}
pub(super) use pass;
