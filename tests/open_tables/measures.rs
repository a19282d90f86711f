//! What is compared of a table: for each stored column a few aggregates, in Weir's SQL over the view of the table and
//! in DuckDB's over the table itself, derived from the stored schema so that no column is left out.

use arrow::datatypes::{DataType, Field};
use serde_json::Value;
use weir_storage::Table;
use weir_storage::schema::{PROMOTED, attribute_maps};

/// Sums of doubles are added up in different orders.
const PRECISION: f64 = 1e-9;

/// The aggregates of a table.
pub(crate) struct Measures {
    table: Table,
    /// Name, in Weir's SQL, in DuckDB's.
    pairs: Vec<(String, String, String)>,
}

impl Measures {
    pub(crate) fn of(table: Table) -> Self {
        let mut all = Self { table, pairs: Vec::new() };
        match table {
            // The view adds up the rows of the same bucket.
            _ if table.adds_up() => {
                all.put(
                    "buckets",
                    "count(*)",
                    "count(distinct (time, client, server, endpoint, protocol, reporter))",
                );
            }
            _ => all.put("count", "count(*)", "count(*)"),
        }
        for field in table.schema().fields() {
            all.column(field);
        }
        all
    }

    pub(crate) fn len(&self) -> usize {
        self.pairs.len()
    }

    /// The query that Weir answers.
    pub(crate) fn ours(&self) -> String {
        let pairs = self.pairs.iter().enumerate();
        let columns: Vec<_> = pairs.map(|(at, (_, ours, _))| format!("{ours} as m{at}")).collect();
        format!("select {} from {}", columns.join(", "), self.table.name())
    }

    /// The query that DuckDB answers.
    pub(crate) fn theirs(&self) -> String {
        let pairs = self.pairs.iter().enumerate();
        let columns: Vec<_> = pairs.map(|(at, (.., theirs))| format!("{theirs} as m{at}")).collect();
        format!("select count(*) as rows, {} from t", columns.join(", "))
    }

    /// Where two answers differ.
    pub(crate) fn differences(&self, ours: &Value, theirs: &Value) -> Vec<String> {
        let pairs = self.pairs.iter().enumerate();
        pairs
            .filter_map(|(at, (name, ..))| {
                let (ours, theirs) = (&ours[format!("m{at}")], &theirs[format!("m{at}")]);
                (!agree(ours, theirs)).then(|| format!("{name} is {ours} in Weir and {theirs} outside"))
            })
            .collect()
    }

    fn put(&mut self, name: &str, ours: &str, theirs: &str) {
        self.pairs.push((name.to_owned(), ours.to_owned(), theirs.to_owned()));
    }

    /// An aggregate that both write alike.
    fn same(&mut self, name: &str, aggregate: &str) {
        self.put(&format!("{name}: {aggregate}"), aggregate, aggregate);
    }

