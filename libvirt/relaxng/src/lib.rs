//! Validation of XML documents against RELAX NG schemas (ISO/IEC 19757-2, the XML syntax), as libvirt's are.
//!
//! A document is matched by taking derivatives: what of the schema's pattern is left when an element, an attribute or
//! text has been seen. Patterns are kept once each, so that what is left is compared by number. Elements' contents are
//! compiled when a document has such an element. Built is what libvirt's schemas use: no lists, no external references,
//! no nested grammars; a schema that has them is refused.
#![forbid(unsafe_code)]

mod datatype;
mod explain;
mod outline;
mod pattern;
mod schema;
#[cfg(test)]
mod tests;
mod validate;

pub use schema::Schema;

/// Why there is no verdict, or a bad one.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The schema cannot be read, or has what is not built.
    #[error("{0}")]
    Schema(String),
    /// The document is not as the schema wants it: what is wrong, one line each, the innermost first.
    #[error("{0}")]
    Invalid(String),
    /// The document takes more than documents of people do.
    #[error("the document is too complex")]
    TooComplex,
}
