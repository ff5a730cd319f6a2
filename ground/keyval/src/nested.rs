//! The grammar with dotted keys: `a.b=1,a.c=2,l.0=x` becomes `{a: {b: "1", c: "2"}, l: ["x"]}`.

use crate::{Error, take_value};
use json::{Dict, Value};

/// How deep dotted keys may nest, and how long a list may be.
const MAX_PARTS: usize = 64;

/// Reads a list of dotted keys; all leaves are strings. A text that starts with `{` is read as JSON instead.
///
/// # Errors
/// The text has a key without value, an impossible key, or keys that contradict each other.
pub fn dict(text: &str, implied: Option<&str>) -> Result<Dict, Error> {
    if text.starts_with('{') {
        return match json::parse(text.as_bytes()).map_err(|error| Error(error.to_string()))? {
            Value::Dict(dict) => Ok(dict),
            _ => Err(Error("JSON parse error, expecting value".to_owned())),
        };
    }
    let mut root = Dict::default();
    let mut rest = text;
    let mut first = implied;
    while !rest.is_empty() {
        let end = rest.find(['=', ',']).unwrap_or(rest.len());
        let (key, value) = if rest[end..].starts_with('=') {
            let key = rest[..end].to_owned();
            let (value, after) = take_value(&rest[end + 1..]);
            rest = after;
            (key, value)
        } else if let Some(key) = first {
            let (value, after) = take_value(rest);
            rest = after;
            (key.to_owned(), value)
        } else {
            let word = &rest[..end];
            if word == "help" || word == "?" {
                rest = rest[end..].strip_prefix(',').unwrap_or("");
                root.insert("help", Value::Bool(true));
                continue;
            }
            return Err(Error(format!("Expected '=' after parameter '{word}'")));
        };
        first = None;
        insert(&mut root, &key, &key, value, 0)?;
    }
    for (_, value) in root.entries_mut() {
        make_lists(value);
    }
    Ok(root)
}

fn valid_part(part: &str) -> bool {
    let index = !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
    index
        || (part.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
            && part.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_')))
}

fn insert(dict: &mut Dict, full: &str, key: &str, value: String, depth: usize) -> Result<(), Error> {
    let (part, rest) = match key.split_once('.') {
        Some((part, rest)) => (part, Some(rest)),
        None => (key, None),
    };
    if !valid_part(part) || depth > MAX_PARTS {
        return Err(Error(format!("Invalid parameter '{full}'")));
    }
    let inconsistent = || Error(format!("Parameters '{}.*' used inconsistently", part));
    match rest {
        None => match dict.insert(part, Value::Str(value)) {
            Some(Value::Dict(_)) => Err(inconsistent()),
            _ => Ok(()),
        },
        Some(rest) => {
            if dict.get(part).is_none() {
                dict.insert(part, Value::Dict(Dict::default()));
            }
            match dict.get_mut(part) {
                Some(Value::Dict(inner)) => insert(inner, full, rest, value, depth + 1),
                _ => Err(inconsistent()),
            }
        }
    }
}

/// Objects whose keys are 0, 1, 2... become lists.
fn make_lists(value: &mut Value) {
    let Value::Dict(dict) = value else { return };
    for (_, inner) in dict.entries_mut() {
        make_lists(inner);
    }
    let count = dict.len();
    if (0..count).all(|index| dict.get(&index.to_string()).is_some()) && count > 0 {
        let items = (0..count).filter_map(|index| dict.remove(&index.to_string())).collect();
        *value = Value::List(items);
    }
}
