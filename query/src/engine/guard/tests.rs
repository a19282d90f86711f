use super::*;

#[test]
fn operators_are_counted_and_values_are_not() {
    let list = (0..5_000).map(|n| n.to_string()).collect::<Vec<_>>().join(",");
    check(&format!("select * from spans where duration_ns in ({list})")).unwrap();
    let chain = vec!["1"; limits::SQL_OPERATORS + 2].join("+");
    assert_eq!(check(&format!("select {chain}")).unwrap_err().code, "too_complex");
    let deep = format!("select {}1", "- ".repeat(limits::SQL_OPERATORS + 1));
    assert_eq!(check(&deep).unwrap_err().code, "too_complex");
}

#[test]
fn long_texts_are_refused_with_both_figures() {
    let error = check(&" ".repeat(limits::QUERY_BYTES + 1)).unwrap_err();
    assert_eq!(
        (error.code, error.message.as_str()),
        ("too_long", "query is 65537 bytes long, of at most 65536 bytes")
    );
}
