//! Files that a configuration names: read with a bound, and found by patterns.

use std::io::Read as _;
use std::path::{Path, PathBuf};

use weir_model::limits;

/// Why a file cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    /// It cannot be read.
    #[error("cannot read `{}`: {source}", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// It is too large.
    #[error("`{}` is larger than {} MiB", .0.display(), limits::CONFIG_FILE_BYTES >> 20)]
    TooLarge(PathBuf),
}

/// The text of a file.
pub(super) fn read(path: &Path) -> Result<String, FileError> {
    let unreadable = |source| FileError::Unreadable { path: path.to_owned(), source };
    let file = std::fs::File::open(path).map_err(unreadable)?;
    let mut text = String::new();
    file.take(limits::CONFIG_FILE_BYTES + 1).read_to_string(&mut text).map_err(unreadable)?;
    if text.len() as u64 > limits::CONFIG_FILE_BYTES {
        return Err(FileError::TooLarge(path.to_owned()));
    }
    Ok(text)
}

/// The files that `pattern` matches, sorted; it may have `*` and `?` in its last part, which `.` at the beginning
/// of a name is not matched by.
pub(super) fn matching(pattern: &Path) -> Vec<PathBuf> {
    let name = pattern.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    if !name.contains(['*', '?', '[']) {
        return if pattern.exists() { vec![pattern.to_owned()] } else { Vec::new() };
    }
    let dir = pattern.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let Ok(entries) = std::fs::read_dir(dir) else { return Vec::new() };
    let mut found: Vec<PathBuf> = entries
        .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
        .filter(|file| wildcard(name.as_bytes(), file.as_bytes()))
        .filter(|file| !file.starts_with('.') || name.starts_with('.'))
        .take(limits::CONFIG_FILES)
        .map(|file| dir.join(file))
        .collect();
    found.sort();
    found
}

/// Whether `text` is what `pattern` with its `*` and `?` means.
fn wildcard(pattern: &[u8], text: &[u8]) -> bool {
    let (mut at, mut star) = ((0, 0), None);
    while at.1 < text.len() {
        match pattern.get(at.0) {
            Some(b'*') => {
                star = Some(at);
                at.0 += 1;
            }
            Some(byte) if *byte == b'?' || *byte == text[at.1] => at = (at.0 + 1, at.1 + 1),
            _ => match &mut star {
                Some((pattern_at, text_at)) => {
                    *text_at += 1;
                    at = (*pattern_at + 1, *text_at);
                }
                None => return false,
            },
        }
    }
    pattern[at.0..].iter().all(|byte| *byte == b'*')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_match_names() {
        for (pattern, text, matches) in [
            ("*.yml", "a.yml", true),
            ("*.yml", "a.yaml", false),
            ("a*b*c", "axxbyybzzc", true),
            ("a?c", "abc", true),
            ("a?c", "ac", false),
            ("*", "", true),
        ] {
            assert_eq!(wildcard(pattern.as_bytes(), text.as_bytes()), matches, "{pattern} {text}");
        }
    }

    #[test]
    fn files_are_found_in_order_and_hidden_ones_are_not() {
        let dir = tempfile::tempdir().unwrap();
        for name in ["b.yml", "a.yml", ".c.yml", "d.json"] {
            std::fs::write(dir.path().join(name), "x").unwrap();
        }
        let found = matching(&dir.path().join("*.yml"));
        assert_eq!(found, [dir.path().join("a.yml"), dir.path().join("b.yml")]);
        assert_eq!(matching(&dir.path().join("d.json")), [dir.path().join("d.json")]);
        assert!(matching(&dir.path().join("e.json")).is_empty());
    }
}
