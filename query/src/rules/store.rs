//! What rules read and write: the tenant's samples, or samples in memory.

use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use weir_model::TenantId;
use weir_model::limits::{PROMQL_SAMPLES, RULE_QUERY};
use weir_storage::{LabelMatcher, Labels, Storage};

use super::rows;
use crate::engine::Engine;
use crate::promql::snapshot::SnapshotSource;
use crate::promql::source::{MemorySource, SampleSource, Selection, SeriesSamples};
use crate::promql::{Error, Options, Output, Plan, Question, Sample, TimeRange, ask, parser};

/// A sample that a rule stores.
#[derive(Debug, Clone, PartialEq)]
pub struct Point {
    /// Whose it is.
    pub labels: Labels,
    /// Unix milliseconds.
    pub time_ms: i64,
    /// The value.
    pub sample: Sample,
}

/// Samples to evaluate rules on, and the place where their results go.
#[async_trait]
pub trait Store: Send + Sync {
    /// The result of `query` at `at_ms`.
    async fn query(&self, query: &str, at_ms: i64) -> Result<Output, String>;

    /// The samples themselves, stale markers among them, of series that satisfy all of `matchers`.
    async fn samples(
        &self,
        matchers: Vec<LabelMatcher>,
        after_ms: i64,
        until_ms: i64,
    ) -> Result<Vec<SeriesSamples>, String>;

    /// Stores `points`: all of them, or none.
    async fn write(&self, points: Vec<Point>) -> Result<(), String>;
}

/// The samples of `output`, if it is what a rule may yield.
pub(super) fn rows_of(output: Output) -> Result<Vec<(Labels, Sample)>, String> {
    match output {
        Output::Vector(_, rows) => Ok(rows),
        Output::Scalar(_, value) => Ok(vec![(Labels::default(), Sample::Float(value))]),
        Output::Text(..) | Output::Matrix(_) => Err("rule result is not a vector or scalar".to_owned()),
    }
}

/// What a tenant has stored.
#[derive(Debug, Clone)]
pub struct Stored {
    engine: Arc<Engine>,
    storage: Storage,
    tenant: TenantId,
    options: Options,
}

impl Stored {
    /// The samples of `tenant`; queries are evaluated with `options`.
    pub fn new(engine: Arc<Engine>, storage: Storage, tenant: TenantId, options: Options) -> Self {
        Self { engine, storage, tenant, options }
    }
}

#[async_trait]
impl Store for Stored {
    async fn query(&self, query: &str, at_ms: i64) -> Result<Output, String> {
        let question = Question {
            text: query.to_owned(),
            time: TimeRange::Instant(at_ms),
            options: self.options.clone(),
            timeout: Some(RULE_QUERY),
        };
        let answer = ask(&self.engine, &self.tenant, question).await.map_err(|error| error.to_string())?;
        Ok(answer.output)
    }

    async fn samples(
        &self,
        matchers: Vec<LabelMatcher>,
        after_ms: i64,
        until_ms: i64,
    ) -> Result<Vec<SeriesSamples>, String> {
        let snapshot = self.engine.snapshot(&self.tenant);
        let source = SnapshotSource::new(snapshot, self.engine.series(&self.tenant));
        let selection = Selection { matchers, after: after_ms, until: until_ms };
        let select = async move {
            let samples = source.select(&selection, PROMQL_SAMPLES).await?;
            tokio::task::block_in_place(|| samples.whole(PROMQL_SAMPLES))
        };
        let found = self.engine.run(select).await;
        found.map_err(|interrupted| interrupted.to_string())?.map_err(|error| error.to_string())
    }

    async fn write(&self, points: Vec<Point>) -> Result<(), String> {
        if points.is_empty() {
            return Ok(());
        }
        let batch = rows::batch(&self.storage.series(&self.tenant), &self.tenant, &points)?;
        self.storage.writer().write(batch).await.map(|_| ()).map_err(|error| error.to_string())
    }
}

/// Samples in memory, for tests of rules.
#[derive(Debug, Default)]
pub struct Memory {
    source: Mutex<Arc<MemorySource>>,
    options: Options,
}

impl Memory {
    /// Nothing yet; queries are evaluated with `options`.
    pub fn new(options: Options) -> Self {
        Self { source: Mutex::default(), options }
    }

    fn source(&self) -> std::sync::MutexGuard<'_, Arc<MemorySource>> {
        self.source.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[async_trait]
impl Store for Memory {
    async fn query(&self, query: &str, at_ms: i64) -> Result<Output, String> {
        let evaluate = async {
            let expr = parser::parse(query, self.options.features)?;
            let plan = Plan::new(&expr, TimeRange::Instant(at_ms), self.options.clone())?;
            let source = Arc::clone(&self.source());
            plan.evaluate(&plan.fetch(source.as_ref()).await?, &AtomicBool::new(false))
        };
        let answer: Result<_, Error> = evaluate.await;
        answer.map(|answer| answer.output).map_err(|error| error.to_string())
    }

    async fn samples(
        &self,
        matchers: Vec<LabelMatcher>,
        after_ms: i64,
        until_ms: i64,
    ) -> Result<Vec<SeriesSamples>, String> {
        let selection = Selection { matchers, after: after_ms, until: until_ms };
        let source = Arc::clone(&self.source());
        let samples = source.select(&selection, PROMQL_SAMPLES).await;
        samples.and_then(|samples| samples.whole(PROMQL_SAMPLES)).map_err(|error| error.to_string())
    }

    async fn write(&self, points: Vec<Point>) -> Result<(), String> {
        let mut source = self.source();
        let source = Arc::make_mut(&mut source);
        for point in points {
            source.insert(&point.labels, point.time_ms, point.sample, 0);
        }
        Ok(())
    }
}
