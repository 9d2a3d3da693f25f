//! Unary calls over HTTP/2 with as little work as will do: what the generator costs is shared by both systems and
//! hides how far they are apart.
//!
//! What it leaves out is what the rows do not need: headers of answers are not decoded, so that a call has failed if
//! no message came; requests fit in one frame. Requests that are made together leave in one write.

use std::{
    cell::RefCell,
    collections::BTreeMap,
    io,
    rc::{Rc, Weak},
};

use bytes::{Buf, BufMut, Bytes, BytesMut};
use prost::Message;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{
        tcp::{OwnedReadHalf, OwnedWriteHalf},
        TcpStream,
    },
    sync::{oneshot, Notify},
};

use crate::{
    constants::{CONNECTION_WINDOW_BYTES, STREAM_WINDOW_BYTES},
    Failure, Outcome,
};

/// HTTP/2's first bytes (RFC 9113, 3.4).
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
const FRAME_HEAD_BYTES: usize = 9;
const READ_BYTES: usize = 64 << 10;
/// What a frame may hold if nobody said more, and both windows before anybody said so (RFC 9113, 4.2 and 6.9.2).
const FRAME_BYTES_MAX: usize = 16_384;
const WINDOW_BYTES_DEFAULT: u32 = 65_535;
/// Whether the message is compressed, and its length.
const MESSAGE_HEAD_BYTES: usize = 5;

/// Frame types and flags (RFC 9113, 6).
const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const GOAWAY: u8 = 7;
const WINDOW_UPDATE: u8 = 8;
const ACK: u8 = 1;
const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;
const PADDED: u8 = 8;
const INITIAL_WINDOW_SIZE: u16 = 4;

/// The first index of the dynamic table, and static ones (RFC 7541, 2.3.3 and appendix A).
const DYNAMIC: usize = 62;
const AUTHORITY: u8 = 1;
const POST: u8 = 0x83;
const PATH: u8 = 4;
const HTTP: u8 = 0x86;
const CONTENT_TYPE: u8 = 31;

/// One connection; calls on it run side by side.
#[derive(Clone)]
pub struct Unary {
    state: Rc<RefCell<State>>,
    /// There is something to write.
    work: Rc<Notify>,
    /// Something was read: the window may have grown.
    room: Rc<Notify>,
}

struct Call {
    answer: BytesMut,
    reply: oneshot::Sender<Outcome<Bytes>>,
}

/// A header that does not change from call to call.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Field {
    Authority,
    Path(&'static str),
    ContentType,
    Trailers,
}

#[derive(Default)]
struct State {
    /// Frames that were not written yet.
    out: BytesMut,
    calls: BTreeMap<u32, Call>,
    streams: u32,
    authority: String,
    /// What the server's dynamic table has, oldest first.
    sent: Vec<Field>,
    send_window: i64,
    received_bytes: u32,
    closed: bool,
}

impl Unary {
    pub async fn open(port: u16) -> io::Result<Self> {
        let stream = TcpStream::connect(("127.0.0.1", port)).await?;
        stream.set_nodelay(true)?;
        let mut state = State {
            authority: format!("127.0.0.1:{port}"),
            send_window: WINDOW_BYTES_DEFAULT.into(),
            ..State::default()
        };
        state.out.put_slice(PREFACE);
        state.frame(SETTINGS, 0, 0, 6);
        state.out.put_u16(INITIAL_WINDOW_SIZE);
        state.out.put_u32(STREAM_WINDOW_BYTES);
        state.window_update(CONNECTION_WINDOW_BYTES - WINDOW_BYTES_DEFAULT);
        let this = Self { state: Rc::new(RefCell::new(state)), work: Rc::default(), room: Rc::default() };
        let (reads, writes) = stream.into_split();
        let (work, room) = (Rc::clone(&this.work), Rc::clone(&this.room));
        tokio::task::spawn_local(read_all(reads, Rc::downgrade(&this.state), Rc::clone(&work), room));
        tokio::task::spawn_local(write_all(writes, Rc::downgrade(&this.state), work));
        Ok(this)
    }

    /// Calls a method, such as `/etcdserverpb.KV/Put`.
    pub async fn call<M: Message + Default>(&self, path: &'static str, request: &impl Message) -> Outcome<M> {
        let bytes = MESSAGE_HEAD_BYTES + request.encoded_len();
        if bytes > FRAME_BYTES_MAX {
            return Err(Failure::Failed("the request does not fit in a frame".into()));
        }
        while !self.state.borrow().closed && self.state.borrow().send_window < bytes as i64 {
            self.room.notified().await;
        }
        let (reply, answer) = oneshot::channel();
        self.state.borrow_mut().begin(path, request, bytes, reply)?;
        self.work.notify_one();
        let mut answer = answer.await.map_err(|_| closed())??;
        if answer.len() < MESSAGE_HEAD_BYTES {
            return Err(Failure::Failed(format!("{path} was refused")));
        }
        answer.advance(MESSAGE_HEAD_BYTES);
        M::decode(answer).map_err(|error| Failure::Failed(error.to_string()))
    }
}

