//! Path and host as the target gets them.
//!
//! What was there before is told in `x-envoy-original-path` and `x-envoy-original-host`: a service behind a
//! rewriting proxy cannot build links to itself without them, and under these names those that ran behind Istio
//! look for them.

use bytes::Bytes;
use http::uri::PathAndQuery;
use http::{HeaderMap, HeaderName, HeaderValue};
use regex::{Regex, RegexBuilder};
use weir_model::limits;
use weir_model::policy::route::{RegexRewrite, Rewrite as Written};

use super::compile::Mistakes;
use super::path;

const ORIGINAL_PATH: HeaderName = HeaderName::from_static("x-envoy-original-path");
const ORIGINAL_HOST: HeaderName = HeaderName::from_static("x-envoy-original-host");

/// A path that is none after it was rewritten, mostly because it became too long: the request is to be answered
/// with 400.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("the rewritten path of {bytes} bytes is not one")]
pub(crate) struct RewriteError {
    bytes: usize,
}

/// What becomes of a path. Where it changes, what is left of it is spelled as the view spells it.
#[derive(Debug)]
pub(super) enum PathChange {
    /// The part that a prefix matched, or all of it where none did.
    Prefix(Box<str>),
    /// All of it.
    Full(Box<str>),
    /// All that the expression finds.
    Pattern { find: Regex, replace: Box<str> },
}

impl PathChange {
    /// `seen`, of which a prefix matched the first `prefix` bytes, as it becomes.
    pub(super) fn apply(&self, seen: &str, prefix: Option<usize>) -> String {
        match self {
            Self::Prefix(replacement) => {
                let rest = prefix.and_then(|length| seen.get(length..)).unwrap_or_default();
                path::replace_prefix(replacement, rest)
            }
            Self::Full(path) => path::replace_prefix(path, ""),
            Self::Pattern { find, replace } => path::replace_prefix("", &find.replace_all(seen, &**replace)),
        }
    }
}

/// Path and host as the target gets them.
#[derive(Debug, Default)]
pub(super) struct Rewrite {
    path: Option<PathChange>,
    authority: Option<HeaderValue>,
}

impl Rewrite {
    pub(super) fn new(written: &Written, host: Option<HeaderValue>, mistakes: &mut Mistakes) -> Self {
        let path = written.path.as_deref().map(|path| (path, PathChange::Prefix(path.into())));
        let full = written.full_path.as_deref().map(|path| (path, PathChange::Full(path.into())));
        let change = path
            .or(full)
            .and_then(|(path, change)| mistakes.keep("rewrite.path", part_of_path(path)).map(|()| change));
        let pattern = written.regex.as_ref().and_then(|regex| mistakes.keep("rewrite.regex", pattern(regex)));
        let authority = written
            .authority
            .as_deref()
            .and_then(|host| mistakes.keep("rewrite.authority", HeaderValue::from_str(host)));
        Self { path: change.or(pattern), authority: authority.or(host) }
    }

    /// Rewrites the path of a request, of which a prefix matched the first `prefix` bytes.
    pub(super) fn path(
        &self,
        prefix: Option<usize>,
        target: &mut PathAndQuery,
        headers: &mut HeaderMap,
    ) -> Result<(), RewriteError> {
        let Some(change) = &self.path else {
            return Ok(());
        };
        let mut path = change.apply(&path::normalise(target.path()), prefix);
        if let Some(query) = target.query() {
            path.push('?');
            path.push_str(query);
        }
        let bytes = path.len();
        let new = PathAndQuery::from_maybe_shared(Bytes::from(path)).map_err(|_| RewriteError { bytes })?;
        if let Ok(original) = HeaderValue::from_str(target.as_str()) {
            headers.insert(ORIGINAL_PATH, original);
        }
        *target = new;
        Ok(())
    }

    /// Rewrites the host: to the route's, or else that of the target.
    pub(super) fn host(
        &self,
        of_target: Option<&HeaderValue>,
        authority: &mut HeaderValue,
        headers: &mut HeaderMap,
    ) {
        if let Some(host) = self.authority.as_ref().or(of_target) {
            headers.insert(ORIGINAL_HOST, std::mem::replace(authority, host.clone()));
        }
    }
}

/// Whether a text can be the beginning of a path.
pub(super) fn part_of_path(text: &str) -> Result<(), String> {
    let path = path::replace_prefix(text, "");
    let fits = !path.contains(['?', '#']) && PathAndQuery::try_from(path.as_str()).is_ok();
    fits.then_some(()).ok_or_else(|| format!("`{text}`: expected a path without a query"))
}

fn pattern(written: &RegexRewrite) -> Result<PathChange, String> {
    let find = RegexBuilder::new(&written.find)
        .size_limit(limits::ROUTE_PATTERN_BYTES)
        .build()
        .map_err(|error| format!("`{}`: {error}", written.find))?;
    Ok(PathChange::Pattern { replace: template(&written.replace)?.into(), find })
}

/// RE2's template (`\1`) as this library has it (`${1}`).
fn template(re2: &str) -> Result<String, String> {
    let (mut text, mut literal) = (String::with_capacity(re2.len()), "/".to_owned());
    let mut chars = re2.chars();
    while let Some(char) = chars.next() {
        let escaped = if char == '\\' { chars.next() } else { None };
        match (char, escaped) {
            ('\\', Some(digit)) if digit.is_ascii_digit() => {
                text.push_str(&format!("${{{digit}}}"));
                continue;
            }
            ('\\', Some('\\')) => text.push('\\'),
            ('\\', _) => return Err(format!("`{re2}`: expected a digit or `\\` after `\\`")),
            ('$', _) => text.push_str("$$"),
            (char, _) => text.push(char),
        }
        literal.push(char);
    }
    part_of_path(&literal).map(|()| text)
}

#[cfg(test)]
mod tests;
