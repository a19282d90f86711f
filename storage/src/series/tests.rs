//! Matchers against a model, ids that collide, and days.

use proptest::prelude::*;
use weir_model::SeriesId;

use super::index::SeriesIndex;
use super::{Days, Known, LabelMatcher, Labels, MatchOp, day_of, series_of};
use crate::tests::series;
use crate::{Storage, Table, WriteBatch, tests};

const DAY: i64 = 86_400_000_000;

fn labels(pairs: &[(&str, &str)]) -> Labels {
    Labels::new(pairs.iter().copied())
}

fn matcher(name: &str, op: MatchOp, value: &str) -> LabelMatcher {
    LabelMatcher::new(name, op, value).unwrap()
}

fn index(sets: &[Labels]) -> SeriesIndex {
    let index = SeriesIndex::default();
    assert_eq!(index.add(sets.iter().map(|set| (set.id(), set.clone(), 20_000))), 0);
    index
}

/// The `job` labels of what is selected, sorted; `-` where there is none.
fn jobs(index: &SeriesIndex, matchers: &[LabelMatcher]) -> Vec<String> {
    let selected = index.select(matchers);
    assert!(selected.is_sorted_by_key(|(id, _)| *id));
    let mut jobs: Vec<_> =
        selected.iter().map(|(_, labels)| labels.get("job").unwrap_or("-").to_owned()).collect();
    jobs.sort();
    jobs
}

#[test]
fn labels_are_sorted_unique_and_never_empty() {
    let set = labels(&[("z", "1"), ("a", "x"), ("z", "2"), ("empty", ""), ("__name__", "up")]);
    assert_eq!(set.iter().collect::<Vec<_>>(), [("__name__", "up"), ("a", "x"), ("z", "2")]);
    assert_eq!((set.metric(), set.get("z"), set.get("empty"), set.get("b")), ("up", Some("2"), None, None));
    assert_eq!(labels(&[("a", "x"), ("a", "")]), Labels::default(), "the last value wins, empty too");
    assert_ne!(labels(&[("a", "bc")]).id(), labels(&[("ab", "c")]).id());
    assert_eq!(labels(&[("a", "1"), ("b", "2")]).id(), labels(&[("b", "2"), ("a", "1")]).id());
}

#[test]
fn every_kind_of_matcher_selects_as_prometheus_does() {
    use MatchOp::{Equal, NotEqual, NotRegex, Regex};
    let index = index(&[
        labels(&[("__name__", "up"), ("job", "api")]),
        labels(&[("__name__", "up"), ("job", "web")]),
        labels(&[("__name__", "up"), ("job", "api\nv2")]),
        labels(&[("__name__", "up")]),
    ]);
    for (op, value, expected) in [
        (Equal, "api", vec!["api"]),
        (Equal, "none", vec![]),
        (Equal, "", vec!["-"]),
        (NotEqual, "api", vec!["-", "api\nv2", "web"]),
        (NotEqual, "", vec!["api", "api\nv2", "web"]),
        (Regex, "api|web", vec!["api", "web"]),
        (Regex, "a.*", vec!["api", "api\nv2"]), // a dot matches a line's end, as in Prometheus 3
        (Regex, "ap", vec![]),                  // anchored
        (Regex, ".*", vec!["-", "api", "api\nv2", "web"]),
        (Regex, ".+", vec!["api", "api\nv2", "web"]),
        (Regex, "|web", vec!["-", "web"]),
        (NotRegex, "api|web", vec!["-", "api\nv2"]),
        (NotRegex, ".*", vec![]),
        (NotRegex, ".+", vec!["-"]),
    ] {
        let alone = jobs(&index, &[matcher("job", op, value)]);
        assert_eq!(alone, expected, "job {op:?} {value:?}");
        let joined = [matcher("__name__", Equal, "up"), matcher("job", op, value)];
        assert_eq!(jobs(&index, &joined), expected, "up and job {op:?} {value:?}");
        let nothing = [matcher("__name__", Equal, "down"), matcher("job", op, value)];
        assert_eq!(jobs(&index, &nothing), Vec::<String>::new());
    }
    assert_eq!(index.select(&[]).len(), 4);
    assert_eq!(index.label_names(&[], &Days::ALL), ["__name__", "job"]);
    assert_eq!(index.label_values("job", &[], &Days::ALL), ["api", "api\nv2", "web"]);
    let api = [matcher("job", Regex, "api.*")];
    assert_eq!(index.label_values("job", &api, &Days::ALL), ["api", "api\nv2"]);
    assert_eq!(index.label_names(&[matcher("job", Equal, "")], &Days::ALL), ["__name__"]);
    assert_eq!(index.label_values("nope", &[], &Days::ALL), Vec::<String>::new());
}

