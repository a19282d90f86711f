//! A caller's connection: one request after another, each answered before the next is read.

use std::pin::{Pin, pin};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker, ready};
use std::time::Duration;

use bytes::Bytes;
use http::header::CONNECTION;
use http::{HeaderValue, Method, Request, Response, StatusCode, Version};
use http_body::{Body, Frame, SizeHint};
use tokio::time::{Instant, Sleep, sleep_until};
use weir_model::limits;

use super::decode::{Decoded, Decoder};
use super::encode::{self, Framing, Reach, Writer};
use super::head::{self, RequestHead};
use super::{Length, Malformed};
use crate::body::{BodyError, Incoming, ReplyBody};
use crate::io::Conn;
use crate::listen::Service;

/// How long a connection may stay silent between two requests.
const IDLE: Duration = Duration::from_secs(60);
/// How long a request head may take from its first byte on.
const HEAD_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a caller may take no byte of its response.
const STALLED: Duration = Duration::from_secs(60);
/// How long a connection has to be silent to be closed when the proxy stops: one that was used lately is likely to
/// have its next request under way, and gets to know with the response that it was the last.
pub(crate) const QUIET: Duration = Duration::from_secs(1);
/// How long a connection that is to be closed is read on, so that the last response is not lost to a reset.
const LINGER: Duration = Duration::from_secs(1);

const CONTINUE: &[u8] = b"HTTP/1.1 100 Continue\r\n\r\n";

/// The connection while a request body may be read by somebody else.
#[derive(Debug)]
struct Shared {
    conn: Conn,
    body: Decoder,
    /// Which request the body belongs to.
    request: u64,
    /// The caller waits for a word before it sends the body.
    owes_continue: bool,
    /// Who reads the body and waits for more of it.
    reader: Option<Waker>,
    /// Who reads the connection on when the body is over.
    owner: Option<Waker>,
}

impl Shared {
    /// Whoever still reads the request's body gets to know that there is no more of it.
    fn forget_request(&mut self) {
        self.request += 1;
        wake(&mut self.reader);
    }

    /// Ready when the caller is gone. What it sends early waits for its turn.
    fn poll_gone(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if !self.body.is_done() {
            self.owner = Some(cx.waker().clone());
            return Poll::Pending;
        }
        // Nobody else reads now.
        while self.conn.input.len() < limits::HEADER_BYTES {
            match ready!(self.conn.poll_fill(cx)) {
                Ok(n) if n > 0 => {}
                _ => return Poll::Ready(()),
            }
        }
        Poll::Pending
    }
}

type Handle = Arc<Mutex<Shared>>;

/// The connection's end, however it comes: it is closed even where somebody still holds a request's body.
struct Owner(Handle);

impl Drop for Owner {
    fn drop(&mut self) {
        drop(take_conn(&self.0));
    }
}

fn lock(shared: &Mutex<Shared>) -> MutexGuard<'_, Shared> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Reach for &Mutex<Shared> {
    fn with<R>(&mut self, act: impl FnOnce(&mut Conn) -> R) -> R {
        act(&mut lock(self).conn)
    }
}

/// What becomes of a connection after a response.
enum Next {
    Serve,
    Close,
    /// The caller is gone.
    Gone,
}

/// Serves a connection until it ends, or until `stop` and the end of what was begun.
pub(crate) async fn serve<S: Service>(conn: Conn, service: S, stop: impl Future<Output = ()>) {
    let owner = Owner(Arc::new(Mutex::new(Shared {
        conn,
        body: Decoder::Done,
        request: 0,
        owes_continue: false,
        reader: None,
        owner: None,
    })));
    let shared = &owner.0;
    let mut stop = pin!(stop);
    let mut timer = pin!(sleep_until(Instant::now() + IDLE));
    loop {
        let head = match read_head(shared, timer.as_mut(), stop.as_mut()).await {
            Ok(Some(head)) => head,
            Ok(None) => return,
            Err(malformed) => {
                service.malformed(malformed);
                refuse(shared, malformed).await;
                return linger(shared).await;
            }
        };
        let asked = Asked { version: head.parts.version, head: head.parts.method == Method::HEAD };
        let (request, keep_alive) = begin(shared, head);
        let Some(response) = answer(shared, &service, request).await else { return };
        let keep_alive = keep_alive && !is_stopped(stop.as_mut()).await;
        let next = respond(shared, response, asked, keep_alive, timer.as_mut()).await;
        match next {
            Next::Serve => {}
            Next::Close => return linger(shared).await,
            Next::Gone => return,
        }
    }
}

