//! `weir demo fault`: tells the running demo what to break and what to mend.

use std::io::{self, Write};
use std::path::PathBuf;
use std::time::Duration;

use reqwest::{Client, Response};

use super::announce;
use super::faults::{Fault, FaultKind};
use super::routes::{Overview, Switch};

/// Breaks a service of the running demo, or one replica of it.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct FaultArgs {
    /// What goes wrong; `clear` ends every fault of TARGET, or all of them.
    #[arg(value_enum)]
    pub(crate) kind: FaultVerb,
    /// A service such as `payments`, or one replica: `payments/2` or `payments/payments-2`.
    #[arg(required_if_eq_any([("kind", "latency"), ("kind", "errors"), ("kind", "outage")]))]
    pub(crate) target: Option<String>,
    /// End this fault instead of starting it.
    #[arg(long)]
    pub(crate) off: bool,
    /// The data directory of the demo that is meant; the newest demo of this user without it.
    #[arg(long, value_name = "DIR", conflicts_with = "http")]
    pub(crate) data_dir: Option<PathBuf>,
    /// The HTTP address of the demo that is meant.
    #[arg(long, value_name = "ADDR")]
    pub(crate) http: Option<String>,
}

/// What is asked of the demo.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum FaultVerb {
    /// Ten times as slow, and slower by 50 ms at least.
    Latency,
    /// Answers with errors.
    Errors,
    /// Drops every connection.
    Outage,
    /// No fault any more.
    Clear,
}

/// Why the demo could not be told.
#[derive(Debug, thiserror::Error)]
pub(crate) enum FaultError {
    /// No demo announced itself.
    #[error(
        "no running demo found ({0}): start one with `weir demo`, or name it with `--data-dir` or `--http`"
    )]
    NoDemo(io::Error),
    /// It did not answer.
    #[error("the demo at `{http}` does not answer: {source}")]
    Silent {
        /// Its address.
        http: String,
        /// Why.
        source: reqwest::Error,
    },
    /// It refused.
    #[error("{0}")]
    Refused(String),
    /// The answer could not be printed.
    #[error("cannot print the answer: {0}")]
    Output(#[from] io::Error),
}

impl FaultVerb {
    /// The faults it speaks of.
    fn kinds(self) -> Vec<FaultKind> {
        match self {
            Self::Latency => vec![FaultKind::Latency],
            Self::Errors => vec![FaultKind::Errors],
            Self::Outage => vec![FaultKind::Outage],
            Self::Clear => FaultKind::ALL.to_vec(),
        }
    }
}

/// Does what `args` ask and prints what is broken afterwards.
pub(crate) async fn fault(args: FaultArgs, out: &mut (dyn Write + Send)) -> Result<(), FaultError> {
    let http = match args.http {
        Some(http) => http,
        None => announce::find(args.data_dir.as_deref()).map_err(FaultError::NoDemo)?.http,
    };
    let demo = Demo { client: Client::new(), http };
    let on = args.kind != FaultVerb::Clear && !args.off;
    let mut overview = demo.overview().await?;
    let switches: Vec<Switch> = match args.target {
        Some(target) => {
            let switch = |kind| Switch { kind, target: target.clone(), on };
            args.kind.kinds().into_iter().map(switch).collect()
        }
        None => {
            let switch = |fault: Fault| Switch { kind: fault.kind, target: fault.target, on };
            overview.faults.drain(..).map(switch).collect()
        }
    };
    for switch in &switches {
        overview = demo.switch(switch).await?;
    }
    for fault in &overview.faults {
        writeln!(out, "{} on {}", fault.kind, fault.target)?;
    }
    if overview.faults.is_empty() {
        writeln!(out, "no faults")?;
    }
    Ok(())
}

struct Demo {
    client: Client,
    http: String,
}

impl Demo {
    async fn overview(&self) -> Result<Overview, FaultError> {
        let request = self.client.get(format!("http://{}/api/demo", self.http));
        self.answer(request).await
    }

    async fn switch(&self, switch: &Switch) -> Result<Overview, FaultError> {
        let request = self.client.post(format!("http://{}/api/demo/faults", self.http)).json(switch);
        self.answer(request).await
    }

    async fn answer(&self, request: reqwest::RequestBuilder) -> Result<Overview, FaultError> {
        let silent = |source| FaultError::Silent { http: self.http.clone(), source };
        let response = request.timeout(Duration::from_secs(10)).send().await.map_err(silent)?;
        if !response.status().is_success() {
            return Err(FaultError::Refused(self.refusal(response).await));
        }
        response.json().await.map_err(silent)
    }

    async fn refusal(&self, response: Response) -> String {
        let status = response.status();
        let answer: serde_json::Value = response.json().await.unwrap_or_default();
        match answer["error"]["message"].as_str() {
            Some(message) => message.to_owned(),
            None => format!("`{}` answered {status}: is it a `weir demo`?", self.http),
        }
    }
}
