use bytes::{Buf, Bytes, BytesMut};
use http_body::Body;
use http_body_util::BodyExt;
use serde::de::IgnoredAny;
use tonic::Status;

/// The JSON values of a request's body, one after the other as they arrive.
pub(super) struct Values<B> {
    body: B,
    /// What has arrived and was not taken yet.
    buffer: BytesMut,
    ended: bool,
    value_bytes_max: usize,
}

impl<B: Body<Data = Bytes> + Unpin> Values<B> {
    /// A value of more than `value_bytes_max` ends the request.
    pub fn new(body: B, value_bytes_max: usize) -> Self {
        Self { body, buffer: BytesMut::new(), ended: false, value_bytes_max }
    }

    /// The text of the next value; `None` at the end of the body.
    ///
    /// # Errors
    /// `InvalidArgument` on what is no JSON, `ResourceExhausted` on a value that is too large, `Cancelled` if
    /// the client went away.
    pub async fn next(&mut self) -> Result<Option<Bytes>, Status> {
        loop {
            if let Some(value) = self.take()? {
                return Ok(Some(value));
            }
            if self.ended {
                // Only white space is left.
                return Ok(None);
            }
            if self.buffer.len() > self.value_bytes_max {
                let (found, max) = (self.buffer.len(), self.value_bytes_max);
                let said = format!("grpc: received message larger than max ({found} vs. {max})");
                return Err(Status::resource_exhausted(said));
            }
            match self.body.frame().await {
                Some(Ok(frame)) => {
                    if let Ok(data) = frame.into_data() {
                        self.buffer.extend_from_slice(&data);
                    }
                }
                Some(Err(_)) => return Err(Status::cancelled("the request's body broke off")),
                None => self.ended = true,
            }
        }
    }

    /// A whole value at the beginning of what has arrived.
    fn take(&mut self) -> Result<Option<Bytes>, Status> {
        let mut values = serde_json::Deserializer::from_slice(&self.buffer).into_iter::<IgnoredAny>();
        match values.next() {
            None => Ok(None),
            Some(Ok(_)) => {
                let end = values.byte_offset();
                let value = self.buffer.split_to(end).freeze();
                Ok(Some(value))
            }
            Some(Err(error)) if error.is_eof() && !self.ended => Ok(None),
            Some(Err(error)) => {
                self.buffer.advance(self.buffer.len());
                Err(Status::invalid_argument(error.to_string()))
            }
        }
    }
}
