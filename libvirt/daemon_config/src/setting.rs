//! Settings: typed values with names, defaults and descriptions, declared once.

use crate::syntax::Value;

/// What a key's description says about its value.
#[derive(Debug, Clone, Copy)]
pub struct Key {
    /// Its name.
    pub name: &'static str,
    /// What it is for: the lines of its documentation.
    pub help: &'static [&'static str],
    /// The headline under which it stands.
    pub group: &'static str,
    /// Values other than the default are refused: what they ask for is not built.
    pub unbuilt: bool,
    /// The only values allowed; empty: all.
    pub choices: &'static [&'static str],
}

/// A value that a key may have.
pub trait Setting: Sized + PartialEq {
    /// Reads it. The error is what follows `FILE: `, with `%s` for the key's name.
    ///
    /// # Errors
    /// The value is of another type, or out of range.
    fn read(value: &Value) -> Result<Self, String>;

    /// As it is written in a file; `None`: it cannot be written, being nothing.
    fn write(&self) -> Option<String>;

    /// The words in it, to be compared with those allowed.
    fn words(&self) -> Vec<&str> {
        Vec::new()
    }
}

impl Setting for u32 {
    fn read(value: &Value) -> Result<Self, String> {
        match value {
            Value::Number { value, negative: false } => Self::try_from(*value)
                .map_err(|_| format!("value for '%s' parameter must be in range 0:{}", Self::MAX)),
            _ => Err("expected an unsigned integer for '%s' parameter".to_owned()),
        }
    }

    fn write(&self) -> Option<String> {
        Some(self.to_string())
    }
}

impl Setting for i32 {
    fn read(value: &Value) -> Result<Self, String> {
        match value {
            Value::Number { value, .. } => Self::try_from(*value).map_err(|_| {
                format!("value for '%s' parameter must be in range {}:{}", Self::MIN, Self::MAX)
            }),
            _ => Err("expected a signed integer for '%s' parameter".to_owned()),
        }
    }

    fn write(&self) -> Option<String> {
        Some(self.to_string())
    }
}

impl Setting for bool {
    fn read(value: &Value) -> Result<Self, String> {
        match value {
            Value::Number { value: 0, negative: false } => Ok(false),
            Value::Number { value: 1, negative: false } => Ok(true),
            Value::Number { negative: false, .. } => {
                Err("value for '%s' parameter must be 0 or 1".to_owned())
            }
            _ => Err("expected a bool for '%s' parameter".to_owned()),
        }
    }

    fn write(&self) -> Option<String> {
        Some(u8::from(*self).to_string())
    }
}

impl Setting for String {
    fn read(value: &Value) -> Result<Self, String> {
        match value {
            Value::Text(text) => Ok(text.clone()),
            _ => Err("expected a string for '%s' parameter".to_owned()),
        }
    }

    fn write(&self) -> Option<String> {
        Some(format!("\"{self}\""))
    }

    fn words(&self) -> Vec<&str> {
        vec![self]
    }
}

impl<T: Setting> Setting for Option<T> {
    fn read(value: &Value) -> Result<Self, String> {
        T::read(value).map(Some)
    }

    fn write(&self) -> Option<String> {
        self.as_ref().and_then(T::write)
    }

    fn words(&self) -> Vec<&str> {
        self.as_ref().map(T::words).unwrap_or_default()
    }
}

impl Setting for Vec<String> {
    fn read(value: &Value) -> Result<Self, String> {
        let wrong = || "expected a string list for '%s' parameter".to_owned();
        match value {
            Value::List(values) => {
                values.iter().map(|value| String::read(value).map_err(|_| wrong())).collect()
            }
            _ => Err(wrong()),
        }
    }

    fn write(&self) -> Option<String> {
        let words: Vec<_> = self.iter().filter_map(Setting::write).collect();
        Some(if words.is_empty() { "[]".to_owned() } else { format!("[ {} ]", words.join(", ")) })
    }

    fn words(&self) -> Vec<&str> {
        self.iter().map(String::as_str).collect()
    }
}

/// A list that may be given as one string.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct OneOrMore(pub Vec<String>);

