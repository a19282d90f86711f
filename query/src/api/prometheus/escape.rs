//! Names of labels in paths: what does not fit there arrives as `U__` and code points.

/// The name that `text` stands for; `text` itself where it is no escaped name.
pub(super) fn unescaped(text: &str) -> String {
    text.strip_prefix("U__").and_then(decoded).unwrap_or_else(|| text.to_owned())
}

/// Two underscores are one; `_2e_` is the character of that number.
fn decoded(mut rest: &str) -> Option<String> {
    let mut name = String::new();
    while let Some(at) = rest.find('_') {
        name.push_str(&rest[..at]);
        rest = &rest[at + 1..];
        let code = &rest[..rest.find('_')?];
        rest = &rest[code.len() + 1..];
        name.push(match code {
            "" => '_',
            _ if code.len() <= 6 && code.bytes().all(|b| b.is_ascii_hexdigit()) => {
                char::from_u32(u32::from_str_radix(code, 16).ok()?)?
            }
            _ => return None,
        });
    }
    name.push_str(rest);
    Some(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn escaped_names_are_read_and_others_left() {
        for (text, name) in [
            ("job", "job"),
            ("U__job", "job"),
            ("U__service_2e_name", "service.name"),
            ("U__a__b_20_c", "a_b c"),
            ("U___fc_ber", "über"),
            ("U__", ""),
            ("U__bad_zz_", "U__bad_zz_"),
            ("U__open_2e", "U__open_2e"),
            ("U__big_1100000_", "U__big_1100000_"),
            ("U__surrogate_d800_", "U__surrogate_d800_"),
        ] {
            assert_eq!(unescaped(text), name, "{text}");
        }
    }
}
