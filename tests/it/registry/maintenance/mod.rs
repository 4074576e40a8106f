//! Collections.

mod garbage;
