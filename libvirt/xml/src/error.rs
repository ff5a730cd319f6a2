//! Errors with libvirt's numbers and wording.

/// What a result of this crate is.
pub type Result<T> = std::result::Result<T, Error>;

/// The kinds of error, with their numbers of libvirt's `virErrorNumber`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Code {
    /// `VIR_ERR_INTERNAL_ERROR`.
    Internal = 1,
    /// `VIR_ERR_INVALID_ARG`.
    InvalidArgument = 8,
    /// `VIR_ERR_OPERATION_FAILED`.
    OperationFailed = 9,
    /// `VIR_ERR_OS_TYPE`.
    OsType = 16,
    /// `VIR_ERR_NO_SOURCE`.
    NoSource = 19,
    /// `VIR_ERR_NO_TARGET`.
    NoTarget = 20,
    /// `VIR_ERR_NO_NAME`.
    NoName = 21,
    /// `VIR_ERR_XML_ERROR`.
    Xml = 27,
    /// `VIR_ERR_XML_DETAIL`: what is wrong with the text of a document.
    Detail = 35,
    /// `VIR_ERR_SYSTEM_ERROR`.
    System = 38,
    /// `VIR_ERR_OPERATION_INVALID`.
    OperationInvalid = 55,
    /// `VIR_ERR_CONFIG_UNSUPPORTED`.
    Unsupported = 67,
    /// `VIR_ERR_CPU_INCOMPATIBLE`.
    CpuIncompatible = 91,
}

/// An error as a client is told of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Error {
    /// Its kind.
    pub code: Code,
    /// What is wrong, without the words that go before it.
    pub detail: String,
}

impl Error {
    /// Something is wrong with the XML.
    pub fn xml(detail: impl Into<String>) -> Self {
        Self { code: Code::Xml, detail: detail.into() }
    }

    /// Whether the reader of XML has found it, whatever the document is about: a required attribute is missing, or an
    /// attribute's value is none.
    pub fn is_of_reader(&self) -> bool {
        let begins = |text: &str| self.detail.starts_with(text);
        self.code == Code::Xml && (begins(crate::MISSING_ATTRIBUTE) || begins(crate::INVALID_ATTRIBUTE))
    }

    /// The configuration is understood, but cannot be had.
    pub fn unsupported(detail: impl Into<String>) -> Self {
        Self { code: Code::Unsupported, detail: detail.into() }
    }

    /// What libvirt reports as an internal error.
    pub fn internal(detail: impl Into<String>) -> Self {
        Self { code: Code::Internal, detail: detail.into() }
    }
}

impl std::fmt::Display for Error {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let prefix = match self.code {
            Code::Internal => "internal error: ",
            Code::OperationInvalid => "Requested operation is not valid: ",
            Code::InvalidArgument => "invalid argument: ",
            Code::OperationFailed => "operation failed: ",
            Code::OsType => "unknown OS type ",
            Code::NoSource => "missing source information for device ",
            Code::NoTarget => "missing target information for device ",
            Code::NoName if self.detail.is_empty() => "missing name information",
            Code::NoName => "missing name information in ",
            Code::Xml => "XML error: ",
            Code::Detail | Code::System => "",
            Code::Unsupported => "unsupported configuration: ",
            Code::CpuIncompatible => "the CPU is incompatible with host CPU: ",
        };
        formatter.write_str(prefix)?;
        formatter.write_str(&self.detail)
    }
}

impl std::error::Error for Error {}
