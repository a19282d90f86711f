//! Expressions laid out over lines as Prometheus does: what takes more than a hundred characters is split at
//! its operands, each a level deeper.

use super::{Aggregate, Binary, Call, Expr, Subquery};

/// Characters of an expression that stays on one line, indentation not counted.
const LINE: usize = 100;
/// One level of indentation.
const INDENT: &str = "  ";

impl Expr {
    /// The expression over as many lines as it takes.
    pub fn pretty(&self) -> String {
        self.laid_out(0)
    }

    fn laid_out(&self, level: usize) -> String {
        let line = self.to_string();
        let indent = INDENT.repeat(level);
        let whole = line.len() <= LINE;
        match self {
            Self::Unary { negate, operand, .. } => {
                let sign = if *negate { '-' } else { '+' };
                format!("{indent}{sign}{}", operand.laid_out(level).trim())
            }
            Self::Subquery(_) if whole => line,
            Self::Subquery(subquery) => over_lines(subquery, level),
            _ if whole => format!("{indent}{line}"),
            Self::Binary(binary) => binary.laid_out(level),
            Self::Aggregate(aggregate) => aggregate.laid_out(level),
            Self::Call(call) => call.laid_out(level),
            Self::Paren(inner, _) => format!("{indent}(\n{}\n{indent})", inner.laid_out(level + 1)),
            Self::Number(..) | Self::Seconds(..) | Self::Text(..) | Self::Selector(_) => {
                format!("{indent}{line}")
            }
        }
    }
}

impl Binary {
    fn laid_out(&self, level: usize) -> String {
        let (left, right) = (self.left.laid_out(level + 1), self.right.laid_out(level + 1));
        let bool_word = if self.bool_result { " bool" } else { "" };
        format!("{left}\n{}{}{bool_word}{}\n{right}", INDENT.repeat(level), self.op, self.matching)
    }
}

impl Aggregate {
    fn laid_out(&self, level: usize) -> String {
        let indent = INDENT.repeat(level);
        let parameter = self.parameter.as_ref();
        let parameter = parameter.map(|p| format!("{},\n", p.laid_out(level + 1))).unwrap_or_default();
        format!("{indent}{}(\n{parameter}{}\n{indent})", self.head(), self.operand.laid_out(level + 1))
    }
}

impl Call {
    fn laid_out(&self, level: usize) -> String {
        let indent = INDENT.repeat(level);
        let args: Vec<String> = self.args.iter().map(|arg| arg.laid_out(level + 1)).collect();
        format!("{indent}{}(\n{}\n{indent})", self.function.name, args.join(",\n"))
    }
}

fn over_lines(subquery: &Subquery, level: usize) -> String {
    format!("{}{}", subquery.operand.laid_out(level), subquery.suffix())
}

#[cfg(test)]
mod tests {
    use crate::promql::{Features, parser};

    fn pretty(text: &str) -> String {
        parser::parse(text, Features::ALL).unwrap_or_else(|error| panic!("{text}: {error}")).pretty()
    }

    #[test]
    fn short_expressions_are_made_regular() {
        for (text, printed) in [
            ("1+1", "1 + 1"),
            ("foo   {a = 'b',}", "foo{a=\"b\"}"),
            ("{__name__='foo', b='c', a=~'d'}", "{__name__=\"foo\",a=~\"d\",b=\"c\"}"),
            ("SUM(foo) BY(a,b)", "sum by (a, b) (foo)"),
            ("sum by () (foo)", "sum(foo)"),
            ("sum without () (foo)", "sum without () (foo)"),
            ("topk(3,foo)", "topk(3, foo)"),
            ("foo*on()bar", "foo * on () bar"),
            ("foo*ignoring()bar", "foo * bar"),
            ("foo*on(a)group_left bar", "foo * on (a) group_left () bar"),
            ("foo>bool 1", "foo > bool 1"),
            ("foo + fill(1) bar", "foo + fill (1) bar"),
            ("foo + fill_left(1) bar", "foo + fill_left (1) bar"),
            ("rate(foo[300])", "rate(foo[5m])"),
            ("foo[5m] offset 1h @ 12", "foo[5m] @ 12.000 offset 1h"),
            ("foo offset -90s @ -1.5", "foo @ -1.500 offset -1m30s"),
            ("foo[1h:] offset 0s", "foo[1h:]"),
            ("foo[5m] anchored @ end()", "foo[5m] anchored @ end()"),
            ("foo smoothed offset 5m", "foo smoothed offset 5m"),
            ("foo[step()+1:2*(1m)]", "foo[step() + 1:2 * (1m)]"),
            ("-  foo", "-foo"),
            ("{\"a.b\",\"c d\"=\"\\u00a0\\n'\"}", "{\"c d\"=\"\\u00a0\\n'\",__name__=\"a.b\"}"),
            ("info(foo, {data=~\".+\"})", "info(foo, {data=~\".+\"})"),
        ] {
            assert_eq!(pretty(text), printed, "{text}");
        }
    }

    #[test]
    fn long_expressions_are_split_at_their_operands() {
        let long = r#"histogram_quantile(0.99, sum by (le, destination_service) (rate(istio_request_duration_milliseconds_bucket{reporter="source"}[5m]))) > bool on (destination_service) group_left (owner) topk(5, sum_over_time((service_owner_info{team=~"payments|checkout|shipping|search|recommendations|returns", tier="1"} * 1000)[1d:5m] @ end() offset 1h))"#;
        assert_eq!(
            pretty(long),
            r#"  histogram_quantile(
    0.99,
    sum by (le, destination_service) (
      rate(istio_request_duration_milliseconds_bucket{reporter="source"}[5m])
    )
  )
> bool on (destination_service) group_left (owner)
  topk(
    5,
    sum_over_time(
      (
          service_owner_info{team=~"payments|checkout|shipping|search|recommendations|returns",tier="1"}
        *
          1000
      )[1d:5m] @ end() offset 1h
    )
  )"#
        );
        let negated = format!("-({} + 1)", "a".repeat(100));
        assert_eq!(pretty(&negated), format!("-(\n    {}\n  +\n    1\n)", "a".repeat(100)));
    }
}
