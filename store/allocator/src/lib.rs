//! jemalloc for binaries that serve, and for the simulator, which it makes faster: Rust code of a binary that names this
//! crate allocates with it.
//!
//! glibc's allocator keeps what was freed in the arenas of many threads; jemalloc gives it back by itself. It does
//! not take the place of `malloc`: RocksDB keeps glibc's, since libfaketime and a jemalloc called `malloc` wait for
//! each other for ever when a process starts, and the chaos suite moves clocks by libfaketime.
//! A crate of its own, so that the tests, which do not name it, are without.

#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

/// Lets a background thread give unused memory back to the system. Call it in a process that serves, after
/// everything that needs a single thread. Returns whether the allocator agreed; nothing depends on it.
pub fn purge_in_background() -> bool {
    tikv_jemalloc_ctl::background_thread::write(true).is_ok()
}
