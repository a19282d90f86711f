use super::*;

async fn code(engine: &Engine, text: &str) -> &'static str {
    let answer =
        tokio::time::timeout(Duration::from_secs(30), ask(engine, text)).await.expect("answers in time");
    match answer {
        Ok(answer) => panic!("{text:.99} was answered with {} rows", answer.stats.rows),
        Err(error) => error.code,
    }
}

#[tokio::test]
async fn writing_is_refused() {
    let engine = shop();
    for text in [
        "create table t as select 1",
        "create view v as select 1",
        "create schema s",
        "create database d",
        "create external table t stored as csv location '/etc/passwd'",
        "create external table t stored as parquet location 'http://127.0.0.1/x'",
        "create function f(bigint) returns bigint return $1",
        "drop table spans",
        "drop view spans",
        "set datafusion.execution.batch_size = 1",
        "reset datafusion.execution.batch_size",
        "prepare p as select 1",
        "begin",
        "copy (select 1) to '/tmp/weir.csv'",
        "insert into spans select * from spans",
        "insert into spans values (1)",
        "delete from spans",
        "update spans set service = 'x'",
        "truncate table spans",
        "copy spans to '/tmp/weir.parquet' stored as parquet",
    ] {
        assert_eq!(code(&engine, text).await, "not_read_only", "{text}");
    }
    // A write inside a question.
    for text in [
        "explain insert into spans select * from spans",
        "explain analyze create table t as select 1",
        "with x as (select 1) insert into spans select * from x",
    ] {
        assert!(["not_read_only", "plan", "syntax"].contains(&code(&engine, text).await), "{text}");
    }
}

#[tokio::test]
async fn files_and_addresses_cannot_be_read() {
    let engine = shop();
    for text in [
        "select * from '/etc/passwd'",
        "select * from 'file:///etc/passwd'",
        "select * from \"/etc/passwd.csv\"",
        "select * from 'http://127.0.0.1:1/x.parquet'",
        "select * from read_csv('/etc/passwd')",
        "select * from read_parquet('/etc/passwd')",
        "select * from parquet_metadata('/etc/passwd')",
        "select * from glob('/*')",
    ] {
        code(&engine, text).await;
    }
}

#[tokio::test]
async fn endless_and_swelling_functions_are_not_there() {
    let engine = shop();
    for text in [
        "select count(*) from generate_series(1, 1000000000000000000)",
        "select count(*) from range(1, 1000000000000000000)",
        "select generate_series(1, 1000000000000)",
        "select range(1, 1000000000000)",
        "select repeat('x', 2000000000)",
        "select lpad('x', 2000000000), rpad('x', 2000000000)",
        "select array_repeat(1, 2000000000)",
        "select array_resize([1], 2000000000)",
        "with recursive r as (select 1 as n union all select n + 1 from r) select count(*) from r",
    ] {
        code(&engine, text).await;
    }
}

#[tokio::test]
async fn texts_that_would_overflow_the_stack_are_refused_or_answered() {
    let engine = shop();
    assert_eq!(code(&engine, &format!("select {}", vec!["1"; 30_000].join("+"))).await, "too_complex");
    assert_eq!(code(&engine, &format!("select {}", vec!["1"; 100_000].join("+"))).await, "too_long");
    assert_eq!(code(&engine, &format!("select {}1{}", "(".repeat(1_900), ")".repeat(1_900))).await, "syntax");
    assert_eq!(code(&engine, &format!("select {} true", "not ".repeat(1_900))).await, "syntax");
    for text in [
        vec!["select 1"; 900].join(" union all "),
        format!("select {}", vec!["1"; 1_900].join("+")),
        format!("select count(*) from spans where {}", vec!["duration_ns = 1"; 900].join(" or ")),
        format!("select count(*) from spans where {}", vec!["service = 'a'"; 900].join(" and ")),
        format!("select {}", vec!["duration_ns"; 1_900].join("+") + " from spans"),
        format!("select 1{}", "::bigint".repeat(1_900)),
        format!("select [1]{}", "[1]".repeat(1_900)),
        format!("select case {} end", "when duration_ns = 1 then 2 ".repeat(600) + " end from spans"),
    ] {
        // Either is fine; a crash of the thread is not.
        if let Err(error) = ask(&engine, &text).await {
            assert_ne!(error.code, "internal", "{}…: {error:?}", &text[..60]);
        }
    }
}

#[tokio::test]
async fn too_many_tables_are_refused() {
    let engine = shop();
    let from: Vec<_> = (0..500).map(|n| format!("series s{n}")).collect();
    assert_eq!(code(&engine, &format!("select 1 from {}", from.join(","))).await, "too_complex");
}

#[tokio::test]
async fn errors_say_what_where_and_what_to_do() {
    let engine = shop();
    let mut said = String::new();
    for text in [
        "select *\nfrom spans\nwhere servic = 'x'",
        "select nonsense from spans",
        "select s.durations from spans s",
        "select * from span",
        "select * from nowhere",
        "selec 1",
        "select 1 +",
        "select * from spans where",
        "select service\nfrom spans\ngroup by name",
        "select no_such_function(1)",
        "select 'x' + interval '1 day'",
        "select 1; select 2",
        "select 1/0",
        "insert into spans values (1)",
        "",
    ] {
        let error = ask(&engine, text).await.unwrap_err();
        said += &format!("{text:?}\n  {}\n", serde_json::to_string(&error).unwrap());
    }
    insta::assert_snapshot!(said);
}

#[tokio::test]
async fn the_deadline_and_the_memory_bound_are_named() {
    let rows = (0..2_000).map(|n| json!({"metric": "m", "series_id": n})).collect::<Vec<_>>();
    let snapshot = || testdata::snapshot([(Table::Samples, rows.clone())]);
    let options =
        EngineOptions { deadline: Duration::from_millis(300), ..EngineOptions::new(testdata::clock()) };
    let slow = Engine::over(snapshot(), options).unwrap();
    let endless = "select count(*) from samples a, samples b, samples c, samples d where a.value + b.value + c.value + d.value > 1";
    let error = ask(&slow, endless).await.unwrap_err();
    assert_eq!((error.code, error.message.as_str()), ("deadline", "query took longer than 0.3 s"));

    let options = EngineOptions { memory_bytes: 1 << 20, ..EngineOptions::new(testdata::clock()) };
    let small = Engine::over(snapshot(), options).unwrap();
    let error =
        ask(&small, "select a.series_id, b.series_id, count(*) from samples a, samples b group by 1, 2")
            .await
            .unwrap_err();
    assert_eq!(error.code, "memory", "{error:?}");
    assert_eq!(lines(&small, "select 1").await, ["1"], "the memory is given back");
}
