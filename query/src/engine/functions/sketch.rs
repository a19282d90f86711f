//! Latency sketches in SQL: `sketch_merge(sketch)` adds them up; `sketch_quantile(sketch, q)` gives seconds,
//! `sketch_count(sketch)` and `sketch_count_above(sketch, seconds)` give counts.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, BinaryArray, Float64Array, Int64Array};
use arrow::datatypes::{DataType, Float64Type};
use datafusion::common::{ScalarValue, exec_err};
use datafusion::error::{DataFusionError, Result};
use datafusion::logical_expr::{
    Accumulator, AggregateUDF, ColumnarValue, ScalarUDF, Volatility, create_udaf, create_udf,
};
use weir_model::Sketch;

/// `sketch_quantile(sketch, q)`: seconds below which a share `q` of the values lies.
pub(super) fn quantile() -> ScalarUDF {
    over("sketch_quantile", vec![DataType::Binary, DataType::Float64], DataType::Float64, |sketches, args| {
        let q = args[1].as_primitive::<Float64Type>();
        let values = sketches.iter().zip(q.iter()).map(|(sketch, q)| sketch.as_ref()?.quantile(q?));
        Arc::new(values.collect::<Float64Array>())
    })
}

/// `sketch_count(sketch)`: how many values it holds.
pub(super) fn count() -> ScalarUDF {
    over("sketch_count", vec![DataType::Binary], DataType::Int64, |sketches, _| {
        let counts = sketches.iter().map(|sketch| Some(long(sketch.as_ref()?.count())));
        Arc::new(counts.collect::<Int64Array>())
    })
}

/// `sketch_count_above(sketch, seconds)`: how many of them lie in buckets wholly above that.
pub(super) fn count_above() -> ScalarUDF {
    let input = vec![DataType::Binary, DataType::Float64];
    over("sketch_count_above", input, DataType::Int64, |sketches, args| {
        let bounds = args[1].as_primitive::<Float64Type>();
        let counts = sketches.iter().zip(bounds.iter());
        let counts = counts.map(|(sketch, bound)| Some(long(sketch.as_ref()?.count_above(bound?))));
        Arc::new(counts.collect::<Int64Array>())
    })
}

fn long(count: u64) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

/// A function whose first argument is a sketch.
fn over(
    name: &str,
    input: Vec<DataType>,
    output: DataType,
    compute: impl Fn(&[Option<Sketch>], &[ArrayRef]) -> ArrayRef + Send + Sync + 'static,
) -> ScalarUDF {
    let run = move |args: &[ColumnarValue]| {
        let args = ColumnarValue::values_to_arrays(args)?;
        let sketches: Vec<Option<Sketch>> = args[0]
            .as_binary::<i32>()
            .iter()
            .map(|bytes| bytes.map(decoded).transpose())
            .collect::<Result<_>>()?;
        Ok(ColumnarValue::Array(compute(&sketches, &args)))
    };
    create_udf(name, input, output, Volatility::Immutable, Arc::new(run))
}

fn decoded(bytes: &[u8]) -> Result<Sketch> {
    Sketch::from_bytes(bytes).map_err(|error| DataFusionError::Execution(error.to_string()))
}

/// `sketch_merge(sketch)`: one sketch that holds what all of them hold.
pub(super) fn merge() -> AggregateUDF {
    create_udaf(
        "sketch_merge",
        vec![DataType::Binary],
        Arc::new(DataType::Binary),
        Volatility::Immutable,
        Arc::new(|_| Ok(Box::new(Merge::default()))),
        Arc::new(vec![DataType::Binary]),
    )
}

#[derive(Debug, Default)]
struct Merge {
    sum: Sketch,
}

impl Merge {
    fn add(&mut self, sketches: &[ArrayRef]) -> Result<()> {
        let Some(column) = sketches.first().and_then(|column| column.as_any().downcast_ref::<BinaryArray>())
        else {
            return exec_err!("`sketch_merge` takes sketches, which are binary");
        };
        for bytes in column.iter().flatten() {
            self.sum.merge(&decoded(bytes)?);
        }
        Ok(())
    }
}

impl Accumulator for Merge {
    fn update_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        self.add(values)
    }

    fn merge_batch(&mut self, states: &[ArrayRef]) -> Result<()> {
        self.add(states)
    }

    fn state(&mut self) -> Result<Vec<ScalarValue>> {
        Ok(vec![self.evaluate()?])
    }

    fn evaluate(&mut self) -> Result<ScalarValue> {
        Ok(ScalarValue::Binary(Some(self.sum.to_bytes())))
    }

    fn size(&self) -> usize {
        // A B-tree node holds a bucket in about three words.
        size_of::<Self>() + self.sum.buckets().count() * 24
    }
}
