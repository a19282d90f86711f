//! What is refused before the planner sees it: texts and plans that would cost it its stack or its time.

use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::error::DataFusionError;
use datafusion::logical_expr::LogicalPlan;
use datafusion::sql::parser::Statement;
use datafusion::sql::sqlparser::ast;
use datafusion::sql::sqlparser::dialect::GenericDialect;
use datafusion::sql::sqlparser::keywords::Keyword;
use datafusion::sql::sqlparser::tokenizer::{Token, Tokenizer};
use weir_model::limits;

use super::error::SqlError;

/// Refuses a text that is too long or has too many operators.
pub(super) fn check(text: &str) -> Result<(), SqlError> {
    if text.len() > limits::QUERY_BYTES {
        let message = format!("query is {} bytes long, of at most {} bytes", text.len(), limits::QUERY_BYTES);
        return Err(SqlError::new("too_long", message));
    }
    // What cannot be cut into tokens fails in the parser, with a better message.
    let tokens = Tokenizer::new(&GenericDialect {}, text).tokenize().unwrap_or_default();
    let operators = tokens.iter().filter(|token| is_operator(token)).count();
    if operators > limits::SQL_OPERATORS {
        let message = format!("query has {operators} operators, of at most {}", limits::SQL_OPERATORS);
        return Err(
            SqlError::new("too_complex", message).with_hint("write a long chain of `=` and `OR` as `IN (…)`")
        );
    }
    Ok(())
}

/// Refuses every statement but questions.
pub(super) fn check_reads(statement: &Statement) -> Result<(), SqlError> {
    let reads = match statement {
        Statement::Explain(explain) => return check_reads(&explain.statement),
        Statement::Statement(statement) => matches!(
            **statement,
            ast::Statement::Query(_)
                | ast::Statement::Explain { .. }
                | ast::Statement::ExplainTable { .. }
                | ast::Statement::ShowTables { .. }
                | ast::Statement::ShowColumns { .. }
                | ast::Statement::ShowFunctions { .. }
                | ast::Statement::ShowVariable { .. }
        ),
        _ => false,
    };
    if reads {
        return Ok(());
    }
    let verb = statement.to_string();
    let verb = verb.split_whitespace().next().unwrap_or_default().to_uppercase();
    Err(SqlError::new("not_read_only", format!("`{verb}` is refused"))
        .with_hint("questions only: `SELECT`, `WITH`, `VALUES`, `EXPLAIN`, `SHOW` and `DESCRIBE`"))
}

/// Refuses a plan that reads too many tables: each join doubles what the optimizer may try.
pub(super) fn check_plan(plan: &LogicalPlan) -> Result<(), SqlError> {
    let mut relations = 0_usize;
    plan.apply_with_subqueries(|node| {
        relations += usize::from(matches!(node, LogicalPlan::TableScan(_) | LogicalPlan::Values(_)));
        Ok::<_, DataFusionError>(TreeNodeRecursion::Continue)
    })
    .map_err(SqlError::from)?;
    if relations > limits::SQL_RELATIONS {
        let message = format!("query reads {relations} tables, of at most {}", limits::SQL_RELATIONS);
        return Err(SqlError::new("too_complex", message));
    }
    Ok(())
}

/// Whether `token` makes an expression or a query one level deeper.
fn is_operator(token: &Token) -> bool {
    match token {
        Token::Word(word) => matches!(
            word.keyword,
            Keyword::AND
                | Keyword::OR
                | Keyword::NOT
                | Keyword::IN
                | Keyword::IS
                | Keyword::LIKE
                | Keyword::BETWEEN
                | Keyword::WHEN
                | Keyword::UNION
                | Keyword::EXCEPT
                | Keyword::INTERSECT
                | Keyword::JOIN
                | Keyword::WITH
                | Keyword::SELECT
        ),
        Token::Number(..)
        | Token::Char(_)
        | Token::Whitespace(_)
        | Token::Comma
        | Token::Period
        | Token::SemiColon
        | Token::Placeholder(_)
        | Token::RParen
        | Token::RBracket
        | Token::RBrace
        | Token::EOF => false,
        other => !is_text(other),
    }
}

fn is_text(token: &Token) -> bool {
    matches!(
        token,
        Token::SingleQuotedString(_)
            | Token::DoubleQuotedString(_)
            | Token::HexStringLiteral(_)
            | Token::NationalStringLiteral(_)
            | Token::EscapedStringLiteral(_)
            | Token::UnicodeStringLiteral(_)
            | Token::DollarQuotedString(_)
    )
}

#[cfg(test)]
mod tests;
