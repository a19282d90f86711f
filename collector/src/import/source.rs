//! Bytes one by one, with their place and a look ahead.

use std::io::{self, ErrorKind, Read};

/// Bytes read at once.
const BUFFER: usize = 256 << 10;

/// Reads `R` through a buffer.
pub(super) struct Source<R> {
    file: R,
    buffer: Box<[u8]>,
    start: usize,
    end: usize,
    /// The place of the next byte, from 1.
    pub(super) line: u64,
    pub(super) column: u64,
}

impl<R: Read> Source<R> {
    pub(super) fn new(file: R) -> Self {
        Self { file, buffer: vec![0; BUFFER].into(), start: 0, end: 0, line: 1, column: 1 }
    }

    /// The next byte, `None` at the end.
    #[inline]
    pub(super) fn peek(&mut self) -> io::Result<Option<u8>> {
        if self.start == self.end {
            self.fill(1)?;
        }
        Ok(self.buffer[self.start..self.end].first().copied())
    }

    /// Steps over the byte that was peeked.
    #[inline]
    pub(super) fn step(&mut self) {
        if self.buffer[self.start] == b'\n' {
            self.line += 1;
            self.column = 1;
        } else {
            self.column += 1;
        }
        self.start += 1;
    }

    /// Whether `text`, which is short, comes next.
    pub(super) fn is_at(&mut self, text: &[u8]) -> io::Result<bool> {
        self.fill(text.len())?;
        Ok(self.buffer[self.start..self.end].starts_with(text))
    }

    /// Steps to behind the end of the line.
    pub(super) fn skip_line(&mut self) -> io::Result<()> {
        while let Some(byte) = self.peek()? {
            self.step();
            if byte == b'\n' {
                break;
            }
        }
        Ok(())
    }

    /// Fills `out`; how many bytes there were until the end.
    pub(super) fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let mut filled = 0;
        while filled < out.len() && self.peek()?.is_some() {
            let count = (out.len() - filled).min(self.end - self.start);
            out[filled..filled + count].copy_from_slice(&self.buffer[self.start..self.start + count]);
            self.start += count;
            filled += count;
        }
        Ok(filled)
    }

    /// Steps over so many bytes; how many there were until the end.
    pub(super) fn skip(&mut self, bytes: usize) -> io::Result<usize> {
        let mut skipped = 0;
        while skipped < bytes && self.peek()?.is_some() {
            let count = (bytes - skipped).min(self.end - self.start);
            self.start += count;
            skipped += count;
        }
        Ok(skipped)
    }

    /// Makes `count` bytes lie ahead, or as many as there are.
    fn fill(&mut self, count: usize) -> io::Result<()> {
        if self.end - self.start >= count {
            return Ok(());
        }
        self.buffer.copy_within(self.start..self.end, 0);
        (self.start, self.end) = (0, self.end - self.start);
        while self.end < count {
            match self.file.read(&mut self.buffer[self.end..]) {
                Ok(0) => break,
                Ok(read) => self.end += read,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}
