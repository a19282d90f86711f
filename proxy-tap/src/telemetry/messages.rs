//! Counts the gRPC messages in a body while its chunks go by.

/// Where a body of length-prefixed messages stands: a byte of flags, four of length, as many of message
/// (github.com/grpc/grpc, "PROTOCOL-HTTP2", Length-Prefixed-Message). Chunks may end anywhere.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Messages {
    /// Bytes of the next head that were there, and how many.
    head: [u8; 5],
    headed: usize,
    /// Bytes that are still to come of the message that began.
    left: usize,
}

impl Messages {
    /// More of the body; returns how many messages ended in it.
    pub(crate) fn feed(&mut self, mut chunk: &[u8]) -> u64 {
        let mut whole = 0;
        while !chunk.is_empty() {
            if self.left > 0 {
                let skipped = self.left.min(chunk.len());
                chunk = &chunk[skipped..];
                self.left -= skipped;
                whole += u64::from(self.left == 0);
                continue;
            }
            let taken = (self.head.len() - self.headed).min(chunk.len());
            self.head[self.headed..self.headed + taken].copy_from_slice(&chunk[..taken]);
            self.headed += taken;
            chunk = &chunk[taken..];
            if self.headed == self.head.len() {
                let [_, length @ ..] = self.head;
                self.headed = 0;
                self.left = u32::from_be_bytes(length) as usize;
                whole += u64::from(self.left == 0);
            }
        }
        whole
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn chunks_may_end_anywhere(
            lengths in prop::collection::vec(0_usize..300, 0..20),
            cuts in prop::collection::vec(0_usize..50, 1..20),
            cut_off in 1_usize..6,
        ) {
            let mut body = vec![];
            for length in &lengths {
                body.push(1);
                body.extend_from_slice(&(*length as u32).to_be_bytes());
                body.resize(body.len() + length, 0xff);
            }
            // The last message misses its end.
            body.push(0);
            body.extend_from_slice(&7_u32.to_be_bytes());
            body.truncate(body.len() - (cut_off - 1));
            let (mut messages, mut counted, mut rest) = (Messages::default(), 0, &body[..]);
            for cut in cuts.iter().cycle().take(100_000) {
                let (chunk, more) = rest.split_at((*cut + usize::from(cuts.len() == 1)).min(rest.len()));
                counted += messages.feed(chunk);
                rest = more;
                if rest.is_empty() {
                    break;
                }
            }
            counted += messages.feed(rest);
            prop_assert_eq!(counted, lengths.len() as u64);
        }
    }
}
