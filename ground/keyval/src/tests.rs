//! The grammars.

use crate::{Opts, dict, parse_bool, parse_number, parse_size};
use proptest::prelude::*;

#[test]
fn flat_lists() {
    let opts = Opts::parse("socket,id=a,path=x,,y,server,nowait", Some("backend"));
    assert_eq!(opts.get("backend"), Some("socket"));
    assert_eq!(opts.get("path"), Some("x,y"));
    assert_eq!((opts.get("server"), opts.get("wait")), (Some("on"), Some("off")));
    assert_eq!(opts.flags, ["server", "nowait"]);
    assert_eq!(Opts::parse("a=1,a=2", None).get("a"), Some("2"));
    let error = opts.check(&["backend", "id", "path", "server"]).expect_err("unknown key");
    assert_eq!(error.to_string(), "Invalid parameter 'wait'");
}

#[test]
fn nested_lists() {
    let got = dict("file,node-name=a,cache.direct=on,l.1=y,l.0=x", Some("driver")).expect("valid");
    let text = json::Value::Dict(got).to_string();
    assert_eq!(
        text,
        "{\"driver\": \"file\", \"node-name\": \"a\", \"cache\": {\"direct\": \"on\"}, \"l\": [\"x\", \"y\"]}"
    );
    assert_eq!(dict("a,b", Some("t")).expect_err("no value").to_string(), "Expected '=' after parameter 'b'");
    assert!(dict("a=1,a.b=2", None).is_err());
    assert!(dict("{'a': 1}", None).expect("JSON").get("a").is_some());
}

#[test]
fn scalars() {
    assert_eq!(parse_size("s", "512", 1 << 20), Ok(512 << 20));
    assert_eq!(parse_size("s", "1.5G", 1), Ok(3 << 29));
    assert_eq!(parse_size("s", "0x10", 1), Ok(16));
    assert!(parse_size("s", "1Q", 1).is_err());
    assert!(parse_size("s", "17E", 1).is_err());
    assert!(parse_size("s", "", 1).is_err());
    assert_eq!(parse_number("n", "0x1f"), Ok(31));
    assert_eq!(parse_number("n", "010"), Ok(8));
    assert_eq!(parse_bool("b", "yes"), Ok(true));
    assert_eq!(
        parse_bool("b", "maybe").expect_err("error").to_string(),
        "Parameter 'b' expects 'on' or 'off'"
    );
}

proptest! {
    #[test]
    fn any_text_is_handled(text: String) {
        let _ = Opts::parse(&text, Some("x"));
        let _ = dict(&text, Some("x"));
        let _ = dict(&text, None);
        let _ = parse_size("k", &text, 1 << 20);
        let _ = parse_number("k", &text);
    }

    #[test]
    fn keyed_text_is_handled(text in "[a-c.0-2=,]{0,24}") {
        let _ = Opts::parse(&text, Some("x"));
        let _ = dict(&text, None);
    }
}
