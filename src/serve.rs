//! The composition root: opens the store, joins collector, analysis and query over channels, and serves
//! them until told to stop. Read top to bottom to know what runs in the process.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, bail};
use axum::Router;
use axum::extract::Request;
use axum::middleware::Next;
use axum::response::Response;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};
use tokio_util::sync::CancellationToken;
use tracing::Instrument;
use weir_collector::Collector;
use weir_collector::scrape::{self, Scraper};
use weir_model::Clock;
use weir_model::hint::HintSet;
use weir_query::analysis;
use weir_query::api::Settings;
use weir_query::engine::{Engine, EngineOptions};
use weir_query::live::Live;
use weir_query::promql;
use weir_query::rules::{Environment, Notifier, Rules, Stored, Timing};
use weir_storage::{Labels, Storage};

use crate::config::Config;
use crate::telemetry::{Destination, Outbox};

/// A running server.
pub(crate) struct Server {
    /// OTLP/gRPC and the mesh protocol.
    pub(crate) otlp_grpc: SocketAddr,
    /// OTLP/HTTP.
    pub(crate) otlp_http: SocketAddr,
    /// UI and read APIs.
    pub(crate) http: SocketAddr,
    storage: Storage,
    tasks: JoinSet<anyhow::Result<()>>,
    /// Analysis, which outlives `tasks`: what they stored last is still counted.
    live: JoinHandle<()>,
    stop: CancellationToken,
    end_of_rows: CancellationToken,
}

