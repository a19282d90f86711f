//! Samples as Prometheus' XOR chunks: times as differences of differences, values as what changes in their bits.
//!
//! Two bytes count the samples. The first sample is a signed varint and 64 bits; the second an unsigned varint,
//! the distance of the times, and a value; each further one what the distance changed by, and a value.

/// Samples of a chunk, as Prometheus cuts them.
pub(super) const CHUNK_SAMPLES: usize = 120;

/// Widths of a change of distance: the prefix that announces it with its length, and the width.
const WIDTHS: [(u64, u32, u32); 3] = [(0b10, 2, 14), (0b110, 3, 17), (0b1110, 4, 20)];

/// The chunk of at most [`CHUNK_SAMPLES`] samples, their times ascending.
pub(super) fn encoded(times: &[i64], values: &[f64]) -> Vec<u8> {
    let mut bits = Bits::default();
    let count = u16::try_from(times.len().min(values.len())).unwrap_or(u16::MAX);
    bits.bytes.extend(count.to_be_bytes());
    let mut before: Option<(i64, i64, u64)> = None;
    let mut window = None;
    for (at, (time, value)) in times.iter().zip(values).take(count.into()).enumerate() {
        let value = value.to_bits();
        let distance = match before {
            None => {
                bits.varint(*time);
                bits.put(value, 64);
                0
            }
            Some((last, distance, bits_before)) => {
                let next = time.wrapping_sub(last);
                match at {
                    1 => bits.uvarint(next as u64), // ascending
                    _ => bits.change(next.wrapping_sub(distance)),
                }
                bits.xor(bits_before ^ value, &mut window);
                next
            }
        };
        before = Some((*time, distance, value));
    }
    bits.bytes
}

/// Bits, the highest of each byte first.
#[derive(Default)]
struct Bits {
    bytes: Vec<u8>,
    /// Bits that are free in the last byte.
    free: u32,
}

impl Bits {
    /// The lowest `width` bits of `value`.
    fn put(&mut self, value: u64, width: u32) {
        let mut left = width;
        while left > 0 {
            if self.free == 0 {
                self.bytes.push(0);
                self.free = 8;
            }
            let taken = left.min(self.free);
            let part = (value >> (left - taken)) & ((1 << taken) - 1);
            if let Some(last) = self.bytes.last_mut() {
                *last |= (part << (self.free - taken)) as u8; // `taken` bits at most fit
            }
            self.free -= taken;
            left -= taken;
        }
    }

    fn uvarint(&mut self, mut value: u64) {
        while value >= 0x80 {
            self.put((value & 0x7f) | 0x80, 8);
            value >>= 7;
        }
        self.put(value, 8);
    }

    fn varint(&mut self, value: i64) {
        self.uvarint((value.wrapping_shl(1) ^ (value >> 63)) as u64); // zigzag
    }

    /// What a distance changed by.
    fn change(&mut self, by: i64) {
        if by == 0 {
            self.put(0, 1);
            return;
        }
        let fits = |width: u32| (-(1_i64 << (width - 1)) + 1..=1 << (width - 1)).contains(&by);
        match WIDTHS.iter().find(|(_, _, width)| fits(*width)) {
            Some((prefix, length, width)) => {
                self.put(*prefix, *length);
                self.put(by as u64, *width); // two's complement
            }
            None => {
                self.put(0b1111, 4);
                self.put(by as u64, 64);
            }
        }
    }

    /// The bits that changed, within the zeros before and after those of an earlier value if they fit there.
    fn xor(&mut self, changed: u64, window: &mut Option<(u32, u32)>) {
        if changed == 0 {
            self.put(0, 1);
            return;
        }
        self.put(1, 1);
        // Five bits say how many zeros come first.
        let (leading, trailing) = (changed.leading_zeros().min(31), changed.trailing_zeros());
        match *window {
            Some((before, after)) if leading >= before && trailing >= after => {
                self.put(0, 1);
                self.put(changed >> after, 64 - before - after);
            }
            _ => {
                *window = Some((leading, trailing));
                let width = 64 - leading - trailing;
                self.put(1, 1);
                self.put(leading.into(), 5);
                // Six bits: 64 is written as 0.
                self.put(u64::from(width) & 0x3f, 6);
                self.put(changed >> trailing, width);
            }
        }
    }
}

