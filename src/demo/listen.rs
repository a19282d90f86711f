//! The socket of a demo service, which an outage takes away from its callers.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::app::App;

/// Serves `app` on `listener`, HTTP/1.1 and HTTP/2 alike, until `stop`.
///
/// During an outage new connections are closed at once and open ones are cut. The listener stays, so
/// that nobody else gets its port.
pub(super) async fn serve(app: Arc<App>, listener: TcpListener, stop: CancellationToken) {
    let mut connections = JoinSet::new();
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            Some(_) = connections.join_next() => continue,
            () = stop.cancelled() => break,
        };
        match accepted {
            Ok((socket, _)) if !app.faults.borrow().outage => {
                connections.spawn(connection(Arc::clone(&app), socket));
            }
            Ok(_) => (),
            // Out of descriptors, most likely: give connections the time to end.
            Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
        }
    }
}

async fn connection(app: Arc<App>, socket: TcpStream) {
    // A socket that cannot be told to hurry still works.
    let _ = socket.set_nodelay(true);
    let mut faults = app.faults.clone();
    let service = service_fn(move |request| {
        let app = Arc::clone(&app);
        async move { Ok::<_, Infallible>(app.answer(request).await) }
    });
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder.http1().timer(TokioTimer::new());
    builder.http2().timer(TokioTimer::new());
    tokio::select! {
        _ = builder.serve_connection(TokioIo::new(socket), service) => (),
        Ok(_) = faults.wait_for(|faults| faults.outage) => (),
    }
}
