//! Bodies of requests and answers.

use std::convert::Infallible;

use bytes::{Bytes, BytesMut};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full, LengthLimitError, Limited};

use crate::api::Status;

/// Any error of a body.
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;
/// A body, whatever is behind it.
pub type Body = UnsyncBoxBody<Bytes, BoxError>;

/// Bodies of requests may have this many bytes.
pub(super) const LIMIT: usize = 3 << 20;

/// A body that is there already.
pub(super) fn full(bytes: impl Into<Bytes>) -> Body {
    Full::new(bytes.into()).map_err(|never: Infallible| match never {}).boxed_unsync()
}

/// No body.
pub(super) fn empty() -> Body {
    full(Bytes::new())
}

/// Reads a request's body.
///
/// # Errors
/// 413 if it is too large, 400 if the connection fails.
pub(super) async fn read(body: Body) -> Result<Bytes, Status> {
    let mut body = Limited::new(body, LIMIT);
    let mut first: Option<Bytes> = None;
    let mut all = BytesMut::new();
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|error| match error.downcast_ref::<LengthLimitError>() {
            Some(_) => Status::request_entity_too_large(LIMIT),
            None => Status::bad_request(format!("the request's body could not be read: {error}")),
        })?;
        let Ok(data) = frame.into_data() else { continue };
        match first.take() {
            None if all.is_empty() => first = Some(data),
            None => all.extend_from_slice(&data),
            Some(before) => {
                all.extend_from_slice(&before);
                all.extend_from_slice(&data);
            }
        }
    }
    // Most bodies come in one piece, which is not copied.
    Ok(first.unwrap_or_else(|| all.freeze()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use http_body_util::StreamBody;

    fn pieces(pieces: Vec<&'static [u8]>) -> Body {
        let frames = pieces.into_iter().map(|p| Ok(http_body::Frame::data(Bytes::from_static(p))));
        StreamBody::new(futures::stream::iter(frames)).boxed_unsync()
    }

    #[tokio::test]
    async fn pieces_are_joined() {
        assert_eq!(read(empty()).await.unwrap(), "");
        assert_eq!(read(pieces(vec![b"a"])).await.unwrap(), "a");
        assert_eq!(read(pieces(vec![b"a", b"b", b"c"])).await.unwrap(), "abc");
    }

    #[tokio::test]
    async fn large_bodies_are_refused() {
        let status = read(full(vec![0; LIMIT + 1])).await.unwrap_err();
        assert_eq!(status.code, 413);
    }
}
