//! Kills, and disks without room.

mod full;
mod mounts;
mod storm;
mod table;
