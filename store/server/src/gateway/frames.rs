use bytes::{Buf, BufMut, Bytes, BytesMut};
use http_body::Body;
use http_body_util::BodyExt;
use tonic::{Code, Status};

/// A flag (never compressed) and the length, before each message of a gRPC body.
const HEAD_BYTES: usize = 5;

/// Puts a message into the form of a gRPC body.
pub(super) fn frame(message: &[u8]) -> Bytes {
    let mut framed = BytesMut::with_capacity(HEAD_BYTES + message.len());
    framed.put_u8(0);
    // A message is far below 4 GiB: requests are bounded before they come here.
    framed.put_u32(u32::try_from(message.len()).unwrap_or(u32::MAX));
    framed.put_slice(message);
    framed.freeze()
}

/// The messages of a gRPC answer.
pub(super) struct Frames<B> {
    body: B,
    buffer: BytesMut,
    status: Option<Status>,
}

impl<B> Frames<B>
where
    B: Body<Data = Bytes> + Unpin,
    B::Error: std::fmt::Display,
{
    pub fn new(body: B) -> Self {
        Self { body, buffer: BytesMut::new(), status: None }
    }

    /// The next message; `None` when the answer ended well.
    ///
    /// # Errors
    /// The call's status, if it is not `OK`.
    pub async fn next(&mut self) -> Result<Option<Bytes>, Status> {
        loop {
            if let Some(message) = self.take() {
                return Ok(Some(message));
            }
            match self.body.frame().await {
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(data) => self.buffer.extend_from_slice(&data),
                    Err(frame) => {
                        let trailers = frame.into_trailers().unwrap_or_default();
                        self.status = Status::from_header_map(&trailers);
                    }
                },
                Some(Err(error)) => return Err(Status::unknown(error.to_string())),
                None => {
                    return match self.status.take() {
                        Some(status) if status.code() != Code::Ok => Err(status),
                        _ => Ok(None),
                    }
                }
            }
        }
    }

    fn take(&mut self) -> Option<Bytes> {
        let mut head = self.buffer.get(..HEAD_BYTES)?;
        head.advance(1);
        let length = usize::try_from(head.get_u32()).ok()?;
        self.buffer.get(HEAD_BYTES..HEAD_BYTES.checked_add(length)?)?;
        self.buffer.advance(HEAD_BYTES);
        Some(self.buffer.split_to(length).freeze())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn messages_are_found_wherever_the_body_is_cut() {
        let whole: Bytes = [frame(b"one"), frame(b""), frame(b"three")].concat().into();
        for cut in 0..whole.len() {
            let parts =
                [whole.slice(..cut), whole.slice(cut..)].map(|part| Ok::<_, Status>(http_body::Frame::data(part)));
            let body = http_body_util::StreamBody::new(futures::stream::iter(parts));
            let mut frames = Frames::new(body);
            let mut found = Vec::new();
            while let Some(message) = frames.next().await.unwrap() {
                found.push(message);
            }
            assert_eq!(found, [Bytes::from("one"), Bytes::new(), Bytes::from("three")]);
        }
    }
}