impl Setting for OneOrMore {
    fn read(value: &Value) -> Result<Self, String> {
        match value {
            Value::Text(text) => Ok(Self(vec![text.clone()])),
            _ => Vec::read(value)
                .map(Self)
                .map_err(|_| "expected a string or string list for '%s' parameter".to_owned()),
        }
    }

    fn write(&self) -> Option<String> {
        match self.0.as_slice() {
            [one] => one.write(),
            more => Vec::from(more).write(),
        }
    }

    fn words(&self) -> Vec<&str> {
        self.0.iter().map(String::as_str).collect()
    }
}

/// A size, or no limit at all.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Size {
    /// `"unlimited"`.
    #[default]
    Unlimited,
    /// So many bytes.
    Bytes(u64),
}

impl Setting for Size {
    fn read(value: &Value) -> Result<Self, String> {
        match value {
            Value::Text(text) if text == "unlimited" => Ok(Self::Unlimited),
            Value::Text(text) => Err(format!("Unknown core size '{text}'")),
            Value::Number { value, negative: false } => {
                Ok(Self::Bytes(u64::try_from(*value).unwrap_or(u64::MAX)))
            }
            _ => Err("expected an unsigned integer for '%s' parameter".to_owned()),
        }
    }

    fn write(&self) -> Option<String> {
        Some(match self {
            Self::Unlimited => "\"unlimited\"".to_owned(),
            Self::Bytes(bytes) => bytes.to_string(),
        })
    }
}

/// Sets one key; the error is what follows `FILE: `.
pub(crate) fn assign<T: Setting>(field: &mut T, key: &Key, value: &Value) -> Result<(), String> {
    let new = T::read(value).map_err(|text| text.replace("%s", key.name))?;
    if !key.choices.is_empty()
        && let Some(word) = new.words().into_iter().find(|word| !key.choices.contains(word))
    {
        return Err(format!("{}: unsupported value '{word}'", key.name));
    }
    if key.unbuilt && new != *field {
        return Err(format!("'{}' is not supported by this daemon", key.name));
    }
    *field = new;
    Ok(())
}

/// Declares the settings of a file: a struct with its defaults, and the table of keys. `unbuilt` before a key refuses
/// all values but the default; `=> ["A", ...]` after the default says which values are allowed.
macro_rules! settings {
    (
        $(#[doc = $struct_doc:literal])*
        pub struct $name:ident {
            $($group:literal {
                $(
                    $(#[doc = $doc:literal])*
                    $field:ident: $type:ty = $default:expr $(=> [$($choice:literal),*])? $(, $unbuilt:ident)?;
                )*
            })*
        }
    ) => {
        $(#[doc = $struct_doc])*
        #[derive(Debug, Clone, PartialEq)]
        pub struct $name {
            $($(
                $(#[doc = $doc])*
                pub $field: $type,
            )*)*
        }

        impl Default for $name {
            fn default() -> Self {
                Self { $($($field: $default.into(),)*)* }
            }
        }

        impl $name {
            /// All keys, in the order of the file.
            pub const KEYS: &[$crate::setting::Key] = &[
                $($($crate::setting::Key {
                    name: stringify!($field),
                    help: &[$($doc),*],
                    group: $group,
                    unbuilt: settings!(@unbuilt $($unbuilt)?),
                    choices: &[$($($choice),*)?],
                },)*)*
            ];

            /// Sets the key `name`; `None`: there is none.
            pub(crate) fn assign(&mut self, name: &str, value: &$crate::syntax::Value) -> Option<Result<(), String>> {
                let key = Self::KEYS.iter().find(|key| key.name == name)?;
                match name {
                    $($(stringify!($field) => Some($crate::setting::assign(&mut self.$field, key, value)),)*)*
                    _ => None,
                }
            }

            /// What stands in a file for each key now.
            pub(crate) fn values(&self) -> Vec<Option<String>> {
                vec![$($($crate::setting::Setting::write(&self.$field),)*)*]
            }
        }
    };
    (@unbuilt) => { false };
    (@unbuilt unbuilt) => { true };
}
pub(crate) use settings;
