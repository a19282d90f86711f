//! `weir promql`: PromQL tools that need no server.

use std::path::PathBuf;

use anyhow::{Context, bail};
use clap::Subcommand;
use weir_query::promql::script;

/// The verbs below `weir promql`.
#[derive(Debug, Subcommand)]
pub(super) enum PromqlVerb {
    /// Run PromQL test scripts
    Test {
        /// The scripts
        #[arg(required = true)]
        files: Vec<PathBuf>,
    },
}

pub(super) fn run(verb: PromqlVerb) -> anyhow::Result<()> {
    let PromqlVerb::Test { files } = verb;
    let (mut passed, mut failed) = (0, 0);
    for file in files {
        let text =
            std::fs::read_to_string(&file).with_context(|| format!("cannot read `{}`", file.display()))?;
        let report = script::run(&text, &script::options())
            .with_context(|| format!("`{}` is no test script", file.display()))?;
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