/// What a response needs to know of its request.
#[derive(Debug, Clone, Copy)]
struct Asked {
    version: Version,
    head: bool,
}

async fn is_stopped(mut stop: Pin<&mut impl Future<Output = ()>>) -> bool {
    std::future::poll_fn(|cx| Poll::Ready(stop.as_mut().poll(cx).is_ready())).await
}

/// The next request's head; `None` where the connection has ended or is to end.
async fn read_head(
    shared: &Handle,
    mut timer: Pin<&mut Sleep>,
    mut stop: Pin<&mut impl Future<Output = ()>>,
) -> Result<Option<RequestHead>, Malformed> {
    let mut seen = 0;
    let mut begun = false;
    let mut silent_since = None;
    std::future::poll_fn(|cx| {
        let mut shared = lock(shared);
        loop {
            if shared.conn.input.len() > seen {
                if let Some(head) = head::request(&mut shared.conn.input, &mut seen)? {
                    return Poll::Ready(Ok(Some(head)));
                }
                if !begun {
                    begun = true;
                    timer.as_mut().reset(Instant::now() + HEAD_TIMEOUT);
                }
            }
            match shared.conn.poll_fill(cx) {
                Poll::Ready(Ok(0)) if shared.conn.input.is_empty() => return Poll::Ready(Ok(None)),
                Poll::Ready(Ok(0)) => return Poll::Ready(Err(super::malformed("the head was cut off"))),
                Poll::Ready(Ok(_)) => {}
                Poll::Ready(Err(_)) => return Poll::Ready(Ok(None)),
                Poll::Pending => break,
            }
        }
        if !begun {
            let now = Instant::now();
            let since = *silent_since.get_or_insert(now);
            let quiet = since + QUIET;
            if stop.as_mut().poll(cx).is_ready() {
                if now >= quiet {
                    return Poll::Ready(Ok(None));
                }
                timer.as_mut().reset(quiet);
            } else if timer.deadline() <= now && now < since + IDLE {
                // It is only moved when it fires: most requests come long before.
                timer.as_mut().reset(since + IDLE);
            }
        }
        ready!(timer.as_mut().poll(cx));
        Poll::Ready(match begun {
            true => Err(Malformed { status: 408, reason: "the head took too long" }),
            false => Ok(None),
        })
    })
    .await
}

/// The request, and whether another may follow it.
fn begin(shared: &Handle, head: RequestHead) -> (Request<Incoming>, bool) {
    let RequestHead { parts, length, keep_alive, expects_continue } = head;
    let mut guard = lock(shared);
    guard.request += 1;
    guard.body = Decoder::new(length);
    guard.owes_continue = expects_continue && length != Length::None;
    let body = match length {
        Length::None => Incoming::Empty,
        _ => Incoming::Request(RequestBody { shared: Arc::clone(shared), request: guard.request }),
    };
    (Request::from_parts(parts, body), keep_alive)
}

/// The service's answer; `None` where the caller went away before.
async fn answer<S: Service>(
    shared: &Handle,
    service: &S,
    request: Request<Incoming>,
) -> Option<Response<ReplyBody>> {
    let mut call = pin!(service.call(request));
    std::future::poll_fn(|cx| {
        if let Poll::Ready(response) = call.as_mut().poll(cx) {
            return Poll::Ready(Some(response));
        }
        lock(shared).poll_gone(cx).map(|()| None)
    })
    .await
}

