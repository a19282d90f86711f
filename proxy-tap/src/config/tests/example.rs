//! `examples/policy.toml` shows all there is: each field of each struct, and the name of each variant.
//!
//! The example is read through a deserializer that notes what the policy's types ask for, so that a field which is
//! new is missed here without anybody listing it.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};

use serde::Deserialize;
use serde::de::value::{MapDeserializer, SeqDeserializer, StringDeserializer};
use serde::de::{
    DeserializeSeed, Deserializer, EnumAccess, Error as _, IntoDeserializer, VariantAccess, Visitor,
};
use serde_json::{Error, Value};
use weir_model::policy::Policy;
use weir_model::policy::destination::{
    AdaptiveConcurrency, CheckKind, Connections, HealthCheck, Locality, OutlierDetection, RetryBudget,
    SuccessRate, Warmup,
};
use weir_model::policy::route::{Hedge, Respond, Retries};

const EXAMPLE: &str = include_str!("../../../../examples/policy.toml");

/// What the types know, and what of it the example has.
#[derive(Default)]
struct Known {
    /// By struct.
    fields: BTreeMap<&'static str, BTreeSet<&'static str>>,
    shown: BTreeMap<&'static str, BTreeSet<String>>,
    variants: BTreeSet<&'static str>,
}

/// A value whose types are noted while it is read.
#[derive(Clone)]
struct Noted<'a>(Value, &'a RefCell<Known>);

impl Noted<'_> {
    fn note(&self, name: &'static str, fields: &'static [&'static str]) {
        let mut known = self.1.borrow_mut();
        known.fields.entry(name).or_default().extend(fields);
        let keys = self.0.as_object().into_iter().flat_map(|object| object.keys().cloned());
        known.shown.entry(name).or_default().extend(keys);
    }
}

impl<'de> IntoDeserializer<'de, Error> for Noted<'_> {
    type Deserializer = Self;

    fn into_deserializer(self) -> Self {
        self
    }
}

impl<'de> Deserializer<'de> for Noted<'_> {
    type Error = Error;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        let Self(value, known) = self;
        match value {
            Value::Array(all) => {
                let all = all.into_iter().map(|one| Noted(one, known));
                visitor.visit_seq(SeqDeserializer::new(all))
            }
            Value::Object(all) => {
                let all = all.into_iter().map(|(key, one)| (key, Noted(one, known)));
                visitor.visit_map(MapDeserializer::new(all))
            }
            plain => plain.deserialize_any(visitor),
        }
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_some(self)
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        self.note(name, fields);
        self.deserialize_any(visitor)
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        self.1.borrow_mut().variants.extend(variants);
        visitor.visit_enum(self)
    }

    serde::forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf unit unit_struct
        newtype_struct seq tuple tuple_struct map identifier ignored_any
    }
}

impl<'de, 'a> EnumAccess<'de> for Noted<'a> {
    type Error = Error;
    type Variant = Noted<'a>;

    fn variant_seed<S: DeserializeSeed<'de>>(self, seed: S) -> Result<(S::Value, Self::Variant), Error> {
        let (name, content) = match self.0 {
            Value::String(name) => (name, Value::Null),
            Value::Object(only) => only.into_iter().next().ok_or_else(|| Error::custom("an empty table"))?,
            other => return Err(Error::custom(format!("`{other}` is no variant"))),
        };
        let name: StringDeserializer<Error> = name.into_deserializer();
        Ok((seed.deserialize(name)?, Noted(content, self.1)))
    }
}

impl<'de> VariantAccess<'de> for Noted<'_> {
    type Error = Error;

    fn unit_variant(self) -> Result<(), Error> {
        <()>::deserialize(self.0)
    }

    fn newtype_variant_seed<S: DeserializeSeed<'de>>(self, seed: S) -> Result<S::Value, Error> {
        seed.deserialize(self)
    }

    fn tuple_variant<V: Visitor<'de>>(self, _: usize, visitor: V) -> Result<V::Value, Error> {
        self.deserialize_any(visitor)
    }

    fn struct_variant<V: Visitor<'de>>(
        self,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        self.note(fields[0], fields);
        self.deserialize_any(visitor)
    }
}

#[test]
fn the_example_of_a_policy_has_every_field_and_names_every_variant() {
    let policy: Policy = toml::from_str(EXAMPLE).unwrap();
    assert_eq!(policy.check(), []);
    let known = RefCell::default();
    let value = serde_json::to_value(toml::from_str::<toml::Table>(EXAMPLE).unwrap()).unwrap();
    assert_eq!(Policy::deserialize(Noted(value, &known)).unwrap(), policy);
    let known = known.into_inner();
    for (name, fields) in &known.fields {
        let missing: Vec<_> = fields.iter().filter(|field| !known.shown[name].contains(**field)).collect();
        assert!(missing.is_empty(), "{name}: examples/policy.toml does not show {missing:?}");
    }
    for variant in &known.variants {
        let quoted = [format!("\"{variant}\""), format!("{variant} ="), format!(".{variant}]")];
        let is_there = quoted.iter().any(|text| EXAMPLE.contains(text));
        assert!(is_there, "examples/policy.toml does not name `{variant}`");
    }
    assert!(known.fields.len() > 30 && known.variants.len() > 40, "nothing was noted");
}

#[test]
fn what_the_example_calls_a_default_is_one() {
    let policy: Policy = toml::from_str(EXAMPLE).unwrap();
    let service = policy.service("search").unwrap();
    let (to, route) = (service.destination.clone(), service.routes[0].clone());
    assert_eq!(to.balancer, Default::default());
    assert_eq!(Locality { distribute: vec![], ..to.locality }, Locality::default());
    assert_eq!(to.warmup, Some(Warmup::default()));
    assert_eq!(to.retry_budget, RetryBudget::default());
    assert_eq!(to.adaptive_concurrency, Some(AdaptiveConcurrency::default()));
    assert_eq!(to.outlier_detection.success_rate, Some(SuccessRate::default()));
    let outlier = OutlierDetection { success_rate: None, ..to.outlier_detection };
    assert_eq!(outlier, OutlierDetection::default());
    let check = HealthCheck { kind: CheckKind::Tcp, port: None, ..to.health_check.unwrap() };
    assert_eq!(check, HealthCheck::default());
    let none = Connections {
        max_connections: None,
        max_requests: None,
        max_pending: None,
        reserved_for_high_priority: None,
        tcp_keepalive: None,
        ..to.connections
    };
    assert_eq!(none, Connections::default());
    assert_eq!(Retries { per_try_timeout: None, ..route.retries.unwrap() }, Retries::default());
    assert_eq!(route.hedge, Some(Hedge::default()));
    assert_eq!(service.routes.iter().find_map(|route| route.respond.clone()), Some(Respond::default()));
}
