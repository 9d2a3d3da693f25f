//! Thread-local interposition of the two C library calls through which entropy and real time leak in:
//! `getrandom` (RandomState, uuid, crates of the rand family) and `clock_gettime` (HTTP dates, `Instant`).
#![allow(unsafe_code)]

use std::cell::Cell;

use crate::{random::splitmix64, EPOCH_UNIX_S};

/// A monotonic clock that stands still: tokio adds virtual time to it.
const MONOTONIC_S: i64 = 1_000;

thread_local! {
    static ENTROPY: Cell<Option<u64>> = const { Cell::new(None) };
    static CLOCK: Cell<bool> = const { Cell::new(false) };
}

/// While it lives, this thread's entropy comes from the seed and its clocks from the simulation.
pub struct Determinism(());

impl Determinism {
    pub fn start(seed: u64) -> Self {
        ENTROPY.with(|e| e.set(Some(seed)));
        CLOCK.with(|c| c.set(true));
        Self(())
    }
}

impl Drop for Determinism {
    fn drop(&mut self) {
        ENTROPY.with(|e| e.set(None));
        CLOCK.with(|c| c.set(false));
    }
}

/// Stands before the C library's `getrandom`.
///
/// # Safety
/// `buffer` must be valid for `length` bytes, as the C contract says.
#[no_mangle]
#[inline(never)]
pub unsafe extern "C" fn getrandom(buffer: *mut u8, length: usize, flags: u32) -> isize {
    match ENTROPY.try_with(Cell::get).ok().flatten() {
        Some(mut state) => {
            for i in 0..length {
                // SAFETY: the caller gave `length` valid bytes.
                unsafe { *buffer.add(i) = splitmix64(&mut state) as u8 };
            }
            ENTROPY.with(|e| e.set(Some(state)));
            length as isize
        }
        // SAFETY: the caller's arguments are handed on.
        None => unsafe { libc::syscall(libc::SYS_getrandom, buffer, length, flags) as isize },
    }
}

/// Stands before the C library's `clock_gettime`.
///
/// # Safety
/// `time` must be valid for a write, as the C contract says.
#[no_mangle]
#[inline(never)]
pub unsafe extern "C" fn clock_gettime(clock: libc::clockid_t, time: *mut libc::timespec) -> i32 {
    if !CLOCK.try_with(Cell::get).unwrap_or(false) {
        // SAFETY: the caller's arguments are handed on.
        return unsafe { libc::syscall(libc::SYS_clock_gettime, clock, time) as i32 };
    }
    let now = if clock == libc::CLOCK_REALTIME {
        // turmoil may ask for the time itself; that must not come back here.
        CLOCK.with(|c| c.set(false));
        let elapsed = turmoil::sim_elapsed().unwrap_or_default();
        CLOCK.with(|c| c.set(true));
        libc::timespec {
            tv_sec: EPOCH_UNIX_S as i64 + elapsed.as_secs() as i64,
            tv_nsec: i64::from(elapsed.subsec_nanos()),
        }
    } else {
        libc::timespec { tv_sec: MONOTONIC_S, tv_nsec: 0 }
    };
    // SAFETY: the caller gave a valid place.
    unsafe { *time = now };
    0
}
