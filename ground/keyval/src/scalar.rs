//! Switches, numbers and sizes.

use crate::Error;

/// `on`, `yes`, `true`, `y` and their opposites.
///
/// # Errors
/// It is none of them.
pub fn parse_bool(key: &str, value: &str) -> Result<bool, Error> {
    match value {
        "on" | "yes" | "true" | "y" => Ok(true),
        "off" | "no" | "false" | "n" => Ok(false),
        _ => Err(Error(format!("Parameter '{key}' expects 'on' or 'off'"))),
    }
}

/// An unsigned number: decimal, `0x` hexadecimal or `0` octal.
///
/// # Errors
/// It is no such number.
pub fn parse_number(key: &str, value: &str) -> Result<u64, Error> {
    let parsed = if let Some(hex) = value.strip_prefix("0x").or_else(|| value.strip_prefix("0X")) {
        u64::from_str_radix(hex, 16)
    } else if value.len() > 1 && value.starts_with('0') {
        u64::from_str_radix(value, 8)
    } else {
        value.parse()
    };
    parsed.map_err(|_| Error(format!("Parameter '{key}' expects a number")))
}

/// A size in bytes: a number, perhaps with a fraction, and a suffix (B, K, M, G, T, P, E; powers of 1024). A number
/// without suffix counts in units of `unit` bytes.
///
/// # Errors
/// It is no size below 2^64.
pub fn parse_size(key: &str, value: &str, unit: u64) -> Result<u64, Error> {
    size(value, unit).ok_or_else(|| {
        Error(format!(
            "Parameter '{key}' expects a non-negative number below 2^64\n\
             Optional suffix k, M, G, T, P or E means kilo-, mega-, giga-, tera-, peta-\n\
             and exabytes, respectively."
        ))
    })
}

fn size(text: &str, unit: u64) -> Option<u64> {
    if let Some(hex) = text.strip_prefix("0x").or_else(|| text.strip_prefix("0X")) {
        return u64::from_str_radix(hex, 16).ok()?.checked_mul(unit);
    }
    let (number, factor) = match text.chars().last()?.to_ascii_lowercase() {
        'b' => (&text[..text.len() - 1], 1),
        'k' => (&text[..text.len() - 1], 1 << 10),
        'm' => (&text[..text.len() - 1], 1 << 20),
        'g' => (&text[..text.len() - 1], 1 << 30),
        't' => (&text[..text.len() - 1], 1 << 40),
        'p' => (&text[..text.len() - 1], 1 << 50),
        'e' => (&text[..text.len() - 1], 1 << 60),
        _ => (text, unit),
    };
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    let digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    if whole.is_empty() || !digits(whole) || !digits(fraction) || fraction.len() > 18 {
        return None;
    }
    let bytes = whole.parse::<u64>().ok()?.checked_mul(factor)?;
    if fraction.is_empty() {
        return Some(bytes);
    }
    let scale = 10u128.pow(u32::try_from(fraction.len()).ok()?);
    let part = fraction.parse::<u128>().ok()? * u128::from(factor) / scale;
    bytes.checked_add(u64::try_from(part).ok()?)
}
