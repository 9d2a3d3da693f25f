use bytes::{Bytes, BytesMut};
use futures::Stream;
use http_body_util::{combinators::UnsyncBoxBody, BodyExt, Empty, Full, StreamBody};
use hyper::body::Frame;
use keelstone_machinery::status::{ApiResult, ApiStatus};

use crate::constants::REQUEST_BYTES_MAX;

pub type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// A request's or response's body, which may arrive in pieces.
pub type Body = UnsyncBoxBody<Bytes, BoxError>;

/// A body that is all there.
pub fn full(bytes: impl Into<Bytes>) -> Body {
    Full::new(bytes.into()).map_err(|never| match never {}).boxed_unsync()
}

pub fn empty() -> Body {
    Empty::new().map_err(|never| match never {}).boxed_unsync()
}

/// A body made piece by piece; it ends when the stream ends.
pub fn streaming(pieces: impl Stream<Item = Bytes> + Send + 'static) -> Body {
    use futures::StreamExt;
    StreamBody::new(pieces.map(|bytes| Ok(Frame::data(bytes)))).boxed_unsync()
}

/// Reads a request's body.
///
/// # Errors
/// 413 if it is larger than [`REQUEST_BYTES_MAX`]; 400 if the client broke off.
pub async fn read(mut body: Body) -> ApiResult<Bytes> {
    use hyper::body::Body as _;
    let too_large = || ApiStatus::too_large(&format!("limit is {REQUEST_BYTES_MAX}"));
    if body.size_hint().lower() > REQUEST_BYTES_MAX as u64 {
        return Err(too_large());
    }
    let mut read = BytesMut::new();
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|error| ApiStatus::bad_request(format!("the body could not be read: {error}")))?;
        if let Ok(data) = frame.into_data() {
            if read.len() + data.len() > REQUEST_BYTES_MAX {
                return Err(too_large());
            }
            read.extend_from_slice(&data);
        }
    }
    Ok(read.freeze())
}

/// Reads a whole answer, however large.
///
/// # Errors
/// 500 if it broke off.
pub async fn collect(body: Body) -> ApiResult<Bytes> {
    let collected = body.collect().await.map_err(|error| ApiStatus::internal(error.to_string()))?;
    Ok(collected.to_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_body_of_the_largest_size_is_read_and_one_byte_more_is_not() {
        let body =
            |size: usize| streaming(futures::stream::iter([Bytes::from(vec![b'x'; size - 1]), Bytes::from("x")]));
        assert_eq!(read(body(REQUEST_BYTES_MAX)).await.unwrap().len(), REQUEST_BYTES_MAX);
        assert_eq!(read(body(REQUEST_BYTES_MAX + 1)).await.unwrap_err().code, 413);
        assert_eq!(read(full(vec![0; REQUEST_BYTES_MAX + 1])).await.unwrap_err().code, 413);
    }
}
