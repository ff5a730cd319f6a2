//! What went wrong, in the form in which libvirt's clients are told.

use std::io;

/// libvirt's numbers of errors (`virErrorNumber`), those that confinement has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(i32)]
pub enum Code {
    /// Something that should not happen.
    InternalError = 1,
    /// An argument or setting makes no sense.
    InvalidArgument = 8,
    /// The operation was tried and failed.
    OperationFailed = 9,
    /// A call of the system failed.
    SystemError = 38,
    /// Who calls could not show that he may.
    AuthFailed = 45,
    /// The operation does not fit the state of things.
    OperationInvalid = 55,
    /// What the domain's definition asks for cannot be had here.
    ConfigUnsupported = 67,
    /// The user gave up, or was refused, while he was asked who he is.
    AuthCancelled = 79,
    /// The operation is not supported.
    OperationUnsupported = 84,
    /// The access manager refuses.
    AccessDenied = 88,
    /// A service on the bus answers with an error, or not at all.
    DbusService = 89,
    /// Nobody is there who could ask the user who he is.
    AuthUnavailable = 94,
}

impl Code {
    const ALL: [Self; 12] = [
        Self::InternalError,
        Self::InvalidArgument,
        Self::OperationFailed,
        Self::AuthFailed,
        Self::SystemError,
        Self::OperationInvalid,
        Self::ConfigUnsupported,
        Self::AuthCancelled,
        Self::AuthUnavailable,
        Self::OperationUnsupported,
        Self::AccessDenied,
        Self::DbusService,
    ];

    /// The number that goes to clients.
    #[must_use]
    pub fn number(self) -> i32 {
        self as i32
    }

    pub(crate) fn from_number(number: i64) -> Self {
        Self::ALL.into_iter().find(|code| i64::from(code.number()) == number).unwrap_or(Self::InternalError)
    }
}

/// An error with libvirt's number and its whole text (`internal error: ...`, `cannot execute binary /x: No such
/// file or directory`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Error {
    /// What kind of error.
    pub code: Code,
    /// The text that the user reads.
    pub message: String,
}

impl std::fmt::Display for Error {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Error {}

/// What a call of this crate yields.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// The C library's text of an error, without Rust's ` (os error N)`.
pub(crate) fn reason(error: &io::Error) -> String {
    let mut text = error.to_string();
    if let Some(at) = text.rfind(" (os error ") {
        text.truncate(at);
    }
    text
}

impl Error {
    /// A call of the system failed: `TEXT: REASON`.
    pub(crate) fn system(text: impl AsRef<str>, error: impl Into<io::Error>) -> Self {
        let error = error.into();
        Self { code: Code::SystemError, message: format!("{}: {}", text.as_ref(), reason(&error)) }
    }

    /// `invalid argument: TEXT`.
    pub(crate) fn argument(text: impl AsRef<str>) -> Self {
        Self { code: Code::InvalidArgument, message: format!("invalid argument: {}", text.as_ref()) }
    }

    /// `unsupported configuration: TEXT`.
    pub(crate) fn unsupported(text: impl AsRef<str>) -> Self {
        Self {
            code: Code::ConfigUnsupported,
            message: format!("unsupported configuration: {}", text.as_ref()),
        }
    }

    /// A call of a service failed: `error from service: TEXT`.
    pub(crate) fn service(failure: &crate::dbus::Failure) -> Self {
        Self { code: Code::DbusService, message: format!("error from service: {failure}") }
    }

    /// `internal error: TEXT`.
    pub(crate) fn internal(text: impl AsRef<str>) -> Self {
        Self { code: Code::InternalError, message: format!("internal error: {}", text.as_ref()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_libvirts() {
        let error = Error::system("cannot execute binary /x", rustix::io::Errno::NOENT);
        assert_eq!(error.to_string(), "cannot execute binary /x: No such file or directory");
        assert_eq!(error.code.number(), 38);
        assert_eq!(Error::internal("x").to_string(), "internal error: x");
        for code in Code::ALL {
            assert_eq!(Code::from_number(code.number().into()), code);
        }
    }
}
