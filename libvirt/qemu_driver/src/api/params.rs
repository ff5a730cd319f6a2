//! Parameters that bring their types.

use crate::error::{Result, error};
use rpc::{Code, TypedParam};

/// Every parameter is one of `known`, which are names and the words of types, and is there once.
///
/// # Errors
/// One is not.
pub(super) fn check(given: &[TypedParam], known: &[(&str, &str)]) -> Result<()> {
    let mut sorted: Vec<_> = given.iter().collect();
    sorted.sort_by(|one, other| one.field.cmp(&other.field));
    let mut last = None;
    for param in sorted {
        let field = param.field.as_str();
        let Some((_, wanted)) = known.iter().find(|(name, _)| *name == field) else {
            return Err(error(Code::ArgumentUnsupported, format!("parameter '{field}' not supported")));
        };
        if last == Some(field) {
            return Err(error(Code::InvalidArg, format!("parameter '{field}' occurs multiple times")));
        }
        let is = param.value.type_name();
        if is != *wanted {
            let detail = format!("invalid type '{is}' for parameter '{field}', expected '{wanted}'");
            return Err(error(Code::InvalidArg, detail));
        }
        last = Some(field);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mistakes() {
        let known = &[("a", "uint"), ("b", "string")];
        let refused = |params: &[TypedParam]| check(params, known).expect_err("refused").to_string();
        check(&[TypedParam::new("b", "x"), TypedParam::new("a", 1u32)], known).expect("known");
        assert_eq!(
            refused(&[TypedParam::new("a", 1)]),
            "invalid argument: invalid type 'int' for parameter 'a', expected 'uint'"
        );
        assert_eq!(
            refused(&[TypedParam::new("a", 1u32), TypedParam::new("a", 2u32)]),
            "invalid argument: parameter 'a' occurs multiple times"
        );
        assert!(refused(&[TypedParam::new("c", 1u32)]).contains("parameter 'c' not supported"));
    }
}
