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

/// Where the head ends in `input`, if it is complete; `seen` is how much was looked at before.
fn end(input: &[u8], seen: &mut usize) -> Option<usize> {
    let from = seen.saturating_sub(3);
    let found = input[from..].windows(4).position(|four| four == b"\r\n\r\n");
    *seen = input.len();
    found.map(|at| from + at + 4)
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
    let headers = map(&raw, parsed.headers)?;
    let (length, keep_alive) = (request_length(&headers, version)?, keep_alive(&headers, version));
    hosts(&headers, version)?;
    let expects_continue = version == Version::HTTP_11
        && headers.get(EXPECT).is_some_and(|value| value.as_bytes().eq_ignore_ascii_case(b"100-continue"));
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
    let headers = map(&raw, parsed.headers)?;
    let length = response_length(&headers, status, method)?;
    let keep_alive = keep_alive(&headers, version) && length != Length::UntilClose;
    let (mut parts, ()) = http::Response::new(()).into_parts();
    (parts.status, parts.version, parts.headers) = (status, version, headers);
    Ok(Some(ResponseHead { parts, length, keep_alive }))
}

/// The bytes of a whole head, all of whose lines end as they should.
fn take(input: &mut BytesMut, seen: &mut usize) -> Result<Option<Bytes>, Malformed> {
    let before = *seen;
    let Some(end) = end(input, seen) else {
        // A bare LF would keep the end from ever being found.
        check_lines(&input[before.saturating_sub(1)..])?;
        if input.len() > limits::HEADER_BYTES {
            return Err(Malformed { status: 431, reason: "head too large" });
        }
        return Ok(None);
    };
    if end > limits::HEADER_BYTES {
        return Err(Malformed { status: 431, reason: "head too large" });
    }
    let raw = input.split_to(end).freeze();
    *seen = 0;
    check_lines(&raw)?;
    Ok(Some(raw))
}

/// Every LF follows a CR.
pub(super) fn check_lines(bytes: &[u8]) -> Result<(), Malformed> {
    let mut from = 0;
    while let Some(at) = memchr::memchr(b'\n', &bytes[from..]) {
        let at = from + at;
        // The first byte may be the LF of a CR that was looked at before.
        if at > 0 && bytes[at - 1] != b'\r' {
            return Err(malformed("line feed without carriage return"));
        }
        from = at + 1;
    }
    Ok(())
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

fn map(raw: &Bytes, fields: &[httparse::Header<'_>]) -> Result<HeaderMap, Malformed> {
    let mut headers = HeaderMap::with_capacity(fields.len() + 4);
    for field in fields {
        let name = HeaderName::from_bytes(field.name.as_bytes()).map_err(|_| malformed("bad header name"))?;
        let value = if field.value.is_empty() {
            HeaderValue::from_static("")
        } else {
            let value = raw.slice_ref(field.value);
            HeaderValue::from_maybe_shared(value).map_err(|_| malformed("bad header value"))?
        };
        headers.append(name, value);
    }
    Ok(headers)
}

fn request_length(headers: &HeaderMap, version: Version) -> Result<Length, Malformed> {
    match (transfer_encoding(headers)?, content_length(headers)?) {
        (true, Some(_)) => Err(malformed("content-length beside transfer-encoding")),
        (true, None) if version == Version::HTTP_10 => Err(malformed("transfer-encoding in HTTP/1.0")),
        (true, None) => Ok(Length::Chunked),
        (false, Some(0) | None) => Ok(Length::None),
        (false, Some(length)) => Ok(Length::Exact(length)),
    }
}

/// RFC 9112 section 6.3.
fn response_length(headers: &HeaderMap, status: StatusCode, method: &Method) -> Result<Length, Malformed> {
    let chunked = transfer_encoding(headers)?;
    let length = content_length(headers)?;
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

fn transfer_encoding(headers: &HeaderMap) -> Result<bool, Malformed> {
    let mut values = headers.get_all(TRANSFER_ENCODING).iter();
    let Some(value) = values.next() else { return Ok(false) };
    if values.next().is_some() {
        return Err(malformed("more than one transfer-encoding"));
    }
    if !value.as_bytes().eq_ignore_ascii_case(b"chunked") {
        return Err(Malformed { status: 501, reason: "transfer-encoding other than chunked" });
    }
    Ok(true)
}

fn content_length(headers: &HeaderMap) -> Result<Option<u64>, Malformed> {
    let mut values = headers.get_all(CONTENT_LENGTH).iter();
    let Some(value) = values.next() else { return Ok(None) };
    if values.next().is_some() {
        return Err(malformed("more than one content-length"));
    }
    let digits = value.as_bytes();
    if digits.is_empty() || digits.len() > 18 || !digits.iter().all(u8::is_ascii_digit) {
        return Err(malformed("bad content-length"));
    }
    Ok(Some(digits.iter().fold(0, |number, digit| number * 10 + u64::from(digit - b'0'))))
}

fn hosts(headers: &HeaderMap, version: Version) -> Result<(), Malformed> {
    let mut hosts = headers.get_all(HOST).iter();
    match (hosts.next(), hosts.next()) {
        (None, _) if version == Version::HTTP_11 => Err(malformed("no host")),
        (None, _) => Ok(()),
        (Some(_), Some(_)) => Err(malformed("more than one host")),
        (Some(host), None) if is_host(host.as_bytes()) => Ok(()),
        (Some(_), None) => Err(malformed("bad host")),
    }
}

/// `uri-host [":" port]`; an empty one is allowed (RFC 9112 section 3.2).
pub(crate) fn is_host(host: &[u8]) -> bool {
    host.iter().all(|b| b.is_ascii_alphanumeric() || b"-._~%!$&'()*+,;=:[]".contains(b))
}

fn keep_alive(headers: &HeaderMap, version: Version) -> bool {
    match version {
        Version::HTTP_10 => names(headers, b"keep-alive"),
        _ => !names(headers, b"close"),
    }
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
