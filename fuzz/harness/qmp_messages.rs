//! What an emulator sends to its monitor's client.

/// The input: bytes of a connection. However they are cut, the same messages come out.
pub fn run(data: &[u8]) {
    let decode = |piece: usize| {
        let mut messages = Vec::new();
        let mut decoder = qmp::Decoder::default();
        let mut end = Ok(());
        for bytes in data.chunks(piece) {
            end = decoder.feed(bytes, &mut |message| messages.push(message));
            if end.is_err() {
                break;
            }
        }
        // Not a number is not equal to itself, and JSON has none: floats compare as they print.
        (format!("{messages:?}"), end)
    };
    assert_eq!(decode(data.len().max(1)), decode(3));
}
