//! Which table of the service graph answers for a window: the finest whose buckets are few enough, and a coarser one
//! where that one keeps nothing of the window any more.

use weir_model::UnixNanos;
use weir_storage::Table;

use super::Window;

/// Windows up to so many buckets are answered from a table: five days of ten seconds, a month of minutes.
const MOST_BUCKETS: u64 = 45_000;

/// A table of the service graph: its place in [`Table::GRAPH`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Buckets(usize);

impl Buckets {
    /// The finest table whose buckets in `window` are few enough.
    pub(super) fn for_window(window: Window) -> Self {
        let length = window.to.since(window.from).as_secs();
        let fits = |(_, seconds): &(Table, u64)| length / seconds <= MOST_BUCKETS;
        Self(Table::GRAPH.iter().position(fits).unwrap_or(Table::GRAPH.len() - 1))
    }

    /// The next coarser one.
    pub(super) fn coarser(self) -> Option<Self> {
        Some(Self(self.0 + 1)).filter(|next| next.0 < Table::GRAPH.len())
    }

    /// The view of its rows.
    pub(super) fn view(self) -> &'static str {
        Table::GRAPH[self.0].0.name()
    }

    /// The window from the start of its first bucket: one that began before it has calls from after it.
    pub(super) fn whole(self, window: Window) -> Window {
        let nanos = Table::GRAPH[self.0].1 * 1_000_000_000;
        Window { from: UnixNanos(window.from.0 - window.from.0 % nanos), to: window.to }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const NOW: UnixNanos = UnixNanos(1_795_000_123_000_000_000);

    fn view(back: Duration) -> &'static str {
        Buckets::for_window(Window { from: NOW - back, to: NOW }).view()
    }

    #[test]
    fn longer_windows_are_answered_from_coarser_tables() {
        let days = |days: u64| Duration::from_secs(days * 86_400);
        assert_eq!([Duration::from_secs(60), days(5)].map(view), ["edges"; 2]);
        assert_eq!([days(6), days(31)].map(view), ["edges_1m"; 2]);
        assert_eq!([days(32), days(9_000)].map(view), ["edges_1h"; 2]);
    }

    #[test]
    fn windows_begin_with_a_whole_bucket() {
        let window = Window { from: NOW - Duration::from_secs(7), to: NOW };
        let (mut next, mut from) = (Some(Buckets::for_window(window)), vec![]);
        while let Some(buckets) = next {
            from.push(buckets.whole(window).from.0 / 1_000_000_000);
            next = buckets.coarser();
        }
        assert_eq!(from, [1_795_000_110, 1_795_000_080, 1_794_996_000 + 3600]);
    }
}