#[test]
fn patterns_that_are_none_are_refused() {
    for pattern in ["(", "a)(b", "a)|(b", "[", "*"] {
        assert!(LabelMatcher::new("job", MatchOp::Regex, pattern).is_err(), "{pattern}");
        assert!(LabelMatcher::new("job", MatchOp::NotRegex, pattern).is_err(), "{pattern}");
        assert!(LabelMatcher::new("job", MatchOp::Equal, pattern).is_ok(), "{pattern}");
    }
}

fn any_labels() -> impl Strategy<Value = Labels> {
    let pair = ("[abc]", "[xyz]{0,2}");
    prop::collection::vec(pair, 0..4).prop_map(Labels::new)
}

fn any_matcher() -> impl Strategy<Value = LabelMatcher> {
    let equal = ("[abcd]", "[xyz]{0,2}", any::<bool>()).prop_map(|(name, value, not)| {
        matcher(&name, if not { MatchOp::NotEqual } else { MatchOp::Equal }, &value)
    });
    let regex =
        ("[abcd]", "[xyz]?[.x|]?[*]?", any::<bool>()).prop_filter_map("no pattern", |(name, value, not)| {
            LabelMatcher::new(&name, if not { MatchOp::NotRegex } else { MatchOp::Regex }, &value).ok()
        });
    prop_oneof![equal, regex]
}

proptest! {
    #[test]
    fn the_index_selects_what_a_scan_selects(
        sets in prop::collection::vec(any_labels(), 0..60),
        matchers in prop::collection::vec(any_matcher(), 0..4),
    ) {
        let index = index(&sets);
        let matches = |set: &Labels| matchers.iter().all(|m| m.matches(set.get(&m.name).unwrap_or_default()));
        let mut expected: Vec<_> = sets.into_iter().filter(matches).map(|set| (set.id(), set)).collect();
        expected.sort();
        expected.dedup();
        prop_assert_eq!(index.select(&matchers), expected);
    }
}

#[test]
fn labels_with_the_id_of_others_are_never_merged() {
    let id = SeriesId(7);
    let (first, other) = (labels(&[("job", "first")]), labels(&[("job", "other")]));
    let index = SeriesIndex::default();
    assert_eq!(index.known(id, &first, 1), Known::New);
    assert_eq!(index.known(id, &other, 1), Known::Collision, "reserved before it is stored");
    assert_eq!(index.known(id, &first, 1), Known::New, "until its row is stored");
    assert_eq!(index.labels(id), None);
    assert_eq!(index.add([(id, first.clone(), 1)]), 0);
    assert_eq!(index.known(id, &first, 1), Known::Stored);
    assert_eq!(index.add([(id, other.clone(), 1), (id, other.clone(), 2)]), 2);
    assert_eq!(index.known(id, &other, 1), Known::Collision);
    assert_eq!(index.labels(id), Some(first.clone()));
    assert_eq!(index.select(&[]), [(id, first)]);
    assert_eq!(index.label_values("job", &[], &Days::ALL), ["first"]);
}

#[test]
fn a_series_is_written_again_for_each_day() {
    let set = labels(&[("__name__", "up")]);
    let index = index(std::slice::from_ref(&set));
    assert_eq!(index.known(set.id(), &set, 20_000), Known::Stored);
    for day in [20_001, 19_999] {
        assert_eq!(index.known(set.id(), &set, day), Known::New);
        index.add([(set.id(), set.clone(), day)]);
        assert_eq!(index.known(set.id(), &set, day), Known::Stored);
    }
    index.add((0..30).map(|day| (set.id(), set.clone(), 20_000 + day)));
    assert_eq!(index.known(set.id(), &set, 20_029), Known::Stored);
    assert_eq!(index.known(set.id(), &set, 20_000), Known::New, "so old a day is written again");
    assert_eq!((index.len(), index.select(&[]).len()), (1, 1));
}

