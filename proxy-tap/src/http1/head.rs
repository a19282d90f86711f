//! Heads of messages: complete, in the one form that the grammar allows, or refused.
//!
//! Stricter than the robustness that RFC 9112 allows a server: lines end with CR LF and nothing else, no line
//! is folded, no space comes before a colon, a length is said once and in one way.

use std::mem::MaybeUninit;

use bytes::{Bytes, BytesMut};
use http::header::{CONNECTION, CONTENT_LENGTH, EXPECT, HOST, TRANSFER_ENCODING, UPGRADE};
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Uri, Version, request, response};
use weir_model::limits;

use super::{Length, Malformed, malformed};

/// A request's head, and what follows from it.
#[derive(Debug)]
pub(crate) struct RequestHead {
    pub(crate) parts: request::Parts,
    pub(crate) length: Length,
    /// Whether the connection may serve another request.
    pub(crate) keep_alive: bool,
    /// Whether the caller waits for a word before it sends the body.
    pub(crate) expects_continue: bool,
}

/// A response's head, and what follows from it.
#[derive(Debug)]
pub(crate) struct ResponseHead {
    pub(crate) parts: response::Parts,
    pub(crate) length: Length,
    pub(crate) keep_alive: bool,
}

/// Where lines end with an empty one; `None` where more is to come. Every LF has to follow a CR: a bare one would keep
/// the end from being found. `seen` is how much was looked at before.
pub(super) fn end(input: &[u8], seen: &mut usize) -> Result<Option<usize>, Malformed> {
    while let Some(at) = memchr::memchr(b'\n', &input[*seen..]) {
        let end = *seen + at + 1;
        let lines = &input[..end];
        if !lines.ends_with(b"\r\n") {
            return Err(malformed("line feed without carriage return"));
        }
        if lines.ends_with(b"\r\n\r\n") {
            return Ok(Some(end));
        }
        *seen = end;
    }
    *seen = input.len();
    Ok(None)
}

/// Takes a request's head from `input`; `None` where more is to come. `seen` starts at 0 for each head.
pub(crate) fn request(input: &mut BytesMut, seen: &mut usize) -> Result<Option<RequestHead>, Malformed> {
    // Empty lines before a request line are allowed (RFC 9112 section 2.2).
    while input.starts_with(b"\r\n") {
        let _ = input.split_to(2);
        *seen = 0;
    }
    let Some(raw) = take(input, seen)? else { return Ok(None) };
    let mut headers = [const { MaybeUninit::uninit() }; limits::HEADERS];
    let mut parsed = httparse::Request::new(&mut []);
    let complete = parsed.parse_with_uninit_headers(&raw, &mut headers).map_err(|error| match error {
        // Where the line has other than three words, it is not the version that is wrong.
        httparse::Error::Version if words(&raw) != 3 => malformed("bad request line"),
        error => refused(error),
    })?;
    let (Some(method), Some(target), Some(minor)) = (parsed.method, parsed.path, parsed.version) else {
        return Err(malformed("incomplete request line"));
    };
    if complete.is_partial() {
        return Err(malformed("incomplete head"));
    }
    let version = if minor == 0 { Version::HTTP_10 } else { Version::HTTP_11 };
    let method = Method::from_bytes(method.as_bytes()).map_err(|_| malformed("bad method"))?;
    let target = Uri::from_maybe_shared(raw.slice_ref(target.as_bytes()))
        .map_err(|_| malformed("bad request target"))?;
    let (headers, framing) = map(&raw, parsed.headers)?;
    let (length, keep_alive) = (framing.request_length(version)?, framing.keep_alive(&headers, version));
    framing.check_host(version)?;
    let expects_continue = version == Version::HTTP_11
        && framing.expect.is_some_and(|value| value.eq_ignore_ascii_case(b"100-continue"));
    let (mut parts, ()) = http::Request::new(()).into_parts();
    (parts.method, parts.uri, parts.version, parts.headers) = (method, target, version, headers);
    Ok(Some(RequestHead { parts, length, keep_alive, expects_continue }))
}

