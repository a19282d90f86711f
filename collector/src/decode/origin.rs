//! Where a record comes from: its resource and its instrumentation scope, read once and repeated in
//! each of its rows.

use std::ops::Range;

use arrow::error::ArrowError;

use super::Reason;
use super::attributes::{Attribute, AttributeMaps, Attributes, Value, cost, promoted};
use super::wire::{Fault, Malformed, Reader};
use weir_storage::columns::{Finished, Longs, Sparse, Texts};

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
    pub(super) name: &'a str,
    pub(super) version: &'a str,
    pub(super) attributes: Vec<Attribute<'a>>,
    dropped_attributes: u32,
    pub(super) schema_url: &'a str,
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

/// Rows that columns have room for from the start, at most; beyond, they grow as they are filled.
const EXPECTED_ROWS: usize = 8 << 10;
/// Records whose length is taken for that of all.
const SAMPLED_RECORDS: usize = 32;

/// About how many rows to make room for: as many as there would be if all records in `request` were as long as the
/// first ones, up to a bound.
pub(super) fn expected_rows(request: &[u8]) -> Result<usize, Malformed> {
    let (mut records, mut bytes) = (0, 0);
    let mut resources = Reader::new(request);
    while let Some(resource) = resources.next()?.filter(|_| records < SAMPLED_RECORDS) {
        let mut scopes = if resource.number == 1 { resource.message()? } else { continue };
        while let Some(scope) = scopes.next()?.filter(|_| records < SAMPLED_RECORDS) {
            let mut fields = if scope.number == 2 { scope.message()? } else { continue };
            while let Some(field) = fields.next()?.filter(|_| records < SAMPLED_RECORDS) {
                if field.number == 2 {
                    records += 1;
                    bytes += field.message()?.bytes().len().max(1);
                }
            }
        }
    }
    Ok((records * request.len()).checked_div(bytes).unwrap_or(0).min(EXPECTED_ROWS))
}

/// The columns that spans, logs and series share.
#[derive(Debug, Default)]
pub(super) struct OriginColumns {
    resource: AttributeMaps,
    resource_dropped: Sparse<Longs>,
    resource_schema_url: Sparse<Texts>,
    scope_name: Sparse<Texts>,
    scope_version: Sparse<Texts>,
    scope: AttributeMaps,
    scope_dropped: Sparse<Longs>,
    scope_schema_url: Sparse<Texts>,
}

impl OriginColumns {
    /// Of `rows` rows, or fewer.
    pub(super) fn new(rows: usize) -> Self {
        Self {
            resource: AttributeMaps::new(rows),
            resource_dropped: Sparse::new(rows),
            resource_schema_url: Sparse::new(rows),
            scope_name: Sparse::new(rows),
            scope_version: Sparse::new(rows),
            scope: AttributeMaps::new(rows),
            scope_dropped: Sparse::new(rows),
            scope_schema_url: Sparse::new(rows),
        }
    }

    /// `rows`, which follow one another and are of one resource and scope.
    pub(super) fn rows(
        &mut self,
        rows: Range<usize>,
        resource: &Resource<'_>,
        scope: &Scope<'_>,
        promotes: bool,
    ) {
        let Some(times) = rows.len().checked_sub(1) else { return };
        let row = rows.start;
        self.row(row, resource, scope, promotes);
        self.resource.again(row, times);
        self.resource_dropped.again(row, times);
        self.resource_schema_url.again(row, times);
        self.scope_name.again(row, times);
        self.scope_version.again(row, times);
        self.scope.again(row, times);
        self.scope_dropped.again(row, times);
        self.scope_schema_url.again(row, times);
    }

    /// Row number `row`; where resource attributes are promoted they are not repeated. A row left out is null,
    /// where that is allowed.
    pub(super) fn row(&mut self, row: usize, resource: &Resource<'_>, scope: &Scope<'_>, promotes: bool) {
        for attribute in &resource.attributes {
            if !(promotes && promoted(attribute, true).is_some()) {
                self.resource.push(row, attribute);
            }
        }
        self.resource_dropped.push(row, resource.dropped_attributes.into());
        self.resource_schema_url.push_text(row, resource.schema_url);
        self.scope_name.push_text(row, scope.name);
        self.scope_version.push_text(row, scope.version);
        for attribute in &scope.attributes {
            self.scope.push(row, attribute);
        }
        self.scope_dropped.push(row, scope.dropped_attributes.into());
        self.scope_schema_url.push_text(row, scope.schema_url);
    }

    /// The columns, in the order of the schema.
    pub(super) fn finish(self, out: &mut Finished<'_>) -> Result<(), ArrowError> {
        self.resource.finish(out)?;
        out.sparse(self.resource_dropped)?;
        out.sparse(self.resource_schema_url)?;
        out.sparse(self.scope_name)?;
        out.sparse(self.scope_version)?;
        self.scope.finish(out)?;
        out.sparse(self.scope_dropped)?;
        out.sparse(self.scope_schema_url)
    }
}

/// The promoted resource attributes, each with its number in [`PROMOTED`](weir_storage::schema::PROMOTED).
pub(super) fn promoted_of<'a>(resource: &Resource<'a>) -> Vec<(usize, Attribute<'a>)> {
    let attributes = resource.attributes.iter();
    attributes.filter_map(|attribute| Some((promoted(attribute, true)?, *attribute))).collect()
}
