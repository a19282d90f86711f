//! The policy file: TOML, all of whose mistakes are told at once.

use std::path::Path;

use weir_model::limits;
use weir_model::policy::{Mistake, Policy, Resolve, Service};

use super::{ConfigMistake, Target, TlsFiles};
use crate::tls;

/// The policy in `file`, or what is wrong with it or with files that it names. `own` are those of the proxy's identity.
pub(crate) fn read(file: &Path, own: Option<&TlsFiles>) -> Result<Policy, Vec<ConfigMistake>> {
    let shown = file.display();
    let mistake = |at: &str, expected: String| ConfigMistake {
        flag: format!("--policy {shown}{at}"),
        expected,
        got: None,
    };
    let text = std::fs::read_to_string(file)
        .map_err(|error| vec![mistake("", format!("a readable file ({error})"))])?;
    if text.len() > limits::POLICY_BYTES {
        return Err(vec![mistake("", format!("at most {} MiB", limits::POLICY_BYTES >> 20))]);
    }
    let policy: Policy = toml::from_str(&text).map_err(|error| {
        let line = error.span().map(|span| text[..span.start.min(text.len())].lines().count().max(1));
        let at = line.map_or(String::new(), |line| format!(":{line}"));
        vec![mistake(&at, format!("a policy ({})", error.message()))]
    })?;
    let mut mistakes = policy.check();
    if mistakes.is_empty() {
        mistakes = unresolvable(&policy);
        mistakes.extend(tls::mistakes(&policy, own));
    }
    if mistakes.is_empty() {
        return Ok(policy);
    }
    Err(mistakes.into_iter().map(|one| mistake(&format!("#{}", one.path), one.problem)).collect())
}

/// Services whose name in the DNS is none.
fn unresolvable(policy: &Policy) -> Vec<Mistake> {
    let wrong = |service: &Service| {
        let (Resolve::Dns(name) | Resolve::Srv(name)) = &service.resolve else { return None };
        let problem =
            format!("{{ dns = \"host:port\" }} or {{ srv = \"_name._tcp.host\" }} (it is `{name}`)");
        let path = format!("service[{}].resolve", service.host);
        Target::of(&service.resolve).is_none().then_some(Mistake { path, problem })
    };
    policy.services.iter().filter_map(wrong).collect()
}
