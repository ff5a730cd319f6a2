//! UUIDs as texts.

use rpc::Uuid;

/// Reads a UUID: 32 hexadecimal digits, hyphens anywhere between pairs of them, spaces around.
pub fn parse(text: &str) -> Option<Uuid> {
    let mut bytes = [0; 16];
    let mut digits = text.trim().bytes().filter(|byte| *byte != b'-');
    for byte in &mut bytes {
        let mut nibble = || char::from(digits.next()?).to_digit(16);
        *byte = (nibble()? << 4 | nibble()?) as u8;
    }
    digits.next().is_none().then_some(Uuid(bytes))
}

/// A random UUID (version 4).
///
/// # Errors
/// The kernel's generator cannot be read.
pub fn generate() -> std::io::Result<Uuid> {
    Ok(of_random(crate::files::random()?))
}

/// A UUID (version 4) of random bytes.
pub fn of_random(mut bytes: [u8; 16]) -> Uuid {
    bytes[6] = bytes[6] & 0x0f | 0x40;
    bytes[8] = bytes[8] & 0x3f | 0x80;
    Uuid(bytes)
}

#[cfg(test)]
mod tests {
    #[test]
    fn texts() {
        let text = "c7a5fdbd-edaf-9455-926a-d65c16db1809";
        assert_eq!(super::parse(text).expect("uuid").to_string(), text);
        assert_eq!(super::parse(&text.replace('-', "").to_uppercase()).expect("uuid").to_string(), text);
        for bad in
            ["", "c7a5fdbd", "c7a5fdbd-edaf-9455-926a-d65c16db18090", "x7a5fdbd-edaf-9455-926a-d65c16db1809"]
        {
            assert_eq!(super::parse(bad), None, "{bad}");
        }
        let made = super::generate().expect("uuid");
        assert_eq!(super::parse(&made.to_string()), Some(made));
    }
}
