//! Leaves in parallel: the series of a selection are worked on in stretches, by as many threads as a query may use.

use std::sync::Mutex;
use std::sync::PoisonError;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::Evaluator;
use crate::promql::error::{Annotations, Error};
use crate::promql::source::{Samples, SeriesSamples, too_many};

/// Samples below which a second thread costs more than it saves.
const WORTH_A_THREAD: usize = 50_000;
/// Stretches of a selection for each thread, so that none waits long for another.
const STRETCHES_PER_THREAD: usize = 4;

/// Samples that a query may hold at once, and how many it held and looked at.
#[derive(Debug)]
pub(in crate::promql) struct Budget {
    left: AtomicUsize,
    limit: usize,
    /// The fewest that were left.
    least: AtomicUsize,
    looked_at: AtomicUsize,
}

impl Budget {
    pub(in crate::promql) fn new(left: usize, limit: usize) -> Self {
        let (left, least) = (AtomicUsize::new(left), AtomicUsize::new(left));
        Self { left, limit, least, looked_at: AtomicUsize::new(0) }
    }

    /// Most samples that were held at once.
    pub(in crate::promql) fn peak(&self) -> usize {
        self.limit - self.least.load(Ordering::Relaxed)
    }

    /// How often a sample of a selection went into a result.
    pub(in crate::promql) fn looked_at(&self) -> usize {
        self.looked_at.load(Ordering::Relaxed)
    }

    /// Takes note of samples that go into a result.
    pub(super) fn look_at(&self, samples: usize) {
        self.looked_at.fetch_add(samples, Ordering::Relaxed);
    }

    pub(super) fn left(&self) -> usize {
        self.left.load(Ordering::Relaxed)
    }

    /// Accounts for `samples` more.
    pub(super) fn charge(&self, samples: usize) -> Result<(), Error> {
        let taken =
            self.left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(samples));
        let before = taken.map_err(|_| too_many(self.limit))?;
        self.least.fetch_min(before - samples, Ordering::Relaxed);
        Ok(())
    }

    /// Gives back samples that are gone.
    pub(super) fn release(&self, samples: usize) {
        self.left.fetch_add(samples, Ordering::Relaxed);
    }
}

impl<'a> Evaluator<'a> {
    /// Folds the series of a selection, stretch by stretch: `work` adds series to the fold that `start` begins for each
    /// stretch. The folds come in the order of the stretches, which is the same whoever worked on which.
    pub(super) fn each_stretch<P: Send>(
        &mut self,
        selection: usize,
        start: impl Fn() -> P + Sync,
        work: impl Fn(&mut Self, &mut P, &[SeriesSamples]) -> Result<(), Error> + Sync,
    ) -> Result<Vec<P>, Error> {
        let stretches = self.options.threads * STRETCHES_PER_THREAD;
        match &self.series[selection].samples {
            Samples::Whole(all) => {
                let samples: usize = all.iter().map(SeriesSamples::len).sum();
                let few = self.options.threads < 2 || samples < WORTH_A_THREAD;
                let size = if few { all.len() } else { all.len().div_ceil(stretches) };
                let stretches: Vec<&[SeriesSamples]> = all.chunks(size.max(1)).collect();
                self.in_parallel(stretches.len().max(1), |evaluator, at| {
                    let mut fold = start();
                    work(evaluator, &mut fold, stretches.get(at).copied().unwrap_or_default())?;
                    Ok(fold)
                })
            }
            Samples::Parts(parts) => {
                let size = parts.len().div_ceil(stretches).max(1);
                self.in_parallel(parts.len().div_ceil(size).max(1), |evaluator, at| {
                    let mut fold = start();
                    for part in at * size..parts.len().min((at + 1) * size) {
                        let series = parts.read(part, evaluator.budget.left())?;
                        let samples = series.iter().map(SeriesSamples::len).sum();
                        evaluator.budget.charge(samples)?;
                        work(evaluator, &mut fold, &series)?;
                        evaluator.budget.release(samples);
                    }
                    Ok(fold)
                })
            }
        }
    }

    fn in_parallel<P: Send>(
        &mut self,
        count: usize,
        work: impl Fn(&mut Self, usize) -> Result<P, Error> + Sync,
    ) -> Result<Vec<P>, Error> {
        let next = AtomicUsize::new(0);
        let made: Mutex<Vec<(usize, P, Annotations)>> = Mutex::new(Vec::with_capacity(count));
        let run = |mut own: Self| -> Result<(), Error> {
            loop {
                let at = next.fetch_add(1, Ordering::Relaxed);
                if at >= count {
                    return Ok(());
                }
                let part = work(&mut own, at).inspect_err(|_| next.store(count, Ordering::Relaxed))?;
                let annotations = std::mem::take(&mut own.annotations);
                made.lock().unwrap_or_else(PoisonError::into_inner).push((at, part, annotations));
            }
        };
        std::thread::scope(|scope| {
            let others: Vec<_> = (1..self.options.threads.min(count))
                .map(|_| {
                    let own = self.fork();
                    let run = &run;
                    scope.spawn(move || run(own))
                })
                .collect();
            let mut outcome = run(self.fork());
            for other in others {
                let theirs = other.join().unwrap_or_else(|_| Err(Error::internal("a query thread panicked")));
                outcome = outcome.and(theirs);
            }
            outcome
        })?;
        let mut made = made.into_inner().unwrap_or_else(PoisonError::into_inner);
        made.sort_by_key(|(at, ..)| *at);
        let mut parts = Vec::with_capacity(made.len());
        for (_, part, annotations) in made {
            self.annotations.extend(annotations);
            parts.push(part);
        }
        Ok(parts)
    }

    /// One for another thread, with annotations of its own.
    fn fork(&self) -> Self {
        Self { annotations: Annotations::default(), ..*self }
    }
}
