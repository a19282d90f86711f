use super::*;

#[tokio::test]
async fn every_column_has_the_type_that_the_catalogue_says_and_a_comment() {
    let engine = shop();
    for view in catalogue() {
        assert!(!view.comment.is_empty(), "{}", view.name);
        let answer = ask(&engine, &format!("select * from {}", view.name)).await.unwrap();
        let shown: Vec<_> =
            answer.schema.fields().iter().map(|f| (f.name().clone(), sql_type(f.data_type()))).collect();
        let listed: Vec<_> = view.columns.iter().map(|c| (c.name.clone(), c.sql_type.clone())).collect();
        assert_eq!(listed, shown, "{}", view.name);
        for column in &view.columns {
            assert!(!column.comment.is_empty(), "{}.{} has no comment", view.name, column.name);
        }
    }
    let listed = lines(
        &engine,
        "select table_name from information_schema.tables where table_schema = 'public' order by 1",
    )
    .await;
    assert_eq!(listed, catalogue().iter().map(|view| view.name).collect::<Vec<_>>());
}

#[tokio::test]
async fn spans_show_ids_moments_names_and_attributes() {
    insta::assert_snapshot!(table(&shop(), "
        select trace_id, span_id, parent_span_id, kind, status, start_time, end_time, duration_ns, http_status,
               attributes['http.route'] as route, attributes['http.response.status_code'] as code,
               attributes['n'] as n, attributes['list'] as list, attributes['absent'] as absent,
               resource_attributes['service.name'] as rs, resource_attributes['host'] as host,
               resource_attributes['service.version'] as version
        from spans order by start_time").await);
    insta::assert_snapshot!(table(&shop(), "
        select attributes, events, links, attr_long(attributes, 'n') as n, attr_double(attributes, 'ratio') as r,
               attr_bool(attributes, 'vip') as b, attr_long(attributes, 'user') as none
        from spans where trace_id = '000000000000000000000000000000a1' and parent_span_id is null").await);
}

#[tokio::test]
async fn moments_compare_with_text_and_with_now() {
    let engine = shop();
    let count = |filter: &str| {
        let text = format!("select count(*) from spans where {filter}");
        let engine = Arc::clone(&engine);
        async move { lines(&engine, &text).await.remove(0) }
    };
    assert_eq!(count("start_time = '2026-11-24T12:00:00.000000007Z'").await, "1");
    assert_eq!(count("start_time > '2026-11-24T12:00:00.000000007Z'").await, "2");
    assert_eq!(count("start_time >= '2026-11-24T12:00:00.000000007Z'").await, "3");
    assert_eq!(count("start_time < '2026-11-24T13:00:00.000000007+01:00'").await, "0");
    assert_eq!(count("start_time >= now() - interval '1 minute'").await, "3");
    assert_eq!(count("start_time > now() - interval '59 seconds'").await, "0");
    assert_eq!(count("start_time between now() - interval '5 minutes' and now()").await, "3");
    assert_eq!(lines(&engine, "select now()").await, ["2026-11-24T12:01:00Z"]);
}

#[tokio::test]
async fn filters_reach_the_stored_columns() {
    let options = EngineOptions { threads: 1, ..EngineOptions::new(testdata::clock()) };
    let engine = Engine::over(testdata::snapshot(testdata::shop()), options).unwrap();
    insta::assert_snapshot!(
        plan(
            &engine,
            "
        select name, attributes['http.route'] from spans
        where trace_id = '000000000000000000000000000000a1' and start_time >= now() - interval '5 minutes'
          and status = 'error' and service = 'payments'"
        )
        .await
    );
}

#[tokio::test]
async fn metrics_have_labels_and_each_sample_once() {
    let engine = shop();
    insta::assert_snapshot!(
        table(
            &engine,
            "
        select name, labels['instance'] as instance, time, value from metrics order by instance, time"
        )
        .await
    );
    assert_eq!(lines(&engine, "select count(*) from metrics where name = 'up'").await, ["3"]);
    assert_eq!(lines(&engine, "select count(*) from metrics where labels['instance'] = 'i2'").await, ["1"]);
}

#[tokio::test]
async fn exemplars_have_the_labels_of_their_series_and_the_id_of_their_trace() {
    let engine = shop();
    let found = "
        select name || ' ' || labels['instance'] || ' ' || value || ' ' || attributes['user'] || attributes['n']
        from exemplars where trace_id = '000000000000000000000000000000a1' and time = '2026-11-24T12:00:00.000000007Z'";
    assert_eq!(lines(&engine, found).await, ["up i2 1.5 u13"]);
    let joined = "select spans.name from exemplars join spans using (trace_id, span_id)";
    assert_eq!(lines(&engine, joined).await, ["Pay"]);
}

#[tokio::test]
async fn edges_add_up_increments_and_the_graph_chooses_a_reporter() {
    let engine = shop();
    insta::assert_snapshot!(table(&engine, "
        select client, server, endpoint, reporter, calls, errors, round(p50_ms, 1) as p50, round(p99_ms, 1) as p99,
               sketch_count(sketch) as n, sketch_count_above(sketch, 0.05) as slow
        from edges order by client, server, endpoint, reporter").await);
    insta::assert_snapshot!(
        table(
            &engine,
            "
        select client, server, protocol, reporter, calls, errors, error_rate, round(p50_ms, 1) as p50
        from service_graph order by client"
        )
        .await
    );
    let sum =
        "select sum(calls), round(1000 * sketch_quantile(sketch_merge(sketch), 0.99), 1) as p99 from edges
        where reporter = 'source' and time >= '2026-11-24T12:00:00Z' and time < now()";
    insta::assert_snapshot!(table(&engine, sum).await);
}

#[tokio::test]
async fn traces_logs_findings_and_hints_read_as_documented() {
    let engine = shop();
    insta::assert_snapshot!(table(&engine, "select * from traces order by trace_id").await);
    insta::assert_snapshot!(
        table(
            &engine,
            "
        select service, time, severity_text, body, trace_id, attributes from logs order by time"
        )
        .await
    );
    assert_eq!(lines(&engine, "select distinct id from findings").await, ["f-1"]);
    assert_eq!(lines(&engine, "select verdict from hints where event = 'ack'").await, ["applied"]);
}

#[tokio::test]
async fn views_of_nothing_are_empty() {
    let engine = testdata::engine([]);
    for view in catalogue() {
        let text = format!("select count(*) from {}", view.name);
        assert_eq!(lines(&engine, &text).await, ["0"], "{}", view.name);
    }
    let _ = (T0, Table::Spans);
}
