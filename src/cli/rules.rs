//! `weir rules`: rule files checked and tested, as promtool does.

use std::path::PathBuf;

use anyhow::{Context, bail};
use clap::Subcommand;
use weir_query::promql::features::Features;
use weir_query::rules::{file, unit};

use crate::glob;

/// The verbs below `weir rules`.
#[derive(Debug, Subcommand)]
pub(super) enum RulesVerb {
    /// Say what is wrong with rule files
    Check {
        /// The files
        #[arg(required = true)]
        files: Vec<PathBuf>,
    },
    /// Run unit tests of rules, in the format of promtool
    Test {
        /// The files of tests
        #[arg(required = true)]
        files: Vec<PathBuf>,
    },
}

pub(super) fn run(verb: RulesVerb) -> anyhow::Result<()> {
    match verb {
        RulesVerb::Check { files } => check(&files),
        RulesVerb::Test { files } => super::on_client_runtime(test(&files)),
    }
}

fn check(files: &[PathBuf]) -> anyhow::Result<()> {
    let mut failed = 0;
    for path in files {
        let name = path.display().to_string();
        super::say(format_args!("Checking {name}"))?;
        let text = std::fs::read_to_string(path).with_context(|| format!("cannot read `{name}`"))?;
        match file::parse(&name, &text, Features::NONE) {
            Ok(groups) => {
                let count: usize = groups.iter().map(|group| group.rules.len()).sum();
                super::say(format_args!("  SUCCESS: {count} rules found"))?;
                let again = file::duplicates(&groups);
                if !again.is_empty() {
                    super::say(format_args!("{} duplicate rule(s) found.", again.len()))?;
                }
                for (rule, labels) in again {
                    super::say(format_args!("Metric: {rule}\nLabel(s):"))?;
                    for (label, value) in labels.iter() {
                        super::say(format_args!("\t{label}: {value}"))?;
                    }
                    super::say("Might cause inconsistency while recording expressions")?;
                }
            }
            Err(mistakes) => {
                failed += 1;
                super::say("  FAILED:")?;
                for mistake in mistakes {
                    super::say(mistake)?;
                }
            }
        }
        super::say("")?;
    }
    if failed > 0 {
        bail!("{failed} of {} files have mistakes", files.len());
    }
    Ok(())
}

async fn test(files: &[PathBuf]) -> anyhow::Result<()> {
    let mut failed = 0;
    for path in files {
        super::say(format_args!("Unit Testing:  {}", path.display()))?;
        let failures = failures(path).await?;
        if failures.is_empty() {
            super::say("  SUCCESS")?;
        } else {
            failed += 1;
            super::say("  FAILED:")?;
        }
        for failure in failures {
            super::say(format_args!("{failure}\n"))?;
        }
        super::say("")?;
    }
    if failed > 0 {
        bail!("tests of {failed} of {} files failed", files.len());
    }
    Ok(())
}

/// Runs the tests of one file; its rule files are found from where it is.
async fn failures(path: &std::path::Path) -> anyhow::Result<Vec<String>> {
    let name = path.display().to_string();
    let text = std::fs::read_to_string(path).with_context(|| format!("cannot read `{name}`"))?;
    let tests = match unit::parse(&name, &text) {
        Ok(tests) => tests,
        Err(mistakes) => return Ok(mistakes.iter().map(ToString::to_string).collect()),
    };
    let mut rules = Vec::new();
    for pattern in &tests.rule_files {
        let pattern = path.parent().unwrap_or(path).join(pattern);
        let found = glob::files(&pattern);
        if found.is_empty() {
            super::say(format_args!("  WARNING: no file match pattern {}", pattern.display()))?;
        }
        for file in found {
            let name = file.display().to_string();
            let text = std::fs::read_to_string(&file).with_context(|| format!("cannot read `{name}`"))?;
            rules.push((name, text));
        }
    }
    Ok(tests.run(&rules, Features::NONE).await)
}
