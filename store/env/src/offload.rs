use futures::future::BoxFuture;

/// Where blocking work runs: a bounded pool of threads, or, under simulation, in place.
pub trait Offload: Send + Sync + 'static {
    /// Resolves once `work` has run.
    fn run(&self, work: Box<dyn FnOnce() + Send>) -> BoxFuture<'static, ()>;

    /// True if there are real threads: short work may then run where it is asked for, and work that never ends may
    /// keep a thread of its own. Under simulation neither is so.
    fn has_threads(&self) -> bool {
        false
    }
}
