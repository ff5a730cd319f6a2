//! What several topics share.

use super::network::Network;
use crate::error::{Code, Error, Origin};
use crate::xdr::{Decoder, Encoder, Invalid, Xdr};

/// A UUID's bytes in the order in which it is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Uuid(pub [u8; 16]);

impl Xdr for Uuid {
    fn encode(&self, encoder: &mut Encoder) {
        encoder.put_raw(&self.0);
    }

    fn decode(decoder: &mut Decoder<'_>) -> Result<Self, Invalid> {
        Ok(Self(decoder.take_array()?))
    }
}

impl std::fmt::Display for Uuid {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for (at, byte) in self.0.iter().enumerate() {
            if matches!(at, 4 | 6 | 8 | 10) {
                f.write_str("-")?;
            }
            write!(f, "{byte:02x}")?;
        }
        Ok(())
    }
}

/// A domain: `id` is -1 when it does not run.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Domain {
    /// Its name, unique in the daemon.
    pub name: String,
    /// Its UUID, unique in the daemon.
    pub uuid: Uuid,
    /// Its number while it runs, else -1.
    pub id: i32,
}

impl Xdr for Domain {
    fn encode(&self, encoder: &mut Encoder) {
        self.name.encode(encoder);
        self.uuid.encode(encoder);
        self.id.encode(encoder);
    }

    fn decode(decoder: &mut Decoder<'_>) -> Result<Self, Invalid> {
        Ok(Self { name: Xdr::decode(decoder)?, uuid: Xdr::decode(decoder)?, id: Xdr::decode(decoder)? })
    }
}

/// A named value.
#[derive(Debug, Clone, PartialEq)]
pub struct TypedParam {
    /// Its name.
    pub field: String,
    /// Its value.
    pub value: TypedValue,
}

impl TypedParam {
    /// A parameter.
    pub fn new(field: impl Into<String>, value: impl Into<TypedValue>) -> Self {
        Self { field: field.into(), value: value.into() }
    }

    /// Every parameter is one of `known`, which are names and the words of types, and is there once.
    ///
    /// # Errors
    /// One is not.
    pub fn check(origin: Origin, given: &[Self], known: &[(&str, &str)]) -> Result<(), Error> {
        let mut sorted: Vec<_> = given.iter().collect();
        sorted.sort_by(|one, other| one.field.cmp(&other.field));
        let mut last = None;
        for param in sorted {
            let field = param.field.as_str();
            let Some((_, wanted)) = known.iter().find(|(name, _)| *name == field) else {
                let detail = format!("parameter '{field}' not supported");
                return Err(Error::new(origin, Code::ArgumentUnsupported, detail));
            };
            if last == Some(field) {
                let detail = format!("parameter '{field}' occurs multiple times");
                return Err(Error::new(origin, Code::InvalidArg, detail));
            }
            let is = param.value.type_name();
            if is != *wanted {
                let detail = format!("invalid type '{is}' for parameter '{field}', expected '{wanted}'");
                return Err(Error::new(origin, Code::InvalidArg, detail));
            }
            last = Some(field);
        }
        Ok(())
    }
}

impl Xdr for TypedParam {
    fn encode(&self, encoder: &mut Encoder) {
        self.field.encode(encoder);
        self.value.encode(encoder);
    }

    fn decode(decoder: &mut Decoder<'_>) -> Result<Self, Invalid> {
        Ok(Self { field: Xdr::decode(decoder)?, value: Xdr::decode(decoder)? })
    }
}

/// A value that brings its type (`virTypedParameterType`).
#[derive(Debug, Clone, PartialEq)]
pub enum TypedValue {
    /// Type 1.
    Int(i32),
    /// Type 2.
    Uint(u32),
    /// Type 3.
    Llong(i64),
    /// Type 4.
    Ullong(u64),
    /// Type 5.
    Double(f64),
    /// Type 6.
    Boolean(bool),
    /// Type 7.
    Text(String),
}

impl TypedValue {
    /// The name of its type, for messages.
    pub fn type_name(&self) -> &'static str {
        match self {
            Self::Int(_) => "int",
            Self::Uint(_) => "uint",
            Self::Llong(_) => "llong",
            Self::Ullong(_) => "ullong",
            Self::Double(_) => "double",
            Self::Boolean(_) => "boolean",
            Self::Text(_) => "string",
        }
    }
}

