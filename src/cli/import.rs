//! `weir import`: the files of [`crate::import`], read to their ends.

use std::io;

use crate::{process, telemetry};

/// What is logged while a data directory is written: trouble only.
const QUIET: &str = "warn,deltalake_core=error,buoyant_kernel=error";

pub(super) fn run(args: crate::import::ImportArgs) -> anyhow::Result<()> {
    telemetry::start_log(QUIET);
    super::on_server_runtime(async {
        let stop = process::shutdown_on_signal()?;
        let clock = process::wall_clock();
        Ok(crate::import::run(args, clock, stop, &mut io::stdout(), &mut io::stderr()).await?)
    })
}
