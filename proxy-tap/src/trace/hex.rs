//! Hexadecimal digits of ids, from and to buffers of known size, without a formatter.

const DIGITS: &[u8; 16] = b"0123456789abcdef";

/// Writes two digits for each byte; `to` has room for exactly as many.
pub(super) fn write(to: &mut [u8], bytes: &[u8]) {
    for (pair, byte) in to.chunks_exact_mut(2).zip(bytes) {
        pair[0] = DIGITS[usize::from(byte >> 4)];
        pair[1] = DIGITS[usize::from(byte & 15)];
    }
}

/// The bytes whose digits `text` consists of, in either case; `None` where it is of another length or has
/// something else in it.
pub(super) fn read<const N: usize>(text: &[u8]) -> Option<[u8; N]> {
    if text.len() != 2 * N {
        return None;
    }
    let mut bytes = [0; N];
    for (byte, pair) in bytes.iter_mut().zip(text.chunks_exact(2)) {
        *byte = digit(pair[0])? << 4 | digit(pair[1])?;
    }
    Some(bytes)
}

fn digit(character: u8) -> Option<u8> {
    match character {
        b'0'..=b'9' => Some(character - b'0'),
        b'a'..=b'f' => Some(character - b'a' + 10),
        b'A'..=b'F' => Some(character - b'A' + 10),
        _ => None,
    }
}
