//! Errors as clients are told of them.

use rpc::{Code, Error, Origin};

/// What calls return.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// An error of this driver.
pub fn error(code: Code, detail: impl Into<String>) -> Error {
    Error::new(Origin::Qemu, code, detail)
}

/// The operation does not fit the domain's state.
pub fn invalid(detail: impl Into<String>) -> Error {
    error(Code::OperationInvalid, detail)
}

/// The domain does not run.
pub fn not_running() -> Error {
    Error::new(Origin::Domain, Code::OperationInvalid, "domain is not running")
}

/// Something that should not have happened.
pub fn internal(detail: impl Into<String>) -> Error {
    error(Code::InternalError, detail)
}

/// The operation failed.
pub fn failed(detail: impl Into<String>) -> Error {
    error(Code::OperationFailed, detail)
}

/// The configuration cannot be had.
pub fn unsupported(detail: impl Into<String>) -> Error {
    error(Code::ConfigUnsupported, detail)
}

/// A system call failed.
pub fn system(what: &std::io::Error, detail: &str) -> Error {
    Error::system(Origin::Qemu, what, detail)
}

/// Refuses flags beyond `known`, in libvirt's words; `function` is the driver's function there.
pub fn check_flags(flags: u32, known: u32, function: &str) -> Result<()> {
    Error::check_flags(Origin::Qemu, flags, known, function)
}

/// What the monitor said.
pub fn monitor(what: qmp::Error, command: &str) -> Error {
    match what {
        qmp::Error::Command { desc, .. } => {
            internal(format!("unable to execute QEMU command '{command}': {desc}"))
        }
        qmp::Error::Closed => internal("End of file from qemu monitor"),
        qmp::Error::Deadline(_) => {
            error(Code::OperationTimeout, format!("no reply to QEMU command '{command}' in time"))
        }
        other => internal(other.to_string()),
    }
}

/// What is wrong with a list of numbers, which is nobody's in particular.
pub fn bitmap<T>(parsed: std::result::Result<T, domain_xml::Error>) -> Result<T> {
    parsed.map_err(|error| Error { domain: Origin::None as i32, ..xml(&error) })
}

/// What is wrong with XML.
pub fn xml(what: &domain_xml::Error) -> Error {
    let (origin, code) = match what.code {
        // Whatever the document is about.
        domain_xml::Code::Xml if what.is_of_reader() => (Origin::Xml, Code::XmlError),
        domain_xml::Code::Internal => (Origin::Domain, Code::InternalError),
        domain_xml::Code::InvalidArgument => (Origin::Domain, Code::InvalidArg),
        domain_xml::Code::OperationFailed => (Origin::Domain, Code::OperationFailed),
        domain_xml::Code::OsType => (Origin::Domain, Code::OsType),
        domain_xml::Code::NoSource => (Origin::Domain, Code::NoSource),
        domain_xml::Code::NoTarget => (Origin::Domain, Code::NoTarget),
        domain_xml::Code::NoName => (Origin::Domain, Code::NoName),
        domain_xml::Code::Xml => (Origin::Domain, Code::XmlError),
        domain_xml::Code::Detail => (Origin::Domain, Code::XmlDetail),
        domain_xml::Code::OperationInvalid => (Origin::Domain, Code::OperationInvalid),
        domain_xml::Code::System => (Origin::None, Code::SystemError),
        domain_xml::Code::CpuIncompatible => (Origin::Cpu, Code::CpuIncompatible),
        domain_xml::Code::Unsupported => (Origin::Domain, Code::ConfigUnsupported),
    };
    if what.detail.is_empty() {
        Error::plain(origin, code)
    } else {
        Error::new(origin, code, what.detail.clone())
    }
}
