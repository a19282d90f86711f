//! Talking to a running Weir over its HTTP API.

use anyhow::{Context, bail};
use clap::{Args, ValueEnum};
use serde_json::Value;

/// Where the running Weir is.
#[derive(Debug, Args)]
pub(super) struct ServerArgs {
    /// Address of a running Weir's HTTP API
    #[arg(long, env = "WEIR_SERVER", default_value = "http://127.0.0.1:4319")]
    server: String,
}

/// How an answer is printed.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub(super) enum Output {
    /// Aligned columns, for people
    Table,
    /// The answer of the API, unchanged
    Json,
    /// Comma-separated values with a header line
    Csv,
}

impl ServerArgs {
    /// The answer to `request` of a path that begins with `/`, or the server's own words about what is wrong.
    pub(super) async fn ask(
        &self,
        request: impl FnOnce(&reqwest::Client, String) -> reqwest::RequestBuilder,
        path: &str,
    ) -> anyhow::Result<reqwest::Response> {
        let base = self.server.trim_end_matches('/');
        let base = if base.contains("://") { base.to_owned() } else { format!("http://{base}") };
        let response = request(&reqwest::Client::new(), format!("{base}{path}"))
            .send()
            .await
            .with_context(|| format!("no answer from `{base}`; is `weir serve` running there? (--server)"))?;
        if response.status().is_success() {
            return Ok(response);
        }
        let status = response.status();
        let body: Value = response.json().await.unwrap_or_default();
        bail!("{}", describe_error(&body).unwrap_or_else(|| format!("the server answered {status}")))
    }
}

/// One text for both error shapes: Weir's own and Prometheus'.
fn describe_error(body: &Value) -> Option<String> {
    if let Some(message) = body["error"].as_str() {
        return Some(message.to_owned());
    }
    let error = &body["error"];
    let mut text = error["message"].as_str()?.to_owned();
    if let (Some(line), Some(column)) =
        (error["position"]["line"].as_u64(), error["position"]["column"].as_u64())
    {
        text = format!("line {line}, column {column}: {text}");
    }
    if let Some(hint) = error["hint"].as_str() {
        text = format!("{text}\n  {hint}");
    }
    Some(text)
}

/// A table for people, without frames, as wide as it needs to be.
pub(super) fn plain_table(header: impl IntoIterator<Item = impl ToString>) -> comfy_table::Table {
    let mut table = comfy_table::Table::new();
    table.load_preset(comfy_table::presets::NOTHING);
    table.set_header(header.into_iter().map(|name| name.to_string()));
    table
}

/// A JSON value as a table cell shows it.
pub(super) fn cell(value: &Value) -> String {
    match value {
        Value::Null => "-".to_owned(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn both_error_shapes_become_one_text() {
        let own = json!({"error": {"code": "syntax", "message": "unexpected `form`", "hint": "did you mean `from`?",
            "position": {"line": 1, "column": 10}}});
        assert_eq!(
            describe_error(&own).unwrap(),
            "line 1, column 10: unexpected `form`\n  did you mean `from`?"
        );
        let prometheus = json!({"status": "error", "errorType": "bad_data", "error": "1:3: parse error"});
        assert_eq!(describe_error(&prometheus).unwrap(), "1:3: parse error");
        assert_eq!(describe_error(&Value::Null), None);
    }
}
