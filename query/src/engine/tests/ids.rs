//! Ids are joined and filtered as stored, and every answer is that of their texts.

use super::*;

/// Each call of a span by another.
const CALLS: &str =
    "(select p.span_id as parent, c.span_id as child, p.service as client, c.service as server
    from spans p join spans c on c.trace_id = p.trace_id and c.parent_span_id = p.span_id)";

#[tokio::test]
async fn joins_on_ids_compare_bytes_and_show_texts() {
    let engine = shop();
    let joined = format!("select client || '>' || server from {CALLS}");
    assert_eq!(lines(&engine, &joined).await, ["frontend>payments"]);
    let plan = plan(&engine, &joined).await;
    assert!(plan.contains("HashJoinExec") && !plan.contains("hex_id"), "{plan}");

    let shown = format!("select parent || '>' || child from {CALLS}");
    assert_eq!(lines(&engine, &shown).await, ["0000000000000001>0000000000000002"]);
    let with_others = "select coalesce(c.span_id, 'none') || ' of ' || coalesce(p.span_id, 'none')
        from spans c left join spans p on c.trace_id = p.trace_id and c.parent_span_id = p.span_id
        order by c.span_id";
    let expected =
        ["0000000000000001 of none", "0000000000000002 of 0000000000000001", "0000000000000009 of none"];
    assert_eq!(lines(&engine, with_others).await, expected);
}

#[tokio::test]
async fn joins_that_read_an_id_otherwise_as_well_stay_as_they_are() {
    let engine = shop();
    let count = |text: &str| {
        let (engine, text) = (Arc::clone(&engine), format!("select count(*) from {text}"));
        async move { lines(&engine, &text).await.remove(0) }
    };
    // The same column in two keys, a filter on a key, an id beside a text, ids of other tables, nested joins.
    let twice = "spans a join spans b on a.trace_id = b.trace_id and a.trace_id = b.span_id";
    assert_eq!(count(twice).await, "0");
    let filtered =
        "spans a join spans b on a.trace_id = b.trace_id and a.trace_id || 'x' <> b.span_id || a.name";
    assert_eq!(count(filtered).await, "5");
    let text = "spans a join (select '000000000000000000000000000000a1' as id) b on a.trace_id = b.id";
    assert_eq!(count(text).await, "2");
    let other = "logs l join spans s on l.trace_id = s.trace_id and l.span_id = s.span_id";
    assert_eq!(count(other).await, "1");
    let nested = "spans a join spans b on a.trace_id = b.trace_id join spans c on b.trace_id = c.trace_id";
    assert_eq!(count(nested).await, "9");
    let semi = "spans where trace_id in (select trace_id from logs)";
    assert_eq!(count(semi).await, "2");
    let anti = "spans s where not exists (select 1 from logs l where l.trace_id = s.trace_id)";
    assert_eq!(count(anti).await, "1");
    let cut =
        "(select * from (select trace_id as t, span_id from spans) where span_id > '0000000000000001') a
        join spans b on a.t = b.trace_id";
    assert_eq!(count(cut).await, "3");
}

#[tokio::test]
async fn filters_on_ids_and_codes_keep_what_their_texts_would() {
    let engine = shop();
    let count = async |condition: &str| {
        lines(&engine, &format!("select count(*) from spans where {condition}")).await.remove(0)
    };
    for (condition, kept) in [
        ("span_id = '0000000000000001'", "1"),
        ("'0000000000000001' = span_id", "1"),
        ("span_id <> '0000000000000001'", "2"),
        ("span_id in ('0000000000000001', '0000000000000009')", "2"),
        ("span_id not in ('0000000000000001')", "2"),
        // No id is shown as any of these.
        ("trace_id = '000000000000000000000000000000A1'", "0"),
        ("trace_id <> '000000000000000000000000000000A1'", "3"),
        ("trace_id in ('000000000000000000000000000000A1', '000000000000000000000000000000b2')", "1"),
        ("trace_id = 'a1'", "0"),
        ("trace_id = '+1'", "0"),
        ("trace_id <> 'no hex'", "3"),
        ("trace_id = ''", "0"),
        // Null is not known to differ.
        ("parent_span_id = '0000000000000001'", "1"),
        ("parent_span_id <> '0000000000000009'", "1"),
        ("parent_span_id not in ('0000000000000009')", "1"),
        ("parent_span_id is null", "2"),
        ("status = 'error'", "2"),
        ("status <> 'error'", "1"),
        ("status = 'unset'", "1"),
        ("status <> 'unset'", "2"),
        ("status in ('error', 'ok')", "2"),
        ("status not in ('error', 'unset')", "0"),
        ("status = 'fine'", "0"),
        ("status <> 'fine'", "3"),
        (
            "status = 'error' and span_id = '0000000000000002' or service = 'frontend' and status = 'unset'",
            "2",
        ),
        ("case when status = 'error' then span_id end = '0000000000000002'", "1"),
    ] {
        assert_eq!(count(condition).await, kept, "{condition}");
    }
}
