//! Buffers that go round: what was sent is filled again, since the kernel clears memory that is new page by page.

use std::sync::{Arc, Mutex};

use bytes::Bytes;

use super::lock;

/// Buffers that are kept: two that are filled while two are sent.
const KEPT: usize = 4;
/// Bytes of a buffer that is kept.
const LARGEST: usize = 2 << 20;

/// Empty buffers that were used before.
#[derive(Debug, Default)]
pub(super) struct Spare(Mutex<Vec<Vec<u8>>>);

impl Spare {
    /// An empty buffer.
    pub(super) fn take(&self) -> Vec<u8> {
        lock(&self.0).pop().unwrap_or_default()
    }

    /// What a buffer holds; the buffer comes back when nobody has it any more.
    pub(super) fn lend(self: &Arc<Self>, bytes: Vec<u8>) -> Bytes {
        Bytes::from_owner(Lent { bytes, to: Arc::clone(self) })
    }
}

struct Lent {
    bytes: Vec<u8>,
    to: Arc<Spare>,
}

impl AsRef<[u8]> for Lent {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl Drop for Lent {
    /// One that was hardly filled is too large for what there is now.
    fn drop(&mut self) {
        let mut bytes = std::mem::take(&mut self.bytes);
        let mut kept = lock(&self.to.0);
        if kept.len() < KEPT && bytes.capacity() <= LARGEST && bytes.len() >= bytes.capacity() / 4 {
            bytes.clear();
            kept.push(bytes);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_buffer_comes_back_when_the_last_who_had_it_lets_go() {
        let spare = Arc::new(Spare::default());
        let filled = vec![7; 1_000];
        let place = filled.as_ptr();
        let lent = spare.lend(filled);
        let again = lent.clone();
        drop(lent);
        assert_eq!(spare.take().capacity(), 0);
        assert_eq!(&again[..], [7; 1_000]);
        drop(again);
        let buffer = spare.take();
        assert_eq!((buffer.as_ptr(), buffer.len()), (place, 0));
    }

    #[test]
    fn few_are_kept_and_none_that_is_huge_or_was_hardly_used() {
        let spare = Arc::new(Spare::default());
        for _ in 0..2 * KEPT {
            drop(spare.lend(vec![0; LARGEST + 1]));
            let mut hardly = Vec::with_capacity(1_000);
            hardly.push(1);
            drop(spare.lend(hardly));
        }
        assert_eq!(spare.take().capacity(), 0);
        let all: Vec<_> = (0..2 * KEPT).map(|_| spare.lend(vec![0; 100])).collect();
        drop(all);
        assert_eq!((0..2 * KEPT).filter(|_| spare.take().capacity() > 0).count(), KEPT);
    }
}
