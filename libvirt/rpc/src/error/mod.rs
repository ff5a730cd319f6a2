//! Errors as clients see them (`virError`).

mod codes;

pub use codes::{Code, Origin};

use crate::protocol::types::WireError;

/// Level of an error that is a warning.
pub const LEVEL_WARNING: i32 = 1;
/// Level of an error.
pub const LEVEL_ERROR: i32 = 2;

/// An error for the client.
///
/// Clients compare codes, and people read messages: both are the original's. [`Error::new`] makes the message from the
/// code's text and a detail, as the original does.
#[derive(Debug, Clone, PartialEq)]
pub struct Error {
    /// A [`Code`]; an error that another daemon answered may have one that is not known here.
    pub code: i32,
    /// An [`Origin`].
    pub domain: i32,
    /// The whole message.
    pub message: Option<String>,
    /// [`LEVEL_ERROR`] nearly always.
    pub level: i32,
    /// The text of the code, in which `%1$s` is the detail.
    pub str1: Option<String>,
    /// The detail.
    pub str2: Option<String>,
    /// Nothing by default.
    pub str3: Option<String>,
    /// -1, or the number of a system call's error.
    pub int1: i32,
    /// -1.
    pub int2: i32,
}

impl Error {
    /// An error of `code`, whose message is the code's text with `detail`.
    pub fn new(origin: Origin, code: Code, detail: impl Into<String>) -> Self {
        let (detail, (_, text)) = (detail.into(), code.texts());
        let message = text.replace("%1$s", &detail).replace("%s", &detail);
        Self { message: Some(message), str2: Some(detail), ..Self::bare(origin, code, text) }
    }

    /// An error whose whole message is known already.
    pub fn from_message(origin: Origin, code: Code, message: &str) -> Self {
        let (_, text) = code.texts();
        let before = text.split('%').next().unwrap_or_default();
        Self::new(origin, code, message.strip_prefix(before).unwrap_or(message))
    }

    /// An error of `code` without a detail.
    pub fn plain(origin: Origin, code: Code) -> Self {
        let (text, _) = code.texts();
        Self { message: Some(text.to_owned()), ..Self::bare(origin, code, text) }
    }

    fn bare(origin: Origin, code: Code, text: &str) -> Self {
        Self {
            code: code as i32,
            domain: origin as i32,
            message: None,
            level: LEVEL_ERROR,
            str1: Some(text.to_owned()),
            str2: None,
            str3: None,
            int1: -1,
            int2: -1,
        }
    }

    /// `internal error: DETAIL`.
    pub fn internal(origin: Origin, detail: impl Into<String>) -> Self {
        Self::new(origin, Code::InternalError, detail)
    }

    /// A system call failed: `DETAIL: REASON`.
    pub fn system(origin: Origin, error: &std::io::Error, detail: &str) -> Self {
        let text = error.to_string();
        let reason = text.rfind(" (os error").map_or(text.as_str(), |at| &text[..at]);
        let int1 = error.raw_os_error().unwrap_or(-1);
        Self { int1, ..Self::new(origin, Code::SystemError, format!("{detail}: {reason}")) }
    }

    /// An RPC error.
    pub fn rpc(detail: impl Into<String>) -> Self {
        Self::new(Origin::Rpc, Code::Rpc, detail)
    }

    /// The API function is not supported.
    pub fn no_support(origin: Origin, api: &str) -> Self {
        Self::new(origin, Code::NoSupport, api)
    }

    /// A function of the original refuses its argument, in words that stand alone.
    pub fn invalid_argument(origin: Origin, function: &str, argument: &str, text: impl Into<String>) -> Self {
        Self {
            message: Some(text.into()),
            str2: Some(argument.to_owned()),
            int1: 0,
            int2: 0,
            ..Self::bare(origin, Code::InvalidArg, function)
        }
    }

    /// Refuses flags other than `allowed`, in the words of the original, which name its function.
    ///
    /// # Errors
    /// There are others.
    pub fn check_flags(origin: Origin, flags: u32, allowed: u32, function: &str) -> Result<(), Self> {
        let others = flags & !allowed;
        if others == 0 {
            return Ok(());
        }
        let text = format!("unsupported flags (0x{others:x}) in function {function}");
        Err(Self::invalid_argument(origin, function, "flags", text))
    }

    /// Its code, if it is one that is known here.
    pub fn known_code(&self) -> Option<Code> {
        Code::from_number(self.code)
    }

    /// As it is sent.
    pub fn to_wire(&self) -> WireError {
        let this = self.clone();
        WireError {
            code: this.code,
            domain: this.domain,
            message: this.message,
            level: this.level,
            dom: None,
            str1: this.str1,
            str2: this.str2,
            str3: this.str3,
            int1: this.int1,
            int2: this.int2,
            net: None,
        }
    }
}

impl From<WireError> for Error {
    fn from(wire: WireError) -> Self {
        Self {
            code: wire.code,
            domain: wire.domain,
            message: wire.message,
            level: wire.level,
            str1: wire.str1,
            str2: wire.str2,
            str3: wire.str3,
            int1: wire.int1,
            int2: wire.int2,
        }
    }
}

impl std::fmt::Display for Error {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.message.as_deref().unwrap_or("No error message provided"))
    }
}

impl std::error::Error for Error {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_message_is_text_and_detail() {
        let error = Error::new(Origin::Qemu, Code::NoDomain, "no domain with matching name 'x'");
        assert_eq!((error.code, error.domain, error.level), (42, 10, 2));
        assert_eq!(error.to_string(), "Domain not found: no domain with matching name 'x'");
        assert_eq!(error.str1.as_deref(), Some("Domain not found: %1$s"));
        assert_eq!(error.str2.as_deref(), Some("no domain with matching name 'x'"));
        let message = error.to_string();
        assert_eq!(Error::from_message(Origin::Qemu, Code::NoDomain, &message), error);
        assert_eq!(Error::rpc("authentication required").to_string(), "authentication required");
        assert_eq!(Error::plain(Origin::None, Code::NoMemory).to_string(), "out of memory");
        let error =
            Error::system(Origin::Qemu, &std::io::Error::from_raw_os_error(2), "Failed to open file '/x'");
        assert_eq!(error.to_string(), "Failed to open file '/x': No such file or directory");
        assert_eq!(error.int1, 2);
    }
}
