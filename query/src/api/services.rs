//! `GET /api/services`: the services that were seen lately, and their instances.

use std::time::Duration;

use axum::Json;
use axum::extract;
use serde_json::{Value, json};

use super::window::Window;
use super::{ApiError, State, reader, text};

/// How far back a service counts as there.
const LATELY: Duration = Duration::from_secs(900);

pub(super) async fn get(extract::State(state): extract::State<State>) -> Result<Json<Value>, ApiError> {
    let window = Window::parse(None, None, LATELY, state.clock.now())?;
    let from = text::moment(window.from);
    let sql = format!(
        "\
SELECT name, array_agg(DISTINCT instance ORDER BY instance) FILTER (WHERE instance <> '') AS instances
FROM (SELECT server AS name, endpoint AS instance FROM edges WHERE time >= {from}
      UNION ALL SELECT client, '' FROM edges WHERE time >= {from}
      UNION ALL SELECT service, coalesce(service_instance_id, '') FROM spans WHERE start_time >= {from})
WHERE name <> 'unknown'
GROUP BY name ORDER BY name"
    );
    let answer = state.ask(&sql).await?;
    let services: Vec<Value> = reader::rows(&answer)
        .map(|row| json!({ "name": row.text("name"), "instances": row.texts("instances") }))
        .collect();
    Ok(Json(json!({ "services": services, "warnings": answer.warnings, "sql": sql })))
}
