//! The files that can be served, all of them part of the binary.

use std::borrow::Cow;

use rust_embed::RustEmbed;

/// What Vite built. Empty but for a `.gitignore` until `make ui` ran.
#[derive(RustEmbed)]
#[folder = "web/dist"]
#[allow_missing = true]
#[exclude = ".gitignore"]
struct Bundle;

/// A set of files with an `index.html`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Site {
    /// The web app.
    Bundle,
    /// The page that is written by hand and needs no build.
    Fallback,
    /// A known set of files for tests.
    #[cfg(test)]
    Sample,
}

/// One file.
#[derive(Debug, Clone)]
pub(crate) struct File {
    /// What is in it.
    pub(crate) content: Cow<'static, [u8]>,
    /// A tag of the content, quotes included.
    pub(crate) etag: String,
}

impl Site {
    /// The web app where it was built, the fallback page otherwise.
    pub(crate) fn embedded() -> Self {
        if Bundle::get("index.html").is_some() { Self::Bundle } else { Self::Fallback }
    }

    /// The file at `path`, which has no leading slash. Paths are compared, not opened: `..` names nothing.
    pub(crate) fn file(self, path: &str) -> Option<File> {
        match self {
            Self::Bundle => Bundle::get(path)
                .map(|file| File { content: file.data, etag: tag(&file.metadata.sha256_hash()) }),
            Self::Fallback => fallback(path),
            #[cfg(test)]
            Self::Sample => crate::tests::sample(path),
        }
    }
}

fn fallback(path: &str) -> Option<File> {
    let content = match path {
        "index.html" => include_str!("../fallback/index.html"),
        "fallback.js" => include_str!("../fallback/fallback.js"),
        _ => return None,
    };
    // The page changes with the program alone.
    let etag = concat!("\"fallback-", env!("CARGO_PKG_VERSION"), "\"").to_owned();
    Some(File { content: Cow::Borrowed(content.as_bytes()), etag })
}

fn tag(sha256: &[u8; 32]) -> String {
    let half: String = sha256[..16].iter().map(|byte| format!("{byte:02x}")).collect();
    format!("\"{half}\"")
}
