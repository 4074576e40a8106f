//! Real container clients against a real root, in a namespace of its own.
//!
//! The walkthroughs of the user document, in its order, with its names.

mod applied;
mod image;
mod matrix;
mod nginx;
mod setup;
mod trust;
mod walkthroughs;