fn closed() -> Failure {
    Failure::Failed("the connection is closed".into())
}

impl State {
    fn frame(&mut self, kind: u8, flags: u8, stream: u32, bytes: usize) {
        self.out.put_uint(bytes as u64, 3);
        self.out.put_u8(kind);
        self.out.put_u8(flags);
        self.out.put_u32(stream);
    }

    fn window_update(&mut self, bytes: u32) {
        self.frame(WINDOW_UPDATE, 0, 0, 4);
        self.out.put_u32(bytes);
    }

    fn begin(
        &mut self,
        path: &'static str,
        request: &impl Message,
        bytes: usize,
        reply: oneshot::Sender<Outcome<Bytes>>,
    ) -> Outcome<()> {
        if self.closed {
            return Err(closed());
        }
        // Clients' streams have odd numbers.
        let stream = 2 * self.streams + 1;
        self.streams += 1;
        self.calls.insert(stream, Call { answer: BytesMut::new(), reply });
        let headers = self.headers(path);
        self.frame(HEADERS, END_HEADERS, stream, headers.len());
        self.out.put_slice(&headers);
        self.frame(DATA, END_STREAM, stream, bytes);
        self.out.put_u8(0);
        self.out.put_u32((bytes - MESSAGE_HEAD_BYTES) as u32);
        request.encode(&mut self.out).map_err(|error| Failure::Failed(error.to_string()))?;
        self.send_window -= bytes as i64;
        Ok(())
    }

    /// The headers of a call: what was sent before by its index, as other clients do.
    fn headers(&mut self, path: &'static str) -> Vec<u8> {
        let mut block = vec![POST, HTTP];
        for field in [Field::Authority, Field::Path(path), Field::ContentType, Field::Trailers] {
            // The newest entry has the lowest index.
            if let Some(back) = self.sent.iter().rev().position(|sent| *sent == field) {
                block.push(0x80 | (DYNAMIC + back) as u8);
                continue;
            }
            match field {
                Field::Authority => literal(&mut block, AUTHORITY, self.authority.as_bytes()),
                Field::Path(path) => literal(&mut block, PATH, path.as_bytes()),
                Field::ContentType => literal(&mut block, CONTENT_TYPE, b"application/grpc"),
                Field::Trailers => {
                    block.extend([0x40, 2, b't', b'e', 8]);
                    block.extend(b"trailers");
                }
            }
            self.sent.push(field);
        }
        block
    }

    fn end(&mut self, stream: u32, outcome: impl FnOnce(Bytes) -> Outcome<Bytes>) {
        if let Some(call) = self.calls.remove(&stream) {
            // Whoever asked may be gone.
            let _ = call.reply.send(outcome(call.answer.freeze()));
        }
    }

    /// Takes all whole frames out of what was read.
    fn take_frames(&mut self, read: &mut BytesMut) {
        while read.len() >= FRAME_HEAD_BYTES {
            let bytes = (&read[..3]).get_uint(3) as usize;
            if read.len() < FRAME_HEAD_BYTES + bytes {
                read.reserve(bytes);
                return;
            }
            let head = read.split_to(FRAME_HEAD_BYTES);
            let stream = (&head[5..]).get_u32() & 0x7fff_ffff;
            self.take_frame(head[3], head[4], stream, read.split_to(bytes));
        }
    }

    fn take_frame(&mut self, kind: u8, flags: u8, stream: u32, mut body: BytesMut) {
        match kind {
            DATA => {
                self.received_bytes += body.len() as u32;
                if self.received_bytes > CONNECTION_WINDOW_BYTES / 2 {
                    let received = std::mem::take(&mut self.received_bytes);
                    self.window_update(received);
                }
                if flags & PADDED != 0 {
                    let padding = body.get_u8() as usize;
                    body.truncate(body.len().saturating_sub(padding));
                }
                if let Some(call) = self.calls.get_mut(&stream) {
                    call.answer.unsplit(body);
                }
            }
            RST_STREAM => self.end(stream, |_| Err(Failure::Failed("the call was reset".into()))),
            SETTINGS if flags & ACK == 0 => self.frame(SETTINGS, ACK, 0, 0),
            PING if flags & ACK == 0 => {
                self.frame(PING, ACK, 0, body.len());
                self.out.put_slice(&body);
            }
            GOAWAY => self.closed = true,
            WINDOW_UPDATE if stream == 0 => self.send_window += i64::from(body.get_u32()),
            _ => {}
        }
        if matches!(kind, DATA | HEADERS) && flags & END_STREAM != 0 {
            self.end(stream, Ok);
        }
    }
}

