//! The names that a query may use: the views and tables of one snapshot, made when they are asked for.

use std::sync::{Arc, LazyLock};

use async_trait::async_trait;
use datafusion::catalog::{CatalogProvider, CatalogProviderList, SchemaProvider, TableProvider};
use datafusion::datasource::ViewTable;
use datafusion::error::Result;
use datafusion::execution::session_state::{SessionState, SessionStateBuilder};
use serde::Serialize;
use weir_storage::Snapshot;

use super::views;

/// A view, as `weir schema` lists it.
#[derive(Debug, Clone, Serialize)]
pub struct View {
    /// Its name in SQL.
    pub name: &'static str,
    /// What a row is.
    pub comment: &'static str,
    /// Its columns, in order.
    pub columns: Vec<Column>,
}

/// A column of a view.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Column {
    /// Its name.
    pub name: String,
    /// Its type, in SQL's words.
    #[serde(rename = "type")]
    pub sql_type: String,
    /// What it holds.
    pub comment: String,
}

/// Every view with its columns.
pub fn catalogue() -> &'static [View] {
    static VIEWS: LazyLock<Vec<View>> = LazyLock::new(views::describe);
    &VIEWS
}

/// The one catalog `weir` with its one schema `public`.
#[derive(Debug)]
pub(super) struct SnapshotCatalogs(Arc<SnapshotSchema>);

impl SnapshotCatalogs {
    /// The names of `snapshot`; views are planned with `session`'s functions.
    pub(super) fn new(snapshot: Snapshot, session: SessionState) -> Self {
        Self(Arc::new(SnapshotSchema { snapshot, session }))
    }
}

impl CatalogProviderList for SnapshotCatalogs {
    fn register_catalog(&self, _: String, _: Arc<dyn CatalogProvider>) -> Option<Arc<dyn CatalogProvider>> {
        None
    }

    fn catalog_names(&self) -> Vec<String> {
        vec!["weir".to_owned()]
    }

    fn catalog(&self, name: &str) -> Option<Arc<dyn CatalogProvider>> {
        (name == "weir").then(|| Arc::new(SnapshotCatalog(Arc::clone(&self.0))) as _)
    }
}

#[derive(Debug)]
struct SnapshotCatalog(Arc<SnapshotSchema>);

impl CatalogProvider for SnapshotCatalog {
    fn schema_names(&self) -> Vec<String> {
        vec!["public".to_owned()]
    }

    fn schema(&self, name: &str) -> Option<Arc<dyn SchemaProvider>> {
        (name == "public").then(|| Arc::clone(&self.0) as _)
    }
}

#[derive(Clone)]
struct SnapshotSchema {
    snapshot: Snapshot,
    session: SessionState,
}

impl std::fmt::Debug for SnapshotSchema {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("SnapshotSchema")
    }
}

impl SnapshotSchema {
    /// The view that `text` defines over this snapshot.
    async fn derived(&self, text: &str) -> Result<Arc<dyn TableProvider>> {
        let mut state = SessionStateBuilder::new_from_existing(self.session.clone()).build();
        state.register_catalog_list(Arc::new(SnapshotCatalogs(Arc::new(self.clone()))));
        let plan = state.create_logical_plan(text).await?;
        Ok(Arc::new(ViewTable::new(plan, Some(text.to_owned()))))
    }
}

#[async_trait]
impl SchemaProvider for SnapshotSchema {
    fn table_names(&self) -> Vec<String> {
        views::names().map(str::to_owned).collect()
    }

    async fn table(&self, name: &str) -> Result<Option<Arc<dyn TableProvider>>> {
        if let Some(text) = views::derived(name) {
            return self.derived(text).await.map(Some);
        }
        Ok(views::stored(name).map(|view| Arc::new(view.over(&self.snapshot)) as _))
    }

    fn table_exist(&self, name: &str) -> bool {
        views::derived(name).is_some() || views::stored(name).is_some()
    }
}
