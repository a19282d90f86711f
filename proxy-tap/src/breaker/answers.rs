//! Answers to hints, on their way from the breakers to the mesh stream.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;
use tokio::time::Instant;
use weir_model::hint::Ack;
use weir_model::limits;

/// An answer and when it was given; its own time is filled in by whoever has a wall clock.
#[derive(Debug, Clone)]
pub(crate) struct Answer {
    pub(crate) given: Instant,
    pub(crate) ack: Ack,
}

/// Answers that wait, at most [`limits::PROXY_ACKS`].
#[derive(Debug, Default)]
pub(crate) struct Answers {
    waiting: Mutex<VecDeque<Answer>>,
    filled: Notify,
    dropped: AtomicU64,
}

impl Answers {
    pub(super) fn push(&self, answer: Answer) {
        let mut waiting = self.lock();
        if waiting.len() >= limits::PROXY_ACKS {
            drop(waiting);
            self.dropped.fetch_add(1, Ordering::Relaxed);
            return;
        }
        waiting.push_back(answer);
        drop(waiting);
        self.filled.notify_one();
    }

    /// The oldest answer, when there is one.
    pub(crate) async fn next(&self) -> Answer {
        loop {
            if let Some(answer) = self.try_next() {
                return answer;
            }
            self.filled.notified().await;
        }
    }

    pub(crate) fn try_next(&self) -> Option<Answer> {
        self.lock().pop_front()
    }

    /// How many wait.
    pub(crate) fn len(&self) -> usize {
        self.lock().len()
    }

    /// How many found no room.
    pub(crate) fn dropped(&self) -> u64 {
        self.dropped.load(Ordering::Relaxed)
    }

    fn lock(&self) -> MutexGuard<'_, VecDeque<Answer>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
