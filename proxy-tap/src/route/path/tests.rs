use proptest::prelude::*;

use super::*;

#[test]
fn spellings_of_one_path_are_one() {
    for (sent, seen) in [
        ("/", "/"),
        ("/a/b", "/a/b"),
        ("/a/./b", "/a/b"),
        ("/a/../b", "/b"),
        ("/../../b", "/b"),
        ("/a/b/..", "/a/"),
        ("/a/b/.", "/a/b/"),
        ("/..", "/"),
        ("/%2e%2E/b", "/b"),
        ("/a\\..\\b", "/b"),
        ("/%61%7E%2d", "/a~-"),
        ("/.well-known/x", "/.well-known/x"),
        ("/...", "/..."),
        // What servers disagree about stays as it is.
        ("//a//b", "//a//b"),
        ("/a//../b", "/a/b"),
        ("/a%2Fb%5cc", "/a%2Fb%5cc"),
        ("/a/..;/b", "/a/..;/b"),
        ("/A", "/A"),
        ("/%252e%252e/b", "/%252e%252e/b"),
        ("/%", "/%"),
        ("/%4", "/%4"),
        ("/%zz%+1", "/%zz%+1"),
        ("/%é1", "/%é1"),
        ("*", "*"),
        ("", ""),
    ] {
        assert_eq!(normalise(sent), seen, "{sent}");
    }
    assert!(matches!(normalise("/an/ordinary.path"), Cow::Borrowed(_)));
}

#[test]
fn a_prefix_is_replaced_as_gateway_api_says() {
    for (replacement, rest, path) in [
        ("/xyz", "/bar", "/xyz/bar"),
        ("/xyz/", "/bar", "/xyz/bar"),
        ("/xyz", "", "/xyz"),
        ("/xyz", "/", "/xyz/"),
        ("", "/bar", "/bar"),
        ("", "/", "/"),
        ("", "", "/"),
        ("/", "/", "/"),
        ("/", "", "/"),
        ("/v2-", "bar", "/v2-bar"),
        ("", "bar", "/bar"),
    ] {
        assert_eq!(replace_prefix(replacement, rest), path, "{replacement} {rest}");
    }
}

#[test]
fn the_first_parameter_of_a_name_counts() {
    assert_eq!(parameter("a=1&b=2&a=3", "a"), Some("1"));
    assert_eq!(parameter("ab=1&b", "b"), Some(""));
    assert_eq!(parameter("a=b=c", "a"), Some("b=c"));
    assert_eq!(parameter("", "a"), None);
}

proptest! {
    #[test]
    fn no_view_has_dot_segments_or_backslashes(path in "/([a-c./\\\\%25eE]|%2[eEfF]|é){0,12}") {
        let view = normalise(&path);
        prop_assert!(view.starts_with('/'));
        prop_assert!(!view.contains('\\'));
        prop_assert!(view.split('/').all(|segment| segment != "." && segment != ".."), "{view}");
        prop_assert!(view.len() <= path.len());
    }
}
