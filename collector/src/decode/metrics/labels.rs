//! Label sets: attributes of a point and of its resource, with names as Prometheus wants them.

use std::borrow::Cow;
use std::sync::Arc;

use weir_model::limits;
use weir_model::prometheus::{Otlp, Translation};
use weir_storage::Labels;

use super::super::Reason;
use super::super::any_value::to_json;
use super::super::attributes::{Attribute, Value};
use super::super::origin::Resource;

use super::super::origin::Scope;

/// A label.
pub(super) type Pair = (Arc<str>, Arc<str>);

/// What every series of a resource carries.
#[derive(Debug)]
pub(super) struct Target {
    /// `job` and `instance`.
    identity: Vec<Pair>,
    /// Attributes that become labels where a point has none of that name.
    promoted: Vec<Pair>,
    /// The labels of `target_info`, where the resource says more than who it is.
    pub(super) info: Option<LabelSet>,
}

/// Resource attributes that `job` and `instance` are made of.
const IDENTITY: [&str; 2] = ["service.namespace", "service.instance.id"];

impl Target {
    pub(super) fn of(resource: &Resource<'_>, naming: &Otlp) -> Self {
        let job: Arc<str> = match resource.text(IDENTITY[0]).filter(|namespace| !namespace.is_empty()) {
            Some(namespace) => format!("{namespace}/{}", resource.service).into(),
            None => resource.service.into(),
        };
        let mut target = Self { identity: vec![("job".into(), job)], promoted: vec![], info: None };
        if let Some(instance) = resource.text(IDENTITY[1]).filter(|instance| !instance.is_empty()) {
            target.identity.push(("instance".into(), instance.into()));
        }
        let told: Vec<Told<'_>> = resource.attributes.iter().map(told).collect();
        let service = (SERVICE, resource.service.into());
        let says_more = told.iter().any(|(key, _)| !IDENTITY.contains(key));
        if says_more && told.len() <= limits::SERIES_LABELS {
            let is_info = |(key, _): &&Told<'_>| naming.keep_identifying || !IDENTITY.contains(key);
            let service = naming.keep_identifying.then_some(&service);
            let info = told.iter().filter(is_info).chain(service).cloned();
            target.info = Some(LabelSet::of(info, &target, naming));
        }
        let is_promoted = |(key, _): &Told<'_>| {
            let names = |list: &[String]| list.iter().any(|name| name == key);
            if naming.promote_all { !names(&naming.ignore) } else { names(&naming.promote) }
        };
        let promoted = told.into_iter().chain([service]).filter(is_promoted).take(limits::SERIES_LABELS);
        target.promoted = labels(promoted, naming);
        target
    }
}

/// The attribute that names the service; resources keep it apart.
const SERVICE: &str = "service.name";

/// Name, version, schema and attributes of a scope as labels, if it has a name and they are wanted.
pub(super) fn of_scope(scope: &Scope<'_>, naming: &Otlp) -> Vec<Pair> {
    if !naming.promote_scope || scope.name.is_empty() {
        return Vec::new();
    }
    let parts = [("name", scope.name), ("version", scope.version), ("schema_url", scope.schema_url)];
    let parts = parts.map(|(part, value)| (format!("otel_scope_{part}").into(), value.into()));
    let attributes = scope.attributes.iter().take(limits::SERIES_LABELS).map(|attribute| {
        let name = format!("otel_scope_{}", attribute.key);
        (label(&name, naming).as_ref().into(), text(attribute).as_ref().into())
    });
    attributes.chain(parts).collect()
}

/// Key and value of an attribute as a label tells it.
type Told<'a> = (&'a str, Cow<'a, str>);

fn told<'a>(attribute: &Attribute<'a>) -> Told<'a> {
    (attribute.key, text(attribute))
}

