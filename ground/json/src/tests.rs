//! Against serde_json, and the texts.

use crate::{Limits, Value, parse, parse_limited};
use proptest::prelude::*;

fn text_of(input: &str) -> String {
    parse(input.as_bytes()).expect_err("error").to_string()
}

#[test]
fn dialect() {
    let value =
        parse(b" {'a': [1, -2.5e1, true, null, \"x\\u00e9\\ud83d\\ude00\"], \"b\": 18446744073709551615}");
    let value = value.expect("valid");
    assert_eq!(
        value.to_string(),
        "{\"a\": [1, -25.0, true, null, \"x\\u00E9\\uD83D\\uDE00\"], \"b\": 18446744073709551615}"
    );
}

#[test]
fn errors() {
    assert_eq!(text_of("{"), "JSON parse error, premature EOI");
    assert_eq!(text_of("{1:2}"), "JSON parse error, key is not a string in object");
    assert_eq!(text_of("{'a' 2}"), "JSON parse error, missing : in object pair");
    assert_eq!(text_of("{'a':1 2}"), "JSON parse error, expected separator in dict");
    assert_eq!(text_of("[1 2]"), "JSON parse error, expected separator in list");
    assert_eq!(text_of("{'a':1,'a':2}"), "JSON parse error, duplicate key");
    assert_eq!(text_of("nil"), "JSON parse error, invalid keyword 'nil'");
    assert_eq!(text_of(&"[".repeat(5000)), "JSON parse error, JSON nesting depth limit exceeded");
}

#[test]
fn limits_of_untrusted_texts() {
    let limits = Limits { depth: 2, values: 5, keys: 2 };
    let read = |text: &str| parse_limited(text.as_bytes(), limits).map_err(|error| error.to_string());
    assert_eq!(read("[[1, 2], 3]").expect("within the limits").as_list().map(<[_]>::len), Some(2));
    assert_eq!(read("[[[1]]]"), Err("JSON parse error, JSON nesting depth limit exceeded".to_owned()));
    assert_eq!(read("[1, 2, 3, 4, 5]"), Err("JSON parse error, JSON token count limit exceeded".to_owned()));
    assert_eq!(
        read("{'a': 1, 'b': 2, 'c': 3}"),
        Err("JSON parse error, JSON token count limit exceeded".to_owned())
    );
}

proptest! {
    #[test]
    fn any_bytes_are_handled(bytes: Vec<u8>) {
        let _ = parse(&bytes);
    }

    #[test]
    fn what_serde_json_takes_we_take_and_write_back_equal(text in "[\\[\\]{},:\"a0-9.eE+\\- truefalsn\\\\]{0,24}") {
        let theirs: Result<serde_json::Value, _> = serde_json::from_str(&text);
        if let (Ok(theirs), Ok(ours)) = (&theirs, parse(text.as_bytes())) {
            let again: serde_json::Value = serde_json::from_str(&ours.to_string()).expect("our text is JSON");
            if !text.contains(['.', 'e', 'E']) {
                prop_assert_eq!(theirs, &again);
            }
        } else if theirs.is_ok() {
            // We refuse duplicate keys and take no lone surrogates.
            prop_assert!(text.contains('{'), "{text}");
        }
    }

    #[test]
    fn strings_survive(text: String) {
        let written = Value::Str(text.clone()).to_string();
        if !text.contains('\0') {
            prop_assert_eq!(parse(written.as_bytes()).expect("valid"), Value::Str(text));
        }
    }
}
