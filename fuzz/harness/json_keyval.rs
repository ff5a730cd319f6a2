//! JSON and `key=value` texts.

/// The input: a text, taken as either.
pub fn run(data: &[u8]) {
    if let Ok(value) = json::parse(data) {
        // A number beyond the range is infinite, for which JSON has no text: what was printed once stays the same.
        let printed = value.to_string();
        let again = json::parse(printed.as_bytes()).expect("what was printed is JSON");
        assert_eq!(again.to_string(), printed);
    }
    let text = String::from_utf8_lossy(data);
    for implied in [None, Some("driver")] {
        let options = keyval::Opts::parse(&text, implied);
        assert!(options.iter().all(|(key, _)| options.get(key).is_some()));
        let _ = options.wants_help();
        let _ = keyval::dict(&text, implied);
    }
    let _ = keyval::parse_bool("key", &text);
    let _ = keyval::parse_number("key", &text);
    let _ = keyval::parse_size("key", &text, 1 << 20);
}
