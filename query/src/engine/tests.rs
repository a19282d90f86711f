use std::sync::Arc;
use std::time::Duration;

use arrow::util::pretty::pretty_format_batches;
use serde_json::json;
use weir_storage::Table;

use super::*;
use crate::testdata::{self, T0};

mod files;
mod ids;
mod refused;
mod views;

fn shop() -> Arc<Engine> {
    testdata::engine(testdata::shop())
}

async fn ask(engine: &Engine, text: &str) -> Result<Answer, SqlError> {
    engine.sql(&TenantId::default(), &SqlQuery::new(text)).await
}

/// The answer as a table.
async fn table(engine: &Engine, text: &str) -> String {
    let answer = ask(engine, text).await.unwrap_or_else(|error| panic!("{text}: {error:?}"));
    pretty_format_batches(&answer.batches).unwrap().to_string()
}

/// The first column of the answer, a line a row.
async fn lines(engine: &Engine, text: &str) -> Vec<String> {
    let answer = ask(engine, text).await.unwrap_or_else(|error| panic!("{text}: {error:?}"));
    let column = |batch: &arrow::record_batch::RecordBatch| {
        let text = arrow::compute::cast(batch.column(0), &arrow::datatypes::DataType::Utf8).unwrap();
        arrow::array::AsArray::as_string::<i32>(&text)
            .iter()
            .map(|v| v.unwrap_or("null").to_owned())
            .collect::<Vec<_>>()
    };
    answer.batches.iter().flat_map(column).collect()
}

async fn plan(engine: &Engine, text: &str) -> String {
    let answer = ask(engine, &format!("EXPLAIN {text}")).await.unwrap();
    pretty_format_batches(&answer.batches).unwrap().to_string()
}

#[tokio::test]
async fn parameters_stand_for_values() {
    let params = vec![json!("payments"), json!(10_000_000), json!(0.5), json!(null), json!(true)];
    let text = "select count(*) from spans where service = $1 and duration_ns > $2 and $3 < 1.0 and $4 is null and $5";
    let answer = shop().sql(&TenantId::default(), &SqlQuery { text: text.into(), params }).await.unwrap();
    assert_eq!(answer.stats.rows, 1);
    let bad = SqlQuery { text: "select $1".into(), params: vec![json!([1])] };
    let error = shop().sql(&TenantId::default(), &bad).await.unwrap_err();
    assert_eq!((error.code, error.message.as_str()), ("bad_parameter", "parameter $1 is an array or object"));
}

#[tokio::test]
async fn answers_are_cut_and_say_so() {
    let options = EngineOptions { rows: 2, ..EngineOptions::new(testdata::clock()) };
    let engine = Engine::over(testdata::snapshot(testdata::shop()), options).unwrap();
    let answer = ask(&engine, "select * from spans").await.unwrap();
    assert_eq!((answer.stats.rows, answer.warnings.len()), (2, 1));
    let whole = ask(&engine, "select * from spans limit 2").await.unwrap();
    assert_eq!((whole.stats.rows, whole.warnings.len()), (2, 0));
}

#[tokio::test]
async fn a_dropped_question_stops_running() {
    let options = EngineOptions {
        queries: 1,
        deadline: Duration::from_secs(30),
        ..EngineOptions::new(testdata::clock())
    };
    let engine = Engine::over(testdata::snapshot(testdata::shop()), options).unwrap();
    let endless = engine.run(std::future::pending::<()>());
    let waited = tokio::time::timeout(Duration::from_millis(20), endless).await;
    assert!(waited.is_err());
    // Its turn is free again: with one turn, this would otherwise wait for the deadline.
    assert_eq!(lines(&engine, "select 1").await, ["1"]);
}