/// Starts everything `config` asks for; `extra` adds routes to the HTTP API, and own
/// spans come out of `outbox`.
pub(crate) async fn start(
    config: &Config,
    clock: Clock,
    extra: Router,
    outbox: Option<Outbox>,
) -> anyhow::Result<Server> {
    // Doors first: a port in use must not cost a replay of the log.
    let otlp_grpc = listen("--otlp-grpc", config.otlp_grpc).await?;
    let otlp_http = listen("--otlp-http", config.otlp_http).await?;
    let http = listen("--http", config.http).await?;
    warn_of_open_doors(config);

    let storage = Storage::open(weir_storage::Options {
        data_dir: config.data_dir.clone(),
        clock: clock.clone(),
        flush_age: config.flush_age,
        flush_bytes: config.flush_bytes,
        retention: config.retention.clone(),
        samplings: config.samplings.clone(),
        acks: config.acks.clone(),
    })
    .await?;

    let stop = CancellationToken::new();
    let mut tasks = JoinSet::new();
    let (watched, stopped) = (storage.clone(), stop.clone());
    tasks.spawn(async move { stopped.run_until_cancelled(failure_of(watched)).await.unwrap_or(Ok(())) });

    if let Some(outbox) = outbox {
        let to = Destination::of(&config.telemetry, &storage, &config.tenant, &clock)?;
        let stopped = stop.clone();
        tasks.spawn(async move {
            outbox.run(to, stopped).await;
            Ok(())
        });
    }

    // Analysis publishes hints here, the collector hands them to the proxies: the only place they meet.
    let (hints_out, hints_in) = watch::channel(HintSet::default());

    // Before the collector, so that no row goes by unseen.
    let analysis = analysis::Config { mode: config.hints, ..analysis::Config::default() };
    let live = Live::new(storage.clone(), config.tenant.clone(), clock.clone(), analysis, hints_out);

    let scraper = Scraper::new(&storage, clock.clone(), config.tenant.clone(), scraping(config))?;
    let collector = Arc::new(Collector::new(
        storage.clone(),
        hints_in,
        scraper.config(),
        clock.clone(),
        config.tenant.clone(),
    ));
    let (serving, stopped) = (collector.clone(), stop.clone());
    let grpc_address = otlp_grpc.local_addr()?;
    tasks.spawn(async move { Ok(serving.serve_grpc(otlp_grpc, stopped).await?) });
    let (serving, stopped) = (collector.clone(), stop.clone());
    let otlp_http_address = otlp_http.local_addr()?;
    tasks.spawn(async move { Ok(serving.serve_http(otlp_http, stopped).await?) });

    let (running, stopped) = (scraper.clone(), stop.clone());
    tasks.spawn(async move {
        running.run(stopped.clone()).await;
        // Without anything to scrape it is done at once, and the server is not.
        stopped.cancelled().await;
        Ok(())
    });
    let (reloading, stopped) = (scraper.clone(), stop.clone());
    tasks.spawn(
        async move { stopped.run_until_cancelled(reload_on_hangup(reloading)).await.unwrap_or(Ok(())) },
    );

    let http_address = http.local_addr()?;
    let queries = config.promql.max_concurrency;
    let options = EngineOptions { queries, ..EngineOptions::new(clock.clone()) };
    let engine = Arc::new(Engine::new(storage.clone(), options)?);

    let tenant = config.tenant.clone();
    let store = Stored::new(engine.clone(), storage.clone(), tenant, promql::Options::default());
    let (rules, notifier) = (Rules::default(), Notifier::default());
    let environment = Environment {
        store: Arc::new(store),
        clock: clock.clone(),
        notify: Arc::new(notifier.clone()),
        external_url: config.rules.external_url(http_address),
        external_labels: Labels::default(),
        timing: Timing::default(),
    };
    let following = crate::rules::follow(
        config.rules.clone(),
        scraper.clone(),
        rules.clone(),
        notifier.clone(),
        environment,
        stop.clone(),
    );
    tasks.spawn(following);
    let (running, stopped) = (rules.clone(), stop.clone());
    tasks.spawn(async move {
        running.run(stopped).await;
        Ok(())
    });
    let (telling, stopped) = (notifier.clone(), stop.clone());
    tasks.spawn(async move {
        telling.run(stopped).await;
        Ok(())
    });

    let mut state = weir_query::api::State::new(engine, config.tenant.clone(), clock);
    let mut settings = prometheus_settings(config, &state.clock, http_address);
    settings.config = scraper.config();
    state.prometheus = Arc::new(settings);
    let from_prometheus = collector.prometheus_router();
    let consul = collector.consul(http_address, Some(config.data_dir.join("consul.json")), stop.clone())?;
    let running = consul.clone();
    tasks.spawn(async move {
        running.run().await;
        Ok(())
    });
    let from_consul = consul.router();
    let metrics_of =
        (storage.clone(), collector, live.clone(), scraper.clone(), rules.clone(), notifier.clone(), consul);
    let metrics = move || {
        let mut text = String::new();
        metrics_of.0.write_prometheus(&mut text);
        metrics_of.1.write_prometheus(&mut text);
        metrics_of.2.write_prometheus(&mut text);
        metrics_of.3.write_prometheus(&mut text);
        metrics_of.4.write_prometheus(&mut text);
        metrics_of.5.write_prometheus(&mut text);
        metrics_of.6.write_prometheus(&mut text);
        text
    };
    let app = weir_query::api::router(state.clone())
        .route("/metrics", axum::routing::get(async move || metrics()))
        .merge(weir_query::api::status(storage.clone(), live.clone()))
        .merge(from_prometheus)
        .merge(from_consul)
        .merge(scraper.routes())
        .merge(weir_query::api::rules(rules, notifier))
        .merge(extra)
        .merge(weir_ui::router())
        .layer(axum::middleware::from_fn(traced))
        .into_make_service_with_connect_info::<SocketAddr>();
    let stopped = stop.clone();
    tasks.spawn(async move {
        axum::serve(http, app).with_graceful_shutdown(stopped.cancelled_owned()).await?;
        Ok(())
    });

    let end_of_rows = CancellationToken::new();
    let (running, stopped) = (live.clone(), end_of_rows.clone());
    let live = tokio::spawn(async move { running.run(stopped).await });

    Ok(Server {
        otlp_grpc: grpc_address,
        otlp_http: otlp_http_address,
        http: http_address,
        storage,
        tasks,
        live,
        stop,
        end_of_rows,
    })
}

impl Server {
    /// The line that says it serves, with all addresses.
    pub(crate) fn ready_line(&self) -> String {
        format!("ready otlp_grpc={} otlp_http={} http={}", self.otlp_grpc, self.otlp_http, self.http)
    }

    /// Serves until `shutdown` is cancelled or a part of the server ends by itself, which is an error.
    pub(crate) async fn run_until(mut self, shutdown: CancellationToken) -> anyhow::Result<()> {
        let ended = tokio::select! {
            () = shutdown.cancelled() => None,
            ended = self.tasks.join_next() => ended,
            ended = &mut self.live => Some(ended.map(Ok)),
        };
        let stopped = self.stop().await;
        match ended {
            Some(Ok(Ok(()))) => bail!("a part of the server stopped by itself; the log above says which"),
            Some(Ok(Err(error))) => Err(error),
            Some(Err(panic)) => Err(panic.into()),
            None => stopped,
        }
    }

