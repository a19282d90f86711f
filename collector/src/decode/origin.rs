//! Where a record comes from: its resource and its instrumentation scope, read once and repeated in
//! each of its rows.

use std::sync::Arc;

use arrow::array::{ArrayRef, Int64Builder, StringBuilder};
use arrow::error::ArrowError;
use weir_storage::schema::PROMOTED;

use super::Reason;
use super::attributes::{Attribute, AttributeMaps, Attributes, Value, cost, promoted};
use super::columns::push_text;
use super::wire::{Fault, Malformed, Reader};

/// The service of a resource that names none.
pub(super) const UNKNOWN_SERVICE: &str = "unknown_service";

/// What a `ResourceSpans`, `ResourceLogs` or `ResourceMetrics` says beside its scopes.
#[derive(Debug)]
pub(super) struct Resource<'a> {
    pub(super) service: &'a str,
    /// All attributes but `service.name`.
    pub(super) attributes: Vec<Attribute<'a>>,
    dropped_attributes: u32,
    schema_url: &'a str,
    pub(super) cost: usize,
}

/// What a `ScopeSpans`, `ScopeLogs` or `ScopeMetrics` says beside its records.
#[derive(Debug)]
pub(super) struct Scope<'a> {
    name: &'a str,
    version: &'a str,
    attributes: Vec<Attribute<'a>>,
    dropped_attributes: u32,
    schema_url: &'a str,
    pub(super) cost: usize,
}

impl<'a> Resource<'a> {
    /// Reads resource and schema URL of `message`, wherever among the scopes they stand. A fault of the
    /// inner kind is shared by every record under the resource.
    pub(super) fn read(
        mut message: Reader<'a>,
        repeated: &mut u64,
    ) -> Result<Result<Self, Reason>, Malformed> {
        let mut attributes = Attributes::default();
        let mut resource = Self {
            service: UNKNOWN_SERVICE,
            attributes: vec![],
            dropped_attributes: 0,
            schema_url: "",
            cost: 0,
        };
        let read = (|| -> Result<(), Fault> {
            while let Some(field) = message.next()? {
                match field.number {
                    1 => resource.read_resource(field.message()?, &mut attributes)?,
                    3 => resource.schema_url = field.text()?,
                    _ => {}
                }
            }
            Ok(())
        })();
        *repeated += attributes.repeated;
        if let Err(fault) = read {
            return shared(fault);
        }
        for attribute in attributes.all() {
            match attribute.value {
                Value::Str(name) if attribute.key == "service.name" && !name.is_empty() => {
                    resource.service = name;
                }
                _ => resource.attributes.push(*attribute),
            }
        }
        resource.cost = cost(&resource.attributes) + resource.service.len() + resource.schema_url.len();
        Ok(Ok(resource))
    }

    fn read_resource(
        &mut self,
        mut message: Reader<'a>,
        attributes: &mut Attributes<'a>,
    ) -> Result<(), Fault> {
        while let Some(field) = message.next()? {
            match field.number {
                1 => attributes.read(field.message()?)?,
                2 => self.dropped_attributes = field.uint32()?,
                _ => {}
            }
        }
        Ok(())
    }

    /// The text value of a resource attribute.
    pub(super) fn text(&self, key: &str) -> Option<&'a str> {
        self.attributes.iter().find(|attribute| attribute.key == key).and_then(|attribute| {
            match attribute.value {
                Value::Str(text) => Some(text),
                _ => None,
            }
        })
    }
}

impl<'a> Scope<'a> {
    /// Reads scope and schema URL of `message`, wherever among the records they stand.
    pub(super) fn read(
        mut message: Reader<'a>,
        repeated: &mut u64,
    ) -> Result<Result<Self, Reason>, Malformed> {
        let mut attributes = Attributes::default();
        let mut scope = Self {
            name: "",
            version: "",
            attributes: vec![],
            dropped_attributes: 0,
            schema_url: "",
            cost: 0,
        };
        let read = (|| -> Result<(), Fault> {
            while let Some(field) = message.next()? {
                match field.number {
                    1 => scope.read_scope(field.message()?, &mut attributes)?,
                    3 => scope.schema_url = field.text()?,
                    _ => {}
                }
            }
            Ok(())
        })();
        *repeated += attributes.repeated;
        if let Err(fault) = read {
            return shared(fault);
        }
        scope.attributes.extend_from_slice(attributes.all());
        scope.cost =
            cost(&scope.attributes) + scope.name.len() + scope.version.len() + scope.schema_url.len();
        Ok(Ok(scope))
    }

