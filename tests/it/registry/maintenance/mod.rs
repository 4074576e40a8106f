//! Collections.

mod damage;
mod garbage;
