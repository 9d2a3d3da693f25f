use std::{
    io,
    pin::Pin,
    sync::{
        atomic::{AtomicBool, Ordering::Relaxed},
        Arc, Mutex, Weak,
    },
    task::{Context, Poll},
};

use futures::task::AtomicWaker;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use turmoil::net::TcpStream;

/// The open connections of one host, so that they can be reset in mid-stream.
#[derive(Clone, Default)]
pub struct Connections(Arc<Mutex<Open>>);

/// The peer of each, and what cuts it.
type Open = Vec<(String, Weak<Cut>)>;

#[derive(Default)]
struct Cut {
    reset: AtomicBool,
    reader: AtomicWaker,
    writer: AtomicWaker,
}

impl Connections {
    /// A connection with this host at its other end.
    pub(crate) fn open(&self, peer: &str, inner: TcpStream) -> Connection {
        let cut = Arc::new(Cut::default());
        let mut all = self.0.lock().expect("no panic while locked");
        all.retain(|(_, cut)| cut.strong_count() > 0);
        all.push((peer.to_owned(), Arc::downgrade(&cut)));
        Connection { inner, cut }
    }

    /// Every open connection with this host fails at once with "connection reset"; what was received and not
    /// yet read is lost. Returns how many there were.
    pub fn reset(&self, peer: &str) -> usize {
        let all = self.0.lock().expect("no panic while locked");
        let open = all.iter().filter(|(name, _)| name == peer).filter_map(|(_, cut)| cut.upgrade());
        open.map(|cut| {
            cut.reset.store(true, Relaxed);
            cut.reader.wake();
            cut.writer.wake();
        })
        .count()
    }
}

/// FNV-1a over words of eight bytes, the last one filled up.
fn sum(data: &[u8]) -> u64 {
    data.chunks(8).fold(0xcbf2_9ce4_8422_2325, |sum, chunk| {
        let mut word = [0; 8];
        word[..chunk.len()].copy_from_slice(chunk);
        (sum ^ u64::from_le_bytes(word)).wrapping_mul(0x0100_0000_01b3).rotate_left(23)
    })
}

/// turmoil's stream, which can be reset.
pub(crate) struct Connection {
    inner: TcpStream,
    cut: Arc<Cut>,
}

impl Connection {
    fn check(&self) -> io::Result<()> {
        if self.cut.reset.load(Relaxed) {
            return Err(io::ErrorKind::ConnectionReset.into());
        }
        Ok(())
    }
}

impl AsyncRead for Connection {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        self.check()?;
        self.cut.reader.register(cx.waker());
        Pin::new(&mut self.inner).poll_read(cx, buffer)
    }
}

impl AsyncWrite for Connection {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, data: &[u8]) -> Poll<io::Result<usize>> {
        self.check()?;
        self.cut.writer.register(cx.waker());
        let written = Pin::new(&mut self.inner).poll_write(cx, data);
        if let Poll::Ready(Ok(bytes)) = written {
            // For the event hash, which does not read turmoil's text of a segment.
            tracing::trace!(bytes, sum = sum(&data[..bytes]), "written");
        }
        written
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.check()?;
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.check()?;
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }
}
