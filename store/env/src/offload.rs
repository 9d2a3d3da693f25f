use futures::future::BoxFuture;

/// Where blocking work runs: a bounded pool of threads, or, under simulation, in place.
pub trait Offload: Send + Sync + 'static {
    /// Resolves once `work` has run.
    fn run(&self, work: Box<dyn FnOnce() + Send>) -> BoxFuture<'static, ()>;
}
