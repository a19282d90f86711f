//! stub
use crate::run::Proxy;
use std::sync::Arc;
use tokio_util::sync::CancellationToken;
use tonic::transport::Channel;
#[derive(Debug, Default)]
pub(crate) struct Status;
pub(crate) async fn run(_: Arc<Proxy>, _: Channel, _: Option<String>, leave: CancellationToken) {
    leave.cancelled().await
}
