//! The language by examples: what passes, what does not, and what is refused where.

use proptest::prelude::*;

use super::{Filter, FilterFacts};

struct Order;

impl FilterFacts for Order {
    fn metadata(&self, name: &str) -> Option<&str> {
        match name {
            "type" => Some("order"),
            "n" => Some("42"),
            "empty" => Some(""),
            _ => None,
        }
    }

    fn key(&self) -> &'static str {
        "customer-7"
    }

    fn topic(&self) -> &'static str {
        "shop.eu"
    }

    fn size_bytes(&self) -> u64 {
        120
    }

    fn time_ms(&self) -> u64 {
        1_767_323_045_000
    }
}

#[test]
fn a_message_passes_when_the_answer_is_true() {
    for source in [
        "true",
        r#"metadata["type"] == "order""#,
        "metadata.type == 'order' && size < 1000",
        r#"key.startsWith("customer-") && key.endsWith("7") && topic.contains(".eu")"#,
        r#""type" in metadata && has(metadata.n) && !has(metadata.missing)"#,
        r#"metadata.type in ["invoice", "order",]"#,
        "size in [1, 120] && int(metadata.n) >= 42 && size > -5",
        r#"time > timestamp("2026-01-01T00:00:00Z") && time <= timestamp("2026-01-02T03:04:05Z")"#,
        r#"duration("1m") == 60000"#,
        "!(size > 200) && !!true",
        // A question without an answer does not stand in the way of one that decides alone.
        r#"metadata.missing == "x" || size == 120"#,
        "(size == 120) == true && (size == 1) != true",
        r#"metadata["empty"] == """#,
    ] {
        let filter =
            Filter::parse(source).unwrap_or_else(|error| panic!("{source}: {error}\n{}", error.caret()));
        assert!(filter.passes(&Order), "{source}");
    }
}

#[test]
fn a_message_does_not_pass_when_the_answer_is_false_or_missing() {
    for source in [
        "false",
        r#"metadata.missing == "x""#,
        // Not the opposite either: there is nothing to compare.
        r#"metadata.missing != "x""#,
        r#"!(metadata.missing == "x")"#,
        "int(metadata.type) == 0",
        r#"metadata.missing == "x" && true"#,
        "topic in []",
    ] {
        assert!(!Filter::parse(source).unwrap().passes(&Order), "{source}");
    }
}

#[test]
fn a_slip_is_told_with_its_column() {
    for (source, expected) in [
        ("", "filter column 1: expected a value, found end of text"),
        ("size ==", r#"filter column 8: expected a value after "==", found end of text"#),
        ("size = 3", r#"filter column 6: "=" means nothing here; equality is "==""#),
        ("size == 'a'", "filter column 6: a number cannot be compared with text this way"),
        ("size", "filter column 1: expected something that is true or false, this is a number"),
        ("size > 1 key", r#"filter column 10: expected an operator or the end after number 1, found "key""#),
        (
            "payload == 'x'",
            r#"filter column 1: "payload" is nothing a message has; there are metadata, key, topic, size, time, and has(), int(), timestamp(), duration()"#,
        ),
        ("(true", r#"filter column 6: expected ")" after "true", found end of text"#),
        ("size + 1 > 2", r#"filter column 6: there is no "+" in filters, they only compare"#),
        (
            "size > 9223372036854775808",
            "filter column 8: a number is -9223372036854775808 to 9223372036854775807",
        ),
        (
            "key in ['a', 3]",
            "filter column 14: expected a literal of the type on the left, text, found a number",
        ),
        (
            "time > timestamp('soon')",
            r#"filter column 18: expected a time such as "2026-01-02T03:04:05Z" after "(", found text "soon""#,
        ),
        ("key.matches('a+')", "filter column 5: there is no matches(); use startsWith, endsWith or contains"),
        ("size.contains('a')", "filter column 1: expected text, this is a number"),
    ] {
        assert_eq!(Filter::parse(source).unwrap_err().to_string(), expected, "{source}");
    }
}

#[test]
fn a_filter_is_bounded_in_depth_nodes_lists_and_bytes() {
    let nested = |levels: usize| format!("{}true{}", "(".repeat(levels), ")".repeat(levels));
    assert!(Filter::parse(&nested(super::DEPTH_MAX - 1)).is_ok());
    assert!(Filter::parse(&nested(super::DEPTH_MAX)).unwrap_err().reason.contains("nest at most 32"));
    assert!(Filter::parse(&nested(2000)).unwrap_err().reason.contains("nest at most 32"));
    let chained = |tests: usize| vec!["true"; tests].join("&&");
    assert!(Filter::parse(&chained(super::NODES_MAX / 2)).is_ok());
    assert!(Filter::parse(&chained(super::NODES_MAX / 2 + 1)).unwrap_err().reason.contains("at most 256"));
    let listed = |items: usize| format!("size in [{}]", vec!["1"; items].join(","));
    assert!(Filter::parse(&listed(super::LIST_ITEMS_MAX)).is_ok());
    assert!(Filter::parse(&listed(super::LIST_ITEMS_MAX + 1)).unwrap_err().reason.contains("at most 128"));
    assert!(Filter::parse(&" ".repeat(super::SOURCE_BYTES_MAX + 1)).is_err());
    assert!(Filter::parse(&format!("{}true", "!".repeat(250))).unwrap().passes(&Order));
}

/// A test in words, and whether it passes [`Order`]: `None` for no answer.
fn expressions() -> impl Strategy<Value = (String, Option<bool>)> {
    let leaf = prop_oneof![
        Just(("true".to_owned(), Some(true))),
        Just(("false".to_owned(), Some(false))),
        Just(("metadata.missing == 'x'".to_owned(), None)),
        (0_i64..240).prop_map(|n| (format!("size < {n}"), Some(120 < n))),
        (30_i64..50).prop_map(|n| (format!("int(metadata.n) == {n}"), Some(n == 42))),
    ];
    leaf.prop_recursive(4, 40, 3, |inner| {
        prop_oneof![
            inner.clone().prop_map(|(text, answer)| (format!("!({text})"), answer.map(|answer| !answer))),
            (inner.clone(), inner.clone()).prop_map(|((a, x), (b, y))| {
                let answer = if x == Some(false) || y == Some(false) {
                    Some(false)
                } else {
                    x.zip(y).map(|(x, y)| x && y)
                };
                (format!("({a}) && ({b})"), answer)
            }),
            (inner.clone(), inner).prop_map(|((a, x), (b, y))| {
                let answer = if x == Some(true) || y == Some(true) {
                    Some(true)
                } else {
                    x.zip(y).map(|(x, y)| x || y)
                };
                (format!("({a}) || ({b})"), answer)
            }),
        ]
    })
}

proptest! {
    #[test]
    fn any_text_is_a_filter_or_an_error_with_a_place(source in "\\PC{0,80}|[a-z()\\[\\]<>=!&|.\"' 0-9-]{0,80}") {
        if let Err(error) = Filter::parse(&source) {
            prop_assert!(error.column <= source.chars().count() + 1);
            prop_assert!(error.caret().contains('^'));
        }
    }

    #[test]
    fn evaluation_agrees_with_logic_of_three_values((source, answer) in expressions()) {
        prop_assert_eq!(Filter::parse(&source).unwrap().passes(&Order), answer == Some(true), "{}", source);
    }
}
