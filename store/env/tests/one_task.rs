//! A connection and its calls in one task: what is ready together is written together, nothing is lost at any size,
//! a broken socket ends the connection, and whoever goes away takes the calls along.

use std::{
    convert::Infallible,
    io,
    pin::Pin,
    sync::{
        atomic::{AtomicUsize, Ordering::SeqCst},
        Arc,
    },
    task::{Context, Poll},
};

use bytes::Bytes;
use futures::future::{join_all, BoxFuture};
use http::{Request, Response};
use http_body_util::{BodyExt, Full};
use hyper::{body::Incoming, client::conn::http2 as client, server::conn::http2 as server, service::service_fn};
use hyper_util::rt::{TokioExecutor, TokioIo};
use keelstone_env::{one_task, BoxedIo, Env, Io, UNWRITTEN_BYTES_MAX};
use tokio::{
    io::{duplex, AsyncRead, AsyncWrite, DuplexStream, ReadBuf},
    sync::{oneshot, Semaphore},
};

/// Counts writes, and fails those after `broken_after`.
struct Counted {
    io: DuplexStream,
    writes: Arc<AtomicUsize>,
    broken_after: usize,
}

impl AsyncRead for Counted {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_read(cx, buffer)
    }
}

impl AsyncWrite for Counted {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, data: &[u8]) -> Poll<io::Result<usize>> {
        if self.writes.load(SeqCst) >= self.broken_after {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        }
        let written = Pin::new(&mut self.io).poll_write(cx, data);
        self.writes.fetch_add(usize::from(written.is_ready()), SeqCst);
        written
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}

/// Serves `io` with `answer` until it ends.
fn serve(
    io: impl Io,
    answer: impl Fn(Request<Incoming>) -> BoxFuture<'static, Bytes> + Send + Sync + Clone + 'static,
) -> tokio::task::JoinHandle<hyper::Result<()>> {
    let (io, calls, turns) = one_task(Box::new(io) as BoxedIo);
    let service = service_fn(move |request| {
        let answer = answer(request);
        async move { Ok::<_, Infallible>(Response::new(Full::new(answer.await))) }
    });
    let connection = server::Builder::new(calls).serve_connection(TokioIo::new(io), service);
    Env::os().spawn(turns.run(connection))
}

async fn connect(io: DuplexStream) -> client::SendRequest<Full<Bytes>> {
    let (sender, connection) =
        client::Builder::new(TokioExecutor::new()).handshake(TokioIo::new(io)).await.expect("a connection");
    drop(Env::os().spawn(connection));
    sender
}

async fn ask(mut sender: client::SendRequest<Full<Bytes>>, body: Bytes) -> hyper::Result<Bytes> {
    let request = Request::post("http://test/").body(Full::new(body)).expect("a request");
    Ok(sender.send_request(request).await?.into_body().collect().await?.to_bytes())
}

#[tokio::test]
async fn answers_that_are_ready_together_are_written_together() {
    const CALLS: usize = 50;
    let (near, far) = duplex(1 << 20);
    let writes = Arc::new(AtomicUsize::new(0));
    let (gate, waiting) = (Arc::new(Semaphore::new(0)), Arc::new(AtomicUsize::new(0)));
    let (held, came) = (Arc::clone(&gate), Arc::clone(&waiting));
    let io = Counted { io: far, writes: Arc::clone(&writes), broken_after: usize::MAX };
    serve(io, move |_| {
        let (held, came) = (Arc::clone(&held), Arc::clone(&came));
        Box::pin(async move {
            came.fetch_add(1, SeqCst);
            drop(held.acquire().await);
            // More than fits beside a frame's head without a write of its own.
            vec![b'x'; 400].into()
        })
    });
    let sender = connect(near).await;
    let calls = Env::os().spawn(join_all((0..CALLS).map(|_| ask(sender.clone(), Bytes::new()))));
    while waiting.load(SeqCst) < CALLS {
        tokio::task::yield_now().await;
    }
    let before = writes.load(SeqCst);
    gate.add_permits(CALLS);
    for answer in calls.await.expect("the calls end") {
        assert_eq!(answer.expect("an answer").len(), 400);
    }
    let count = writes.load(SeqCst) - before;
    assert!(count < CALLS / 5, "{CALLS} answers took {count} writes");
}

#[tokio::test]
async fn nothing_is_lost_at_any_size_through_a_narrow_socket() {
    let (near, far) = duplex(700);
    serve(far, |request| Box::pin(async { request.into_body().collect().await.expect("a body").to_bytes() }));
    let sender = connect(near).await;
    let sizes = [0, 1, 255, 257, UNWRITTEN_BYTES_MAX - 1, UNWRITTEN_BYTES_MAX + 1, 5 * UNWRITTEN_BYTES_MAX];
    let bodies = sizes.map(|size| Bytes::from((0..size).map(|n| (n % 251) as u8).collect::<Vec<_>>()));
    let answers = join_all(bodies.iter().map(|body| ask(sender.clone(), body.clone()))).await;
    for (answer, body) in answers.into_iter().zip(bodies) {
        assert!(answer.expect("an answer") == body, "{} bytes", body.len());
    }
}

#[tokio::test]
async fn a_socket_that_breaks_at_the_end_of_a_turn_ends_the_connection() {
    let (near, far) = duplex(1 << 20);
    let writes = Arc::new(AtomicUsize::new(0));
    // The settings and their acknowledgement go through; the answer does not.
    let io = Counted { io: far, writes, broken_after: 2 };
    let served = serve(io, |_| Box::pin(async { Bytes::from_static(b"lost") }));
    let sender = connect(near).await;
    let mut lost = false;
    for _ in 0..3 {
        lost |= ask(sender.clone(), Bytes::new()).await.is_err();
    }
    assert!(lost);
    served.await.expect("no panic").expect_err("the connection broke");
}

#[tokio::test]
async fn calls_end_with_their_connection() {
    let (near, far) = duplex(1 << 16);
    let (alive, ended) = oneshot::channel::<()>();
    let alive = Arc::new(std::sync::Mutex::new(Some(alive)));
    serve(far, move |_| {
        let mine = alive.lock().expect("no panic").take();
        Box::pin(async move {
            std::future::pending::<()>().await;
            drop(mine);
            Bytes::new()
        })
    });
    let sender = connect(near).await;
    let call = Env::os().spawn(ask(sender.clone(), Bytes::new()));
    for _ in 0..100 {
        tokio::task::yield_now().await;
    }
    drop(sender);
    call.abort();
    ended.await.expect_err("the call was dropped, not answered");
}

#[tokio::test]
async fn calls_that_were_never_begun_end_with_their_connection() {
    let (_near, far) = duplex(1 << 16);
    let (_io, calls, turns) = one_task(Box::new(far) as BoxedIo);
    let connection = turns.run(std::future::pending::<()>());
    let (ends, ended) = oneshot::channel::<()>();
    let (held, late) = (calls.clone(), calls.clone());
    calls.spawn(async move { drop((held, ends)) });
    drop((connection, calls));
    ended.await.expect_err("it was dropped though it holds its executor");
    let (ends, ended) = oneshot::channel::<()>();
    late.spawn(async move { drop(ends) });
    ended.await.expect_err("nothing runs any longer");
}
