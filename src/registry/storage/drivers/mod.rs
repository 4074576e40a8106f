//! The drivers: a folder and a line each.

pub mod filesystem;
pub mod object;

use std::io;

use self::filesystem::Filesystem;
use self::object::Objects;
use super::driver::Driver as _;

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

            pub(super) fn settle(&self) -> io::Result<()> {
                match self {
                    $(Self::$name(driver) => driver.settle(),)*
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
