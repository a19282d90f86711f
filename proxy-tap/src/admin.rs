//! stub
use crate::body::ReplyBody;
use crate::run::Proxy;
use http::{Request, Response};
use hyper::body::Incoming;
use std::sync::Arc;
pub(crate) async fn handle(_: Arc<Proxy>, _: bool, _: Request<Incoming>) -> Response<ReplyBody> {
    Response::new(ReplyBody::text("ok\n"))
}
