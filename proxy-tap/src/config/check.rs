//! Each flag's text, as it is meant, or a mistake.

use std::collections::{BTreeMap, HashSet};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use weir_model::limits;
use weir_model::policy::Policy;

use super::{ConfigMistake, Outbound, TlsConfig, UnknownHosts, endpoints};
use crate::discovery::Target;
use crate::tls::TlsFiles;

#[derive(Default)]
pub(super) struct Check {
    pub(super) mistakes: Vec<ConfigMistake>,
}

impl Check {
    pub(super) fn mistake(&mut self, flag: &str, expected: impl Into<String>, got: &str) {
        let (flag, expected, got) = (flag.to_owned(), expected.into(), Some(got.to_owned()));
        self.mistakes.push(ConfigMistake { flag, expected, got });
    }

    /// A name that may stand in a header and a label: printable ASCII without `;` and `=`.
    pub(super) fn name(&mut self, flag: &str, text: &str, required: bool) -> String {
        if text.is_empty() && !required {
            return String::new();
        }
        if !endpoints::is_name(text) {
            self.mistake(flag, endpoints::A_NAME, text);
        }
        text.to_owned()
    }

    pub(super) fn one<T>(
        &mut self,
        flag: &str,
        expected: &str,
        text: &str,
        parse: impl Fn(&str) -> Option<T>,
    ) -> Option<T> {
        let value = parse(text);
        if value.is_none() {
            self.mistake(flag, expected, text);
        }
        value
    }

    /// A whole number from 0 to `most`.
    pub(super) fn number(&mut self, flag: &str, text: &str, most: u32) -> u32 {
        let parse = |text: &str| text.parse().ok().filter(|number| *number <= most);
        self.one(flag, &format!("a whole number from 0 to {most}"), text, parse).unwrap_or_default()
    }

    /// `NAME=VALUE`, each name once.
    pub(super) fn labels(&mut self, texts: &[String]) -> BTreeMap<String, String> {
        let mut all = BTreeMap::new();
        for text in texts {
            let label = self.one("--label", "NAME=VALUE, such as track=canary", text, |text| {
                let (name, value) = text.split_once('=')?;
                let label = (name.to_owned(), value.to_owned());
                endpoints::is_label((&label.0, &label.1)).then_some(label)
            });
            if let Some((name, value)) = label
                && all.insert(name, value).is_some()
            {
                self.mistake("--label", "each NAME once", text);
            }
        }
        if all.len() > limits::ENDPOINT_LABELS {
            let expected = format!("at most {} labels", limits::ENDPOINT_LABELS);
            self.mistake("--label", expected, &all.len().to_string());
        }
        all
    }

    pub(super) fn listen(&mut self, flag: &str, text: Option<&str>) -> Option<SocketAddr> {
        self.one(flag, "an address to listen on, such as 127.0.0.1:8080", text?, |text| text.parse().ok())
    }

    pub(super) fn authority(&mut self, flag: &str, text: Option<&str>) -> Option<String> {
        let text = text?.trim_start_matches("http://");
        self.one(flag, "host:port", text, |text| endpoints::is_authority(text).then(|| text.to_owned()))
    }

    pub(super) fn outbound(&mut self, texts: &[String]) -> Vec<Outbound> {
        let mut names = HashSet::new();
        let mut all = Vec::new();
        for text in texts {
            let parsed = text.split_once('=').and_then(|(name, address)| {
                let listen = address.parse().ok()?;
                endpoints::is_name(name).then(|| Outbound { name: name.to_owned(), listen })
            });
            match parsed {
                None => {
                    self.mistake("--outbound", "NAME=ADDR, such as payments=127.0.0.1:7001", text);
                }
                Some(outbound) if !names.insert(outbound.name.clone()) => {
                    self.mistake("--outbound", "each NAME once", text);
                }
                Some(outbound) => all.push(outbound),
            }
        }
        all
    }

    /// `NAME=dns://host:port` or `NAME=srv://_name._tcp.host`, each name once.
    pub(super) fn resolve(&mut self, texts: &[String]) -> BTreeMap<String, Target> {
        let mut all = BTreeMap::new();
        for text in texts {
            let expected = format!("NAME={}", Target::EXPECTED);
            let parsed = self.one("--resolve", &expected, text, |text| {
                let (name, target) = text.split_once('=')?;
                endpoints::is_name(name).then_some(())?;
                Some((name.to_owned(), Target::parse(target)?))
            });
            if let Some((name, target)) = parsed
                && all.insert(name, target).is_some()
            {
                self.mistake("--resolve", "each NAME once", text);
            }
        }
        all
    }

    /// Certificate, key and authorities: all of them or none.
    pub(super) fn tls(&mut self, files: [&Option<PathBuf>; 3], plaintext: bool) -> Option<TlsConfig> {
        match files {
            [Some(cert), Some(key), Some(ca)] => {
                let files = TlsFiles { cert: cert.clone(), key: key.clone(), ca: ca.clone() };
                Some(TlsConfig { files, plaintext })
            }
            [None, None, None] => None,
            _ => {
                self.mistake("--tls-cert", "--tls-cert, --tls-key and --tls-ca together", "");
                None
            }
        }
    }

    /// A policy in TOML, all of whose parts fit together.
    pub(super) fn policy(&mut self, file: Option<&std::path::Path>, own: Option<&TlsFiles>) -> Policy {
        let Some(file) = file else { return Policy::default() };
        match super::policy::read(file, own) {
            Ok(policy) => policy,
            Err(mistakes) => {
                self.mistakes.extend(mistakes);
                Policy::default()
            }
        }
    }

    pub(super) fn endpoints(
        &mut self,
        file: Option<&std::path::Path>,
    ) -> BTreeMap<String, Vec<super::Endpoint>> {
        let Some(file) = file else {
            return BTreeMap::new();
        };
        let read = endpoints::read(file).and_then(|content| endpoints::services(file, &content));
        read.unwrap_or_else(|mistakes| {
            self.mistakes.extend(mistakes);
            BTreeMap::new()
        })
    }
}

pub(super) fn on_off(text: &str) -> Option<bool> {
    match text {
        "on" => Some(true),
        "off" => Some(false),
        _ => None,
    }
}

/// A number with the unit `ms`, `s` or `m`; above zero and at most a day.
pub(super) fn duration(text: &str) -> Option<Duration> {
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let number: f64 = digits.parse().ok()?;
    let seconds = match &text[digits.len()..] {
        "ms" => number / 1e3,
        "s" => number,
        "m" => number * 60.0,
        _ => return None,
    };
    (seconds > 0.0 && seconds <= 86_400.0).then(|| Duration::from_secs_f64(seconds))
}

/// As [`duration`], or zero.
pub(super) fn duration_or_none(text: &str) -> Option<Duration> {
    match text {
        "0" | "0ms" | "0s" | "0m" => Some(Duration::ZERO),
        text => duration(text),
    }
}

pub(super) fn unknown_hosts(text: &str) -> Option<UnknownHosts> {
    match text {
        "allow" => Some(UnknownHosts::Allow),
        "deny" => Some(UnknownHosts::Deny),
        _ => None,
    }
}