#[cfg(test)]
pub(super) mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::promql::number::stale;

    /// Reads a chunk, written from the format's description alone.
    pub(in super::super) fn decoded(chunk: &[u8]) -> Vec<(i64, u64)> {
        let mut reader = Reader { bytes: &chunk[2..], at: 0 };
        let count = u16::from_be_bytes([chunk[0], chunk[1]]);
        let (mut out, mut distance, mut window) = (Vec::new(), 0_i64, (0, 0));
        for at in 0..count {
            if at == 0 {
                let raw = reader.uvarint();
                let time = (raw >> 1) as i64 ^ -((raw & 1) as i64);
                out.push((time, reader.take(64)));
                continue;
            }
            let (time, value): (i64, u64) = *out.last().unwrap();
            distance += match at {
                1 => reader.uvarint() as i64,
                _ => {
                    let mut ones = 0;
                    while ones < 4 && reader.take(1) == 1 {
                        ones += 1;
                    }
                    match ones {
                        0 => 0,
                        4 => reader.take(64) as i64,
                        _ => {
                            let width = [14, 17, 20][ones - 1];
                            let raw = reader.take(width) as i64;
                            if raw > 1 << (width - 1) { raw - (1 << width) } else { raw }
                        }
                    }
                }
            };
            let mut changed = 0;
            if reader.take(1) == 1 {
                if reader.take(1) == 1 {
                    let leading = reader.take(5) as u32;
                    let width = match reader.take(6) as u32 {
                        0 => 64,
                        width => width,
                    };
                    window = (leading, 64 - leading - width);
                }
                changed = reader.take(64 - window.0 - window.1) << window.1;
            }
            out.push((time + distance, value ^ changed));
        }
        out
    }

    struct Reader<'a> {
        bytes: &'a [u8],
        at: usize,
    }

    impl Reader<'_> {
        fn take(&mut self, width: u32) -> u64 {
            (0..width).fold(0, |value, _| {
                let bit = (self.bytes[self.at / 8] >> (7 - self.at % 8)) & 1;
                self.at += 1;
                (value << 1) | u64::from(bit)
            })
        }

        fn uvarint(&mut self) -> u64 {
            let (mut value, mut shift) = (0, 0);
            loop {
                let byte = self.take(8);
                value |= (byte & 0x7f) << shift;
                shift += 7;
                if byte < 0x80 {
                    return value;
                }
            }
        }
    }

    fn check(samples: &[(i64, f64)]) {
        let (times, values): (Vec<_>, Vec<_>) = samples.iter().copied().unzip();
        let expected: Vec<(i64, u64)> =
            samples.iter().map(|(time, value)| (*time, value.to_bits())).collect();
        assert_eq!(decoded(&encoded(&times, &values)), expected);
    }

    #[test]
    fn bits_are_those_of_the_format() {
        // Two bytes of count, time 0 as one byte, the bits of 1.0, a distance of 15,000 as two bytes; then a bit
        // for the same value; then for the third a bit each for the same distance and the same value.
        let bytes = encoded(&[0, 15_000, 30_000], &[1.0, 1.0, 1.0]);
        assert_eq!(bytes, [0, 3, 0, 0x3f, 0xf0, 0, 0, 0, 0, 0, 0, 0x98, 0x75, 0]);
        assert_eq!(encoded(&[], &[]), [0, 0]);
    }

    #[test]
    fn every_bit_of_a_value_and_every_distance_comes_back() {
        check(&[]);
        check(&[(-5, f64::NAN)]);
        check(&[(0, stale()), (1, 0.0), (2, -0.0), (3, f64::MAX), (4, 5e-324), (5, f64::NEG_INFINITY)]);
        let mut time = -1_000;
        let steps =
            [1, 8_192, 8_192 + 8_193, 1 << 17, 1 << 19, (1 << 19) + 1, 1 << 40, 1, 2, 2, i64::from(i32::MAX)];
        let samples: Vec<(i64, f64)> = steps
            .iter()
            .map(|step| {
                time += step;
                (time, time as f64 / 3.0)
            })
            .collect();
        check(&samples);
    }

    proptest! {
        #[test]
        fn any_samples_come_back(
            start in -4_000_000_000_000_i64..4_000_000_000_000,
            rest in prop::collection::vec((1_i64..1 << 34, any::<u64>()), 0..CHUNK_SAMPLES),
        ) {
            let mut time = start;
            let samples: Vec<(i64, f64)> = rest.into_iter().map(|(step, bits)| {
                time += step;
                (time, f64::from_bits(bits))
            }).collect();
            check(&samples);
        }
    }
}
