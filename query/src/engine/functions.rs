//! Functions that SQL has here beside DataFusion's own: latency sketches and typed attributes; and those
//! that the views are made of.

mod any_value;
mod attributes;
mod nested;
mod scalar;
mod sketch;

use std::sync::Arc;

use datafusion::error::Result;
use datafusion::execution::FunctionRegistry;

pub(super) use attributes::{as_attribute, attribute, attributes};
pub(super) use nested::{events, links};
pub(super) use scalar::{HEX, any_text, code_name, hex, moment, moment_after};

/// Makes the public functions known to `registry`.
pub(super) fn register(registry: &mut dyn FunctionRegistry) -> Result<()> {
    registry.register_udaf(Arc::new(sketch::merge()))?;
    for function in [sketch::quantile(), sketch::count(), sketch::count_above()] {
        registry.register_udf(Arc::new(function))?;
    }
    for function in attributes::typed() {
        registry.register_udf(Arc::new(function))?;
    }
    Ok(())
}
