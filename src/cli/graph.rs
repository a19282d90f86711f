//! `weir graph`: the service graph as a table.

use clap::{Args, ValueEnum};
use serde_json::Value;

use super::Usage;
use super::client::{Output, ServerArgs, cell, plain_table};

/// Arguments of `weir graph`.
#[derive(Debug, Args)]
pub(super) struct GraphArgs {
    /// Start: RFC 3339, Unix seconds, or relative as in -15m
    #[arg(long, default_value = "-5m", allow_hyphen_values = true)]
    from: String,
    /// End, in the same forms
    #[arg(long, default_value = "now", allow_hyphen_values = true)]
    to: String,
    /// What a node is
    #[arg(long, value_enum, default_value = "service")]
    level: Level,
    /// How to print it
    #[arg(short, long, value_enum, default_value = "table")]
    output: Output,
    #[command(flatten)]
    server: ServerArgs,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Level {
    Service,
    Workload,
    Operation,
}

const COLUMNS: [(&str, &str); 10] = [
    ("CLIENT", "client"),
    ("SERVER", "server"),
    ("PROTOCOL", "protocol"),
    ("CALLS/S", "calls_per_s"),
    ("ERRORS %", "error_rate"),
    ("P50 MS", "p50_ms"),
    ("P90 MS", "p90_ms"),
    ("P99 MS", "p99_ms"),
    ("BREAKER", "breaker"),
    ("HEALTH", "health"),
];

pub(super) fn run(args: GraphArgs) -> anyhow::Result<()> {
    super::on_client_runtime(async move {
        let level = args.level.to_possible_value().map(|v| v.get_name().to_owned()).unwrap_or_default();
        let params = [("from", args.from.clone()), ("to", args.to.clone()), ("level", level)];
        let response = args.server.ask(|http, url| http.get(url).query(&params), "/api/graph").await?;
        match args.output {
            Output::Json => super::say(response.text().await?)?,
            Output::Table => {
                let graph: Value = response.json().await?;
                let mut table = plain_table(COLUMNS.map(|(title, _)| title));
                for edge in graph["edges"].as_array().into_iter().flatten() {
                    table.add_row(COLUMNS.map(|(_, key)| shown(key, &edge[key])));
                }
                super::say(table)?;
            }
            Output::Csv => {
                return Err(Usage(
                    "the graph has no CSV form; use `weir query -o csv 'select * from service_graph'`".into(),
                )
                .into());
            }
        }
        Ok(())
    })
}

fn shown(key: &str, value: &Value) -> String {
    match (key, value.as_f64()) {
        ("error_rate", Some(rate)) => format!("{:.2}", rate * 100.0),
        (_, Some(number)) => format!("{number:.1}"),
        (_, None) => cell(value),
    }
}
