//! Connections: accepted, secured, and served over HTTP/1.1 or HTTP/2.

use std::sync::Arc;

use http_body_util::BodyExt;
use hyper::{body::Incoming, service::service_fn, Request};
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    server::{conn::auto, graceful::GracefulShutdown},
};
use keelstone_env::{BoxedIo, Listener, TlsAcceptor, TlsStream};
use tokio::{
    sync::{watch, Semaphore},
    time::timeout,
};

use crate::{
    constants::{
        CONNECTIONS_MAX, HANDSHAKE_TIMEOUT, HEADER_READ_TIMEOUT, KEEP_ALIVE_INTERVAL, KEEP_ALIVE_TIMEOUT,
        SHUTDOWN_TIMEOUT, STREAMS_PER_CONNECTION_MAX,
    },
    serve::{serve, Caller},
    state::State,
};

/// Accepts connections until `stop` says true, then gives open requests a moment to end.
pub async fn run(
    state: Arc<State>,
    listener: Box<dyn Listener>,
    tls: Option<Arc<dyn TlsAcceptor>>,
    mut stop: watch::Receiver<bool>,
) {
    let places = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    let graceful = Arc::new(std::sync::Mutex::new(Some(GracefulShutdown::new())));
    loop {
        let Ok(place) = places.clone().acquire_owned().await else {
            return;
        };
        let accepted = tokio::select! {
            biased;
            _ = stop.wait_for(|stopping| *stopping) => break,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((io, _peer)) => {
                let (state, tls, graceful) = (state.clone(), tls.clone(), graceful.clone());
                let env = state.env.clone();
                env.spawn(async move {
                    connection(state, io, tls, &graceful).await;
                    drop(place);
                });
            }
            Err(error) => {
                tracing::warn!(%error, "a connection could not be accepted");
                tokio::time::sleep(std::time::Duration::from_millis(100)).await;
            }
        }
    }
    drop(listener);
    let graceful = graceful.lock().unwrap_or_else(std::sync::PoisonError::into_inner).take();
    if let Some(graceful) = graceful {
        // Watches do not end by themselves: their connections are dropped after this time.
        let _ = timeout(SHUTDOWN_TIMEOUT, graceful.shutdown()).await;
    }
}

async fn connection(
    state: Arc<State>,
    io: BoxedIo,
    tls: Option<Arc<dyn TlsAcceptor>>,
    graceful: &std::sync::Mutex<Option<GracefulShutdown>>,
) {
    let stream = match tls {
        None => TlsStream { io, peer: None, alpn: None },
        Some(tls) => match timeout(HANDSHAKE_TIMEOUT, tls.accept(io)).await {
            Ok(Ok(stream)) => stream,
            Ok(Err(error)) => return tracing::debug!(%error, "TLS handshake failed"),
            Err(_) => return tracing::debug!("TLS handshake took too long"),
        },
    };
    let mut stop = state.stop.subscribe();
    let caller = Caller::Connection { certificate: stream.peer };
    let service = service_fn(move |request: Request<Incoming>| {
        let (state, caller) = (state.clone(), caller.clone());
        async move {
            let request = request.map(|body| body.map_err(Into::into).boxed_unsync());
            Ok::<_, std::convert::Infallible>(serve(state, caller, request).await)
        }
    });
    let mut builder = auto::Builder::new(TokioExecutor::new());
    // A Date header would read the machine's clock behind the back of `Env`.
    builder.http1().auto_date_header(false).timer(TokioTimer::new()).header_read_timeout(HEADER_READ_TIMEOUT);
    builder
        .http2()
        .auto_date_header(false)
        .timer(TokioTimer::new())
        .max_concurrent_streams(STREAMS_PER_CONNECTION_MAX)
        .keep_alive_interval(KEEP_ALIVE_INTERVAL)
        .keep_alive_timeout(KEEP_ALIVE_TIMEOUT);
    let connection = builder.serve_connection_with_upgrades(TokioIo::new(stream.io), service).into_owned();
    let watched = {
        let graceful = graceful.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        match &*graceful {
            Some(graceful) => graceful.watch(connection),
            None => return,
        }
    };
    let ended_by_force = async {
        // An error means that the server is gone, which ends its connections as well.
        let _ = stop.wait_for(|stopping| *stopping).await;
        tokio::time::sleep(SHUTDOWN_TIMEOUT).await;
    };
    tokio::select! {
        biased;
        outcome = watched => if let Err(error) = outcome {
            tracing::debug!(%error, "connection ended");
        },
        () = ended_by_force => {}
    }
}
