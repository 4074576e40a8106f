//! Collections.

mod damage;
pub mod garbage;