    /// The aggregates of a column that is shown row by row, or where rows are added up, none.
    fn aggregates(&self, by_row: &'static [&'static str]) -> &'static [&'static str] {
        if self.table.adds_up() { &[] } else { by_row }
    }

    fn column(&mut self, field: &Field) {
        let stored = field.name().as_str();
        // The view `exemplars` calls it as `metrics` does.
        let seen = if self.table == Table::Exemplars && stored == "metric" { "name" } else { stored };
        match (field.data_type(), stored) {
            (DataType::Int16, _) if stored.ends_with("_nanos") => {}
            (DataType::Timestamp(..), _) => {
                let (ours, theirs) = (
                    format!("cast({seen} as bigint)"),
                    format!("(epoch_us({stored}) * 1000 + {stored}_nanos)"),
                );
                for aggregate in ["min(", "max(", "count(distinct "] {
                    self.put(stored, &format!("{aggregate}{ours})"), &format!("{aggregate}{theirs})"));
                }
            }
            // Shown by their names.
            (DataType::Int32, "kind" | "status") if self.table == Table::Spans => {
                self.same(stored, &format!("count(distinct {stored})"));
            }
            (DataType::Int32 | DataType::Int64, _) => {
                if stored == "series_id" {
                    self.same(stored, "count(distinct series_id)");
                } else {
                    self.same(stored, &format!("coalesce(sum({stored}), 0)"));
                }
                for aggregate in self.aggregates(&["count", "min", "max"]) {
                    self.same(stored, &format!("{aggregate}({stored})"));
                }
            }
            (DataType::Float64, _) => {
                self.same(stored, &format!("count({stored})"));
                // DuckDB takes `isnan` of a Parquet column for false where the file's bounds, which leave NaN out,
                // are those of numbers: so too in files that others wrote.
                let (ours, theirs) = (format!("isnan({stored})"), format!("{stored}::varchar = 'nan'"));
                for (aggregate, not) in [("count", ""), ("sum", "not ")] {
                    let of = |is_nan: &str| format!("{aggregate}({stored}) filter (where {not}{is_nan})");
                    self.put(stored, &of(&ours), &of(&theirs));
                }
            }
            // The view says `true` where all rows of the bucket do.
            (DataType::Boolean, "mtls") => self.same(stored, "bool_and(mtls)"),
            (DataType::Boolean, _) => self.same(stored, &format!("count(*) filter (where {stored})")),
            (DataType::Utf8, "body") => {
                let theirs = "count(*) filter (where body is not null or body_other is not null)";
                self.put(stored, "count(body)", theirs);
                self.put(stored, "count(body) filter (where body like '{%')", "count(body_other)");
            }
            (DataType::Utf8, _) => {
                self.put(stored, &format!("count(distinct {seen})"), &format!("count(distinct {stored})"));
                for aggregate in self.aggregates(&["count", "min", "max"]) {
                    self.put(stored, &format!("{aggregate}({seen})"), &format!("{aggregate}({stored})"));
                }
                if !self.table.adds_up() {
                    let theirs = format!("coalesce(sum(strlen({stored})), 0)");
                    self.put(stored, &format!("coalesce(sum(octet_length({seen})), 0)"), &theirs);
                }
            }
            (DataType::Binary, "sketch" | "body_other") => {}
            (DataType::Binary, _) => {
                self.same(stored, &format!("count(distinct {stored})"));
                for aggregate in ["min", "max"] {
                    let theirs = format!("lower(hex({aggregate}({stored})))");
                    self.put(stored, &format!("{aggregate}({stored})"), &theirs);
                }
            }
            (DataType::Map(..), "labels" | "point") => self.lengths(stored, "cardinality", "cardinality"),
            (DataType::Map(..), _) => {
                if let Some(scope) = stored.strip_suffix("_str") {
                    self.scope(scope);
                }
            }
            (DataType::List(element), _) => {
                self.lengths(stored, "array_length", "len");
                match element.data_type() {
                    DataType::Struct(_) => self.parts(stored),
                    _ => self.elements(stored),
                }
            }
            (other, _) => panic!("no measure for `{stored}` of {other}"),
        }
    }

    fn lengths(&mut self, column: &str, ours: &str, theirs: &str) {
        let sum = |function: &str| format!("cast(coalesce(sum({function}({column})), 0) as bigint)");
        self.put(&format!("{column}: entries"), &sum(ours), &sum(theirs));
    }

    /// The five maps of a scope and its promoted columns, which the view shows as one map.
    fn scope(&mut self, scope: &str) {
        let seen = if scope == "attributes" || scope == "metadata" {
            scope.to_owned()
        } else {
            format!("{scope}_attributes")
        };
        let mut terms: Vec<String> = attribute_maps()
            .iter()
            .map(|(suffix, _)| format!("coalesce(cardinality({scope}_{suffix}), 0)"))
            .collect();
        let mut promoted = |column: &str| terms.push(format!("({column} is not null)::int"));
        if scope == "resource" {
            promoted("service");
        }
        if self.table == Table::Spans {
            let of_scope = PROMOTED.iter().filter(|known| match scope {
                "resource" => known.resource,
                "attributes" => !known.resource,
                _ => false,
            });
            of_scope.for_each(|known| promoted(known.column));
        }
        self.put(
            &format!("{seen}: entries"),
            &format!("cast(coalesce(sum(cardinality({seen})), 0) as bigint)"),
            &format!("sum({})", terms.join(" + ")),
        );
    }

    /// The elements of a list of numbers.
    fn elements(&mut self, column: &str) {
        let sum = |table: &str| {
            format!("(select coalesce(sum(v), 0) from (select unnest({column}) as v from {table}) as u)")
        };
        self.put(&format!("{column}: sum"), &sum(self.table.name()), &sum("t"));
    }

    /// The events or links of spans, and the attributes of those.
    fn parts(&mut self, column: &str) {
        let each = |aggregate: &str, table: &str| {
            format!("(select {aggregate} from (select unnest({column}) as p from {table}) as u)")
        };
        let name = if column == "events" { "name" } else { "trace_id" };
        let distinct = format!("count(distinct p['{name}'])");
        self.put(&format!("{column}: {name}"), &each(&distinct, "spans"), &each(&distinct, "t"));
        let ours = "cast(coalesce(sum(cardinality(p['attributes'])), 0) as bigint)";
        let theirs = "coalesce(sum(coalesce(cardinality(p.attributes), 0) + coalesce(cardinality(p.attributes_other), 0)), 0)";
        self.put(&format!("{column}: attributes"), &each(ours, "spans"), &each(theirs, "t"));
    }
}

fn agree(ours: &Value, theirs: &Value) -> bool {
    match (ours.as_f64(), theirs.as_f64()) {
        (Some(one), Some(other)) if ours.is_f64() || theirs.is_f64() => {
            (one - other).abs() <= PRECISION * one.abs().max(other.abs())
        }
        _ => ours == theirs,
    }
}
