//! Label sets: attributes of a point and of its resource, with names as Prometheus wants them.

use std::borrow::Cow;
use std::sync::Arc;

use weir_model::limits;
use weir_storage::Labels;

use super::super::Reason;
use super::super::any_value::to_json;
use super::super::attributes::{Attribute, Value};
use super::super::origin::Resource;

type Pair = (Arc<str>, Arc<str>);

/// What every series of a resource carries.
#[derive(Debug)]
pub(super) struct Target {
    /// `job` and `instance`.
    identity: Vec<Pair>,
    /// The labels of `target_info`, where the resource says more than who it is.
    pub(super) info: Option<LabelSet>,
}

/// Resource attributes that `job` and `instance` are made of.
const IDENTITY: [&str; 2] = ["service.namespace", "service.instance.id"];

impl Target {
    pub(super) fn of(resource: &Resource<'_>) -> Self {
        let job: Arc<str> = match resource.text(IDENTITY[0]).filter(|namespace| !namespace.is_empty()) {
            Some(namespace) => format!("{namespace}/{}", resource.service).into(),
            None => resource.service.into(),
        };
        let mut target = Self { identity: vec![("job".into(), job)], info: None };
        if let Some(instance) = resource.text(IDENTITY[1]).filter(|instance| !instance.is_empty()) {
            target.identity.push(("instance".into(), instance.into()));
        }
        let rest: Vec<Attribute<'_>> = resource
            .attributes
            .iter()
            .filter(|attribute| !IDENTITY.contains(&attribute.key))
            .copied()
            .collect();
        if !rest.is_empty() {
            target.info = LabelSet::of(&rest, &target).ok();
        }
        target
    }
}

/// The labels of a point, shared by all of its series.
#[derive(Debug)]
pub(super) struct LabelSet(Vec<Pair>);

impl LabelSet {
    /// Attributes become labels; those whose names become the same are joined with `;` in the order of
    /// their keys. `job` and `instance` win over attributes of that name.
    pub(super) fn of(attributes: &[Attribute<'_>], target: &Target) -> Result<Self, Reason> {
        if attributes.len() > limits::SERIES_LABELS {
            return Err(Reason::Labels);
        }
        let mut named: Vec<(Cow<'_, str>, &Attribute<'_>)> = attributes
            .iter()
            .filter(|attribute| !attribute.key.is_empty())
            .map(|attribute| (label(attribute.key), attribute))
            .collect();
        named.sort_by(|(a, left), (b, right)| a.cmp(b).then_with(|| left.key.cmp(right.key)));
        let mut pairs: Vec<Pair> = Vec::with_capacity(named.len() + 4);
        let mut rest = named.as_slice();
        while let Some(((name, _), _)) = rest.split_first() {
            let same = rest.iter().take_while(|(other, _)| other == name).count();
            let values: Vec<Cow<'_, str>> =
                rest[..same].iter().map(|(_, attribute)| text(attribute)).collect();
            let value: Arc<str> = match values.as_slice() {
                [value] => value.as_ref().into(),
                _ => values.join(";").into(),
            };
            pairs.push((name.as_ref().into(), value));
            rest = &rest[same..];
        }
        pairs.extend(target.identity.iter().cloned());
        Ok(Self(pairs))
    }

    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    /// The labels of one series of the point.
    pub(super) fn series(&self, name: &Arc<str>, extra: Option<(&str, String)>) -> Labels {
        let extra = extra.map(|(name, value)| (Arc::from(name), Arc::from(value)));
        let named = (Arc::from("__name__"), Arc::clone(name));
        Labels::new(self.0.iter().cloned().chain(extra).chain([named]))
    }
}

/// A label name: other characters than letters, digits and underscores become underscores; a name that
/// would begin with a digit or a single underscore gets the prefix `key`.
fn label(key: &str) -> Cow<'_, str> {
    let is_part = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let clean: Cow<'_, str> = if key.chars().all(is_part) {
        key.into()
    } else {
        key.chars().map(|c| if is_part(c) { c } else { '_' }).collect::<String>().into()
    };
    if clean.starts_with(|c: char| c.is_ascii_digit()) {
        return format!("key_{clean}").into();
    }
    if clean.starts_with('_') && !clean.starts_with("__") {
        return format!("key{clean}").into();
    }
    clean
}

/// The value of an attribute as a label holds it.
fn text<'a>(attribute: &Attribute<'a>) -> Cow<'a, str> {
    match attribute.value {
        Value::Str(text) => text.into(),
        Value::Bool(bool) => if bool { "true" } else { "false" }.into(),
        Value::Long(long) => long.to_string().into(),
        Value::Double(double) => number(double).into(),
        Value::Other => to_json(attribute.raw).into(),
    }
}

/// A number as Prometheus writes it in a label: shortest digits, no exponent.
pub(super) fn number(value: f64) -> String {
    if value.is_infinite() {
        return if value > 0.0 { "+Inf" } else { "-Inf" }.to_owned();
    }
    value.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn label_names_are_made_valid() {
        let golden = [
            ("http.method", "http_method"),
            ("already_fine", "already_fine"),
            ("123", "key_123"),
            ("_private", "key_private"),
            ("__reserved", "__reserved"),
            ("größe", "gr__e"),
            ("a b-c/d", "a_b_c_d"),
        ];
        for (key, expected) in golden {
            assert_eq!(label(key), expected);
        }
    }

    #[test]
    fn numbers_have_no_exponent() {
        let golden =
            [(5.0, "5"), (0.005, "0.005"), (1e21, "1000000000000000000000"), (f64::INFINITY, "+Inf")];
        for (value, expected) in golden {
            assert_eq!(number(value), expected);
        }
    }
}
