//! A thread in which time, chance and tasks follow a seed: what happens there
//! happens the same way again. Several servers can live in one.
//!
//! Whoever serves asks for these things by `sys::clock`, `sys::random` and
//! `sys::task` alone, which look here first. Outside of debug builds there is
//! no simulation.

#[cfg(debug_assertions)]
pub use real::{Simulation, enter};

/// Returns the time of the simulation that this thread is in.
#[cfg(not(debug_assertions))]
pub(super) fn now() -> Option<(jiff::Timestamp, std::time::Instant)> {
    None
}

/// Fills bytes by the seed of the simulation that this thread is in; says
/// whether it is in one.
#[cfg(not(debug_assertions))]
pub(super) fn fill(_: &mut [u8]) -> bool {
    false
}

/// Says whether this thread is in a simulation.
#[cfg(not(debug_assertions))]
pub(super) fn is_here() -> bool {
    false
}

#[cfg(debug_assertions)]
pub(super) use real::{fill, is_here, now};

#[cfg(debug_assertions)]
mod real {
    use std::cell::RefCell;
    use std::marker::PhantomData;
    use std::time::Instant;

    use jiff::{SignedDuration, Timestamp};

    thread_local! {
        static HERE: RefCell<Option<World>> = const { RefCell::new(None) };
    }

    struct World {
        /// State of the generator (splitmix64).
        random: u64,
        /// When it began, on the runtime's clock, which a test may stop.
        began: tokio::time::Instant,
    }

    /// The time at which every simulation begins.
    const BEGIN: Timestamp = Timestamp::constant(1_767_225_600, 0);

    /// A simulation, until it is dropped: by the same thread.
    pub struct Simulation(PhantomData<*const ()>);

    /// Lets this thread, in which a runtime of one thread runs, follow a seed.
    pub fn enter(seed: u64) -> Simulation {
        let began = tokio::time::Instant::now();
        HERE.with(|here| *here.borrow_mut() = Some(World { random: seed, began }));
        Simulation(PhantomData)
    }

    impl Drop for Simulation {
        fn drop(&mut self) {
            HERE.with(|here| *here.borrow_mut() = None);
        }
    }

    pub fn is_here() -> bool {
        HERE.with(|here| here.borrow().is_some())
    }

    pub fn now() -> Option<(Timestamp, Instant)> {
        HERE.with(|here| {
            let here = here.borrow();
            let now = tokio::time::Instant::now();
            let since = SignedDuration::try_from(now - here.as_ref()?.began).ok()?;
            Some((BEGIN + since, now.into_std()))
        })
    }

    pub fn fill(bytes: &mut [u8]) -> bool {
        HERE.with(|here| {
            let mut here = here.borrow_mut();
            let Some(world) = here.as_mut() else { return false };
            for part in bytes.chunks_mut(8) {
                world.random = world.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
                let mut mixed = world.random;
                mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
                mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
                mixed ^= mixed >> 31;
                part.copy_from_slice(&mixed.to_le_bytes()[..part.len()]);
            }
            true
        })
    }
}
