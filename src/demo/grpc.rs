//! Just enough gRPC for unary calls: the frame around a message, and the status after it.

use bytes::{BufMut, Bytes, BytesMut};
use http::{HeaderMap, HeaderValue};

/// `OK`.
pub(super) const OK: i32 = 0;
/// `UNIMPLEMENTED`.
pub(super) const UNIMPLEMENTED: i32 = 12;
/// `INTERNAL`.
pub(super) const INTERNAL: i32 = 13;
/// `UNAVAILABLE`.
pub(super) const UNAVAILABLE: i32 = 14;

/// The media type.
pub(super) const CONTENT_TYPE: &str = "application/grpc";

/// The one message that all methods of the shop take and give.
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct Note {
    /// What it is about.
    #[prost(string, tag = "1")]
    pub(super) text: String,
}

/// Why bytes are not one gRPC message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum BadFrame {
    /// Less than the five bytes before a message.
    #[error("a gRPC frame has 5 bytes before its message, got {0} in all")]
    Short(usize),
    /// Compressed, which was not offered.
    #[error("compressed gRPC messages are not understood")]
    Compressed,
    /// Cut, or more than one message.
    #[error("the gRPC frame announces {announced} bytes and has {present}")]
    Length {
        /// By its head.
        announced: usize,
        /// In fact.
        present: usize,
    },
}

/// `message` in its frame.
pub(super) fn frame(message: &[u8]) -> Bytes {
    let mut framed = BytesMut::with_capacity(5 + message.len());
    framed.put_u8(0);
    framed.put_u32(message.len() as u32);
    framed.put_slice(message);
    framed.freeze()
}

/// The one message in `framed`.
pub(super) fn unframe(framed: &[u8]) -> Result<&[u8], BadFrame> {
    let Some((head, message)) = framed.split_first_chunk::<5>() else {
        return Err(BadFrame::Short(framed.len()));
    };
    if head[0] != 0 {
        return Err(BadFrame::Compressed);
    }
    let announced = u32::from_be_bytes([head[1], head[2], head[3], head[4]]) as usize;
    if announced != message.len() {
        return Err(BadFrame::Length { announced, present: message.len() });
    }
    Ok(message)
}

/// The trailers (or, where there is no message, headers) of a call that ended with `status`.
pub(super) fn trailers(status: i32, message: &str) -> HeaderMap {
    let mut map = HeaderMap::new();
    map.insert("grpc-status", HeaderValue::from(status));
    let printable: String = message.chars().filter(|c| (' '..='~').contains(c) && *c != '%').collect();
    if let Ok(message) = HeaderValue::from_str(&printable)
        && !printable.is_empty()
    {
        map.insert("grpc-message", message);
    }
    map
}

/// The status of a call in its trailers or headers, if there is one.
pub(super) fn status_in(map: &HeaderMap) -> Option<i32> {
    map.get("grpc-status")?.to_str().ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn broken_frames_are_named() {
        assert_eq!(unframe(&[0, 0]), Err(BadFrame::Short(2)));
        assert_eq!(unframe(&[1, 0, 0, 0, 0]), Err(BadFrame::Compressed));
        assert_eq!(unframe(&[0, 0, 0, 0, 2, 7]), Err(BadFrame::Length { announced: 2, present: 1 }));
        assert_eq!(unframe(&[0, 0, 0, 0, 0, 7]), Err(BadFrame::Length { announced: 0, present: 1 }));
    }

    #[test]
    fn a_status_is_read_back() {
        assert_eq!(status_in(&trailers(UNAVAILABLE, "bank says 50% \n no")), Some(UNAVAILABLE));
        assert_eq!(status_in(&HeaderMap::new()), None);
    }

    #[test]
    fn messages_survive_their_frame_and_no_bytes_make_it_panic() {
        let mut rng = fastrand::Rng::with_seed(1);
        for length in 0..200 {
            let bytes: Vec<u8> = std::iter::repeat_with(|| rng.u8(..)).take(length).collect();
            assert_eq!(unframe(&frame(&bytes)), Ok(bytes.as_slice()));
            let cut = frame(&bytes).slice(..length);
            assert!(unframe(&cut).is_err() || length >= 5 + bytes.len());
            let _ = unframe(&bytes);
        }
    }
}