/// Writes the response, to its end.
async fn respond(
    shared: &Handle,
    response: Response<ReplyBody>,
    asked: Asked,
    keep_alive: bool,
    timer: Pin<&mut Sleep>,
) -> Next {
    let (mut parts, mut body) = response.into_parts();
    let closes = parts.headers.remove(CONNECTION).is_some_and(|value| value == "close");
    // A body that nobody reads ends the connection, unless the rest is short, and so does one that was not asked for.
    let mut keep_alive = keep_alive && !closes && (is_read(shared) || abandon(shared));
    if let ReplyBody::Tunnel(tunnel) = body {
        let framing = Framing { length: Length::UntilClose, head_only: false, connection: None };
        encode::response(&mut lock(shared).conn.output, &parts, framing);
        let conn = take_conn(shared);
        tunnel.run(conn).await;
        return Next::Gone;
    }
    let length = match body.size_hint().exact() {
        _ if encode::bodyless(parts.status) => Length::None,
        Some(0) => Length::None,
        Some(length) => Length::Exact(length),
        None if body.is_end_stream() => Length::None,
        None if asked.version == Version::HTTP_10 => Length::UntilClose,
        None => Length::Chunked,
    };
    keep_alive &= length != Length::UntilClose || asked.head;
    let connection = match (keep_alive, asked.version) {
        (false, _) => Some("close"),
        (true, Version::HTTP_10) => Some("keep-alive"),
        (true, _) => None,
    };
    let framing = Framing { length, head_only: asked.head, connection };
    encode::response(&mut lock(shared).conn.output, &parts, framing);
    let length = if asked.head { Length::None } else { length };
    let written = write_body(shared, &mut body, length, timer).await;
    if written {
        body.let_end();
    }
    match written {
        true if keep_alive && abandon(shared) => Next::Serve,
        true => Next::Close,
        // The caller has to see that the response is not whole.
        false => Next::Gone,
    }
}

/// Whether all of the body was written.
async fn write_body(
    shared: &Handle,
    body: &mut ReplyBody,
    length: Length,
    mut timer: Pin<&mut Sleep>,
) -> bool {
    let mut writer = Writer::new(length);
    let mut waiting = None;
    std::future::poll_fn(|cx| {
        let mut conn: &Mutex<Shared> = shared;
        match writer.poll(body, &mut conn, cx) {
            Poll::Ready(Ok(())) => return Poll::Ready(true),
            Poll::Ready(Err(_)) => {
                // What came before the break is the caller's.
                let _ = lock(shared).conn.poll_flush(cx);
                return Poll::Ready(false);
            }
            Poll::Pending => {}
        }
        let mut shared = lock(shared);
        if shared.poll_gone(cx).is_ready() {
            return Poll::Ready(false);
        }
        // The time counts while the caller takes nothing, not while the endpoint has nothing.
        let left = shared.conn.unsent() + writer.held();
        if left == 0 {
            waiting = None;
            return Poll::Pending;
        }
        if waiting.replace(left) != Some(left) {
            timer.as_mut().reset(Instant::now() + STALLED);
        }
        ready!(timer.as_mut().poll(cx));
        Poll::Ready(false)
    })
    .await
}

/// Whether somebody has the request's body and may read on, of a caller that sends it.
fn is_read(shared: &Handle) -> bool {
    Arc::strong_count(shared) > 1 && !lock(shared).owes_continue
}

/// Whether the rest of the request body is read away, so that another request can follow.
fn abandon(shared: &Handle) -> bool {
    let mut guard = lock(shared);
    if guard.body.is_done() {
        return true;
    }
    guard.forget_request();
    let Shared { conn, body, .. } = &mut *guard;
    let mut cx = Context::from_waker(Waker::noop());
    let mut budget = limits::DRAIN_BYTES;
    while !body.is_done() {
        match body.decode(&mut conn.input) {
            Ok(Decoded::Data(data)) => match budget.checked_sub(data.len()) {
                Some(left) => budget = left,
                None => return false,
            },
            Ok(Decoded::End(_)) => {}
            Ok(Decoded::NeedMore) => match conn.poll_fill(&mut cx) {
                Poll::Ready(Ok(n)) if n > 0 => {}
                _ => return false,
            },
            Err(_) => return false,
        }
    }
    true
}

