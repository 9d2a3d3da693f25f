use std::{
    future::Future,
    pin::Pin,
    task::{Context, Poll},
};

pub use madsim::time::{error, sleep, sleep_until, Duration, Instant, Sleep};

/// A future with an end, as tokio's: the future is asked first.
pub struct Timeout<F> {
    future: Pin<Box<F>>,
    end: Pin<Box<Sleep>>,
}

impl<F: Future> Future for Timeout<F> {
    type Output = Result<F::Output, error::Elapsed>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        if let Poll::Ready(output) = self.future.as_mut().poll(cx) {
            return Poll::Ready(Ok(output));
        }
        self.end.as_mut().poll(cx).map(|()| Err(error::Elapsed))
    }
}

pub fn timeout<F: Future>(duration: Duration, future: F) -> Timeout<F> {
    Timeout { future: Box::pin(future), end: Box::pin(sleep(duration)) }
}

pub fn timeout_at<F: Future>(deadline: Instant, future: F) -> Timeout<F> {
    Timeout { future: Box::pin(future), end: Box::pin(sleep_until(deadline)) }
}
