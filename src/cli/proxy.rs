//! `weir proxy`: the data plane, the same as the small binary `weir-proxy`.

use crate::{process, telemetry};

pub(super) fn run(args: weir_proxy_tap::ProxyArgs) -> anyhow::Result<()> {
    let config = args.into_config().map_err(|mistakes| {
        let lines: Vec<String> = mistakes.iter().map(|mistake| format!("  {mistake}")).collect();
        super::Usage(format!("the proxy cannot start:\n{}", lines.join("\n")))
    })?;
    let log = telemetry::start_proxy_log();
    if let Err(error) = weir_proxy_tap::make_room() {
        tracing::warn!(%error, "no more open files than the limit in force allows");
    }
    let beside = Some(weir_proxy_tap::beside()?);
    let config = weir_proxy_tap::Config { log: Some(log), beside, ..config };
    super::on_client_runtime(async move {
        let shutdown = process::shutdown_on_signal()?;
        let seed = fastrand::u64(..);
        let proxy = weir_proxy_tap::start(config, process::wall_clock(), seed).await?;
        eprintln!("{}", proxy.ready_line());
        tokio::select! {
            () = shutdown.cancelled() => {}
            () = proxy.leaving() => {}
        }
        proxy.shutdown().await;
        Ok(())
    })
}
