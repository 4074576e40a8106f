//! The drivers: a folder and a line each.

pub mod filesystem;
pub mod object;

use self::filesystem::Filesystem;
use self::object::Objects;
use super::driver::Driver as _;
use super::lease::{Holder, LeaseError};

/// Makes the closed set of drivers, and `pass!`, which passes a call on to
/// whichever it is and waits for it.
macro_rules! drivers {
    ($dollar:tt $($(#[$doc:meta])* $name:ident,)*) => {
        /// One of the drivers.
        #[derive(Clone, Debug)]
        pub enum Drivers {
            $($(#[$doc])* $name($name),)*
        }

        impl Drivers {
            pub(super) fn bulk(&self) -> Self {
                match self {
                    $(Self::$name(driver) => Self::$name(driver.bulk()),)*
                }
            }

            pub(super) fn lease(&self, holder: &Holder) -> Result<(), LeaseError> {
                match self {
                    $(Self::$name(driver) => driver.lease(holder),)*
                }
            }

            pub(super) fn describe(&self, holder: &Holder) {
                match self {
                    $(Self::$name(driver) => driver.describe(holder),)*
                }
            }

            pub(super) fn release(&self) {
                match self {
                    $(Self::$name(driver) => driver.release(),)*
                }
            }
        }

        macro_rules! pass {
            ($dollar drivers:expr, $dollar call:ident($dollar ($dollar argument:expr),*)) => {
                match $dollar drivers {
                    $($crate::registry::storage::drivers::Drivers::$name(driver) => {
                        driver.$dollar call($dollar ($dollar argument),*).await
                    })*
                }
            };
        }
    };
}

drivers! {$
    /// Files on a local disk.
    Filesystem,
    /// Objects in a store.
    Objects,
}
pub(super) use pass;