    /// Stops taking requests, finishes those under way, flushes, and releases the data directory.
    pub(crate) async fn stop(mut self) -> anyhow::Result<()> {
        self.stop.cancel();
        // A client that keeps its connection open must not keep the process.
        let all_ended = async { while self.tasks.join_next().await.is_some() {} };
        if tokio::time::timeout(STOP_DEADLINE, all_ended).await.is_err() {
            self.tasks.shutdown().await;
        }
        self.end_of_rows.cancel();
        if !self.live.is_finished()
            && let Err(panic) = self.live.await
        {
            tracing::error!(%panic, "the analysis failed; its last seconds are lost");
        }
        self.storage.close().await.context("the last rows stay in the write-ahead log")
    }
}

/// How the routes of Prometheus behave.
fn prometheus_settings(config: &Config, clock: &Clock, http: SocketAddr) -> Settings {
    config.features.announce();
    let mut settings = Settings::new(clock);
    let promql = &config.promql;
    settings.timeout = promql.timeout;
    settings.options.samples = promql.max_samples;
    settings.options.series = promql.max_series;
    settings.options.lookback_ms = i64::try_from(promql.lookback_delta.as_millis()).unwrap_or(i64::MAX);
    config.features.apply(&mut settings.options);
    settings.folder = config.data_dir.clone();
    let flags = [("enable-feature", config.features.list()), ("web.listen-address", http.to_string())];
    settings.flags = flags.map(|(name, value)| (name.to_owned(), value)).into();
    settings
}

/// Answers a request within a span of its own.
async fn traced(request: Request, next: Next) -> Response {
    let span = tracing::info_span!(
        "http",
        otel.name = format!("{} {}", request.method(), request.uri().path()),
        otel.kind = "server",
        http.request.method = %request.method(),
        url.path = request.uri().path(),
        http.response.status_code = tracing::field::Empty,
    );
    let response = next.run(request).instrument(span.clone()).await;
    span.record("http.response.status_code", response.status().as_u16());
    response
}

/// How long requests under way may take once the server stops.
const STOP_DEADLINE: Duration = Duration::from_secs(5);
/// Pause between two looks at whether storage has failed.
const FAILURE_POLL: Duration = Duration::from_millis(500);

/// Ends with an error when storage can promise nothing more, because a sync failed: the process must not
/// go on as if it could.
async fn failure_of(storage: Storage) -> anyhow::Result<()> {
    loop {
        tokio::time::sleep(FAILURE_POLL).await;
        if let Some(reason) = storage.status().stopped {
            bail!("storage has stopped and nothing more is acknowledged: {reason}");
        }
    }
}

/// What the scraper is told.
fn scraping(config: &Config) -> scrape::Options {
    let rules = config.rules.clone();
    scrape::Options {
        file: config.prometheus.config.clone(),
        names: scrape::Names {
            hosts: config.prometheus.hosts.clone(),
            dns_server: config.prometheus.dns_server,
        },
        variable: Some(Box::new(|name| std::env::var(name).ok())),
        accept: Some(Box::new(move |config| {
            let groups = crate::rules::groups(&rules.clone().with_prometheus(config));
            groups.map(drop).map_err(|error| format!("{error:#}"))
        })),
    }
}

/// Reads Prometheus' configuration file again whenever the process is told to; a file with mistakes changes nothing.
async fn reload_on_hangup(scraper: Scraper) -> anyhow::Result<()> {
    let mut hangups = crate::process::hangups()?;
    while hangups.recv().await.is_some() {
        let reloading = scraper.clone();
        match tokio::task::spawn_blocking(move || reloading.reload()).await? {
            Ok(()) => tracing::info!("Prometheus' configuration is loaded again"),
            Err(error) => tracing::error!(%error, "Prometheus' configuration stays as it was"),
        }
    }
    Ok(())
}

async fn listen(flag: &str, address: SocketAddr) -> anyhow::Result<TcpListener> {
    TcpListener::bind(address).await.map_err(|error| match error.kind() {
        std::io::ErrorKind::AddrInUse => anyhow::anyhow!(
            "`{address}` is in use by another process; choose another with {flag} (port 0 picks a free one)"
        ),
        _ => anyhow::anyhow!("cannot listen on `{address}` ({flag}): {error}"),
    })
}

fn warn_of_open_doors(config: &Config) {
    for address in [config.otlp_grpc, config.otlp_http, config.http] {
        if !address.ip().is_loopback() {
            tracing::warn!(
                "{address} is open to other machines without TLS and without a login (--insecure-listen)"
            );
        }
    }
}
