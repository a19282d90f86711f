//! What the admin page takes instead of only telling: another filter of log lines, and the word to leave.

use http::header::ORIGIN;
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt, Limited};
use serde_json::{Value, json};
use weir_model::limits;

use super::{JSON, answer, error};
use crate::body::{Incoming, ReplyBody};
use crate::drain::Why;
use crate::run::Proxy;

/// Does what a request other than a reading one asks for.
pub(super) async fn handle(proxy: &Proxy, request: Request<Incoming>) -> Response<ReplyBody> {
    // A browser says which page made it send this; no page of the proxy does.
    if request.headers().contains_key(ORIGIN) {
        return error(StatusCode::FORBIDDEN, "forbidden", "this is not for pages in a browser", None);
    }
    if request.uri().path() == "/drain" {
        proxy.drain.begin(Why::Admin);
        return answer(StatusCode::ACCEPTED, JSON, drain(proxy).to_string());
    }
    let Some(log) = &proxy.config.log else { return no_log() };
    let body = Limited::new(request.into_body(), limits::ADMIN_BODY_BYTES).collect().await;
    let text = body.ok().and_then(|body| String::from_utf8(body.to_bytes().into()).ok());
    let Some(text) = text else {
        let message = format!("a filter is text of at most {} bytes", limits::ADMIN_BODY_BYTES);
        return error(StatusCode::BAD_REQUEST, "invalid_filter", &message, None);
    };
    match (log.set)(text.trim()) {
        Ok(()) => {
            tracing::info!(filter = text.trim(), "the filter of log lines was changed");
            log_level(proxy)
        }
        Err(why) => {
            let hint = "such as `debug` or `info,weir_proxy_tap=debug`";
            error(StatusCode::BAD_REQUEST, "invalid_filter", &why, Some(hint))
        }
    }
}

pub(super) fn log_level(proxy: &Proxy) -> Response<ReplyBody> {
    match &proxy.config.log {
        Some(log) => answer(StatusCode::OK, JSON, json!({ "filter": (log.get)() }).to_string()),
        None => no_log(),
    }
}

fn no_log() -> Response<ReplyBody> {
    let message = "the program that runs this proxy does not let it change what is logged";
    error(StatusCode::NOT_IMPLEMENTED, "not_available", message, None)
}

/// How far the proxy is on its way out, and who is left: connections that the admin page itself has do not count.
pub(super) fn drain(proxy: &Proxy) -> Value {
    let listeners = proxy.tallies.iter().filter(|tally| tally.name != "admin");
    let open: serde_json::Map<String, Value> =
        listeners.map(|tally| (tally.name.clone(), tally.open().into())).collect();
    let begun = proxy.drain.begun();
    let ms = |time: std::time::Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
    json!({
        "state": proxy.drain.stage(),
        "cause": begun.map(|(why, _)| why.name()),
        "begun_ms_ago": begun.map(|(_, ago)| ms(ago)),
        "delay_ms": ms(proxy.config.drain_delay),
        "drain_ms": ms(proxy.config.drain),
        "connections": open.values().filter_map(Value::as_u64).sum::<u64>(),
        "listeners": open,
    })
}
