//! Whether a request is one that a route means.

use std::borrow::Cow;

use http::uri::PathAndQuery;
use http::{HeaderMap, HeaderName, Method};
use weir_model::policy::route::{HttpMatch, TextMatch};

use super::compile::Mistakes;
use super::path;
use super::text::Text;

/// A request as routes see it.
#[derive(Debug)]
pub(crate) struct View<'a> {
    pub(super) method: &'a Method,
    /// As it came.
    pub(super) target: &'a PathAndQuery,
    /// By which routes are matched: see [`path`].
    pub(super) path: Cow<'a, str>,
    pub(super) authority: &'a str,
    pub(super) scheme: &'a str,
    pub(super) headers: &'a HeaderMap,
    pub(super) source: &'a str,
}

impl<'a> View<'a> {
    /// A request from `source`, the calling service (empty where it is unknown), to `authority`: host, and port
    /// where one was given. `scheme` is `http` or `https`.
    pub(crate) fn new(
        method: &'a Method,
        target: &'a PathAndQuery,
        authority: &'a str,
        scheme: &'a str,
        headers: &'a HeaderMap,
        source: &'a str,
    ) -> Self {
        Self { method, target, path: path::normalise(target.path()), authority, scheme, headers, source }
    }

    /// The header `name`; several of it are one, joined by commas (RFC 9110 section 5.3).
    fn header(&self, name: &HeaderName) -> Option<Cow<'a, [u8]>> {
        let mut values = self.headers.get_all(name).iter();
        let first = values.next()?.as_bytes();
        Some(values.fold(Cow::Borrowed(first), |mut all, next| {
            all.to_mut().push(b',');
            all.to_mut().extend_from_slice(next.as_bytes());
            all
        }))
    }
}

/// Conditions that all hold for a request that matches.
#[derive(Debug, Default)]
pub(super) struct Condition {
    method: Option<Text>,
    path: Option<Text>,
    /// Compared with the path without its first slash, whatever the content type, as Istio does for Gateway API.
    grpc: Option<Text>,
    authority: Option<Text>,
    scheme: Option<Text>,
    source: Option<Text>,
    headers: Box<[(HeaderName, Text)]>,
    without: Box<[(HeaderName, Text)]>,
    query: Box<[(Box<str>, Text)]>,
    fold: bool,
}

impl Condition {
    pub(super) fn new(written: &HttpMatch, mistakes: &mut Mistakes) -> Self {
        let fold = written.ignore_path_case;
        let mut text = |what: &str, written: Option<&TextMatch>, fold| {
            written.and_then(|written| mistakes.keep(what, Text::new(written, fold)))
        };
        let path = written.path.as_ref().map(as_seen);
        Self {
            method: text("method", written.method.as_ref(), false),
            path: text("path", path.as_ref(), fold),
            grpc: text("grpc", written.grpc.as_ref(), false),
            // Hosts and schemes have no case (RFC 9110 section 4.2.3).
            authority: text("authority", written.authority.as_ref(), true),
            scheme: text("scheme", written.scheme.as_ref(), true),
            source: text("source", written.source.as_ref(), false),
            headers: headers("headers", &written.headers, mistakes),
            without: headers("without_headers", &written.without_headers, mistakes),
            query: written
                .query
                .iter()
                .filter_map(|(name, text)| {
                    Some((name.as_str().into(), mistakes.keep(name, Text::new(text, false))?))
                })
                .collect(),
            fold,
        }
    }

    /// Whether all of it holds.
    pub(super) fn holds(&self, view: &View<'_>) -> bool {
        let is = |wanted: &Option<Text>, text: Option<&str>| match wanted {
            Some(wanted) => wanted.matches(text.map(str::as_bytes)),
            None => true,
        };
        let some = |text| Some(text).filter(|text: &&str| !text.is_empty());
        is(&self.method, Some(view.method.as_str()))
            && is(&self.path, Some(&view.path))
            && is(&self.grpc, view.path.strip_prefix('/'))
            && is(&self.authority, some(view.authority))
            && is(&self.scheme, some(view.scheme))
            && is(&self.source, some(view.source))
            && self.headers.iter().all(|(name, text)| text.matches(view.header(name).as_deref()))
            && !self.without.iter().any(|(name, text)| text.matches(view.header(name).as_deref()))
            && self.query.iter().all(|(name, text)| {
                let value = view.target.query().and_then(|query| path::parameter(query, name));
                text.matches(value.map(str::as_bytes))
            })
    }

    /// What the path of every request that matches begins with, and whether its case counts for nothing. `None`
    /// where nothing is known of it.
    pub(super) fn beginning(&self) -> Option<(String, bool)> {
        let path = self.path.as_ref().and_then(Text::beginning);
        let grpc = || self.grpc.as_ref().and_then(Text::beginning);
        match path {
            Some(path) if self.fold => Some((path.to_ascii_lowercase(), true)),
            Some(path) => Some((path.to_owned(), false)),
            None => grpc().map(|method| (format!("/{method}"), false)),
        }
    }

    /// The path as it was written, as telemetry shows it: OpenTelemetry's `http.route`.
    pub(super) fn path_pattern(&self) -> Option<String> {
        let grpc = || Some(format!("/{}", self.grpc.as_ref()?.shown()?));
        self.path.as_ref().and_then(Text::shown).or_else(grpc)
    }

    /// Length of the part of the path that a prefix matches.
    pub(super) fn prefix(&self) -> Option<usize> {
        self.path.as_ref().and_then(Text::prefix)
    }
}

/// A path as written is spelled as the view spells it.
fn as_seen(written: &TextMatch) -> TextMatch {
    match written {
        TextMatch::Exact(text) => TextMatch::Exact(path::normalise(text).into_owned()),
        TextMatch::Prefix(text) => TextMatch::Prefix(path::unescape(text)),
        TextMatch::PathPrefix(text) => TextMatch::PathPrefix(path::unescape(text)),
        TextMatch::Regex(_) | TextMatch::Present(_) => written.clone(),
    }
}

fn headers<'a>(
    what: &str,
    written: impl IntoIterator<Item = (&'a String, &'a TextMatch)>,
    mistakes: &mut Mistakes,
) -> Box<[(HeaderName, Text)]> {
    let compiled = written.into_iter().filter_map(|(name, text)| {
        let what = format!("{what}.{name}");
        let name = mistakes.keep(&what, HeaderName::from_bytes(name.as_bytes()));
        let text = mistakes.keep(&what, Text::new(text, false));
        Some((name?, text?))
    });
    compiled.collect()
}
