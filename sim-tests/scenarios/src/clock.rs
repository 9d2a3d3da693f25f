use std::cell::Cell;

thread_local! {
    static LAST_US: Cell<u64> = const { Cell::new(0) };
}

/// The time on the client host, in microseconds: the one clock of all clients. Each moment is later than the
/// one before, although the virtual clock stands still between two awaits.
pub fn moment_us() -> u64 {
    let now_us = turmoil::sim_elapsed().unwrap_or_default().as_micros() as u64;
    LAST_US.with(|last| {
        last.set(now_us.max(last.get() + 1));
        last.get()
    })
}
