//! Kills, and disks without room.

mod full;
mod storm;
mod table;
