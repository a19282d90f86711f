//! `weir query`: asks a running Weir in SQL or PromQL and prints the answer.

use clap::Args;
use serde_json::{Value, json};

use super::client::{Output, ServerArgs, cell, plain_table};

/// Arguments of `weir query`.
#[derive(Debug, Args)]
pub(super) struct QueryArgs {
    /// The question; SQL unless --promql is given
    query: String,
    /// The question is a PromQL expression, evaluated now
    #[arg(long)]
    promql: bool,
    /// How to print the answer
    #[arg(short, long, value_enum, default_value = "table")]
    output: Output,
    #[command(flatten)]
    server: ServerArgs,
}

pub(super) fn run(args: QueryArgs) -> anyhow::Result<()> {
    super::on_client_runtime(async move { if args.promql { promql(&args).await } else { sql(&args).await } })
}

async fn sql(args: &QueryArgs) -> anyhow::Result<()> {
    let accept = match args.output {
        Output::Csv => "text/csv",
        Output::Table | Output::Json => "application/json",
    };
    let body = json!({"query": args.query});
    let response =
        args.server.ask(|http, url| http.post(url).header("accept", accept).json(&body), "/api/sql").await?;
    if !matches!(args.output, Output::Table) {
        print!("{}", with_newline(response.text().await?));
        return Ok(());
    }
    let answer: Value = response.json().await?;
    let columns: Vec<&str> =
        answer["columns"].as_array().into_iter().flatten().filter_map(|c| c["name"].as_str()).collect();
    let mut table = plain_table(&columns);
    for row in answer["rows"].as_array().into_iter().flatten() {
        table.add_row(columns.iter().map(|name| cell(&row[name])));
    }
    println!("{table}");
    for warning in answer["warnings"].as_array().into_iter().flatten() {
        eprintln!("warning: {}", cell(warning));
    }
    let stats = &answer["stats"];
    let (rows, elapsed_ms) = (stats["rows"].as_u64(), stats["elapsed_ms"].as_f64());
    let (rows, elapsed_ms) = (rows.unwrap_or_default(), elapsed_ms.unwrap_or_default());
    eprintln!("{rows} {} in {elapsed_ms:.1} ms", if rows == 1 { "row" } else { "rows" });
    Ok(())
}

async fn promql(args: &QueryArgs) -> anyhow::Result<()> {
    let form = [("query", &args.query)];
    let response = args.server.ask(|http, url| http.get(url).query(&form), "/api/v1/query").await?;
    if matches!(args.output, Output::Json) {
        print!("{}", with_newline(response.text().await?));
        return Ok(());
    }
    let answer: Value = response.json().await?;
    let data = &answer["data"];
    let rows: Vec<(String, String)> = match data["resultType"].as_str() {
        Some("vector") => data["result"]
            .as_array()
            .into_iter()
            .flatten()
            .map(|series| (series_name(&series["metric"]), cell(&series["value"][1])))
            .collect(),
        _ => vec![(args.query.clone(), cell(&data["result"][1]))],
    };
    if matches!(args.output, Output::Csv) {
        println!("series,value");
        for (series, value) in rows {
            println!("\"{}\",{value}", series.replace('"', "\"\""));
        }
        return Ok(());
    }
    let mut table = plain_table(["series", "value"]);
    for (series, value) in rows {
        table.add_row([series, value]);
    }
    println!("{table}");
    Ok(())
}

/// A label set as PromQL writes it.
fn series_name(labels: &Value) -> String {
    let pairs: Vec<String> = labels
        .as_object()
        .into_iter()
        .flatten()
        .filter(|(name, _)| *name != "__name__")
        .map(|(name, value)| format!("{name}={value}"))
        .collect();
    format!("{}{{{}}}", labels["__name__"].as_str().unwrap_or_default(), pairs.join(", "))
}

fn with_newline(mut text: String) -> String {
    if !text.ends_with('\n') {
        text.push('\n');
    }
    text
}
