//! The clauses of operators: `by`, `on`, `group_left`, `fill`; and lists of label names.

use super::Parser;
use crate::promql::ast::{BinaryOp, Group, Grouping, Matching};
use crate::promql::error::Error;
use crate::promql::lexer::Token;

impl Parser<'_> {
    /// `by (…)` or `without (…)`, if it stands next.
    pub(super) fn grouping(&mut self) -> Result<Option<Grouping>, Error> {
        let without = self.at_word("without");
        if !without && !self.at_word("by") {
            return Ok(None);
        }
        self.advance();
        Ok(Some(Grouping { without, labels: self.label_names()? }))
    }

    /// The clauses between an operator and its right side.
    pub(super) fn matching(&mut self, op: BinaryOp) -> Result<Matching, Error> {
        let mut matching = Matching::default();
        // `on` and its like are clauses only before a parenthesis: elsewhere they name metrics.
        let opens = |parser: &Self| parser.ahead(1) == &Token::Sign("(");
        if opens(self) && (self.at_word("on") || self.at_word("ignoring")) {
            matching.on = self.at_word("on");
            matching.written = true;
            self.advance();
            matching.labels = self.label_names()?;
        }
        let place = self.span();
        for (word, group) in [("group_left", Group::Left), ("group_right", Group::Right)] {
            if matching.written && matching.group == Group::OneToOne && self.eat_word(word) {
                matching.group = group;
                if self.peek() == &Token::Sign("(") {
                    matching.include = self.label_names()?;
                }
            }
        }
        if op.is_set() && matching.group != Group::OneToOne {
            let message = format!("no grouping allowed for {:?} operation", op.name());
            return Err(self.error(place, message));
        }
        self.fill(op, &mut matching)?;
        let twice = matching.include.iter().find(|label| matching.labels.contains(label));
        if let (true, Some(label)) = (matching.on && matching.group != Group::OneToOne, twice) {
            let message = format!("label {label:?} must not occur in ON and GROUP clause at once");
            return Err(self.error(place, message));
        }
        Ok(matching)
    }

    fn fill(&mut self, op: BinaryOp, matching: &mut Matching) -> Result<(), Error> {
        while self.ahead(1) == &Token::Sign("(") {
            let place = self.span();
            let (left, right) = match () {
                () if self.at_word("fill") => (true, true),
                () if self.at_word("fill_left") => (true, false),
                () if self.at_word("fill_right") => (false, true),
                () => return Ok(()),
            };
            self.experimental(self.features.fill, place, "fill")?;
            if op.is_set() {
                return Err(self.error(place, "filling in missing series not allowed for set operators"));
            }
            self.advance();
            self.expect("(", "fill")?;
            let value = self.signed_number()?;
            self.expect(")", "fill")?;
            if left {
                matching.fill_left = Some(value);
            }
            if right {
                matching.fill_right = Some(value);
            }
        }
        Ok(())
    }

    /// A number with an optional sign.
    pub(super) fn signed_number(&mut self) -> Result<f64, Error> {
        let negate = self.eat("-");
        if !negate {
            self.eat("+");
        }
        let value = match self.peek() {
            Token::Number(value) => *value,
            Token::Duration(ms) => *ms as f64 / 1000.0,
            _ => return Err(self.unexpected("", "a number")),
        };
        self.advance();
        Ok(if negate { -value } else { value })
    }

    /// `( a, "b.c" )`
    fn label_names(&mut self) -> Result<Vec<String>, Error> {
        let context = "grouping opts";
        self.expect("(", context)?;
        let mut names = Vec::new();
        while !self.eat(")") {
            match self.peek().clone() {
                Token::Word(name) if !name.contains(':') => names.push(name),
                Token::Text(name) if !name.is_empty() => names.push(name),
                // These read as numbers elsewhere.
                Token::Number(value) if value.is_infinite() => names.push("inf".to_owned()),
                Token::Number(value) if value.is_nan() => names.push("nan".to_owned()),
                _ => return Err(self.unexpected(context, "label")),
            }
            self.advance();
            if self.peek() != &Token::Sign(")") {
                self.expect(",", context)?;
            }
        }
        Ok(names)
    }
}
