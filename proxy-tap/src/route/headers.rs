//! Changes to the headers of a message, parsed once.

use std::collections::BTreeMap;

use http::header::{CONNECTION, CONTENT_LENGTH, HOST, TE, TRANSFER_ENCODING, UPGRADE};
use http::{HeaderMap, HeaderName, HeaderValue};
use weir_model::policy::route::HeaderChanges;

use super::compile::Mistakes;

/// Changes in this order: removed, set, added.
#[derive(Debug, Default)]
pub(crate) struct Changes {
    remove: Box<[HeaderName]>,
    set: Box<[(HeaderName, HeaderValue)]>,
    add: Box<[(HeaderName, HeaderValue)]>,
}

impl Changes {
    /// Changes to a request, and the `Host` that they set: it is no header of HTTP/2.
    pub(super) fn of_request(
        what: &str,
        written: &HeaderChanges,
        mistakes: &mut Mistakes,
    ) -> (Self, Option<HeaderValue>) {
        let mut written = written.clone();
        let name = written.set.keys().find(|name| name.eq_ignore_ascii_case("host")).cloned();
        let host = name.and_then(|name| written.set.remove(&name));
        let host =
            host.and_then(|host| mistakes.keep(&format!("{what}.set.host"), HeaderValue::from_str(&host)));
        (Self::new(what, &written, mistakes), host)
    }

    /// The changes that are written.
    pub(super) fn new(what: &str, written: &HeaderChanges, mistakes: &mut Mistakes) -> Self {
        let mut pairs = |kind: &str, written: &BTreeMap<String, String>| {
            let parsed = written.iter().filter_map(|(name, value)| {
                let what = format!("{what}.{kind}.{name}");
                let name = name_of(&what, name, mistakes);
                let value = mistakes.keep(&what, HeaderValue::from_str(value));
                Some((name?, value?))
            });
            parsed.collect()
        };
        let (set, add) = (pairs("set", &written.set), pairs("add", &written.add));
        let what = format!("{what}.remove");
        let remove = written.remove.iter().filter_map(|name| name_of(&what, name, mistakes)).collect();
        Self { remove, set, add }
    }

    /// Makes the changes.
    pub(crate) fn apply(&self, headers: &mut HeaderMap) {
        for name in &self.remove {
            headers.remove(name);
        }
        for (name, value) in &self.set {
            headers.insert(name, value.clone());
        }
        for (name, value) in &self.add {
            headers.append(name, value.clone());
        }
    }
}

/// A name that a rule may touch. Those that say where a message ends, and to whom it goes, are the proxy's: with
/// another value two readers would disagree about it.
fn name_of(what: &str, name: &str, mistakes: &mut Mistakes) -> Option<HeaderName> {
    let name = mistakes.keep(what, HeaderName::from_bytes(name.as_bytes()))?;
    if name == HOST {
        mistakes.note(what, "`host` can only be set, in requests");
        return None;
    }
    let is_framing = [CONNECTION, CONTENT_LENGTH, TE, TRANSFER_ENCODING, UPGRADE].contains(&name)
        || ["keep-alive", "proxy-connection"].contains(&name.as_str());
    if is_framing {
        mistakes.note(what, format!("`{name}` belongs to the connection and cannot be changed"));
        return None;
    }
    Some(name)
}

#[cfg(test)]
mod tests;