/// A header whose name the static table has, which the server is to remember (RFC 7541, 6.2.1).
fn literal(block: &mut Vec<u8>, name: u8, value: &[u8]) {
    block.push(0x40 | name);
    // Shorter than 127, so that the length is one byte, not Huffman-coded.
    block.push(value.len() as u8);
    block.extend(value);
}

/// Writes what is to be written, until nobody has the connection any longer.
async fn write_all(mut socket: OwnedWriteHalf, state: Weak<RefCell<State>>, work: Rc<Notify>) {
    loop {
        let Some(out) = state.upgrade().map(|state| state.borrow_mut().out.split()) else { return };
        if out.is_empty() {
            work.notified().await;
        } else if socket.write_all(&out).await.is_err() {
            // The reader sees why.
            return;
        }
    }
}

/// Reads until the connection ends, and then ends its calls.
async fn read_all(mut socket: OwnedReadHalf, state: Weak<RefCell<State>>, work: Rc<Notify>, room: Rc<Notify>) {
    let mut read = BytesMut::new();
    let why = loop {
        read.reserve(READ_BYTES);
        match socket.read_buf(&mut read).await {
            Ok(0) => break "the server closed the connection".to_owned(),
            Ok(_) => {}
            Err(error) => break error.to_string(),
        }
        let Some(state) = state.upgrade() else { return };
        let mut state = state.borrow_mut();
        state.take_frames(&mut read);
        if !state.out.is_empty() {
            work.notify_one();
        }
        room.notify_waiters();
    };
    let Some(state) = state.upgrade() else { return };
    let mut state = state.borrow_mut();
    state.closed = true;
    for (_, call) in std::mem::take(&mut state.calls) {
        // Whoever asked may be gone.
        let _ = call.reply.send(Err(Failure::Failed(why.clone())));
    }
    room.notify_waiters();
    work.notify_one();
}

#[cfg(test)]
mod tests {
    use keelstone_etcd_api::pb;
    use tokio::net::TcpListener;

    use super::*;

    fn data(stream: u32, flags: u8, body: &[u8]) -> Vec<u8> {
        let mut state = State::default();
        state.frame(DATA, flags, stream, body.len());
        state.out.put_slice(body);
        state.out.to_vec()
    }

    fn message(answer: &impl Message) -> Vec<u8> {
        let mut out = vec![0];
        out.put_u32(answer.encoded_len() as u32);
        out.extend(answer.encode_to_vec());
        out
    }

    /// Runs calls beside a server that writes `answers` once it has read something.
    async fn with_server<T>(answers: Vec<u8>, calls: impl AsyncFnOnce(Unary) -> T) -> T {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let serve = async {
            let (mut socket, _) = listener.accept().await.unwrap();
            let mut seen = [0; 4096];
            let count = socket.read(&mut seen).await.unwrap();
            assert!(seen[..count].starts_with(PREFACE));
            socket.write_all(&answers).await.unwrap();
            while socket.read(&mut seen).await.unwrap_or(0) > 0 {}
        };
        let calls = async { calls(Unary::open(port).await.unwrap()).await };
        let local = tokio::task::LocalSet::new();
        local
            .run_until(async {
                tokio::select! { biased; _ = serve => panic!("the client went first"), end = calls => end }
            })
            .await
    }

    const PUT: &str = "/etcdserverpb.KV/Put";

    #[tokio::test]
    async fn answers_in_any_order_and_pieces_find_their_calls() {
        let answer = |revision| {
            message(&pb::PutResponse {
                header: Some(pb::ResponseHeader { revision, ..Default::default() }),
                ..Default::default()
            })
        };
        let (first, second) = (answer(7), answer(8));
        let answers =
            [data(3, END_STREAM, &second), data(1, 0, &first[..6]), data(1, END_STREAM, &first[6..])].concat();
        let found = with_server(answers, async |unary| {
            let request = pb::PutRequest { key: "a".into(), ..Default::default() };
            let calls = [unary.call::<pb::PutResponse>(PUT, &request), unary.call(PUT, &request)];
            futures::future::try_join_all(calls).await.unwrap()
        });
        let revisions = found.await.into_iter().map(|answer| answer.header.unwrap().revision);
        assert_eq!(revisions.collect::<Vec<_>>(), [7, 8]);
    }

    #[tokio::test]
    async fn a_call_without_a_message_and_one_that_is_too_large_fail() {
        let mut refused = State::default();
        refused.frame(HEADERS, END_STREAM | END_HEADERS, 1, 1);
        refused.out.put_u8(POST);
        with_server(refused.out.to_vec(), async |unary| {
            let request = pb::PutRequest { value: vec![0; FRAME_BYTES_MAX].into(), ..Default::default() };
            assert!(unary.call::<pb::PutResponse>(PUT, &request).await.is_err());
            assert!(unary.call::<pb::PutResponse>(PUT, &pb::PutRequest::default()).await.is_err());
        })
        .await;
    }
}
