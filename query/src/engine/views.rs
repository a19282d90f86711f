//! What SQL sees: one view per stored table, with moments in one piece, ids as hex and attributes as maps,
//! and views that are defined by SQL over those.

mod comments;
mod derived;
mod rows;

use std::sync::{Arc, LazyLock};

use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use datafusion::common::DFSchema;
use datafusion::error::Result;
use datafusion::logical_expr::{Expr, ExprSchemable, lit};
use weir_storage::schema::{PROMOTED, Promoted, attribute_maps};
use weir_storage::{Snapshot, Table};

use super::catalog::{Column, View};
use super::filters::stored_column as column;
use super::{functions, texts};
use rows::RowView;

/// OTLP `SpanKind`, in order of its numbers.
const SPAN_KINDS: &[&str] = &["unspecified", "internal", "server", "client", "producer", "consumer"];
/// OTLP `StatusCode`, in order of its numbers.
const SPAN_STATUSES: &[&str] = &["unset", "ok", "error"];

/// How a view column is made, which tells how a filter on it reads on what is stored.
#[derive(Debug, Clone)]
pub(super) enum Kind {
    /// As it is.
    Stored,
    /// Of microseconds and a remainder.
    Moment,
    /// Binary as hex.
    Id,
    /// A number by its name.
    Code(&'static [&'static str]),
    /// The attributes of a scope.
    Attributes(Scope),
    /// Otherwise.
    Made,
}

/// The stored columns that hold the attributes of one scope.
#[derive(Debug, Clone)]
pub(super) struct Scope {
    maps: Vec<Expr>,
    /// Keys that have a column of their own.
    promoted: Vec<(&'static str, Expr)>,
}

impl Scope {
    /// The five maps of a scope and its promoted columns.
    fn of(table: Table, scope: &str) -> Self {
        let maps = attribute_maps().map(|(suffix, _)| column(&format!("{scope}_{suffix}"))).to_vec();
        let of_scope = |promoted: &&Promoted| match scope {
            "resource" => promoted.resource,
            "attributes" => !promoted.resource,
            _ => false,
        };
        let mut promoted: Vec<(&'static str, Expr)> = Vec::new();
        if scope == "resource" {
            promoted.push(("service.name", column("service")));
        }
        if table == Table::Spans {
            promoted.extend(PROMOTED.iter().filter(of_scope).map(|known| (known.key, column(known.column))));
        }
        Self { maps, promoted }
    }

    /// All of them as one map.
    fn whole(&self) -> Expr {
        functions::attributes(self.maps.clone(), self.promoted.clone())
    }

    /// The value of `key` in that map.
    pub(super) fn value(&self, key: &str) -> Expr {
        let promoted =
            self.promoted.iter().find(|(known, _)| *known == key).map(|(_, column)| column.clone());
        functions::attribute(key, promoted.into_iter().chain(self.maps.clone()).collect())
    }
}

/// A column of a view of a stored table.
#[derive(Debug)]
struct ViewColumn {
    name: String,
    kind: Kind,
    expr: Expr,
}

/// A view that shows a stored table row by row.
#[derive(Debug)]
pub(super) struct StoredView {
    name: &'static str,
    table: Table,
    columns: Vec<ViewColumn>,
    schema: SchemaRef,
}

impl StoredView {
    /// The view's rows in `snapshot`.
    pub(super) fn over(&'static self, snapshot: &Snapshot) -> RowView {
        RowView::new(self, snapshot.table(self.table))
    }

    /// How the column by that name is made.
    fn kind(&self, name: &str) -> Option<&Kind> {
        self.columns.iter().find(|column| column.name == name).map(|column| &column.kind)
    }

    fn new(table: Table) -> Self {
        // The views of the service graph add these rows up, the view `exemplars` gives them labels.
        let added_up = derived::EDGE_ROWS.iter().find(|(of, _)| *of == table);
        let name = match added_up {
            Some((_, name)) => name,
            None if table == Table::Exemplars => derived::EXEMPLAR_ROWS,
            None => table.name(),
        };
        let columns = columns(table);
        let schema = view_schema(table, &columns).unwrap_or_else(|_| Arc::new(Schema::empty()));
        Self { name, table, columns, schema }
    }
}

static STORED: LazyLock<Vec<StoredView>> =
    LazyLock::new(|| Table::ALL.into_iter().map(StoredView::new).collect());

/// The view of a stored table by that name.
pub(super) fn stored(name: &str) -> Option<&'static StoredView> {
    STORED.iter().find(|view| view.name == name)
}

/// The definition of a view by that name.
pub(super) fn derived(name: &str) -> Option<&'static str> {
    derived::ALL.iter().find(|view| view.name == name).map(|view| view.text)
}

