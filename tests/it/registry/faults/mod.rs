//! Kills.

mod storm;