/// Takes the head of the response to a request with this method from `input`; `None` where more is to come.
pub(crate) fn response(
    input: &mut BytesMut,
    seen: &mut usize,
    method: &Method,
) -> Result<Option<ResponseHead>, Malformed> {
    let Some(raw) = take(input, seen)? else { return Ok(None) };
    let mut headers = [const { MaybeUninit::uninit() }; limits::HEADERS];
    let mut parsed = httparse::Response::new(&mut []);
    let config = httparse::ParserConfig::default();
    let complete = config.parse_response_with_uninit_headers(&mut parsed, &raw, &mut headers);
    let complete = complete.map_err(refused)?;
    let (Some(status), Some(minor)) = (parsed.code, parsed.version) else {
        return Err(malformed("incomplete status line"));
    };
    let status = StatusCode::from_u16(status).map_err(|_| malformed("bad status"))?;
    if complete.is_partial() {
        return Err(malformed("incomplete head"));
    }
    let version = if minor == 0 { Version::HTTP_10 } else { Version::HTTP_11 };
    let (headers, framing) = map(&raw, parsed.headers)?;
    let length = framing.response_length(status, method)?;
    let keep_alive = framing.keep_alive(&headers, version) && length != Length::UntilClose;
    let (mut parts, ()) = http::Response::new(()).into_parts();
    (parts.status, parts.version, parts.headers) = (status, version, headers);
    Ok(Some(ResponseHead { parts, length, keep_alive }))
}

/// The bytes of a whole head.
fn take(input: &mut BytesMut, seen: &mut usize) -> Result<Option<Bytes>, Malformed> {
    let end = end(input, seen)?;
    if end.unwrap_or(input.len()) > limits::HEADER_BYTES {
        return Err(Malformed { status: 431, reason: "head too large" });
    }
    let Some(end) = end else { return Ok(None) };
    *seen = 0;
    Ok(Some(input.split_to(end).freeze()))
}

fn refused(error: httparse::Error) -> Malformed {
    match error {
        httparse::Error::TooManyHeaders => Malformed { status: 431, reason: "too many header fields" },
        httparse::Error::Version => Malformed { status: 505, reason: "HTTP version not supported" },
        httparse::Error::HeaderName => malformed("bad header name"),
        httparse::Error::HeaderValue => malformed("bad header value"),
        httparse::Error::Status => malformed("bad status line"),
        _ => malformed("malformed head"),
    }
}

/// Words in the first line.
fn words(raw: &[u8]) -> usize {
    let line = raw.split(|b| *b == b'\r').next().unwrap_or_default();
    line.split(|b| *b == b' ').count()
}

/// The fields, and those of them that frame the message.
fn map<'a>(raw: &Bytes, fields: &[httparse::Header<'a>]) -> Result<(HeaderMap, Framing<'a>), Malformed> {
    let mut headers = HeaderMap::with_capacity(fields.len() + 4);
    let mut framing = Framing::default();
    for field in fields {
        let name = HeaderName::from_bytes(field.name.as_bytes()).map_err(|_| malformed("bad header name"))?;
        let value = if field.value.is_empty() {
            HeaderValue::from_static("")
        } else {
            let value = raw.slice_ref(field.value);
            HeaderValue::from_maybe_shared(value).map_err(|_| malformed("bad header value"))?
        };
        framing.see(&name, field.value);
        headers.append(name, value);
    }
    Ok((headers, framing))
}

/// What a head says about its message and its connection, gathered while its fields are read.
#[derive(Debug, Default)]
struct Framing<'a> {
    content_length: Said<'a>,
    transfer_encoding: Said<'a>,
    host: Said<'a>,
    expect: Option<&'a [u8]>,
    /// Whether there are options of the connection.
    connection: bool,
}

/// The value of a field that must not be there twice.
#[derive(Debug, Default, Clone, Copy)]
enum Said<'a> {
    #[default]
    Never,
    Once(&'a [u8]),
    Again,
}

impl<'a> Said<'a> {
    fn say(&mut self, value: &'a [u8]) {
        *self = match self {
            Self::Never => Self::Once(value),
            Self::Once(_) | Self::Again => Self::Again,
        };
    }
}

