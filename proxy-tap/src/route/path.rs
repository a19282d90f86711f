//! The path as routes see it, so that two spellings of one path do not take two routes.
//!
//! What Envoy does to paths under Istio's default (`pathNormalization: BASE`) is done here to a view, by which
//! routes are matched and rewritten: `\` is `/`, escapes of unreserved characters are resolved (RFC 3986 section
//! 6.2.2.2), dot segments are removed (section 5.2.4). What means different things to different servers stays:
//! `//`, `%2F`, `%5C`, upper and lower case, `..;`. A request that is not rewritten is forwarded with the bytes
//! it came with, and none is refused for its path: that is for authorization, which refuses what is ambiguous.

use std::borrow::Cow;

/// The path by which routes are matched. It is borrowed unless something had to be changed.
pub(super) fn normalise(path: &str) -> Cow<'_, str> {
    if !path.starts_with('/') || !is_unusual(path) {
        return Cow::Borrowed(path);
    }
    Cow::Owned(without_dots(&unescape(path)))
}

fn is_unusual(path: &str) -> bool {
    let mut before = 0;
    path.bytes().any(|byte| {
        let unusual = matches!(byte, b'%' | b'\\') || (byte == b'.' && before == b'/');
        before = byte;
        unusual
    })
}

/// `path` with `/` for `\`, and without escapes of unreserved characters (RFC 3986 section 2.3).
pub(super) fn unescape(path: &str) -> String {
    let mut text = String::with_capacity(path.len());
    let mut rest = path;
    while let Some(at) = rest.find(['%', '\\']) {
        text.push_str(&rest[..at]);
        let unreserved = escaped(&rest[at..]).filter(|c| c.is_ascii_alphanumeric() || "-._~".contains(*c));
        let (char, length) = match unreserved {
            Some(char) => (char, 3),
            None if rest.as_bytes()[at] == b'\\' => ('/', 1),
            None => ('%', 1),
        };
        text.push(char);
        rest = &rest[at + length..];
    }
    text + rest
}

/// The character that a text begins with, where it begins with an escape.
fn escaped(text: &str) -> Option<char> {
    let digits = text.strip_prefix('%')?.get(..2)?;
    let hex = digits.bytes().all(|byte| byte.is_ascii_hexdigit());
    hex.then(|| u8::from_str_radix(digits, 16).ok()).flatten().map(char::from)
}

fn without_dots(path: &str) -> String {
    let mut kept: Vec<&str> = Vec::new();
    let mut segments = path.split('/').skip(1).peekable();
    while let Some(segment) = segments.next() {
        if !matches!(segment, "." | "..") {
            kept.push(segment);
            continue;
        }
        if segment == ".." {
            kept.pop();
        }
        if segments.peek().is_none() {
            kept.push("");
        }
    }
    kept.iter().fold(String::with_capacity(path.len()), |text, segment| text + "/" + segment)
}

/// `rest` after `replacement` instead of after the prefix that it followed. Where both have a slash there is
/// one, and the result begins with one (Gateway API, `ReplacePrefixMatch`).
pub(super) fn replace_prefix(replacement: &str, rest: &str) -> String {
    let replacement = match replacement.strip_suffix('/') {
        Some(shorter) if rest.starts_with('/') => shorter,
        _ => replacement,
    };
    let slash = if replacement.is_empty() && !rest.starts_with('/') { "/" } else { "" };
    [slash, replacement, rest].concat()
}

/// The first value of the parameter `name` in `query`, as it was sent.
pub(super) fn parameter<'a>(query: &'a str, name: &str) -> Option<&'a str> {
    query
        .split('&')
        .map(|pair| pair.split_once('=').unwrap_or((pair, "")))
        .find(|pair| pair.0 == name)
        .map(|p| p.1)
}

#[cfg(test)]
mod tests;
