//! `weir demo`: the shop of [`crate::demo`] around a server in the same process, and the verbs that break it.

use std::net::SocketAddr;

use anyhow::Context;
use tokio_util::sync::CancellationToken;
use weir_model::hint::Mode;
use weir_model::{TenantId, limits};
use weir_storage::{Acks, Retention, Samplings};

use crate::config::{Config, Promql};
use crate::demo::{DemoArgs, DemoVerb, Shop};
use crate::features::Features;
use crate::{demo, process, rules, serve, telemetry};

/// What is logged while a person watches: trouble only. Proxies report what the person does to them.
const QUIET: &str = "warn,deltalake_core=error,buoyant_kernel=error,weir_proxy_tap=error";

pub(super) fn run(args: DemoArgs) -> anyhow::Result<()> {
    match args.verb.clone() {
        None => super::on_server_runtime(run_demo(args)),
        Some(DemoVerb::Fault(fault)) => {
            super::on_client_runtime(async { Ok(demo::fault(fault, &mut std::io::stdout()).await?) })
        }
        Some(DemoVerb::App(app)) => super::on_client_runtime(async {
            telemetry::start_log(QUIET);
            Ok(demo::app(app, process::shutdown_on_signal()?, &mut std::io::stderr()).await?)
        }),
        Some(DemoVerb::Drive(drive)) => super::on_client_runtime(async {
            Ok(demo::drive(drive, process::wall_clock(), process::shutdown_on_signal()?).await?)
        }),
    }
}

async fn run_demo(args: DemoArgs) -> anyhow::Result<()> {
    telemetry::start_log(QUIET);
    let shutdown = process::shutdown_on_signal()?;
    let clock = process::wall_clock();
    // Held to the end: dropping it removes the directory.
    let (data_dir, _scratch) = match &args.data_dir {
        Some(dir) => (dir.clone(), None),
        None => {
            let scratch = tempfile::Builder::new().prefix("weir-demo-").tempdir()?;
            (scratch.path().to_owned(), Some(scratch))
        }
    };
    let shop = Shop::new();
    let config = Config {
        data_dir: data_dir.clone(),
        tenant: TenantId::default(),
        otlp_grpc: args.otlp_grpc,
        otlp_http: args.otlp_http,
        http: args.http,
        insecure_listen: false,
        flush_age: limits::FLUSH_AGE,
        flush_bytes: limits::FLUSH_BYTES,
        retention: Retention::default(),
        samplings: Samplings::default(),
        acks: Acks::default(),
        telemetry: telemetry::Settings::default(),
        prometheus: Default::default(),
        rules: rules::Settings::default(),
        hints: if args.no_hints { Mode::DryRun } else { Mode::Enforce },
        promql: Promql::default(),
        features: Features::default(),
    };
    refuse_open_doors([args.otlp_grpc, args.otlp_http, args.http])?;
    let server =
        serve::start(&config, clock.clone(), demo::router(shop.clone(), clock.clone()), None).await?;
    let closing = CancellationToken::new();
    let mesh = demo::run_mesh(&args, server.otlp_grpc, clock, closing.clone(), shop).await?;
    let announcement = demo::announce(server.http, &data_dir)
        .with_context(|| format!("cannot write to `{}`", data_dir.display()))?;
    eprintln!("{}", server.ready_line());
    super::say(demo::welcome(server.http))?;
    if !args.no_open && !demo::open_browser(&format!("http://{}", server.http)) {
        tracing::debug!("no browser could be opened");
    }
    let over = CancellationToken::new();
    let ended = {
        let over = over.clone();
        tokio::spawn(async move {
            tokio::select! {
                () = shutdown.cancelled() => {}
                () = pause(args.duration) => {}
            }
            drop(announcement);
            // The mesh first, so that what the proxies measured last is still stored.
            closing.cancel();
            mesh.closed().await;
            over.cancel();
        })
    };
    let served = server.run_until(over).await;
    ended.abort();
    served
}

async fn pause(duration: Option<std::time::Duration>) {
    match duration {
        Some(duration) => tokio::time::sleep(duration).await,
        None => std::future::pending().await,
    }
}

/// The demo has no login and must not be reachable from elsewhere.
fn refuse_open_doors(doors: [SocketAddr; 3]) -> anyhow::Result<()> {
    match doors.iter().find(|door| !door.ip().is_loopback()) {
        Some(door) => Err(super::Usage(format!(
            "`{door}` is reachable from other machines and the demo has no login; use a loopback address"
        ))
        .into()),
        None => Ok(()),
    }
}