    fn read_scope(&mut self, mut message: Reader<'a>, attributes: &mut Attributes<'a>) -> Result<(), Fault> {
        while let Some(field) = message.next()? {
            match field.number {
                1 => self.name = field.text()?,
                2 => self.version = field.text()?,
                3 => attributes.read(field.message()?)?,
                4 => self.dropped_attributes = field.uint32()?,
                _ => {}
            }
        }
        Ok(())
    }
}

fn shared<T>(fault: Fault) -> Result<Result<T, Reason>, Malformed> {
    match fault {
        Fault::Malformed(malformed) => Err(malformed),
        Fault::Record(reason) => Ok(Err(reason)),
    }
}

/// How many records a scope holds: fields number 2 of `message`.
pub(super) fn count_records(mut message: Reader<'_>) -> Result<u64, Malformed> {
    let mut count = 0;
    while let Some(field) = message.next()? {
        count += u64::from(field.number == 2);
    }
    Ok(count)
}

/// How many records a resource holds: those of its fields number 2.
pub(super) fn count_nested(mut message: Reader<'_>) -> Result<u64, Malformed> {
    let mut count = 0;
    while let Some(field) = message.next()? {
        if field.number == 2 {
            count += count_records(field.message()?)?;
        }
    }
    Ok(count)
}

/// The columns that spans, logs and series share.
#[derive(Debug, Default)]
pub(super) struct OriginColumns {
    resource: AttributeMaps,
    resource_dropped: Int64Builder,
    resource_schema_url: StringBuilder,
    scope_name: StringBuilder,
    scope_version: StringBuilder,
    scope: AttributeMaps,
    scope_dropped: Int64Builder,
    scope_schema_url: StringBuilder,
}

impl OriginColumns {
    /// A row; where resource attributes are promoted they are not repeated.
    pub(super) fn row(&mut self, resource: &Resource<'_>, scope: &Scope<'_>, promotes: bool) {
        for attribute in &resource.attributes {
            if !(promotes && promoted(attribute, true).is_some()) {
                self.resource.push(attribute);
            }
        }
        self.resource.end_row();
        self.resource_dropped.append_value(resource.dropped_attributes.into());
        push_text(&mut self.resource_schema_url, resource.schema_url);
        push_text(&mut self.scope_name, scope.name);
        push_text(&mut self.scope_version, scope.version);
        self.scope.row(&scope.attributes);
        self.scope_dropped.append_value(scope.dropped_attributes.into());
        push_text(&mut self.scope_schema_url, scope.schema_url);
    }

    /// A row that says nothing, where that is allowed.
    pub(super) fn null_row(&mut self) {
        self.resource.end_row();
        self.resource_dropped.append_null();
        self.resource_schema_url.append_null();
        self.scope_name.append_null();
        self.scope_version.append_null();
        self.scope.end_row();
        self.scope_dropped.append_null();
        self.scope_schema_url.append_null();
    }

    /// The columns, in the order of the schema.
    pub(super) fn finish(mut self, out: &mut Vec<ArrayRef>) -> Result<(), ArrowError> {
        self.resource.finish(out)?;
        out.push(Arc::new(self.resource_dropped.finish()));
        out.push(Arc::new(self.resource_schema_url.finish()));
        out.push(Arc::new(self.scope_name.finish()));
        out.push(Arc::new(self.scope_version.finish()));
        self.scope.finish(out)?;
        out.push(Arc::new(self.scope_dropped.finish()));
        out.push(Arc::new(self.scope_schema_url.finish()));
        Ok(())
    }
}

/// The promoted resource attributes, by their number in [`PROMOTED`].
pub(super) fn promoted_of<'r, 'a>(resource: &'r Resource<'a>) -> Vec<Option<&'r Attribute<'a>>> {
    let mut slots = vec![None; PROMOTED.len()];
    for attribute in &resource.attributes {
        if let Some(index) = promoted(attribute, true) {
            slots[index] = Some(attribute);
        }
    }
    slots
}