impl<'a> Framing<'a> {
    fn see(&mut self, name: &HeaderName, value: &'a [u8]) {
        if *name == CONTENT_LENGTH {
            self.content_length.say(value);
        } else if *name == TRANSFER_ENCODING {
            self.transfer_encoding.say(value);
        } else if *name == HOST {
            self.host.say(value);
        } else if *name == CONNECTION {
            self.connection = true;
        } else if *name == EXPECT {
            self.expect = self.expect.or(Some(value));
        }
    }

    fn request_length(&self, version: Version) -> Result<Length, Malformed> {
        match (self.is_chunked()?, self.content_length()?) {
            (true, Some(_)) => Err(malformed("content-length beside transfer-encoding")),
            (true, None) if version == Version::HTTP_10 => Err(malformed("transfer-encoding in HTTP/1.0")),
            (true, None) => Ok(Length::Chunked),
            (false, Some(0) | None) => Ok(Length::None),
            (false, Some(length)) => Ok(Length::Exact(length)),
        }
    }

    /// RFC 9112 section 6.3.
    fn response_length(&self, status: StatusCode, method: &Method) -> Result<Length, Malformed> {
        let (chunked, length) = (self.is_chunked()?, self.content_length()?);
        let bodyless = status.is_informational()
            || status == StatusCode::NO_CONTENT
            || status == StatusCode::NOT_MODIFIED
            || method == Method::HEAD
            || (method == Method::CONNECT && status.is_success());
        match (chunked, length) {
            _ if bodyless => Ok(Length::None),
            (true, Some(_)) => Err(malformed("content-length beside transfer-encoding")),
            (true, None) => Ok(Length::Chunked),
            (false, Some(0)) => Ok(Length::None),
            (false, Some(length)) => Ok(Length::Exact(length)),
            (false, None) => Ok(Length::UntilClose),
        }
    }

    fn is_chunked(&self) -> Result<bool, Malformed> {
        match self.transfer_encoding {
            Said::Never => Ok(false),
            Said::Once(coding) if coding.eq_ignore_ascii_case(b"chunked") => Ok(true),
            Said::Once(_) => Err(Malformed { status: 501, reason: "transfer-encoding other than chunked" }),
            Said::Again => Err(malformed("more than one transfer-encoding")),
        }
    }

    fn content_length(&self) -> Result<Option<u64>, Malformed> {
        let digits = match self.content_length {
            Said::Never => return Ok(None),
            Said::Once(digits) => digits,
            Said::Again => return Err(malformed("more than one content-length")),
        };
        if digits.is_empty() || digits.len() > 18 || !digits.iter().all(u8::is_ascii_digit) {
            return Err(malformed("bad content-length"));
        }
        Ok(Some(digits.iter().fold(0, |number, digit| number * 10 + u64::from(digit - b'0'))))
    }

    fn check_host(&self, version: Version) -> Result<(), Malformed> {
        match self.host {
            Said::Never if version == Version::HTTP_11 => Err(malformed("no host")),
            Said::Never => Ok(()),
            Said::Once(host) if is_host(host) => Ok(()),
            Said::Once(_) => Err(malformed("bad host")),
            Said::Again => Err(malformed("more than one host")),
        }
    }

    fn keep_alive(&self, headers: &HeaderMap, version: Version) -> bool {
        match version {
            Version::HTTP_10 => self.connection && names(headers, b"keep-alive"),
            _ => !(self.connection && names(headers, b"close")),
        }
    }
}

/// `uri-host [":" port]`; an empty one is allowed (RFC 9112 section 3.2).
pub(crate) fn is_host(host: &[u8]) -> bool {
    host.iter().all(|b| b.is_ascii_alphanumeric() || b"-._~%!$&'()*+,;=:[]".contains(b))
}

/// Whether `Connection` has this option.
pub(crate) fn names(headers: &HeaderMap, option: &[u8]) -> bool {
    let mut values = headers.get_all(CONNECTION).iter();
    values.any(|value| {
        let mut options = value.as_bytes().split(|b| *b == b',');
        options.any(|one| one.trim_ascii().eq_ignore_ascii_case(option))
    })
}

/// The protocol a request asks to change to, if it does.
pub(crate) fn upgrade(headers: &HeaderMap) -> Option<HeaderValue> {
    headers.get(UPGRADE).filter(|_| names(headers, b"upgrade")).cloned()
}
