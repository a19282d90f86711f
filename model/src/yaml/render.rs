//! A document written anew with its secrets hidden: what an API may show of a configuration.

use std::fmt::Write as _;

use saphyr::{ScalarStyle, YamlData};

use super::{Yaml, is_null};

/// Keys of Prometheus' configuration whose values are secrets, wherever they appear.
const SECRETS: [&str; 14] = [
    "password",
    "credentials",
    "bearer_token",
    "client_secret",
    "client_certificate_key",
    "secret_key",
    "secret",
    "secrets",
    "token",
    "application_credential_secret",
    "account_token",
    "key",
    "shared_secret",
    "auth_token",
];
/// Maps whose keys are the user's own and never secrets.
const OPEN: [&str; 5] = ["labels", "external_labels", "params", "annotations", "node_meta"];
/// Maps all of whose values are secrets.
const HIDDEN: [&str; 1] = ["proxy_connect_header"];
const HIDDEN_TEXT: &str = "<secret>";

pub(super) fn without_secrets(root: &Yaml) -> String {
    let mut out = String::new();
    node(&mut out, root, 0, Show::Known);
    if !out.ends_with('\n') {
        out.push('\n');
    }
    out
}

/// What to make of the values below a key.
#[derive(Clone, Copy, PartialEq)]
enum Show {
    /// Hides values of keys that are known to be secrets.
    Known,
    /// Hides nothing.
    All,
    /// Hides everything.
    Nothing,
}

impl Show {
    fn below(self, key: &str) -> Self {
        match self {
            Self::Known if OPEN.contains(&key) => Self::All,
            Self::Known if SECRETS.contains(&key) || HIDDEN.contains(&key) => Self::Nothing,
            show => show,
        }
    }
}

/// Writes `yaml` after its key or dash; a map or list that is not empty begins on a line of its own.
fn node(out: &mut String, yaml: &Yaml, indent: usize, show: Show) {
    match &yaml.data {
        YamlData::Tagged(_, inner) => node(out, inner, indent, show),
        YamlData::Mapping(map) if map.is_empty() => out.push_str("{}\n"),
        YamlData::Sequence(items) if items.is_empty() => out.push_str("[]\n"),
        YamlData::Mapping(map) => {
            for (index, (key, value)) in map.iter().enumerate() {
                if index > 0 {
                    pad(out, indent);
                }
                let name = match &key.data {
                    YamlData::Representation(text, _, _) => text.to_string(),
                    _ => String::new(),
                };
                scalar(out, &name, &key.data);
                out.push(':');
                let below = show.below(&name);
                match &value.data {
                    YamlData::Mapping(map) if !map.is_empty() => {
                        out.push('\n');
                        pad(out, indent + 2);
                        node(out, value, indent + 2, below);
                    }
                    YamlData::Sequence(items) if !items.is_empty() => {
                        out.push('\n');
                        pad(out, indent);
                        node(out, value, indent, below);
                    }
                    _ => {
                        out.push(' ');
                        node(out, value, indent, below);
                    }
                }
            }
        }
        YamlData::Sequence(items) => {
            for (index, item) in items.iter().enumerate() {
                if index > 0 {
                    pad(out, indent);
                }
                out.push_str("- ");
                node(out, item, indent + 2, show);
            }
        }
        YamlData::Representation(..) if show == Show::Nothing && !is_null(&yaml.data) => {
            out.push_str(HIDDEN_TEXT);
            out.push('\n');
        }
        YamlData::Representation(text, _, _) => {
            scalar(out, &without_password(text), &yaml.data);
            out.push('\n');
        }
        _ => out.push_str("null\n"),
    }
}

fn pad(out: &mut String, indent: usize) {
    out.extend(std::iter::repeat_n(' ', indent));
}

/// Writes `text` as plain as `data` was written, or quoted.
fn scalar(out: &mut String, text: &str, data: &YamlData<'static, Yaml>) {
    let was_plain = matches!(data, YamlData::Representation(_, ScalarStyle::Plain, _));
    if was_plain && !text.contains('\n') {
        out.push_str(text);
        return;
    }
    out.push('"');
    for character in text.chars() {
        match character {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\t' => out.push_str("\\t"),
            '\r' => out.push_str("\\r"),
            control if control.is_control() => {
                let _ = write!(out, "\\u{:04x}", control as u32);
            }
            other => out.push(other),
        }
    }
    out.push('"');
}

/// `text` with the password of a URL's user hidden.
fn without_password(text: &str) -> String {
    let hidden = (|| {
        let (scheme, rest) = text.split_once("://")?;
        let authority = rest.split(['/', '?', '#']).next()?;
        let (user, host) = authority.rsplit_once('@')?;
        let (name, _) = user.split_once(':')?;
        Some(format!("{scheme}://{name}:xxxxx@{host}{}", &rest[authority.len()..]))
    })();
    hidden.unwrap_or_else(|| text.to_owned())
}
