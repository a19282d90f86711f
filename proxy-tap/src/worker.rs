//! Which of the proxy's threads this is: each has its own listeners and its own connections to endpoints.

use std::cell::Cell;

thread_local! {
    static CURRENT: Cell<usize> = const { Cell::new(0) };
}

/// The number of the worker that runs on this thread; 0 on all others.
pub(crate) fn current() -> usize {
    CURRENT.get()
}

/// Makes this thread worker number `n`.
pub(crate) fn begin(n: usize) {
    CURRENT.set(n);
}
