//! What templates compute with, and how it prints.

use std::collections::BTreeMap;
use std::sync::Arc;

use weir_storage::Labels;

use super::format;
use super::time;
use crate::promql::Sample;
use crate::promql::histogram::Histogram;

/// A value, as Go's types would have it.
#[derive(Debug, Clone)]
pub(super) enum Value {
    Nil,
    Bool(bool),
    Int(i64),
    Float(f64),
    Text(Arc<str>),
    /// Unix nanoseconds.
    Time(i64),
    /// Nanoseconds.
    Length(i64),
    List(Arc<[Value]>),
    Map(Arc<BTreeMap<String, Value>>),
    Labels(Labels),
    /// What a query yields.
    Result(Arc<[(Labels, Sample)]>),
    Sample(Arc<(Labels, Sample)>),
    Histogram(Arc<Histogram>),
    /// What a rule gives its templates.
    Data(Arc<Data>),
}

/// What a rule gives its templates.
#[derive(Debug, Clone)]
pub(super) struct Data {
    pub(super) labels: Labels,
    pub(super) external_labels: Labels,
    pub(super) external_url: Arc<str>,
    pub(super) value: Sample,
}

impl From<&Sample> for Value {
    fn from(sample: &Sample) -> Self {
        match sample {
            Sample::Absent => Self::Nil,
            Sample::Float(value) => Self::Float(*value),
            Sample::Histogram(histogram) => Self::Histogram(Arc::clone(histogram)),
        }
    }
}

impl Value {
    pub(super) fn text(text: impl Into<Arc<str>>) -> Self {
        Self::Text(text.into())
    }

    /// Its type, as Go's messages call it.
    pub(super) fn type_name(&self) -> &'static str {
        match self {
            Self::Nil => "nil",
            Self::Bool(_) => "bool",
            Self::Int(_) => "int",
            Self::Float(_) => "float64",
            Self::Text(_) => "string",
            Self::Time(_) => "*time.Time",
            Self::Length(_) => "time.Duration",
            Self::List(_) => "[]interface {}",
            Self::Map(_) => "map[string]interface {}",
            Self::Labels(_) => "map[string]string",
            Self::Result(_) => "template.queryResult",
            Self::Sample(_) => "*template.sample",
            Self::Histogram(_) => "*histogram.FloatHistogram",
            Self::Data(_) => {
                "struct { Labels map[string]string; ExternalLabels map[string]string; ExternalURL string; Value interface {} }"
            }
        }
    }

    /// Whether a condition holds for it.
    pub(super) fn is_true(&self) -> bool {
        match self {
            Self::Nil => false,
            Self::Bool(bool) => *bool,
            Self::Int(whole) | Self::Length(whole) => *whole != 0,
            Self::Float(number) => *number != 0.0,
            Self::Text(text) => !text.is_empty(),
            Self::List(list) => !list.is_empty(),
            Self::Map(map) => !map.is_empty(),
            Self::Labels(labels) => labels.iter().len() > 0,
            Self::Result(rows) => !rows.is_empty(),
            Self::Time(_) | Self::Sample(_) | Self::Histogram(_) | Self::Data(_) => true,
        }
    }

    /// Its elements with their indices or keys, if it has any.
    pub(super) fn elements(&self) -> Option<Vec<(Value, Value)>> {
        let indexed = |values: Vec<Value>| (0..).map(Value::Int).zip(values).collect();
        match self {
            Self::Nil => Some(Vec::new()),
            Self::List(list) => Some(indexed(list.to_vec())),
            Self::Result(rows) => {
                Some(indexed(rows.iter().map(|row| Self::Sample(Arc::new(row.clone()))).collect()))
            }
            Self::Map(map) => {
                Some(map.iter().map(|(key, value)| (Self::text(key.as_str()), value.clone())).collect())
            }
            Self::Labels(labels) => {
                Some(labels.iter().map(|(name, value)| (Self::text(name), Self::text(value))).collect())
            }
            _ => None,
        }
    }

    /// The field `name`, if values of this kind have any.
    pub(super) fn field(&self, name: &str) -> Option<Value> {
        match self {
            Self::Labels(labels) => Some(Self::text(labels.get(name).unwrap_or_default())),
            Self::Map(map) => Some(map.get(name).cloned().unwrap_or(Self::Nil)),
            Self::Sample(row) => match name {
                "Labels" => Some(Self::Labels(row.0.clone())),
                "Value" => Some(Self::from(&row.1)),
                _ => None,
            },
            Self::Data(data) => match name {
                "Labels" => Some(Self::Labels(data.labels.clone())),
                "ExternalLabels" => Some(Self::Labels(data.external_labels.clone())),
                "ExternalURL" => Some(Self::Text(Arc::clone(&data.external_url))),
                "Value" => Some(Self::from(&data.value)),
                _ => None,
            },
            Self::Histogram(histogram) => match name {
                "Count" => Some(Self::Float(histogram.count)),
                "Sum" => Some(Self::Float(histogram.sum)),
                "ZeroCount" => Some(Self::Float(histogram.zero_count)),
                "ZeroThreshold" => Some(Self::Float(histogram.zero_threshold)),
                "Schema" => Some(Self::Int(i64::from(histogram.schema))),
                _ => None,
            },
            _ => None,
        }
    }

    /// As an action prints it.
    pub(super) fn print(&self) -> String {
        match self {
            Self::Nil => "<no value>".to_owned(),
            Self::Sample(row) => {
                format!("{{{} {}}}", Self::Labels(row.0.clone()).show(), Self::from(&row.1).show())
            }
            other => other.show(),
        }
    }

    /// As Go's `%v` does.
    pub(super) fn show(&self) -> String {
        let all = |values: Vec<String>| format!("[{}]", values.join(" "));
        match self {
            Self::Nil => "<nil>".to_owned(),
            Self::Bool(bool) => bool.to_string(),
            Self::Int(whole) => whole.to_string(),
            Self::Float(number) => format::shortest(*number),
            Self::Text(text) => text.to_string(),
            Self::Time(nanos) => time::show(*nanos),
            Self::Length(nanos) => time::show_length(*nanos),
            Self::List(list) => all(list.iter().map(Self::show).collect()),
            Self::Result(rows) => {
                let rows = rows.iter().map(|row| format!("&{}", Self::Sample(Arc::new(row.clone())).print()));
                all(rows.collect())
            }
            Self::Map(map) => {
                let pairs: Vec<String> =
                    map.iter().map(|(key, value)| format!("{key}:{}", value.show())).collect();
                format!("map{}", all(pairs))
            }
            Self::Labels(labels) => {
                let pairs: Vec<String> =
                    labels.iter().map(|(name, value)| format!("{name}:{value}")).collect();
                format!("map{}", all(pairs))
            }
            Self::Sample(_) => format!("&{}", self.print()),
            Self::Histogram(histogram) => histogram.to_string(),
            Self::Data(data) => format!(
                "{{{} {} {} {}}}",
                Self::Labels(data.labels.clone()).show(),
                Self::Labels(data.external_labels.clone()).show(),
                data.external_url,
                Self::from(&data.value).show()
            ),
        }
    }
}
