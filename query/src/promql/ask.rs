//! A question answered over what a tenant has stored, on the threads that queries run on.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use weir_model::TenantId;

use super::error::Error;
use super::parser;
use super::plan::{Options, Plan, TimeRange};
use super::snapshot::SnapshotSource;
use super::value::Answer;
use crate::engine::{Engine, Interrupted};

/// A question in PromQL.
#[derive(Debug, Clone)]
pub struct Question {
    /// The expression.
    pub text: String,
    /// When it is evaluated.
    pub time: TimeRange,
    /// How it is evaluated.
    pub options: Options,
    /// How long it may take; as long as the engine's queries do where nothing is said.
    pub timeout: Option<Duration>,
}

/// Tells the evaluation that nobody waits for it any more.
#[derive(Default)]
struct CancelOnDrop(Arc<AtomicBool>);

impl Drop for CancelOnDrop {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Answers `question` over what `tenant` has stored now. Dropping the future ends the evaluation.
pub async fn ask(engine: &Engine, tenant: &TenantId, question: Question) -> Result<Answer, Error> {
    let expr = parser::parse(&question.text, question.options.features)?;
    let options = Options { threads: engine.options().threads, ..question.options };
    let plan = Plan::new(&expr, question.time, options)?;
    answer(engine, tenant, plan, question.timeout).await
}

/// Fetches for `plan` and evaluates it, within `timeout` or else the engine's deadline.
pub(super) async fn answer(
    engine: &Engine,
    tenant: &TenantId,
    plan: Plan,
    timeout: Option<Duration>,
) -> Result<Answer, Error> {
    // The snapshot first: the labels of all its samples are known by then.
    let snapshot = engine.snapshot(tenant);
    let source = SnapshotSource::new(snapshot, engine.series(tenant)).limited(plan.options().series);
    let cancel = CancelOnDrop::default();
    let cancelled = Arc::clone(&cancel.0);
    let asked = Instant::now();
    let work = async move {
        let begun = Instant::now();
        let fetched = plan.fetch(&source).await?;
        // The turn is kept, and what else waits on this thread moves to another one.
        let mut answer = tokio::task::block_in_place(|| plan.evaluate(&fetched, &cancelled))?;
        answer.stats.queued = begun - asked;
        answer.stats.prepared = begun.elapsed() - answer.stats.evaluated;
        source.warnings().into_iter().for_each(|warning| answer.annotations.note(warning));
        Ok(answer)
    };
    let deadline = timeout.unwrap_or(engine.options().deadline);
    match engine.run_within(deadline, work).await {
        Ok(answer) => answer,
        Err(Interrupted::Deadline(_)) => Err(Error::timeout()),
        Err(Interrupted::Queued(_)) => Err(Error::queued()),
        Err(full @ Interrupted::Full(_)) => Err(Error::unavailable(full)),
        Err(interrupted) => Err(Error::internal(interrupted)),
    }
}