/// Attributes as labels; those whose names become the same are joined with `;` in the order of their keys.
fn labels<'a>(attributes: impl Iterator<Item = Told<'a>>, naming: &Otlp) -> Vec<Pair> {
    let mut named: Vec<(Cow<'a, str>, Told<'a>)> = attributes
        .filter(|(key, _)| !key.is_empty())
        .map(|attribute| (label(attribute.0, naming), attribute))
        .collect();
    named.sort_by(|(a, left), (b, right)| a.cmp(b).then_with(|| left.0.cmp(right.0)));
    let mut pairs: Vec<Pair> = Vec::with_capacity(named.len() + 4);
    for same in named.chunk_by(|(a, _), (b, _)| a == b) {
        let value: Arc<str> = match same {
            [(_, (_, value))] => value.as_ref().into(),
            _ => same.iter().map(|(_, (_, value))| value.as_ref()).collect::<Vec<_>>().join(";").into(),
        };
        pairs.push((same[0].0.as_ref().into(), value));
    }
    pairs
}

/// The labels of a point, shared by all of its series.
#[derive(Debug)]
pub(super) struct LabelSet(Vec<Pair>);

impl LabelSet {
    /// The labels that a point's `attributes` become, and those of where it comes from: what the resource promotes gives
    /// way to them, the scope and `job` and `instance` win over them.
    pub(super) fn of_point(
        attributes: &[Attribute<'_>],
        target: &Target,
        scope: &[Pair],
        naming: &Otlp,
    ) -> Result<Self, Reason> {
        if attributes.len() > limits::SERIES_LABELS {
            return Err(Reason::Labels);
        }
        let mut set = Self::of(attributes.iter().map(told), target, naming);
        if !target.promoted.is_empty() || !scope.is_empty() {
            // Of two labels of one name the later one stays.
            let own = std::mem::take(&mut set.0).into_iter();
            let promoted = target.promoted.iter().cloned();
            let scope = scope.iter().chain(&target.identity).cloned();
            set.0 = promoted.chain(own).chain(scope).collect();
        }
        Ok(set)
    }

    /// The labels that `attributes` become, and those of the target, which win.
    fn of<'a>(attributes: impl Iterator<Item = Told<'a>>, target: &Target, naming: &Otlp) -> Self {
        let mut pairs = labels(attributes, naming);
        pairs.extend(target.identity.iter().cloned());
        Self(pairs)
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

/// A label name. Unless names stay as they are, other characters than letters, digits and underscores become
/// underscores, and a name that would begin with a digit, or with a single underscore, gets the prefix `key`.
fn label<'k>(key: &'k str, naming: &Otlp) -> Cow<'k, str> {
    if matches!(naming.translation, Translation::None | Translation::Utf8WithSuffixes) {
        return key.into();
    }
    let is_part = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let mut clean: Cow<'_, str> = if key.chars().all(is_part) {
        key.into()
    } else {
        key.chars().map(|c| if is_part(c) { c } else { '_' }).collect::<String>().into()
    };
    // Names between two underscores on either side are Prometheus' own.
    let reserved = clean.starts_with("__") && clean.ends_with("__");
    if !naming.preserve_underscores && !reserved && clean.contains("__") {
        let mut single = String::with_capacity(clean.len());
        clean.chars().for_each(|c| {
            if c != '_' || !single.ends_with('_') {
                single.push(c)
            }
        });
        clean = single.into();
    }
    if clean.starts_with(|c: char| c.is_ascii_digit()) {
        return format!("key_{clean}").into();
    }
    if naming.sanitize_leading_underscore && clean.starts_with('_') && !clean.starts_with("__") {
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
            assert_eq!(label(key, &Otlp::default()), expected);
        }
    }

    #[test]
    fn label_names_follow_the_configuration() {
        let kept = Otlp { translation: Translation::None, ..Otlp::default() };
        let bare = Otlp { sanitize_leading_underscore: false, ..Otlp::default() };
        let single = Otlp { preserve_underscores: false, ..Otlp::default() };
        let golden = [
            (&kept, "http.method", "http.method"),
            (&kept, "_größe", "_größe"),
            (&bare, "_private", "_private"),
            (&bare, "1st", "key_1st"),
            (&single, "a..b__c", "a_b_c"),
            (&single, "__name__", "__name__"),
            (&single, "__x", "key_x"),
        ];
        for (naming, key, expected) in golden {
            assert_eq!(label(key, naming), expected);
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
