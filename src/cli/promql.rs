//! `weir promql`: PromQL tools that need no server.

use std::path::PathBuf;

use anyhow::{Context, bail};
use clap::Subcommand;
use weir_query::promql::script;

use crate::process::wall_clock;

/// The verbs below `weir promql`.
#[derive(Debug, Subcommand)]
pub(super) enum PromqlVerb {
    /// Run PromQL test scripts, each on hot rows and on compacted files
    Test {
        /// The scripts
        #[arg(required = true)]
        files: Vec<PathBuf>,
        /// Run them on series in memory instead
        #[arg(long)]
        in_memory: bool,
    },
}

pub(super) fn run(verb: PromqlVerb) -> anyhow::Result<()> {
    let PromqlVerb::Test { files, in_memory } = verb;
    let runtime = tokio::runtime::Runtime::new().context("cannot start the runtime")?;
    let (options, clock) = (script::options(), wall_clock());
    let (mut passed, mut failed) = (0, 0);
    for file in files {
        let text =
            std::fs::read_to_string(&file).with_context(|| format!("cannot read `{}`", file.display()))?;
        let report = if in_memory {
            script::run(&text, &options).map_err(anyhow::Error::from)
        } else {
            let folder = tempfile::tempdir().context("cannot make a folder for the samples")?;
            let run = script::run_twice(&text, folder.path(), &clock, &options);
            runtime.block_on(run).map_err(anyhow::Error::from)
        };
        let report = report.with_context(|| format!("cannot run `{}`", file.display()))?;
        for failure in &report.failed {
            super::say(format_args!("{}:{failure}", file.display()))?;
        }
        passed += report.passed;
        failed += report.failed.len();
    }
    super::say(format_args!("{passed} passed, {failed} failed"))?;
    if failed > 0 {
        bail!("{failed} of {} cases failed", passed + failed);
    }
    Ok(())
}
