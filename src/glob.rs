//! Files by patterns such as `rules/*.yml`, as configuration files name them.

use std::ffi::OsStr;
use std::path::{Component, Path, PathBuf};

/// Paths that a pattern may lead over; further ones are left out.
const MOST: usize = 10_000;

/// The files that `pattern` names, in order. A name without wildcards names a file that is there.
pub(crate) fn files(pattern: &Path) -> Vec<PathBuf> {
    let mut found = vec![PathBuf::new()];
    for part in pattern.components() {
        let wild = match part {
            Component::Normal(name) => name.to_str().filter(|name| name.contains(['*', '?', '['])),
            _ => None,
        };
        found = match wild {
            None => found.into_iter().map(|path| path.join(part)).filter(|path| path.exists()).collect(),
            Some(wild) => found.iter().flat_map(|folder| within(folder, wild)).take(MOST).collect(),
        };
    }
    found.retain(|path| path.is_file());
    found
}

/// What in `folder` has a name that matches, in order.
fn within(folder: &Path, wild: &str) -> Vec<PathBuf> {
    let listed = if folder == Path::new("") { Path::new(".") } else { folder };
    let Ok(entries) = std::fs::read_dir(listed) else { return Vec::new() };
    let names = entries.filter_map(|entry| entry.ok().map(|entry| entry.file_name()));
    let fits = |name: &OsStr| name.to_str().is_some_and(|name| matches(wild, name));
    let mut found: Vec<PathBuf> =
        names.filter(|name| fits(name)).map(|name| folder.join(name)).take(MOST).collect();
    found.sort();
    found
}

/// Whether `name` is as `pattern` says: `*` any text, `?` any character, `[a-z]` one of those, `[^a]` none of those.
fn matches(pattern: &str, name: &str) -> bool {
    let mut left = pattern.chars();
    match left.next() {
        None => name.is_empty(),
        Some('*') => {
            let rest = left.as_str();
            name.char_indices().any(|(at, _)| matches(rest, &name[at..])) || matches(rest, "")
        }
        Some('[') => {
            let (Some((set, rest)), Some(c)) = (left.as_str().split_once(']'), name.chars().next()) else {
                return false;
            };
            is_in(set, c) && matches(rest, &name[c.len_utf8()..])
        }
        Some(expected) => name.chars().next().is_some_and(|c| {
            (expected == '?' || expected == c) && matches(left.as_str(), &name[c.len_utf8()..])
        }),
    }
}

fn is_in(set: &str, c: char) -> bool {
    let (negated, set) = match set.strip_prefix(['^', '!']) {
        Some(rest) => (true, rest),
        None => (false, set),
    };
    let all: Vec<char> = set.chars().collect();
    let mut at = 0;
    let mut found = false;
    while at < all.len() {
        if all.get(at + 1) == Some(&'-') && at + 2 < all.len() {
            found |= (all[at]..=all[at + 2]).contains(&c);
            at += 3;
        } else {
            found |= all[at] == c;
            at += 1;
        }
    }
    found != negated
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_are_those_of_shells() {
        for (pattern, name, fits) in [
            ("*.yml", "a.yml", true),
            ("*.yml", "a.yaml", false),
            ("a*b*c", "aXbYc", true),
            ("a?c", "abc", true),
            ("a?c", "ac", false),
            ("[a-c]1", "b1", true),
            ("[^a-c]1", "b1", false),
            ("*", "", true),
            ("ä*", "äöü", true),
        ] {
            assert_eq!(matches(pattern, name), fits, "{pattern} {name}");
        }
    }

    #[test]
    fn files_are_found_in_order() {
        let dir = tempfile::tempdir().unwrap();
        for name in ["b.yml", "a.yml", "c.txt", "sub/d.yml"] {
            let path = dir.path().join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, "").unwrap();
        }
        let found = |pattern: &str| {
            let files = files(&dir.path().join(pattern));
            let names = files.iter().map(|path| path.strip_prefix(dir.path()).unwrap().display().to_string());
            names.collect::<Vec<_>>()
        };
        assert_eq!(found("*.yml"), ["a.yml", "b.yml"]);
        assert_eq!(found("*/*.yml"), ["sub/d.yml"]);
        assert_eq!(found("c.txt"), ["c.txt"]);
        assert_eq!(found("absent.yml"), Vec::<String>::new());
        assert_eq!(found("sub"), Vec::<String>::new());
    }
}
