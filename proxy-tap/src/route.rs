//! From policy to decisions: which route a request takes, and all that the route does to it.
//!
//! [`Routes`] are compiled from a service's policy whenever that changes. For each request there is a [`View`];
//! [`Routes::find`] says which [`Route`] it takes, and the route answers, in this order, as Envoy's filters do:
//!
//! 1. [`Route::preflight`]: a browser asks whether it may ask.
//! 2. [`Route::fault`]: wait, fail, both or neither.
//! 3. [`Route::admit`]: rate limits.
//! 4. [`Route::answer`]: a redirect, or an answer of the route's own.
//! 5. [`Route::target`], [`Route::mirrors`]: where it goes; [`Route::rewrite`]: as what. Retries, time and hedging
//!    are the fields and [`Route::patience`].
//! 6. [`Route::respond`]: what happens to the headers of the response.
//!
//! Nothing here does I/O or reads a clock, and what a policy does not mention costs nothing.

mod answer;
mod compile;
mod condition;
mod cors;
mod fault;
mod headers;
mod index;
mod limit;
mod path;
mod retry;
mod rewrite;
mod table;
mod target;
mod text;

use std::sync::Arc;
use std::time::Duration;

use http::uri::PathAndQuery;
use http::{HeaderMap, HeaderValue};
use tokio::time::Instant;
use weir_model::policy::route::Priority;

pub(crate) use answer::Answer;
pub(crate) use condition::View;
pub(crate) use fault::Abort;
pub(crate) use limit::{Buckets, Standing, Verdict};
pub(crate) use retry::{Ended, RetryPolicy, retry_after};
pub(crate) use rewrite::RewriteError;
pub(crate) use table::Routes;
pub(crate) use target::Target;

use crate::chance::Chance;

/// A route that a request takes.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Found<'a> {
    pub(crate) route: &'a Arc<Route>,
    /// How many bytes of the path a prefix matched: what a prefix is replaced by replaces them.
    pub(crate) prefix: Option<usize>,
    /// The path as the match has it.
    pub(crate) path_pattern: Option<&'a Arc<str>>,
}

/// A second attempt when the first is slow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Hedge {
    /// After how long without an answer.
    pub(crate) after: Duration,
    /// Attempts at most, the first included.
    pub(crate) attempts: u32,
}

/// How long a response may take; `None` is no bound.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Patience {
    /// Until its head is there.
    pub(crate) head: Option<Duration>,
    /// Until all of it is.
    pub(crate) whole: Option<Duration>,
}

impl Patience {
    /// The proxy's own: what streams, streams for as long as it likes.
    pub(crate) fn head(bound: Duration) -> Self {
        Self { head: Some(bound).filter(|bound| !bound.is_zero()), whole: None }
    }

    /// A route's.
    fn whole(bound: Duration) -> Self {
        let bound = Some(bound).filter(|bound| !bound.is_zero());
        Self { head: bound, whole: bound }
    }
}

/// What happens to the requests that take it.
#[derive(Debug)]
pub(crate) struct Route {
    /// Its name in telemetry and hints.
    pub(crate) name: Arc<str>,
    /// Which requests are refused first.
    pub(crate) priority: Priority,
    /// Whether `Upgrade` passes; the proxy's default where absent.
    pub(crate) upgrade: Option<bool>,
    /// What is sent again; the proxy's default where absent.
    pub(crate) retries: Option<RetryPolicy>,
    /// A second attempt when the first is slow.
    pub(crate) hedge: Option<Hedge>,
    timeout: Option<Duration>,
    targets: target::Targets,
    mirrors: Box<[target::Mirror]>,
    own: Option<Box<answer::Own>>,
    cors: Option<Box<cors::Cors>>,
    fault: Option<fault::Fault>,
    limits: Option<Box<limit::Limits>>,
    rewrite: rewrite::Rewrite,
    request: headers::Changes,
    response: headers::Changes,
}

impl Route {
    /// The answer to a CORS preflight, where it ends here. A route that answers by itself has no CORS, as in Envoy.
    pub(crate) fn preflight(&self, view: &View<'_>) -> Option<Answer> {
        self.cors().and_then(|cors| cors.preflight(view))
    }

    /// How long to hold the request back, and what to answer it with then.
    pub(crate) fn fault(&self, chance: &Chance) -> (Option<Duration>, Option<Abort>) {
        self.fault.as_ref().map(|fault| fault.draw(chance)).unwrap_or_default()
    }

    /// Whether the rate limits let the request pass: those that this proxy has alone, and its parts of those that all
    /// proxies share.
    pub(crate) fn admit(&self, view: &View<'_>, now: Instant) -> Verdict {
        self.limits.as_ref().map_or(Verdict::Allowed(None), |limits| limits.admit(view, now))
    }

    /// The route's own answer, where it has one. `prefix` is [`Found::prefix`].
    pub(crate) fn answer(&self, view: &View<'_>, prefix: Option<usize>) -> Option<Answer> {
        let mut answer = self.own.as_ref()?.answer(view, prefix);
        self.response.apply(&mut answer.headers);
        Some(answer)
    }

    /// Where the request goes. `draw` is evenly distributed: from [`Chance`], or a hash by which the same caller
    /// gets the same target while weights stay the same.
    pub(crate) fn target(&self, draw: u64) -> &Target {
        self.targets.pick(draw)
    }

    /// Where copies of the request go.
    pub(crate) fn mirrors<'a>(&'a self, chance: &'a Chance) -> impl Iterator<Item = &'a Target> {
        self.mirrors.iter().filter(|mirror| chance.happens(mirror.share)).map(|mirror| &mirror.target)
    }

    /// Makes the request one for `target`: path, host and headers. Where route and target change the same header
    /// the route has the last word, as in Envoy. `prefix` is [`Found::prefix`].
    ///
    /// # Errors
    ///
    /// The path became one that cannot be sent; nothing was changed.
    pub(crate) fn rewrite(
        &self,
        target: &Target,
        prefix: Option<usize>,
        path: &mut PathAndQuery,
        authority: &mut HeaderValue,
        headers: &mut HeaderMap,
    ) -> Result<(), RewriteError> {
        self.rewrite.path(prefix, path, headers)?;
        self.rewrite.host(target.authority.as_ref(), authority, headers);
        target.request.apply(headers);
        self.request.apply(headers);
        Ok(())
    }

    /// How long the response may take, from the beginning of the request.
    pub(crate) fn patience(&self, default: Duration) -> Patience {
        self.timeout.map_or_else(|| Patience::head(default), Patience::whole)
    }

    /// The origin of the request, where CORS allows it: for [`Route::respond`] and [`Route::permit`].
    pub(crate) fn origin(&self, request: &HeaderMap) -> Option<HeaderValue> {
        self.cors().and_then(|cors| cors.origin(request))
    }

    /// Makes the headers of a response from `target` those that the caller gets.
    pub(crate) fn respond(&self, target: &Target, origin: Option<HeaderValue>, response: &mut HeaderMap) {
        target.response.apply(response);
        self.response.apply(response);
        self.permit(origin, response);
    }

    /// Lets a page of the allowed origin see a response, whoever made it.
    pub(crate) fn permit(&self, origin: Option<HeaderValue>, response: &mut HeaderMap) {
        if let Some(cors) = self.cors() {
            cors.permit(origin, response);
        }
    }

    fn cors(&self) -> Option<&cors::Cors> {
        self.cors.as_deref().filter(|_| self.own.is_none())
    }
}

#[cfg(test)]
mod tests;
