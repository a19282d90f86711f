//! `weir serve`: everything but the proxies, until a signal.

use std::path::PathBuf;

use clap::Args;

use crate::{config, process, serve, telemetry};

/// Arguments of `weir serve`. Each is also a key of the file and a `WEIR_*` variable; a flag wins over the
/// variable, the variable over the file.
#[derive(Debug, Args)]
pub(super) struct ServeArgs {
    /// Configuration file (TOML)
    #[arg(long, env = "WEIR_CONFIG")]
    config: Option<PathBuf>,
    #[command(flatten)]
    written: config::Overrides,
}

/// What the log shows unless `WEIR_LOG` says otherwise.
const QUIET: &str = "info,deltalake_core=warn,buoyant_kernel=warn,buoyant_kernel_engine=warn";

pub(super) fn run(args: ServeArgs) -> anyhow::Result<()> {
    let config = config::load(args.config.as_deref(), args.written)?;
    let outbox = telemetry::start(QUIET, &config.telemetry);
    super::on_server_runtime(async move {
        let shutdown = process::shutdown_on_signal()?;
        let server = serve::start(&config, process::wall_clock(), axum::Router::new(), outbox).await?;
        eprintln!("{}", server.ready_line());
        server.run_until(shutdown).await
    })
}
