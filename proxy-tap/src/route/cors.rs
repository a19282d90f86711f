//! Cross-origin resource sharing (fetch.spec.whatwg.org, "HTTP extensions"), answered as Envoy does.
//!
//! A preflight from an allowed origin ends here, with 200. One from another origin goes on to the service, which
//! may know better, unless the policy refuses it. To a response for an allowed origin the headers are added, in
//! place of the service's own. `Vary: Origin` is there in any case: a cache must not give one origin's answer to
//! another.

use http::header::{
    ACCESS_CONTROL_ALLOW_CREDENTIALS, ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS,
    ACCESS_CONTROL_ALLOW_ORIGIN, ACCESS_CONTROL_EXPOSE_HEADERS, ACCESS_CONTROL_MAX_AGE,
    ACCESS_CONTROL_REQUEST_HEADERS, ACCESS_CONTROL_REQUEST_METHOD, ORIGIN, VARY,
};
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};
use weir_model::policy::route::{Cors as Written, TextMatch};

use super::answer::Answer;
use super::compile::Mistakes;
use super::condition::View;
use super::text::Text;

const TRUE: HeaderValue = HeaderValue::from_static("true");

/// Which origins may read a route's answers, and what else they may.
#[derive(Debug)]
pub(super) struct Cors {
    origins: Box<[Text]>,
    any_origin: bool,
    methods: List,
    headers: List,
    expose: List,
    max_age: Option<HeaderValue>,
    credentials: bool,
    refuse_unmatched: bool,
}

impl Cors {
    pub(super) fn new(written: &Written, mistakes: &mut Mistakes) -> Self {
        let origins = written.allow_origins.iter();
        Self {
            any_origin: written.allow_origins.contains(&TextMatch::Exact("*".to_owned())),
            origins: origins
                .filter_map(|origin| mistakes.keep("cors.allow_origins", Text::new(origin, false)))
                .collect(),
            methods: List::new("cors.allow_methods", &written.allow_methods, mistakes),
            headers: List::new("cors.allow_headers", &written.allow_headers, mistakes),
            expose: List::new("cors.expose_headers", &written.expose_headers, mistakes),
            max_age: written.max_age.map(|age| HeaderValue::from(age.0.as_secs())),
            credentials: written.allow_credentials,
            refuse_unmatched: written.refuse_unmatched_preflights,
        }
    }

    /// The origin of a request, where it is allowed.
    pub(super) fn origin(&self, request: &HeaderMap) -> Option<HeaderValue> {
        let origin = request.get(ORIGIN)?;
        let known = self.any_origin || self.origins.iter().any(|one| one.matches(Some(origin.as_bytes())));
        known.then(|| origin.clone())
    }

    /// The answer to a preflight that ends here.
    pub(super) fn preflight(&self, view: &View<'_>) -> Option<Answer> {
        let method = view.headers.get(ACCESS_CONTROL_REQUEST_METHOD);
        let (Some(method), true) = (method, view.headers.contains_key(ORIGIN)) else {
            return None;
        };
        if view.method != Method::OPTIONS {
            return None;
        }
        let mut answer = Answer::empty(StatusCode::OK);
        let headers = &mut answer.headers;
        let Some(origin) = self.origin(view.headers) else {
            headers.insert(VARY, HeaderValue::from_static("origin"));
            return self.refuse_unmatched.then_some(answer);
        };
        let vary = "origin, access-control-request-method, access-control-request-headers";
        headers.insert(VARY, HeaderValue::from_static(vary));
        headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, origin);
        let wanted = view.headers.get(ACCESS_CONTROL_REQUEST_HEADERS);
        self.methods.put(ACCESS_CONTROL_ALLOW_METHODS, self.credentials, Some(method), headers);
        self.headers.put(ACCESS_CONTROL_ALLOW_HEADERS, self.credentials, wanted, headers);
        if self.credentials {
            headers.insert(ACCESS_CONTROL_ALLOW_CREDENTIALS, TRUE);
        }
        if let Some(age) = &self.max_age {
            headers.insert(ACCESS_CONTROL_MAX_AGE, age.clone());
        }
        Some(answer)
    }

    /// Adds to a response what its reader, of this allowed origin, may do.
    pub(super) fn permit(&self, origin: Option<HeaderValue>, response: &mut HeaderMap) {
        let varies = |value: &HeaderValue| {
            value
                .as_bytes()
                .split(|byte| *byte == b',')
                .map(<[u8]>::trim_ascii)
                .any(|name| name == b"*" || name.eq_ignore_ascii_case(b"origin"))
        };
        if !response.get_all(VARY).iter().any(varies) {
            response.append(VARY, HeaderValue::from_static("origin"));
        }
        let Some(origin) = origin else {
            return;
        };
        response.insert(ACCESS_CONTROL_ALLOW_ORIGIN, origin);
        if self.credentials {
            response.insert(ACCESS_CONTROL_ALLOW_CREDENTIALS, TRUE);
        }
        self.expose.put(ACCESS_CONTROL_EXPOSE_HEADERS, false, None, response);
    }
}

/// Names as a header lists them.
#[derive(Debug)]
struct List {
    text: Option<HeaderValue>,
    any: bool,
}

impl List {
    fn new(what: &str, names: &[String], mistakes: &mut Mistakes) -> Self {
        let text = (!names.is_empty()).then(|| HeaderValue::from_str(&names.join(",")));
        Self {
            text: text.and_then(|text| mistakes.keep(what, text)),
            any: names.iter().any(|name| name == "*"),
        }
    }

    /// Puts the list into `headers`. Beside credentials `*` is a name like others, so what was asked for is listed.
    fn put(&self, name: HeaderName, credentials: bool, asked: Option<&HeaderValue>, headers: &mut HeaderMap) {
        let text = if self.any && credentials { asked } else { self.text.as_ref() };
        if let Some(text) = text {
            headers.insert(name, text.clone());
        }
    }
}

#[cfg(test)]
mod tests;
