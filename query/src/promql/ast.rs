//! The expression tree as it was typed, each node with its place in the text.

mod display;
mod pretty;

use weir_storage::LabelMatcher;

/// A half-open range of bytes of the query text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Hash)]
pub struct Span {
    /// First byte.
    pub start: usize,
    /// Byte after the last.
    pub end: usize,
}

impl Span {
    /// From the start of `self` to the end of `other`.
    pub fn to(self, other: Self) -> Self {
        Self { start: self.start, end: other.end.max(self.start) }
    }
}

/// What an expression yields.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Type {
    /// One number per step.
    Scalar,
    /// A text; only as an argument or alone.
    String,
    /// At most one sample per series and step.
    Vector,
    /// Many samples per series and step.
    Matrix,
}

impl Type {
    /// How messages call it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Scalar => "scalar",
            Self::String => "string",
            Self::Vector => "instant vector",
            Self::Matrix => "range vector",
        }
    }
}

/// An expression.
#[derive(Debug, Clone)]
pub enum Expr {
    /// `1.5`
    Number(f64, Span),
    /// A duration that stands for its seconds.
    Seconds(f64, Span),
    /// `"text"`
    Text(String, Span),
    /// `( … )`
    Paren(Box<Expr>, Span),
    /// `-x`; `+x` where `negate` is false
    Unary {
        /// Whether the sign is a minus.
        negate: bool,
        /// What it stands before.
        operand: Box<Expr>,
        /// Place.
        span: Span,
    },
    /// `a + b`
    Binary(Box<Binary>),
    /// `sum by (x) (y)`
    Aggregate(Box<Aggregate>),
    /// `rate(x[5m])`
    Call(Call),
    /// `x{a="b"}`, with `[5m]` a range
    Selector(Box<Selector>),
    /// `x[1h:5m]`
    Subquery(Box<Subquery>),
}

impl Expr {
    /// Its place.
    pub fn span(&self) -> Span {
        match self {
            Self::Number(_, span)
            | Self::Seconds(_, span)
            | Self::Text(_, span)
            | Self::Paren(_, span)
            | Self::Unary { span, .. } => *span,
            Self::Binary(binary) => binary.left.span().to(binary.right.span()),
            Self::Aggregate(aggregate) => aggregate.span,
            Self::Call(call) => call.span,
            Self::Selector(selector) => selector.span,
            Self::Subquery(subquery) => subquery.span,
        }
    }

    /// The expression inside any parentheses.
    pub fn inner(&self) -> &Self {
        let mut expr = self;
        while let Self::Paren(inner, _) = expr {
            expr = inner;
        }
        expr
    }

    /// What it yields.
    pub fn kind(&self) -> Type {
        match self {
            Self::Number(..) | Self::Seconds(..) => Type::Scalar,
            Self::Text(..) => Type::String,
            Self::Paren(inner, _) | Self::Unary { operand: inner, .. } => inner.kind(),
            Self::Binary(binary) => match (binary.left.kind(), binary.right.kind()) {
                (Type::Scalar, Type::Scalar) => Type::Scalar,
                _ => Type::Vector,
            },
            Self::Aggregate(_) => Type::Vector,
            Self::Call(call) => call.function.result,
            Self::Selector(selector) if selector.range.is_some() => Type::Matrix,
            Self::Selector(_) => Type::Vector,
            Self::Subquery(_) => Type::Matrix,
        }
    }
}

/// A binary operator.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs, reason = "each is the operator of its name")]
pub enum BinaryOp {
    Add,
    Sub,
    Mul,
    Div,
    Mod,
    Pow,
    Atan2,
    Equal,
    NotEqual,
    Less,
    Greater,
    LessEqual,
    GreaterEqual,
    And,
    Or,
    Unless,
    /// `</`: keeps the part of a histogram below a value
    TrimUpper,
    /// `>/`: keeps the part of a histogram above a value
    TrimLower,
}

impl BinaryOp {
    /// All, with their spelling.
    pub const ALL: [(Self, &'static str); 18] = [
        (Self::Add, "+"),
        (Self::Sub, "-"),
        (Self::Mul, "*"),
        (Self::Div, "/"),
        (Self::Mod, "%"),
        (Self::Pow, "^"),
        (Self::Atan2, "atan2"),
        (Self::Equal, "=="),
        (Self::NotEqual, "!="),
        (Self::Less, "<"),
        (Self::Greater, ">"),
        (Self::LessEqual, "<="),
        (Self::GreaterEqual, ">="),
        (Self::And, "and"),
        (Self::Or, "or"),
        (Self::Unless, "unless"),
        (Self::TrimUpper, "</"),
        (Self::TrimLower, ">/"),
    ];

    /// Its spelling.
    pub fn name(self) -> &'static str {
        Self::ALL.iter().find(|(op, _)| *op == self).map_or("", |(_, name)| name)
    }

