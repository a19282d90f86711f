//! Answers that a route has itself: a redirect, or a body of its own.

use bytes::Bytes;
use http::header::{CONTENT_TYPE, LOCATION};
use http::uri::PathAndQuery;
use http::{HeaderMap, HeaderValue, StatusCode};
use weir_model::policy::route::{HttpRoute, Redirect as Written};

use super::compile::Mistakes;
use super::condition::View;
use super::rewrite::{PathChange, part_of_path};

/// An answer of the proxy's own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

impl Answer {
    /// A status and nothing else.
    pub(super) fn empty(status: StatusCode) -> Self {
        Self { status, headers: HeaderMap::new(), body: Bytes::new() }
    }
}

/// How a route answers.
#[derive(Debug)]
pub(super) enum Own {
    Respond(Answer),
    Redirect(Redirect),
}

impl Own {
    /// The route's own answer, where it has one.
    pub(super) fn new(route: &HttpRoute, mistakes: &mut Mistakes) -> Option<Self> {
        if let Some(redirect) = &route.redirect {
            return Redirect::new(redirect, mistakes).map(Self::Redirect);
        }
        let respond = route.respond.as_ref()?;
        let status = mistakes.keep("respond.status", StatusCode::from_u16(respond.status))?;
        let mut answer = Answer::empty(status);
        if !respond.body.is_empty() {
            let kind = HeaderValue::from_str(&respond.content_type);
            answer.headers.insert(CONTENT_TYPE, mistakes.keep("respond.content_type", kind)?);
            answer.body = Bytes::from(respond.body.clone());
        }
        Some(Self::Respond(answer))
    }

    /// The answer to one request, of whose path a prefix matched the first `prefix` bytes.
    pub(super) fn answer(&self, view: &View<'_>, prefix: Option<usize>) -> Answer {
        match self {
            Self::Respond(answer) => answer.clone(),
            Self::Redirect(redirect) => redirect.answer(view, prefix),
        }
    }
}

/// The caller is told to go elsewhere.
#[derive(Debug)]
pub(super) struct Redirect {
    status: StatusCode,
    scheme: Option<Box<str>>,
    authority: Option<Box<str>>,
    port: Option<u16>,
    path: Option<PathChange>,
    /// The path that is written has a query of its own, which stands for that of the request.
    has_query: bool,
}

impl Redirect {
    fn new(written: &Written, mistakes: &mut Mistakes) -> Option<Self> {
        let status = mistakes.keep("redirect.status", StatusCode::from_u16(written.status));
        let full = written.path.as_deref().map(|path| {
            let fits = PathAndQuery::try_from(path).is_ok();
            mistakes.keep("redirect.path", fits.then_some(()).ok_or("expected a path"));
            PathChange::Full(path.into())
        });
        let prefix = written.prefix.as_deref().map(|path| {
            mistakes.keep("redirect.prefix", part_of_path(path));
            PathChange::Prefix(path.into())
        });
        for (what, text) in [("redirect.scheme", &written.scheme), ("redirect.authority", &written.authority)]
        {
            let plain = |text: &String| text.bytes().all(|b| b.is_ascii_graphic() && !b"/?#\\".contains(&b));
            if !text.as_ref().is_none_or(plain) {
                mistakes.note(what, "expected a name");
            }
        }
        Some(Self {
            status: status?,
            scheme: written.scheme.as_deref().map(Into::into),
            authority: written.authority.as_deref().map(Into::into),
            port: written.port,
            path: full.or(prefix),
            has_query: written.path.as_ref().is_some_and(|path| path.contains('?')),
        })
    }

    fn answer(&self, view: &View<'_>, prefix: Option<usize>) -> Answer {
        let Ok(location) = HeaderValue::from_str(&self.location(view, prefix)) else {
            return Answer::empty(StatusCode::BAD_REQUEST);
        };
        let mut answer = Answer::empty(self.status);
        answer.headers.insert(LOCATION, location);
        answer
    }

    fn location(&self, view: &View<'_>, prefix: Option<usize>) -> String {
        let path = match &self.path {
            Some(change) => change.apply(&view.path, prefix),
            None => view.target.path().to_owned(),
        };
        let query = view.target.query().filter(|_| !self.has_query);
        let query = query.map(|query| format!("?{query}")).unwrap_or_default();
        match self.origin(view) {
            Some(origin) => format!("{origin}{path}{query}"),
            // Without a host the reference is relative, and two slashes would begin one.
            None => format!("/{}{query}", path.trim_start_matches(['/', '\\'])),
        }
    }

    /// Scheme, host and port. A host that is written brings its own port or none, as in Envoy; a scheme that is
    /// written means its own port, as in Gateway API; a port that the scheme has anyway is left out.
    fn origin(&self, view: &View<'_>) -> Option<String> {
        let scheme = self.scheme.as_deref().unwrap_or(view.scheme);
        let authority = self.authority.as_deref().unwrap_or(view.authority);
        let (host, port) = split_port(authority);
        let given = port.filter(|_| self.authority.is_some() || self.scheme.is_none());
        let port = self.port.or(given);
        let own = match scheme {
            "http" => Some(80),
            "https" => Some(443),
            _ => None,
        };
        let port = port.filter(|port| Some(*port) != own).map(|port| format!(":{port}")).unwrap_or_default();
        (!host.is_empty()).then(|| format!("{scheme}://{host}{port}"))
    }
}

/// Host and port of an authority; the host of an IPv6 address keeps its brackets.
fn split_port(authority: &str) -> (&str, Option<u16>) {
    match authority.rsplit_once(':') {
        Some((host, port)) if !port.ends_with(']') => (host, port.parse().ok()),
        _ => (authority, None),
    }
}

#[cfg(test)]
mod tests;