#[test]
fn a_full_index_rejects_new_series_only() {
    let index = SeriesIndex::with_limit(2);
    let sets = ["a", "b", "c"].map(|job| labels(&[("job", job)]));
    assert_eq!(index.known(sets[0].id(), &sets[0], 1), Known::New);
    assert_eq!(index.known(sets[1].id(), &sets[1], 1), Known::New);
    assert_eq!(index.known(sets[2].id(), &sets[2], 1), Known::TooMany);
    index.add([(sets[0].id(), sets[0].clone(), 1)]);
    assert_eq!(index.known(sets[0].id(), &sets[0], 1), Known::Stored);
    assert_eq!(index.known(sets[0].id(), &sets[0], 2), Known::New, "a living series has its next day");
    assert_eq!(index.known(sets[1].id(), &sets[1], 1), Known::New);
    assert_eq!(index.known(sets[2].id(), &sets[2], 2), Known::TooMany);
    assert_eq!(index.select(&[]).len(), 1);
}

#[test]
fn days_begin_at_midnight_before_1970_too() {
    assert_eq!([-DAY - 1, -DAY, -1, 0, DAY - 1, DAY].map(day_of), [-2, -1, -1, 0, 0, 1]);
}

#[test]
fn rows_of_series_are_read_back() {
    let sets = [labels(&[("__name__", "up"), ("job", "ä\"\n")]), Labels::default()];
    let rows = series(&sets, 3 * DAY + 5);
    let expected: Vec<_> = sets.iter().map(|set| (set.id(), set.clone(), 3)).collect();
    assert_eq!(series_of(&rows), expected);
    assert_eq!(series_of(&rows.slice(1, 1)), expected[1..]);
    assert_eq!(series_of(&tests::samples(0..3)), []);
}

#[tokio::test]
async fn the_index_is_there_again_after_reopening_from_log_and_files() {
    let dir = tempfile::tempdir().unwrap();
    let sets: Vec<_> = (0..20).map(|n| labels(&[("__name__", "up"), ("n", &n.to_string())])).collect();
    let write = |storage: &Storage, sets: &[Labels], micros| {
        let parts = vec![(Table::Series, series(sets, micros))];
        let (writer, batch) = (storage.writer(), WriteBatch { parts, ..WriteBatch::default() });
        async move { writer.write(batch).await.unwrap() }
    };
    let storage = tests::open(dir.path()).await;
    write(&storage, &sets[..10], 5 * DAY).await;
    storage.flush().await.unwrap();
    write(&storage, &sets[10..], 6 * DAY).await;
    assert_eq!(storage.status().series, 20);
    drop(storage);
    let storage = tests::open(dir.path()).await;
    let index = storage.series(&weir_model::TenantId::default());
    assert_eq!(index.len(), 20);
    assert_eq!(index.known(sets[0].id(), &sets[0], 5), Known::Stored);
    assert_eq!(index.known(sets[0].id(), &sets[0], 6), Known::New);
    assert_eq!(index.known(sets[15].id(), &sets[15], 6), Known::Stored);
    assert_eq!(index.select(&[matcher("n", MatchOp::Equal, "7")]), [(sets[7].id(), sets[7].clone())]);
}

#[test]
fn labels_are_set_replaced_and_removed() {
    let labels = Labels::new([("b", "2"), ("d", "4")]);
    let pairs = |labels: Labels| labels.iter().map(|(n, v)| format!("{n}={v}")).collect::<Vec<_>>().join(",");
    let golden = [
        (("a", "1"), "a=1,b=2,d=4"),
        (("b", "x"), "b=x,d=4"),
        (("c", "3"), "b=2,c=3,d=4"),
        (("d", ""), "b=2"),
        (("e", "5"), "b=2,d=4,e=5"),
        (("e", ""), "b=2,d=4"),
    ];
    for ((name, value), expected) in golden {
        assert_eq!(pairs(labels.with(name, value)), expected);
    }
    assert_eq!(pairs(labels.retained(|name| name != "b")), "d=4");
}

proptest! {
    #[test]
    fn labels_compare_as_their_texts_do(
        sets in prop::collection::vec(prop::collection::btree_map("[ab]{1,2}", "[xy]{1,2}", 0..3), 2),
    ) {
        let [a, b] = [0, 1].map(|at: usize| Labels::new(sets[at].iter().map(|(n, v)| (n.as_str(), v.as_str()))));
        let texts = |at: usize| sets[at].iter().collect::<Vec<_>>();
        prop_assert_eq!(a.cmp(&b), texts(0).cmp(&texts(1)));
        prop_assert_eq!(a == b, texts(0) == texts(1));
        // Texts that two sets share, as those of one index do.
        let shared = a.with("c", "z");
        prop_assert_eq!(shared.cmp(&a), std::cmp::Ordering::Greater);
        prop_assert_eq!(shared.with("c", ""), a);
    }
}
