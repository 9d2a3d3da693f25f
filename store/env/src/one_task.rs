//! One task for a connection and for all calls that came over it.
//!
//! With a task for each call, a call that is answered wakes the connection's task, which writes that one answer: a
//! system call, and often a switch of threads, for each. Here the calls whose answers are ready are run first, then
//! the connection, then what all of them said goes to the socket at once:
//!
//! ```text
//! woken by three calls:  call 1, call 2, call 3 | connection: three answers into the buffer | one write
//! ```
//!
//! A call must not keep its thread for long: it would hold up the others of its connection.

use std::{
    future::Future,
    io,
    pin::Pin,
    sync::{
        atomic::{AtomicBool, AtomicU8, Ordering},
        Arc, Mutex, MutexGuard, PoisonError,
    },
    task::{ready, Context, Poll, Wake, Waker},
};

use bytes::{Buf, BytesMut};
use futures::{future::BoxFuture, stream::FuturesUnordered, task::AtomicWaker, Stream};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::BoxedIo;

/// Bytes that wait for the write at the end of a turn; more are written before it.
pub const UNWRITTEN_BYTES_MAX: usize = 32 << 10;
/// Times that calls and connection are run in turn before other tasks are let in.
const ROUNDS_MAX: usize = 16;

/// Splits a connection's bytes into what its protocol reads and writes, and what runs it: give `Calls` to the
/// protocol as the executor of its calls, and the protocol's future to [`Turns::run`].
pub fn one_task(io: BoxedIo) -> (GatheredIo, Calls, Turns) {
    let shared = Arc::new(Mutex::new(Gathered::new(io)));
    let signal = Arc::new(Signal { state: AtomicU8::new(REST), task: AtomicWaker::new() });
    let calls = Calls { new: Arc::new(Mutex::new(Some(Vec::new()))), signal };
    let turns = Turns { io: Arc::clone(&shared), calls: calls.clone() };
    (GatheredIo { shared }, calls, turns)
}

/// The executor of a connection's calls, and of whatever lives as long as the connection.
#[derive(Clone)]
pub struct Calls {
    /// Those that no round has seen yet; `None` once the connection has ended. (A call may hold its executor: what
    /// stayed here would keep itself alive.)
    new: Arc<Mutex<Option<Vec<BoxFuture<'static, ()>>>>>,
    signal: Arc<Signal>,
}

impl Calls {
    /// Runs `call` in the connection's task, until the connection ends: then it is dropped.
    pub fn spawn(&self, call: impl Future<Output = ()> + Send + 'static) {
        let mut new = self.lock();
        let Some(new) = &mut *new else { return };
        new.push(Box::pin(call));
        self.signal.wake_by_ref();
    }

    fn lock(&self) -> MutexGuard<'_, Option<Vec<BoxFuture<'static, ()>>>> {
        self.new.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<F: Future<Output = ()> + Send + 'static> hyper::rt::Executor<F> for Calls {
    fn execute(&self, call: F) {
        self.spawn(call);
    }
}

struct Gathered {
    io: BoxedIo,
    unwritten: BytesMut,
    /// Something was written that a flush has not followed.
    unflushed: bool,
    /// Why the last turn's bytes could not be written; the next one to read or write is told.
    failed: Option<io::Error>,
}

impl Gathered {
    fn new(io: BoxedIo) -> Self {
        Self { io, unwritten: BytesMut::new(), unflushed: false, failed: None }
    }

    fn poll_empty(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.unwritten.is_empty() {
            let count = ready!(Pin::new(&mut self.io).poll_write(cx, &self.unwritten))?;
            if count == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.unwritten.advance(count);
            self.unflushed = true;
        }
        Poll::Ready(Ok(()))
    }

    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_empty(cx))?;
        if self.unflushed {
            ready!(Pin::new(&mut self.io).poll_flush(cx))?;
            self.unflushed = false;
        }
        Poll::Ready(Ok(()))
    }

    fn poll_write(&mut self, cx: &mut Context<'_>, parts: &[io::IoSlice<'_>]) -> Poll<io::Result<usize>> {
        if let Some(error) = self.failed.take() {
            return Poll::Ready(Err(error));
        }
        let count = parts.iter().map(|part| part.len()).sum::<usize>();
        if self.unwritten.len() + count > UNWRITTEN_BYTES_MAX {
            ready!(self.poll_empty(cx))?;
            if count > UNWRITTEN_BYTES_MAX {
                self.unflushed = true;
                return Pin::new(&mut self.io).poll_write_vectored(cx, parts);
            }
        }
        parts.iter().for_each(|part| self.unwritten.extend_from_slice(part));
        Poll::Ready(Ok(count))
    }
}

/// The bytes of a connection, as its protocol sees them: what it writes is kept until its turn ends.
pub struct GatheredIo {
    shared: Arc<Mutex<Gathered>>,
}

fn lock(shared: &Mutex<Gathered>) -> MutexGuard<'_, Gathered> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