    /// How tightly it binds.
    pub fn precedence(self) -> u8 {
        match self {
            Self::Or => 1,
            Self::And | Self::Unless => 2,
            Self::Add | Self::Sub => 4,
            Self::Mul | Self::Div | Self::Mod | Self::Atan2 => 5,
            Self::Pow => 6,
            _ if self.compares() => 3,
            _ => 3,
        }
    }

    /// Whether it filters, or yields 0 and 1 with `bool`.
    pub fn compares(self) -> bool {
        matches!(
            self,
            Self::Equal | Self::NotEqual | Self::Less | Self::Greater | Self::LessEqual | Self::GreaterEqual
        )
    }

    /// Whether it works on sets of series.
    pub fn is_set(self) -> bool {
        matches!(self, Self::And | Self::Or | Self::Unless)
    }
}

/// Two operands and how they meet.
#[derive(Debug, Clone)]
pub struct Binary {
    /// The operator.
    pub op: BinaryOp,
    /// Left operand.
    pub left: Expr,
    /// Right operand.
    pub right: Expr,
    /// `bool`
    pub bool_result: bool,
    /// How series of both sides find each other.
    pub matching: Matching,
}

/// How series of two vectors find each other.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Matching {
    /// `on` rather than `ignoring`.
    pub on: bool,
    /// Whether `on` or `ignoring` was written.
    pub written: bool,
    /// Their labels.
    pub labels: Vec<String>,
    /// `group_left` or `group_right`.
    pub group: Group,
    /// Labels to take from the "one" side.
    pub include: Vec<String>,
    /// `fill_left`: the value of a missing left side.
    pub fill_left: Option<f64>,
    /// `fill_right`: the value of a missing right side.
    pub fill_right: Option<f64>,
}

/// Which side may have several series per match.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Group {
    /// Neither.
    #[default]
    OneToOne,
    /// The left: `group_left`.
    Left,
    /// The right: `group_right`.
    Right,
}

/// An aggregation operator.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs, reason = "each is the operator of its name")]
pub enum AggregateOp {
    Sum,
    Avg,
    Count,
    Min,
    Max,
    Group,
    Stddev,
    Stdvar,
    Topk,
    Bottomk,
    CountValues,
    Quantile,
    Limitk,
    LimitRatio,
}

impl AggregateOp {
    /// All, with their names.
    pub const ALL: [(Self, &'static str); 14] = [
        (Self::Sum, "sum"),
        (Self::Avg, "avg"),
        (Self::Count, "count"),
        (Self::Min, "min"),
        (Self::Max, "max"),
        (Self::Group, "group"),
        (Self::Stddev, "stddev"),
        (Self::Stdvar, "stdvar"),
        (Self::Topk, "topk"),
        (Self::Bottomk, "bottomk"),
        (Self::CountValues, "count_values"),
        (Self::Quantile, "quantile"),
        (Self::Limitk, "limitk"),
        (Self::LimitRatio, "limit_ratio"),
    ];

    /// Its name.
    pub fn name(self) -> &'static str {
        Self::ALL.iter().find(|(op, _)| *op == self).map_or("", |(_, name)| name)
    }

    /// The operator called `word`, whatever its case.
    pub fn of(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|(_, name)| name.eq_ignore_ascii_case(word)).map(|(op, _)| op)
    }

    /// The type of its parameter, if it takes one.
    pub fn parameter(self) -> Option<Type> {
        match self {
            Self::Topk | Self::Bottomk | Self::Quantile | Self::Limitk | Self::LimitRatio => {
                Some(Type::Scalar)
            }
            Self::CountValues => Some(Type::String),
            _ => None,
        }
    }

    /// Whether it passes series through instead of making one per group.
    pub fn selects(self) -> bool {
        matches!(self, Self::Topk | Self::Bottomk | Self::Limitk | Self::LimitRatio)
    }
}

/// An aggregation over groups of series.
#[derive(Debug, Clone)]
pub struct Aggregate {
    /// The operator.
    pub op: AggregateOp,
    /// What is aggregated.
    pub operand: Expr,
    /// The `k` of `topk` and its like.
    pub parameter: Option<Expr>,
    /// How series are grouped.
    pub grouping: Grouping,
    /// Place.
    pub span: Span,
}

