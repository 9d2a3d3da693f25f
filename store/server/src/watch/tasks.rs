use std::{
    future::Future,
    sync::{
        atomic::{AtomicI64, Ordering::Relaxed},
        Arc,
    },
};

use http::Extensions;
use keelstone_env::{Calls, Env};

use crate::{member::Member, metrics::Metrics};

/// Where a stream and its watches run: in the task of their connection, so that what many watches say at once is one
/// wake-up and one write, or, without one, in tasks of their own.
#[derive(Clone)]
pub(crate) enum Tasks {
    OfConnection(Calls),
    OfTheirOwn(Env),
}

impl Tasks {
    pub fn of(request: &Extensions, env: &Env) -> Self {
        match request.get::<Calls>() {
            Some(calls) => Self::OfConnection(calls.clone()),
            None => Self::OfTheirOwn(env.clone()),
        }
    }

    /// Runs `task`, which is dropped if its connection ends before it.
    pub fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        match self {
            Self::OfConnection(calls) => calls.spawn(task),
            Self::OfTheirOwn(env) => drop(env.spawn(task)),
        }
    }
}

/// Counts one more in a gauge for as long as it lives.
pub(super) struct Counted {
    member: Arc<Member>,
    gauge: fn(&Metrics) -> &AtomicI64,
}

impl Counted {
    pub fn new(member: &Arc<Member>, gauge: fn(&Metrics) -> &AtomicI64) -> Self {
        gauge(&member.metrics).fetch_add(1, Relaxed);
        Self { member: Arc::clone(member), gauge }
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        (self.gauge)(&self.member.metrics).fetch_sub(1, Relaxed);
    }
}