impl AsyncRead for GatheredIo {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let mut gathered = lock(&self.shared);
        match gathered.failed.take() {
            Some(error) => Poll::Ready(Err(error)),
            None => Pin::new(&mut gathered.io).poll_read(cx, buffer),
        }
    }
}

impl AsyncWrite for GatheredIo {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, data: &[u8]) -> Poll<io::Result<usize>> {
        lock(&self.shared).poll_write(cx, &[io::IoSlice::new(data)])
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        parts: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        lock(&self.shared).poll_write(cx, parts)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    /// Left to the end of the turn.
    fn poll_flush(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut gathered = lock(&self.shared);
        ready!(gathered.poll_empty(cx))?;
        Pin::new(&mut gathered.io).poll_shutdown(cx)
    }
}

/// Runs a connection and its calls.
pub struct Turns {
    io: Arc<Mutex<Gathered>>,
    calls: Calls,
}

impl Turns {
    /// Runs `connection` until it ends; its calls end with it.
    pub fn run<C: Future>(self, connection: C) -> OneTask<C> {
        let signal = Arc::clone(&self.calls.signal);
        let source = Arc::new(Source { woken: AtomicBool::new(true), signal: Arc::clone(&signal) });
        OneTask {
            connection: Box::pin(connection),
            connection_waker: Waker::from(Arc::clone(&source)),
            source,
            running: FuturesUnordered::new(),
            turns: self,
            signal_waker: Waker::from(Arc::clone(&signal)),
            signal,
        }
    }
}

/// A connection with its calls, as one future.
pub struct OneTask<C> {
    connection: Pin<Box<C>>,
    connection_waker: Waker,
    source: Arc<Source>,
    running: FuturesUnordered<BoxFuture<'static, ()>>,
    turns: Turns,
    signal: Arc<Signal>,
    signal_waker: Waker,
}

impl<C> OneTask<C> {
    /// The connection, which is run again once this was used.
    pub fn connection(&mut self) -> Pin<&mut C> {
        self.source.wake_by_ref();
        self.connection.as_mut()
    }
}

impl<C> Drop for OneTask<C> {
    fn drop(&mut self) {
        let never_begun = self.turns.calls.lock().take();
        drop(never_begun);
    }
}

impl<C: Future> OneTask<C> {
    /// Runs what was woken, once; the connection's end if it has ended.
    fn round(&mut self) -> Poll<C::Output> {
        let calls = &mut Context::from_waker(&self.signal_waker);
        let new = self.turns.calls.lock().as_mut().map(std::mem::take);
        self.running.extend(new.into_iter().flatten());
        while let Poll::Ready(Some(())) = Pin::new(&mut self.running).poll_next(calls) {}
        if self.source.woken.swap(false, Ordering::AcqRel) {
            return self.connection.as_mut().poll(&mut Context::from_waker(&self.connection_waker));
        }
        Poll::Pending
    }

    /// Writes what the rounds of this turn said. A full socket wakes the connection when it has room again.
    fn write(&mut self) {
        let mut gathered = lock(&self.turns.io);
        if let Poll::Ready(Err(error)) = gathered.poll_flush(&mut Context::from_waker(&self.connection_waker)) {
            gathered.unwritten.clear();
            gathered.failed = Some(error);
            self.source.wake_by_ref();
        }
    }
}

impl<C: Future> Future for OneTask<C> {
    type Output = C::Output;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<C::Output> {
        let this = &mut *self;
        this.signal.task.register(cx.waker());
        for _ in 0..ROUNDS_MAX {
            this.signal.begin();
            if let Poll::Ready(end) = this.round() {
                return Poll::Ready(end);
            }
            if this.signal.rest() {
                this.write();
                return Poll::Pending;
            }
            if !tokio::task::coop::has_budget_remaining() {
                break;
            }
        }
        this.write();
        cx.waker().wake_by_ref();
        Poll::Pending
    }
}

/// Nothing was woken since the last round.
const REST: u8 = 0;
/// A round is under way.
const RUNNING: u8 = 1;
/// Something was woken, and whoever runs rounds is told or sees it.
const WOKEN: u8 = 2;

/// Wakes the task unless it is running anyway.
struct Signal {
    state: AtomicU8,
    task: AtomicWaker,
}

impl Signal {
    fn begin(&self) {
        self.state.swap(RUNNING, Ordering::AcqRel);
    }

    /// False if something was woken since [`Signal::begin`].
    fn rest(&self) -> bool {
        self.state.compare_exchange(RUNNING, REST, Ordering::AcqRel, Ordering::Acquire).is_ok()
    }
}

impl Wake for Signal {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        if self.state.swap(WOKEN, Ordering::AcqRel) == REST {
            self.task.wake();
        }
    }
}

/// What wakes the connection, as against a call.
struct Source {
    woken: AtomicBool,
    signal: Arc<Signal>,
}

impl Wake for Source {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.woken.store(true, Ordering::Release);
        self.signal.wake_by_ref();
    }
}
