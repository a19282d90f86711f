//! One demo service, or one load driver, as a process of its own: the pieces of whole-system tests.

use std::io::{self, Write};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use http::{Method, Uri};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use weir_model::Clock;

use super::app::{App, AppCall, AppRoute, Work};
use super::faults::Active;
use super::listen;
use super::stats::Recorder;
use super::traffic::{Visit, Visitor};
use super::upstream::Upstream;
use crate::load::duration;

/// How often the fault file is looked at.
const FAULT_POLL: Duration = Duration::from_millis(50);

/// Runs one demo service: any request is worked on, passed to every upstream, and answered.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct AppArgs {
    /// Its service.
    #[arg(long, value_name = "NAME")]
    pub(crate) service: String,
    /// Its instance, which answers name; the service where it is absent.
    #[arg(long, value_name = "NAME")]
    pub(crate) instance: Option<String>,
    /// Where it listens; port 0 picks one. The line `ready app=ADDR` says which.
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:0")]
    pub(crate) listen: SocketAddr,
    /// A service it calls for each request, such as `payments=http://127.0.0.1:7001`; `grpc://` where
    /// that speaks gRPC.
    #[arg(long = "upstream", value_name = "NAME=URL", value_parser = named_url)]
    pub(crate) upstreams: Vec<(String, String)>,
    /// Speak gRPC instead of plain HTTP.
    #[arg(long)]
    pub(crate) grpc: bool,
    /// Median of its own work.
    #[arg(long, value_name = "MS", default_value_t = 5.0)]
    pub(crate) latency_ms: f64,
    /// A file whose words `latency`, `errors`, `outage` are its faults; empty or missing for none.
    #[arg(long, value_name = "FILE")]
    pub(crate) fault_file: Option<PathBuf>,
    /// Seed of its latencies.
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub(crate) seed: u64,
}

/// Sends open-loop load to one URL and writes a line of JSON per second.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct DriveArgs {
    /// What is called.
    #[arg(long, value_name = "URL")]
    pub(crate) to: Uri,
    /// How it is called.
    #[arg(long, value_name = "METHOD", default_value = "POST")]
    pub(crate) method: Method,
    /// Requests per second.
    #[arg(long, value_name = "N", default_value_t = 20.0)]
    pub(crate) rate: f64,
    /// Stop after this long.
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    pub(crate) duration: Option<Duration>,
    /// Where the lines go: `{"t", "ok", "errors", "p50_ms", "p90_ms", "p99_ms", "max_ms"}` for each
    /// second that is over, written and flushed within a second.
    #[arg(long, value_name = "FILE")]
    pub(crate) json: PathBuf,
    /// Seed of the moments at which requests leave.
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub(crate) seed: u64,
}

fn named_url(text: &str) -> Result<(String, String), String> {
    let bad =
        || format!("`{text}` is no upstream: expected `NAME=URL`, as in `payments=http://127.0.0.1:7001`");
    let (name, url) = text.split_once('=').ok_or_else(bad)?;
    let known = url.starts_with("http://") || url.starts_with("grpc://");
    if name.is_empty() || !known { Err(bad()) } else { Ok((name.to_owned(), url.to_owned())) }
}

/// Serves one demo service until `stop`.
pub(crate) async fn app(
    args: AppArgs,
    stop: CancellationToken,
    out: &mut (dyn Write + Send),
) -> io::Result<()> {
    let listener = TcpListener::bind(args.listen).await?;
    let (switch, faults) = watch::channel(Active::default());
    if let Some(file) = args.fault_file {
        switch.send_replace(read_faults(&file).unwrap_or_default());
        tokio::spawn(follow(file, switch, stop.clone()));
    }
    let call = |(name, url): (String, String)| {
        let grpc = url.starts_with("grpc://");
        let base = url.replacen("grpc://", "http://", 1);
        let path = if grpc { "/shop.App/Call" } else { "/call" };
        AppCall { upstream: Upstream::new(&name, &base, grpc), method: Method::POST, path: path.to_owned() }
    };
    let calls = args.upstreams.into_iter().map(call).collect();
    let app = App {
        instance: args.instance.unwrap_or_else(|| args.service.clone()),
        service: args.service,
        grpc: args.grpc,
        routes: vec![AppRoute { method: None, path: "/".to_owned(), calls }],
        work: Work::new(args.latency_ms, 0.0, args.seed),
        faults,
    };
    writeln!(out, "ready app={}", listener.local_addr()?)?;
    out.flush()?;
    listen::serve(Arc::new(app), listener, stop).await;
    Ok(())
}

/// The faults that a file names; `None` where it says something else, perhaps because it is being
/// written right now.
fn read_faults(file: &Path) -> Option<Active> {
    match std::fs::read_to_string(file) {
        Ok(text) => Active::from_text(&text).ok(),
        Err(_) => Some(Active::default()),
    }
}

/// Keeps `switch` at what `file` says.
async fn follow(file: PathBuf, switch: watch::Sender<Active>, stop: CancellationToken) {
    let mut poll = tokio::time::interval(FAULT_POLL);
    loop {
        tokio::select! {
            _ = poll.tick() => (),
            () = stop.cancelled() => return,
        }
        if let Some(active) = read_faults(&file) {
            switch.send_if_modified(|before| std::mem::replace(before, active) != active);
        }
    }
}

/// Drives load as `args` say until it is done or `stop`.
pub(crate) async fn drive(args: DriveArgs, clock: Clock, stop: CancellationToken) -> io::Result<()> {
    let mut file = std::fs::File::create(&args.json)?;
    let recorder = Recorder::default();
    let visit = Visit { method: args.method, uri: args.to, recorder: Some(recorder.clone()) };
    let stop = stop.child_token();
    let load = Visitor::new(clock.clone()).drive(
        args.rate,
        fastrand::Rng::with_seed(args.seed),
        move |_| visit.clone(),
        stop.clone(),
    );
    let mut load = tokio::spawn(load);
    let deadline = tokio::time::sleep(args.duration.unwrap_or(Duration::MAX));
    tokio::pin!(deadline);
    let mut written = 0;
    let mut poll = tokio::time::interval(Duration::from_millis(200));
    loop {
        let over = tokio::select! {
            _ = poll.tick() => false,
            () = &mut deadline, if !stop.is_cancelled() => {
                stop.cancel();
                false
            }
            _ = &mut load => true,
        };
        // The last second is not over yet, but nothing more comes.
        let now = if over { clock.now() + Duration::from_secs(1) } else { clock.now() };
        let mut lines = Vec::new();
        let after = written;
        for second in recorder.seconds(now).into_iter().filter(|second| second.t > after) {
            written = second.t;
            serde_json::to_writer(&mut lines, &second)?;
            lines.push(b'\n');
        }
        file.write_all(&lines)?;
        if over {
            return Ok(());
        }
    }
}
