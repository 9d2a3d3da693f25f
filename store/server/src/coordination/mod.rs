//! Locks and elections: who waits is a queue of keys under one prefix, each bound to a lease; the key that was
//! created first has it. Its creation revision grows from owner to owner and so fences off those before.

mod election;
mod lock;
mod queue;

pub(crate) use queue::Waiting;
