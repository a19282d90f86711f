//! A series as a text has it.

use std::borrow::Cow;

use weir_model::prometheus::Labels;

use super::super::created::{Starts, key_of};
use super::super::number::{format_float, parse_value};
use super::super::{Kind, Series};

/// A text, perhaps with escapes in it.
#[derive(Debug, Clone, Copy)]
pub(in super::super) struct Quoted<'t> {
    raw: &'t str,
    escaped: bool,
    quoted: bool,
}

impl<'t> Quoted<'t> {
    pub(super) fn new(raw: &'t str, escaped: bool) -> Self {
        Self { raw, escaped, quoted: false }
    }

    pub(super) fn in_quotes(raw: &'t str, escaped: bool) -> Self {
        Self { raw, escaped, quoted: true }
    }

    pub(super) fn was_quoted(&self) -> bool {
        self.quoted
    }

    /// What it means: `\\`, `\"` and `\n` are escapes, other backslashes are not.
    pub(in super::super) fn text(&self) -> Cow<'t, str> {
        if !self.escaped {
            return Cow::Borrowed(self.raw);
        }
        let mut out = String::with_capacity(self.raw.len());
        let mut characters = self.raw.chars();
        while let Some(character) = characters.next() {
            if character != '\\' {
                out.push(character);
                continue;
            }
            match characters.next() {
                Some('n') => out.push('\n'),
                Some(same @ ('\\' | '"')) => out.push(same),
                Some(other) => out.extend(['\\', other]),
                None => out.push('\\'),
            }
        }
        Cow::Owned(out)
    }
}

/// A series as a text has it.
#[derive(Debug)]
pub(in super::super) struct TextSeries<'p, 't> {
    pub(super) raw: &'t str,
    pub(super) name: Option<Quoted<'t>>,
    pub(super) pairs: &'p [(Quoted<'t>, Quoted<'t>)],
    /// Of the family that was described last.
    pub(super) kind: Kind,
}

impl<'t> TextSeries<'_, 't> {
    pub(in super::super) fn kind(&self) -> Kind {
        self.kind
    }

    pub(in super::super) fn name(&self) -> Cow<'t, str> {
        self.name.map(|name| name.text()).unwrap_or_default()
    }

    /// What the times of creation know this series by, without the end of its name that is `suffix`.
    pub(in super::super) fn created_key(&self, suffixes: &[&str]) -> Option<String> {
        let name = self.name();
        let base = suffixes.iter().find_map(|suffix| name.strip_suffix(suffix))?;
        let own =
            |name: &str| !matches!((name, self.kind), ("le", Kind::Histogram) | ("quantile", Kind::Summary));
        let pairs = self.pairs.iter().map(|(name, value)| (name.text(), value.text()));
        Some(key_of(base, pairs.filter(|(name, _)| own(name))))
    }

    /// When counting began, if that is among `starts`.
    pub(super) fn start(&self, starts: &Starts) -> Option<i64> {
        let suffixes: &[&str] = match self.kind {
            Kind::Counter => &["_total"],
            Kind::Histogram => &["_bucket", "_count", "_sum"],
            Kind::Summary => &["_count", "_sum", ""],
            _ => return None,
        };
        starts.get(&self.created_key(suffixes)?).copied()
    }
}

impl Series for TextSeries<'_, '_> {
    fn key(&self) -> &[u8] {
        self.raw.as_bytes()
    }

    fn labels(&self) -> Result<Labels, &'static str> {
        let mut labels = Labels::new();
        let name = self.name();
        let bound = match self.kind {
            Kind::Histogram if name.ends_with("_bucket") => "le",
            Kind::Summary => "quantile",
            _ => "",
        };
        if !name.is_empty() {
            labels.insert("__name__".to_owned(), name.into_owned());
        }
        for (name, value) in self.pairs {
            let (name, mut value) = (name.text(), value.text());
            if name == bound
                && let Some(number) = parse_value(&value)
            {
                value = Cow::Owned(format_float(number));
            }
            let known = labels.insert(name.into_owned(), value.into_owned());
            if known.is_some() {
                return Err("a label is there twice");
            }
        }
        if labels.contains_key("__name__") { Ok(labels) } else { Err("the name of the metric is missing") }
    }
}
