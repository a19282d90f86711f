//! Selectors of targets, as `match_target` has them: matchers in braces.

use weir_storage::{LabelMatcher, MatchOp};

/// The matchers of `{name="value",…}`; empty for an empty text.
pub(super) fn parse(text: &str) -> Result<Vec<LabelMatcher>, String> {
    let text = text.trim();
    if text.is_empty() {
        return Ok(Vec::new());
    }
    let bad = || {
        format!(
            "invalid parameter \"match_target\": expected matchers such as `{{job=\"node\"}}`, found `{text}`"
        )
    };
    let mut rest = text.strip_prefix('{').and_then(|rest| rest.strip_suffix('}')).ok_or_else(bad)?.trim();
    let mut matchers = Vec::new();
    while !rest.is_empty() {
        let end = rest.find(['=', '!']).ok_or_else(bad)?;
        let (name, after) = rest.split_at(end);
        let ops = [
            ("=~", MatchOp::Regex),
            ("!~", MatchOp::NotRegex),
            ("!=", MatchOp::NotEqual),
            ("=", MatchOp::Equal),
        ];
        let (op, after) =
            ops.into_iter().find_map(|(sign, op)| Some((op, after.strip_prefix(sign)?))).ok_or_else(bad)?;
        let (value, after) = quoted(after.trim_start()).ok_or_else(bad)?;
        let name = name.trim().trim_matches('"');
        matchers.push(LabelMatcher::new(name, op, &value).map_err(|error| error.to_string())?);
        rest = after.trim_start();
        match rest.strip_prefix(',') {
            Some(after) => rest = after.trim_start(),
            None if rest.is_empty() => {}
            None => return Err(bad()),
        }
    }
    Ok(matchers)
}

/// A text in quotes at the beginning, and what follows it.
fn quoted(text: &str) -> Option<(String, &str)> {
    let quote = text.chars().next().filter(|c| matches!(c, '"' | '\'' | '`'))?;
    let mut out = String::new();
    let mut characters = text.char_indices().skip(1);
    while let Some((at, character)) = characters.next() {
        match character {
            '\\' if quote != '`' => match characters.next()?.1 {
                'n' => out.push('\n'),
                't' => out.push('\t'),
                other => out.push(other),
            },
            c if c == quote => return Some((out, &text[at + 1..])),
            c => out.push(c),
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn matchers_are_read() {
        let matchers = parse(r#" { job="node", instance=~'a.*' ,env!="x\"y"} "#).unwrap();
        assert_eq!(matchers.len(), 3);
        assert!(matchers[1].matches("abc") && !matchers[1].matches("b"));
        assert_eq!(matchers[2].value, "x\"y");
        assert!(parse("").unwrap().is_empty() && parse("{}").unwrap().is_empty());
        for bad in ["job", "{job}", "{job=}", "{job=\"x}", "{job=\"x\" y}", "{job=~\"(\"}"] {
            assert!(parse(bad).is_err(), "{bad}");
        }
    }
}