impl Xdr for TypedValue {
    fn encode(&self, encoder: &mut Encoder) {
        match self {
            Self::Int(value) => (1, value).encode(encoder),
            Self::Uint(value) => (2, value).encode(encoder),
            Self::Llong(value) => (3, value).encode(encoder),
            Self::Ullong(value) => (4, value).encode(encoder),
            Self::Double(value) => (5, value).encode(encoder),
            Self::Boolean(value) => (6, &i32::from(*value)).encode(encoder),
            Self::Text(value) => (7, value).encode(encoder),
        }
    }

    fn decode(decoder: &mut Decoder<'_>) -> Result<Self, Invalid> {
        Ok(match i32::decode(decoder)? {
            1 => Self::Int(Xdr::decode(decoder)?),
            2 => Self::Uint(Xdr::decode(decoder)?),
            3 => Self::Llong(Xdr::decode(decoder)?),
            4 => Self::Ullong(Xdr::decode(decoder)?),
            5 => Self::Double(Xdr::decode(decoder)?),
            6 => Self::Boolean(i32::decode(decoder)? != 0),
            7 => Self::Text(Xdr::decode(decoder)?),
            _ => return Err(Invalid),
        })
    }
}

/// Writes a union's discriminant and its value.
trait Tagged {
    fn encode(&self, encoder: &mut Encoder);
}

impl<T: Xdr> Tagged for (i32, &T) {
    fn encode(&self, encoder: &mut Encoder) {
        self.0.encode(encoder);
        self.1.encode(encoder);
    }
}

macro_rules! from {
    ($($type:ty => $variant:ident),*) => {
        $(impl From<$type> for TypedValue {
            fn from(value: $type) -> Self {
                Self::$variant(value)
            }
        })*
    };
}
from!(i32 => Int, u32 => Uint, i64 => Llong, u64 => Ullong, f64 => Double, bool => Boolean, String => Text);

impl From<&str> for TypedValue {
    fn from(value: &str) -> Self {
        Self::Text(value.to_owned())
    }
}

/// An error as it is sent.
#[derive(Debug, Clone, PartialEq)]
#[allow(missing_docs, reason = "the fields are named as in the protocol")]
pub struct WireError {
    pub code: i32,
    pub domain: i32,
    pub message: Option<String>,
    pub level: i32,
    pub dom: Option<Domain>,
    pub str1: Option<String>,
    pub str2: Option<String>,
    pub str3: Option<String>,
    pub int1: i32,
    pub int2: i32,
    pub net: Option<Network>,
}

impl Xdr for WireError {
    fn encode(&self, encoder: &mut Encoder) {
        self.code.encode(encoder);
        self.domain.encode(encoder);
        self.message.encode(encoder);
        self.level.encode(encoder);
        self.dom.encode(encoder);
        self.str1.encode(encoder);
        self.str2.encode(encoder);
        self.str3.encode(encoder);
        self.int1.encode(encoder);
        self.int2.encode(encoder);
        self.net.encode(encoder);
    }

    fn decode(decoder: &mut Decoder<'_>) -> Result<Self, Invalid> {
        Ok(Self {
            code: Xdr::decode(decoder)?,
            domain: Xdr::decode(decoder)?,
            message: Xdr::decode(decoder)?,
            level: Xdr::decode(decoder)?,
            dom: Xdr::decode(decoder)?,
            str1: Xdr::decode(decoder)?,
            str2: Xdr::decode(decoder)?,
            str3: Xdr::decode(decoder)?,
            int1: Xdr::decode(decoder)?,
            int2: Xdr::decode(decoder)?,
            net: Xdr::decode(decoder)?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mistakes_in_parameters() {
        let known = &[("a", "uint"), ("b", "string")];
        let check = |params: &[TypedParam]| TypedParam::check(Origin::None, params, known);
        let refused = |params: &[TypedParam]| check(params).expect_err("refused").to_string();
        check(&[TypedParam::new("b", "x"), TypedParam::new("a", 1u32)]).expect("known");
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
