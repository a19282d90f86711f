//! Which of the proxy's threads this is: each has its own listeners and its own connections to endpoints. And how the
//! others give way to them.

use std::cell::Cell;
use std::io;

use tokio::runtime::Handle;

/// By how much the nice value of what is no request is above that of requests: a third of their weight.
const LESS: i32 = 5;

thread_local! {
    static CURRENT: Cell<usize> = const { Cell::new(0) };
}

/// The number of the worker that runs on this thread; 0 on all others.
pub(crate) fn current() -> usize {
    CURRENT.get()
}

/// A thread for everything that is no request ([`Config::beside`](crate::Config::beside)), until the process ends. It
/// gives way to those that serve, and so do the threads that it begins.
pub fn beside() -> io::Result<Handle> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let handle = runtime.handle().clone();
    let run = move || {
        // Where the kernel does not allow it, they are equals.
        if let Ok(nice) = rustix::process::getpriority_process(None) {
            let _ = rustix::process::setpriority_process(None, nice + LESS);
        }
        runtime.block_on(std::future::pending::<()>());
    };
    std::thread::Builder::new().name("beside".to_owned()).spawn(run)?;
    Ok(handle)
}

/// The items, and after some of them a chance for a thread that serves and waits for this one's processor: the kernel
/// would let whoever runs go on for milliseconds. For whoever goes through thousands beside the requests.
pub(crate) fn giving_way<I: IntoIterator>(items: I) -> impl Iterator<Item = I::Item> {
    items.into_iter().enumerate().map(|(i, item)| {
        if i % 64 == 63 {
            std::thread::yield_now();
        }
        item
    })
}

/// Makes this thread worker number `n`.
pub(crate) fn begin(n: usize) {
    CURRENT.set(n);
}
