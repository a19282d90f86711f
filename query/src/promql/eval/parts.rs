//! Leaves in parallel: the series of a selection are worked on in parts, by as many threads as a query may use.

use std::sync::Mutex;
use std::sync::PoisonError;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::Evaluator;
use crate::promql::error::{Annotations, Error};
use crate::promql::source::{Samples, SeriesSamples, too_many};

/// Samples below which a second thread costs more than it saves.
const WORTH_A_THREAD: usize = 50_000;
/// Parts for each thread, so that none waits long for another.
const PARTS_PER_THREAD: usize = 4;

/// Samples that a query may hold at once.
#[derive(Debug)]
pub(in crate::promql) struct Budget {
    left: AtomicUsize,
    limit: usize,
}

impl Budget {
    pub(in crate::promql) fn new(left: usize, limit: usize) -> Self {
        Self { left: AtomicUsize::new(left), limit }
    }

    pub(super) fn left(&self) -> usize {
        self.left.load(Ordering::Relaxed)
    }

    /// Accounts for `samples` more.
    pub(super) fn charge(&self, samples: usize) -> Result<(), Error> {
        let taken =
            self.left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(samples));
        taken.map(|_| ()).map_err(|_| too_many(self.limit))
    }

    /// Gives back samples that are gone.
    pub(super) fn release(&self, samples: usize) {
        self.left.fetch_add(samples, Ordering::Relaxed);
    }
}

impl<'a> Evaluator<'a> {
    /// What `work` makes of each part of a selection, in the order of the parts.
    pub(super) fn each_part<P: Send>(
        &mut self,
        selection: usize,
        work: impl Fn(&mut Self, &[SeriesSamples]) -> Result<P, Error> + Sync,
    ) -> Result<Vec<P>, Error> {
        match &self.series[selection].samples {
            Samples::Whole(all) => {
                let samples: usize = all.iter().map(SeriesSamples::len).sum();
                if self.options.threads < 2 || samples < WORTH_A_THREAD {
                    return Ok(vec![work(self, all)?]);
                }
                let size = all.len().div_ceil(self.options.threads * PARTS_PER_THREAD).max(1);
                let parts: Vec<&[SeriesSamples]> = all.chunks(size).collect();
                self.in_parallel(parts.len(), |evaluator, at| work(evaluator, parts[at]))
            }
            Samples::Parts(parts) => self.in_parallel(parts.len(), |evaluator, at| {
                let series = parts.read(at, evaluator.budget.left())?;
                let samples = series.iter().map(SeriesSamples::len).sum();
                evaluator.budget.charge(samples)?;
                let made = work(evaluator, &series);
                evaluator.budget.release(samples);
                made
            }),
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