/// Labels by which series are grouped.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Grouping {
    /// `without` rather than `by`.
    pub without: bool,
    /// The labels.
    pub labels: Vec<String>,
}

/// A function call.
#[derive(Debug, Clone)]
pub struct Call {
    /// The function.
    pub function: &'static super::functions::Function,
    /// Its arguments.
    pub args: Vec<Expr>,
    /// Place.
    pub span: Span,
}

/// A moment to which `@` fixes a selector.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum At {
    /// Unix milliseconds.
    Time(i64),
    /// `start()`
    Start,
    /// `end()`
    End,
}

/// How the edges of a range are read.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Extent {
    /// Only samples inside.
    #[default]
    Plain,
    /// `anchored`: the last sample before the range counts too.
    Anchored,
    /// `smoothed`: values at the edges are interpolated.
    Smoothed,
}

/// `offset` and `@`.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Shift {
    /// How far back.
    pub offset: Option<Length>,
    /// The fixed moment.
    pub at: Option<At>,
}

/// A selection of series, at a moment or over a range.
#[derive(Debug, Clone)]
pub struct Selector {
    /// The conditions; a metric name is one on `__name__`.
    pub matchers: Vec<LabelMatcher>,
    /// Whether the first condition is a metric name that stands before the braces.
    pub named: bool,
    /// `[5m]`
    pub range: Option<Length>,
    /// `offset` and `@`.
    pub shift: Shift,
    /// `anchored` or `smoothed`.
    pub extent: Extent,
    /// Place.
    pub span: Span,
}

/// An expression evaluated at several moments of a range.
#[derive(Debug, Clone)]
pub struct Subquery {
    /// What is evaluated.
    pub operand: Expr,
    /// Over how long.
    pub range: Length,
    /// How often; the default interval where absent.
    pub step: Option<Length>,
    /// `offset` and `@`.
    pub shift: Shift,
    /// Place.
    pub span: Span,
}

/// A length of time, possibly computed from the query's step and range.
#[derive(Debug, Clone, PartialEq)]
pub enum Length {
    /// Milliseconds.
    Ms(i64),
    /// A bare number, in seconds where it stands for time.
    Number(f64),
    /// `step()`
    Step,
    /// `range()`
    Range,
    /// `-x`
    Negate(Box<Length>),
    /// `( x )`
    Paren(Box<Length>),
    /// Arithmetic.
    Binary(BinaryOp, Box<Length>, Box<Length>),
    /// `min_of(a, b)`
    MinOf(Box<Length>, Box<Length>),
    /// `max_of(a, b)`
    MaxOf(Box<Length>, Box<Length>),
}

impl Length {
    /// Milliseconds, given the query's step and range in seconds; none where it cannot be held.
    pub fn to_ms(&self, step_s: f64, range_s: f64) -> Option<i64> {
        let ms = match self {
            Self::Ms(ms) => return Some(*ms),
            _ => (self.seconds(step_s, range_s) * 1000.0).round(),
        };
        // Far inside i64, so that adding it to a time cannot overflow.
        (ms.abs() < 1e15).then_some(ms as i64)
    }

    fn seconds(&self, step: f64, range: f64) -> f64 {
        let of = |length: &Self| length.seconds(step, range);
        match self {
            Self::Ms(ms) => *ms as f64 / 1000.0,
            Self::Number(value) => *value,
            Self::Step => step,
            Self::Range => range,
            Self::Negate(inner) => -of(inner),
            Self::Paren(inner) => of(inner),
            Self::MinOf(a, b) => of(a).min(of(b)),
            Self::MaxOf(a, b) => of(a).max(of(b)),
            Self::Binary(op, a, b) => match op {
                BinaryOp::Add => of(a) + of(b),
                BinaryOp::Sub => of(a) - of(b),
                BinaryOp::Mul => of(a) * of(b),
                BinaryOp::Div => of(a) / of(b),
                BinaryOp::Mod => of(a) % of(b),
                BinaryOp::Pow => of(a).powf(of(b)),
                _ => f64::NAN,
            },
        }
    }

    /// Whether it is more than one signed literal, which is an experimental feature.
    pub fn is_computed(&self) -> bool {
        match self {
            Self::Ms(_) | Self::Number(_) => false,
            Self::Negate(inner) => inner.is_computed(),
            _ => true,
        }
    }
}
