//! How a text of a request is compared with what a route says: compiled once, without allocation per request.

use regex::bytes::{Regex, RegexBuilder};
use weir_model::limits;
use weir_model::policy::route::TextMatch;

/// A comparison.
#[derive(Debug)]
pub(super) struct Text {
    how: How,
    fold: bool,
}

#[derive(Debug)]
enum How {
    Exact(Box<str>),
    Prefix(Box<str>),
    /// Without a slash at the end.
    PathPrefix(Box<str>),
    Pattern(Regex),
    Present(bool),
}

impl Text {
    /// What is written, compiled; `fold`: upper and lower case of ASCII are the same.
    pub(super) fn new(written: &TextMatch, fold: bool) -> Result<Self, String> {
        let how = match written {
            TextMatch::Exact(text) => How::Exact(text.as_str().into()),
            TextMatch::Prefix(text) => How::Prefix(text.as_str().into()),
            TextMatch::PathPrefix(text) => How::PathPrefix(text.strip_suffix('/').unwrap_or(text).into()),
            TextMatch::Regex(pattern) => How::Pattern(whole(pattern, fold)?),
            TextMatch::Present(is) => How::Present(*is),
        };
        Ok(Self { how, fold })
    }

    /// Whether the text, or its absence, is what was asked for.
    pub(super) fn matches(&self, text: Option<&[u8]>) -> bool {
        let Some(text) = text else {
            return matches!(self.how, How::Present(false));
        };
        match &self.how {
            How::Exact(exact) => self.same(text, exact),
            How::Prefix(prefix) => self.begins(text, prefix),
            How::PathPrefix(prefix) => {
                self.begins(text, prefix) && matches!(text.get(prefix.len()), None | Some(b'/'))
            }
            How::Pattern(pattern) => pattern.is_match(text),
            How::Present(is) => *is,
        }
    }

    /// What every text that matches begins with; `None` where nothing is known of it.
    pub(super) fn beginning(&self) -> Option<&str> {
        match &self.how {
            How::Exact(text) | How::Prefix(text) | How::PathPrefix(text) => Some(text),
            How::Pattern(_) | How::Present(_) => None,
        }
    }

    /// Length of the part that a prefix matches.
    pub(super) fn prefix(&self) -> Option<usize> {
        match &self.how {
            How::Prefix(text) | How::PathPrefix(text) => Some(text.len()),
            How::Exact(_) | How::Pattern(_) | How::Present(_) => None,
        }
    }

    /// As telemetry shows it, with a star for what may follow; `None` where it says nothing of the text.
    pub(super) fn shown(&self) -> Option<String> {
        match &self.how {
            How::Exact(text) => Some(text.to_string()),
            How::Prefix(text) => Some(format!("{text}*")),
            How::PathPrefix(text) => Some(format!("{text}/*")),
            How::Pattern(pattern) => {
                Some(pattern.as_str()[r"\A(?:".len()..].trim_end_matches(r")\z").to_owned())
            }
            How::Present(_) => None,
        }
    }

    fn begins(&self, text: &[u8], prefix: &str) -> bool {
        text.get(..prefix.len()).is_some_and(|head| self.same(head, prefix))
    }

    fn same(&self, text: &[u8], other: &str) -> bool {
        if self.fold { text.eq_ignore_ascii_case(other.as_bytes()) } else { text == other.as_bytes() }
    }
}

/// A regular expression that all of a text has to match.
fn whole(pattern: &str, fold: bool) -> Result<Regex, String> {
    RegexBuilder::new(&format!(r"\A(?:{pattern})\z"))
        .case_insensitive(fold)
        .size_limit(limits::ROUTE_PATTERN_BYTES)
        .build()
        .map_err(|error| {
            let error = error.to_string();
            format!("`{pattern}`: {}", error.lines().last().unwrap_or_default().trim())
        })
}
