use super::*;
use crate::yaml::Document;

fn rules(text: &str) -> Vec<Relabel> {
    let document = Document::parse(&format!("rules:\n{text}")).unwrap();
    let mut fields = document.root().unwrap().fields().unwrap();
    let rules = Relabel::read_list(&mut fields, "rules", NameScheme::Utf8);
    drop(fields);
    document.finish().unwrap();
    rules
}

fn labels(text: &str) -> Labels {
    let pairs = text.split(',').filter(|pair| !pair.is_empty());
    pairs.filter_map(|pair| pair.split_once('=')).map(|(k, v)| (k.to_owned(), v.to_owned())).collect()
}

/// What the rules make of the labels; nothing where they drop them.
fn relabelled(rule: &str, from: &str) -> Option<String> {
    let mut labels = labels(from);
    let kept = apply(&rules(rule), &mut labels);
    kept.then(|| labels.iter().map(|(k, v)| format!("{k}={v}")).collect::<Vec<_>>().join(","))
}

#[test]
fn every_action_does_what_its_documentation_says() {
    let from = "a=foo,b=bar,c=baz";
    for (rule, expected) in [
        // replace
        (
            "- {source_labels: [a], regex: 'f(.*)', target_label: d, replacement: 'ch${1}-ch${1}'}",
            Some("a=foo,b=bar,c=baz,d=choo-choo"),
        ),
        ("- {source_labels: [a], regex: 'no', target_label: d}", Some(from)),
        ("- {source_labels: [a], regex: 'oo', target_label: d}", Some(from)), // anchored
        ("- {source_labels: [a, b], target_label: a}", Some("a=foo;bar,b=bar,c=baz")),
        ("- {source_labels: [a, b], separator: '', target_label: a}", Some("a=foobar,b=bar,c=baz")),
        ("- {source_labels: [x], target_label: a}", Some("b=bar,c=baz")), // empties, so removes
        ("- {target_label: d, replacement: static}", Some("a=foo,b=bar,c=baz,d=static")),
        ("- {source_labels: [a], target_label: b, replacement: ''}", Some("a=foo,c=baz")),
        (
            "- {source_labels: [a], regex: '(f)(.*)', target_label: '$1_$2', replacement: '$2$1'}",
            Some("a=foo,b=bar,c=baz,oo=oof"),
        ), // `$1_` is a name, of no group
        (
            "- {source_labels: [a], regex: '(f)(.*)', target_label: '${1}_$2', replacement: '$2$1'}",
            Some("a=foo,b=bar,c=baz,f_oo=oof"),
        ),
        (
            "- {source_labels: [a], regex: '(?P<x>.).*', target_label: d, replacement: '$x'}",
            Some("a=foo,b=bar,c=baz,d=f"),
        ),
        // keep and drop
        ("- {source_labels: [a], regex: foo, action: keep}", Some(from)),
        ("- {source_labels: [a], regex: fo, action: keep}", None),
        ("- {source_labels: [a], regex: foo, action: drop}", None),
        ("- {source_labels: [a], regex: f, action: DROP}", Some(from)),
        ("- {source_labels: [__meta_x], regex: '', action: keep}", Some(from)),
        ("- {source_labels: [a], target_label: b, action: keepequal}", None),
        ("- {source_labels: [a], target_label: b, action: dropequal}", Some(from)),
        // the rest
        (
            "- {regex: '(b|c)', replacement: 'x_$1', action: labelmap}",
            Some("a=foo,b=bar,c=baz,x_b=bar,x_c=baz"),
        ),
        ("- {regex: '[bc]', action: labeldrop}", Some("a=foo")),
        ("- {regex: '[bc]', action: labelkeep}", Some("b=bar,c=baz")),
        (
            "- {source_labels: [a, b], target_label: d, action: uppercase}",
            Some("a=foo,b=bar,c=baz,d=FOO;BAR"),
        ),
        ("- {source_labels: [a], target_label: a, action: lowercase}", Some(from)),
        (
            "- {source_labels: [c], target_label: d, action: hashmod, modulus: 1000}",
            Some("a=foo,b=bar,c=baz,d=976"),
        ),
    ] {
        assert_eq!(relabelled(rule, from).as_deref(), expected, "{rule}");
    }
}

#[test]
fn rules_apply_in_order_and_a_dropped_set_stays_dropped() {
    let rules = "- {source_labels: [a], target_label: tmp}\n- {source_labels: [tmp], regex: foo, action: drop}\n- {target_label: b, replacement: x}";
    assert_eq!(relabelled(rules, "a=foo"), None);
    assert_eq!(relabelled(rules, "a=bar").as_deref(), Some("a=bar,b=x,tmp=bar"));
}

#[test]
fn a_newline_is_a_character_like_others() {
    let mut set: Labels = [("a".to_owned(), "x\ny".to_owned())].into();
    assert!(apply(&rules("- {source_labels: [a], regex: 'x.y', target_label: a, replacement: z}"), &mut set));
    assert_eq!(set["a"], "z");
}

#[test]
fn mistakes_in_rules_are_told() {
    let document = Document::parse(
        "rules:\n- {action: nope}\n- {source_labels: [a]}\n- {action: hashmod, target_label: a}\n\
         - {action: labeldrop, source_labels: [a]}\n- {action: keepequal, target_label: a, regex: x}\n\
         - {regex: '(', target_label: a}\n- {regex: 'a)|(b', target_label: a}\n-\n- {target_label: a, foo: b}\n",
    )
    .unwrap();
    let mut fields = document.root().unwrap().fields().unwrap();
    Relabel::read_list(&mut fields, "rules", NameScheme::Utf8);
    drop(fields);
    let told: Vec<String> =
        document.finish().unwrap_err().0.into_iter().map(|n| format!("{}: {}", n.path, n.problem)).collect();
    let expected = [
        "rules[0].action: expected `replace`",
        "rules[1]: `replace` needs a `target_label`",
        "rules[2]: `hashmod` needs a `modulus` above zero",
        "rules[3]: `labeldrop` takes `regex` only, not `source_labels`",
        "rules[4]: `keepequal` takes `source_labels` and `target_label` only, not `regex`",
        "rules[5].regex: `(` is no regular expression",
        "rules[6].regex: `a)|(b` is no regular expression",
        "rules[7]: expected a map, found nothing",
        "rules[8].foo: no such key",
    ];
    assert_eq!(told.len(), expected.len(), "{told:#?}");
    for (told, expected) in told.iter().zip(expected) {
        assert!(told.starts_with(expected), "{told}");
    }
}

#[test]
fn legacy_names_bind_templates_too() {
    for (template, valid) in [
        ("a_$1", true),
        ("${1}b", true),
        ("$1", true),
        ("1a", false),
        ("a.b", false),
        ("$", false),
        ("", false),
    ] {
        assert_eq!(is_legacy_template(template), valid, "{template}");
    }
}