/// Every name that is listed.
pub(super) fn names() -> impl Iterator<Item = &'static str> {
    derived::ALL.iter().map(|view| view.name).chain(listed().map(|view| view.name))
}

/// The stored views that are seen as they are.
fn listed() -> impl Iterator<Item = &'static StoredView> {
    STORED.iter().filter(|view| !derived::MADE_FROM.contains(&view.name))
}

/// Every view with its columns.
pub(super) fn describe() -> Vec<View> {
    let mut all: Vec<View> = derived::ALL.iter().map(derived::Derived::describe).collect();
    for view in listed() {
        let column = |field: &Arc<Field>| Column {
            name: field.name().clone(),
            sql_type: super::types::sql_type(field.data_type()),
            comment: comments::of(view.name, field.name()),
        };
        let columns = view.schema.fields().iter().map(column).collect();
        all.push(View { name: view.name, comment: comments::of_view(view.name), columns });
    }
    all.sort_by_key(|view| view.name);
    all
}

fn view_schema(table: Table, columns: &[ViewColumn]) -> Result<SchemaRef> {
    let stored = DFSchema::try_from(texts::viewed(table))?;
    let field = |column: &ViewColumn| {
        let nullable = column.expr.nullable(&stored)?;
        Ok(Field::new(&column.name, column.expr.get_type(&stored)?, nullable))
    };
    Ok(Arc::new(Schema::new(columns.iter().map(field).collect::<Result<Vec<_>>>()?)))
}

/// The columns of the view of `table`, in the order of what they are made of.
fn columns(table: Table) -> Vec<ViewColumn> {
    let schema = texts::viewed(table);
    let has = |name: &str| schema.column_with_name(name).is_some();
    let mut all = Vec::new();
    let mut put = |name: &str, kind, expr| all.push(ViewColumn { name: name.to_owned(), kind, expr });
    for field in schema.fields() {
        let name = field.name().as_str();
        let nanos = format!("{name}_nanos");
        match (field.data_type(), name) {
            (DataType::Timestamp(..), _) if has(&nanos) => {
                put(name, Kind::Moment, functions::moment(column(name), column(&nanos)));
            }
            (DataType::Timestamp(..), _) => {
                put(name, Kind::Moment, functions::moment(column(name), lit(0_i16)));
            }
            (DataType::Int16, _) if name.ends_with("_nanos") => {}
            (DataType::Binary, "trace_id" | "span_id" | "parent_span_id") => {
                put(name, Kind::Id, functions::hex(column(name)));
            }
            (_, "kind") if table == Table::Spans => {
                let text = functions::code_name("span_kind", column(name), SPAN_KINDS);
                put(name, Kind::Code(SPAN_KINDS), text);
            }
            (_, "status") if table == Table::Spans => {
                let text = functions::code_name("span_status", column(name), SPAN_STATUSES);
                put(name, Kind::Code(SPAN_STATUSES), text);
            }
            (_, "duration_ns") if table == Table::Spans => {
                put(name, Kind::Stored, column(name));
                let [start, nanos] = ["start_time", "start_time_nanos"].map(column);
                put("end_time", Kind::Made, functions::moment_after(start, nanos, column(name)));
            }
            (_, "body") => put(name, Kind::Made, functions::any_text(column(name), column("body_other"))),
            (_, "body_other") => {}
            (_, "events") => put(name, Kind::Made, functions::events(column(name))),
            (_, "links") => put(name, Kind::Made, functions::links(column(name))),
            (DataType::Map(..), "labels" | "point") => put(name, Kind::Stored, column(name)),
            (DataType::Map(..), _) => {
                if let Some(prefix) = name.strip_suffix("_str") {
                    let scope = Scope::of(table, prefix);
                    let whole = scope.whole();
                    put(scope_column(prefix), Kind::Attributes(scope), whole);
                }
            }
            _ => put(name, Kind::Stored, column(name)),
        }
    }
    all
}

fn scope_column(scope: &str) -> &str {
    match scope {
        "resource" => "resource_attributes",
        "scope" => "scope_attributes",
        own => own,
    }
}
