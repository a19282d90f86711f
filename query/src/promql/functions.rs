//! The functions: their names, arguments and results.

use super::ast::Type;

/// A function of the language.
#[derive(Debug)]
pub struct Function {
    /// Its name.
    pub name: &'static str,
    /// The types of its arguments.
    pub args: &'static [Type],
    /// How many of the last arguments may be absent; negative: the last one may be repeated or absent.
    pub optional: i8,
    /// What it yields.
    pub result: Type,
    /// Whether Prometheus wants `promql-experimental-functions` for it.
    pub experimental: bool,
}

const S: Type = Type::Scalar;
const T: Type = Type::String;
const V: Type = Type::Vector;
const M: Type = Type::Matrix;

const fn of(name: &'static str, args: &'static [Type], result: Type) -> Function {
    Function { name, args, optional: 0, result, experimental: false }
}

const fn optional(name: &'static str, args: &'static [Type], optional: i8, result: Type) -> Function {
    Function { name, args, optional, result, experimental: false }
}

const fn new(name: &'static str, args: &'static [Type], optional: i8, result: Type) -> Function {
    Function { name, args, optional, result, experimental: true }
}

/// All functions, sorted by name.
static FUNCTIONS: &[Function] = &[
    of("abs", &[V], V),
    of("absent", &[V], V),
    of("absent_over_time", &[M], V),
    of("acos", &[V], V),
    of("acosh", &[V], V),
    of("asin", &[V], V),
    of("asinh", &[V], V),
    of("atan", &[V], V),
    of("atanh", &[V], V),
    of("avg_over_time", &[M], V),
    of("ceil", &[V], V),
    of("changes", &[M], V),
    of("clamp", &[V, S, S], V),
    of("clamp_max", &[V, S], V),
    of("clamp_min", &[V, S], V),
    of("cos", &[V], V),
    of("cosh", &[V], V),
    of("count_over_time", &[M], V),
    optional("day_of_month", &[V], 1, V),
    optional("day_of_week", &[V], 1, V),
    optional("day_of_year", &[V], 1, V),
    optional("days_in_month", &[V], 1, V),
    of("deg", &[V], V),
    of("delta", &[M], V),
    of("deriv", &[M], V),
    new("double_exponential_smoothing", &[M, S, S], 0, V),
    new("end", &[], 0, S),
    of("exp", &[V], V),
    new("first_over_time", &[M], 0, V),
    of("floor", &[V], V),
    of("histogram_avg", &[V], V),
    of("histogram_count", &[V], V),
    of("histogram_fraction", &[S, S, V], V),
    of("histogram_quantile", &[S, V], V),
    new("histogram_quantiles", &[V, T, S, S], -1, V),
    of("histogram_stddev", &[V], V),
    of("histogram_stdvar", &[V], V),
    of("histogram_sum", &[V], V),
    optional("hour", &[V], 1, V),
    of("idelta", &[M], V),
    of("increase", &[M], V),
    new("info", &[V, V], 1, V),
    of("irate", &[M], V),
    optional("label_join", &[V, T, T, T], -1, V),
    of("label_replace", &[V, T, T, T, T], V),
    of("last_over_time", &[M], V),
    of("ln", &[V], V),
    of("log10", &[V], V),
    of("log2", &[V], V),
    new("mad_over_time", &[M], 0, V),
    new("max_of", &[S, S], 0, S),
    of("max_over_time", &[M], V),
    new("min_of", &[S, S], 0, S),
    of("min_over_time", &[M], V),
    optional("minute", &[V], 1, V),
    optional("month", &[V], 1, V),
    of("pi", &[], S),
    of("predict_linear", &[M, S], V),
    of("present_over_time", &[M], V),
    of("quantile_over_time", &[S, M], V),
    of("rad", &[V], V),
    new("range", &[], 0, S),
    of("rate", &[M], V),
    of("resets", &[M], V),
    optional("round", &[V, S], 1, V),
    of("scalar", &[V], S),
    of("sgn", &[V], V),
    of("sin", &[V], V),
    of("sinh", &[V], V),
    of("sort", &[V], V),
    new("sort_by_label", &[V, T], -1, V),
    new("sort_by_label_desc", &[V, T], -1, V),
    of("sort_desc", &[V], V),
    of("sqrt", &[V], V),
    new("start", &[], 0, S),
    new("start_timestamp", &[V], 0, V),
    of("stddev_over_time", &[M], V),
    of("stdvar_over_time", &[M], V),
    new("step", &[], 0, S),
    of("sum_over_time", &[M], V),
    of("tan", &[V], V),
    of("tanh", &[V], V),
    of("time", &[], S),
    of("timestamp", &[V], V),
    new("ts_of_first_over_time", &[M], 0, V),
    new("ts_of_last_over_time", &[M], 0, V),
    new("ts_of_max_over_time", &[M], 0, V),
    new("ts_of_min_over_time", &[M], 0, V),
    of("vector", &[S], V),
    optional("year", &[V], 1, V),
];

/// The function called `name`.
pub(super) fn find(name: &str) -> Option<&'static Function> {
    FUNCTIONS.binary_search_by(|f| f.name.cmp(name)).ok().map(|at| &FUNCTIONS[at])
}

impl Function {
    /// Fewest and most arguments.
    pub fn arity(&self) -> (usize, usize) {
        match self.optional {
            0.. => (self.args.len() - self.optional as usize, self.args.len()),
            _ => (self.args.len() - 1, usize::MAX),
        }
    }

    /// The type of argument number `at`.
    pub fn arg(&self, at: usize) -> Type {
        self.args.get(at).or(self.args.last()).copied().unwrap_or(Type::Scalar)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_sorted_so_that_every_function_is_found() {
        assert!(FUNCTIONS.is_sorted_by(|a, b| a.name < b.name));
        assert!(FUNCTIONS.iter().all(|f| find(f.name).is_some()));
        assert!(find("no_such").is_none());
    }
}
