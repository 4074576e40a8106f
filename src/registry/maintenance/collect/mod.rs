//! A collection of garbage: what is reachable is marked, the rest is swept.

mod collection;
mod graph;
mod inspect;
mod mark;
mod run;
mod sweep;

pub use collection::Collection;
pub use run::collect;
