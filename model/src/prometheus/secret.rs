//! Values that must not be seen, and where values come from that may be in a file.

use std::fmt;
use std::path::{Path, PathBuf};

use serde::{Serialize, Serializer};

use crate::yaml::Fields;

/// A text that neither `Debug` nor serialization shows.
#[derive(Clone, PartialEq, Eq, Hash, Default)]
pub struct Secret(String);

impl Secret {
    /// Hides `text`.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The text, to be sent and not to be shown.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("<secret>")
    }
}

impl Serialize for Secret {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str("<secret>")
    }
}

/// A value as written, or the file that holds it. A file is read anew for each use, so that it may be replaced.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Sourced<T> {
    /// The value itself.
    Here(T),
    /// In a file.
    File(PathBuf),
}

impl<T> Sourced<T> {
    pub(super) fn set_directory(&mut self, dir: &Path) {
        if let Self::File(path) = self {
            *path = dir.join(&*path);
        }
    }

    /// Reads `key` or `key_file`, not both.
    pub(super) fn read(fields: &mut Fields<'_>, key: &str, make: impl FnOnce(String) -> T) -> Option<Self> {
        let file_key = format!("{key}_file");
        let here = fields.take(key);
        let file = fields.take(&file_key);
        if let (Some(node), Some(_)) = (&here, &file) {
            node.mistake(format!("at most one of `{key}` and `{file_key}` may be set"));
        }
        let value = here.and_then(|node| node.text()).filter(|text| !text.is_empty());
        let path = file.and_then(|node| node.text()).filter(|text| !text.is_empty());
        value.map(|text| Self::Here(make(text))).or(path.map(|path| Self::File(path.into())))
    }
}