async fn refuse(shared: &Handle, malformed: Malformed) {
    let mut response = Response::new(());
    *response.status_mut() = StatusCode::from_u16(malformed.status).unwrap_or(StatusCode::BAD_REQUEST);
    let text = HeaderValue::from_static("text/plain; charset=utf-8");
    response.headers_mut().insert(http::header::CONTENT_TYPE, text);
    let (parts, ()) = response.into_parts();
    let length = malformed.reason.len() + 1;
    let framing =
        Framing { length: Length::Exact(length as u64), head_only: false, connection: Some("close") };
    {
        let output = &mut lock(shared).conn.output;
        encode::response(output, &parts, framing);
        output.extend_from_slice(malformed.reason.as_bytes());
        output.extend_from_slice(b"\n");
    }
    let flush = std::future::poll_fn(|cx| lock(shared).conn.poll_flush(cx));
    let _ = tokio::time::timeout(LINGER, flush).await;
}

/// Closes the writing half and reads for a while what was under way: a connection that is closed with unread
/// bytes is reset, and the reset can overtake the response (RFC 9112 section 9.6).
async fn linger(shared: &Handle) {
    let mut left = limits::DRAIN_BYTES * 4;
    let rest = std::future::poll_fn(|cx| {
        let mut guard = lock(shared);
        ready!(guard.conn.poll_shutdown(cx))?;
        loop {
            guard.conn.input.clear();
            let n = ready!(guard.conn.poll_fill(cx))?;
            left = left.saturating_sub(n);
            if n == 0 || left == 0 {
                return Poll::Ready(Ok::<_, std::io::Error>(()));
            }
        }
    });
    let _ = tokio::time::timeout(LINGER, rest).await;
}

/// The connection for itself: its requests are over.
fn take_conn(shared: &Handle) -> Conn {
    let mut guard = lock(shared);
    guard.forget_request();
    guard.conn.take()
}

fn wake(owner: &mut Option<Waker>) {
    if let Some(owner) = owner.take() {
        owner.wake();
    }
}

/// The body of a request, as it comes.
#[derive(Debug)]
pub(crate) struct RequestBody {
    shared: Handle,
    request: u64,
}

impl Body for RequestBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let mut guard = lock(&self.shared);
        if guard.request != self.request {
            return Poll::Ready(Some(Err(BodyError::Truncated)));
        }
        let Shared { conn, body, owes_continue, reader, owner, .. } = &mut *guard;
        loop {
            match body.decode(&mut conn.input)? {
                Decoded::Data(data) => {
                    if body.is_done() {
                        wake(owner);
                    }
                    return Poll::Ready(Some(Ok(Frame::data(data))));
                }
                Decoded::End(trailers) => {
                    wake(owner);
                    return Poll::Ready(trailers.map(|trailers| Ok(Frame::trailers(trailers))));
                }
                Decoded::NeedMore => {}
            }
            if std::mem::take(owes_continue) {
                conn.output.extend_from_slice(CONTINUE);
            }
            if !conn.output.is_empty() {
                // Small, and the caller waits for it.
                let _ = conn.poll_flush(cx)?;
            }
            let Poll::Ready(filled) = conn.poll_fill(cx) else {
                match reader {
                    Some(known) => known.clone_from(cx.waker()),
                    None => *reader = Some(cx.waker().clone()),
                }
                return Poll::Pending;
            };
            if filled? == 0 {
                return Poll::Ready(Some(Err(BodyError::Truncated)));
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        let guard = lock(&self.shared);
        guard.request == self.request && guard.body.is_done()
    }

    fn size_hint(&self) -> SizeHint {
        let guard = lock(&self.shared);
        guard.body.remaining().map_or_else(SizeHint::default, SizeHint::with_exact)
    }
}
