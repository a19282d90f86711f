//! What fuzzing calls: the text of PromQL, with what must hold whatever it is.
//!
//! `tests/fuzz` makes the texts up, as a program of its own outside the workspace; the tests here replay those that
//! are kept in `tests/fuzz/corpus`.

use serde_json::Value;
use weir_model::limits::QUERY_BYTES;

use crate::api::tree;
use crate::promql::ast::Expr;
use crate::promql::{Features, parser};

/// Takes any bytes; panics where a promise is broken.
pub type Target = fn(&[u8]);

/// The targets by name, which is that of their folder in the corpus.
pub const TARGETS: [(&str, Target); 1] = [("promql", promql)];

/// The bytes as an expression and as a selector. What is an expression is one again when it is printed, on one line
/// or over several; and it needs no feature that it does not name.
fn promql(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let _ = parser::parse_selector(text);
    let all = parser::parse(text, Features::ALL);
    if let Ok(plain) = parser::parse(text, Features::NONE) {
        let all = all.as_ref().expect("features only add to the language");
        same(&plain, all);
    }
    let Ok(expr) = all else { return };
    for printed in [expr.to_string(), expr.pretty()] {
        if printed.len() > QUERY_BYTES {
            continue;
        }
        match parser::parse(&printed, Features::ALL) {
            Ok(again) => same(&expr, &again),
            // A sign that is a part of a number when it is read is an operator in print.
            Err(error) if error.message.contains("nested deeper than") => {}
            Err(error) => panic!("{text:?} is printed as {printed:?}: {error}"),
        }
    }
}

/// Both are one tree, whatever the places in their texts.
fn same(a: &Expr, b: &Expr) {
    assert_eq!(a.to_string(), b.to_string());
    assert_eq!(in_order(tree(a)), in_order(tree(b)));
}

/// `node` with the conditions of selectors in the order in which they are printed.
fn in_order(mut node: Value) -> Value {
    match &mut node {
        Value::Array(all) => all.iter_mut().for_each(|one| *one = in_order(one.take())),
        Value::Object(fields) => {
            if let Some(Value::Array(matchers)) = fields.get_mut("matchers") {
                matchers.sort_by_key(Value::to_string);
            }
            fields.values_mut().for_each(|one| *one = in_order(one.take()));
        }
        _ => {}
    }
    node
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;
    use std::time::{Duration, Instant};

    use super::*;

    /// Far more than any text takes, and far less than a loop that does not end.
    const PATIENCE: Duration = Duration::from_secs(10);

    fn check(target: Target, bytes: &[u8]) {
        let began = Instant::now();
        target(bytes);
        assert!(began.elapsed() < PATIENCE, "{:?}", began.elapsed());
    }

    #[test]
    fn the_corpus_keeps_every_promise() {
        for (name, target) in TARGETS {
            let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/fuzz/corpus").join(name);
            let mut count = 0;
            for file in fs::read_dir(&folder).unwrap() {
                let path = file.unwrap().path();
                println!("{}", path.display());
                check(target, &fs::read(path).unwrap());
                count += 1;
            }
            assert!(count >= 3, "{count} files for {name}");
        }
    }

    #[test]
    fn nothing_is_read_again_and_again() {
        for piece in
            ["(", "-", "a[1m:", "a+", "sum(", "{a=", "[", "\"\\", "1e", "a offset ", "#", "(a^", "@ "]
        {
            let text = piece.repeat(QUERY_BYTES / piece.len());
            check(promql, text.as_bytes());
        }
    }

    /// Every corpus text with a byte changed, left out or doubled.
    #[test]
    fn small_changes_break_no_promise() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/fuzz/corpus/promql");
        for file in fs::read_dir(&folder).unwrap() {
            let text = fs::read(file.unwrap().path()).unwrap();
            for at in 0..text.len() {
                let (before, after) = text.split_at(at);
                promql(&[before, &after[1..]].concat());
                promql(&[before, &after[..1], after].concat());
                for byte in b"([-\"" {
                    promql(&[before, &[*byte], &after[1..]].concat());
                }
            }
        }
    }
}
