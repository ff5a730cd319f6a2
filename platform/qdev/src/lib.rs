//! The device model: what a device type declares, and how devices come to sit on buses.
//!
//! One declaration per device type: a struct of properties with `#[derive(Properties)]` (field = property, doc comment
//! = help text), a [`DeviceSpec`] in the same file, and one line in the machine's registry slice. From these come
//! `-device` in both syntaxes, `-device X,help`, `-global`, `info qtree` and the unknown-property errors.
//!
//! ```
//! use qdev::{Category, DeviceSpec, Properties};
//!
//! /// Properties of the example.
//! #[derive(Properties)]
//! struct Example {
//!     /// Guest port that accepts bytes.
//!     #[prop(default = 0xe9u32)]
//!     iobase: u32,
//! }
//!
//! let mut example = Example::default();
//! qdev::set(&mut example, "example", "iobase", &qdev::Input::Text("0x402")).unwrap();
//! assert_eq!(example.iobase, 0x402);
//! ```
#![forbid(unsafe_code)]

// The derive names this crate by its path, also in this crate's own tests.
extern crate self as qdev;

mod boot;
mod context;
mod device;
mod field;
mod global;
mod help;
mod only;
mod tree;

pub use boot::BootOrder;
pub use context::{Context, Links, SystemControl, SystemRequest};
pub use derive::Properties;
pub use device::{Bus, Category, Device, DeviceSpec, Part, Realize};
pub use field::{Enumeration, Input, OnOffAuto, PropertyField, Size};
pub use global::{Global, Globals};
pub use help::{device_help, property_help};
pub use only::Only;
pub use tree::{DeviceTree, Node};

use thiserror::Error;

/// A device could not be made; the text is what the user sees after the option's location.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[error("{0}")]
pub struct DeviceError(pub String);

impl DeviceError {
    /// An error with this text.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }
}

/// Name and help text of a property.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PropertyInfo {
    /// The name on the command line.
    pub name: &'static str,
    /// One line for `-device X,help`.
    pub help: &'static str,
    /// It is a property of the device that this one contains ([`Part`]).
    pub part: bool,
}

/// A struct whose fields are the properties of a device type; see the derive macro of the same name.
pub trait Properties: std::any::Any + Send {
    /// Shows every property, in the order of declaration.
    fn visit(&mut self, visitor: &mut dyn FnMut(&'static PropertyInfo, &mut dyn PropertyField));
}

/// A type without properties.
#[derive(Debug, Default)]
pub struct NoProperties;

impl Properties for NoProperties {
    fn visit(&mut self, _visitor: &mut dyn FnMut(&'static PropertyInfo, &mut dyn PropertyField)) {}
}

/// Sets property `name` of a device of type `owner`.
///
/// # Errors
/// There is no such property, or it does not take the value: QEMU's texts.
pub fn set(
    properties: &mut dyn Properties,
    owner: &str,
    name: &str,
    value: &Input<'_>,
) -> Result<(), DeviceError> {
    let mut outcome = None;
    properties.visit(&mut |info, field| {
        if info.name == name && outcome.is_none() {
            outcome = Some(field.set(owner, name, value).map_err(DeviceError));
        }
    });
    outcome.unwrap_or_else(|| Err(DeviceError(format!("Property '{owner}.{name}' not found"))))
}

/// The properties as the type that the spec made them, for [`DeviceSpec::realize`].
///
/// # Errors
/// They are of another type.
pub fn take_properties<P: Properties>(properties: Box<dyn Properties>) -> Result<Box<P>, DeviceError> {
    let any: Box<dyn std::any::Any> = properties;
    any.downcast().map_err(|_| DeviceError::new("properties of another device type"))
}

/// The value of property `name` as text; `None` when there is no such property.
pub fn get(properties: &mut dyn Properties, name: &str) -> Option<String> {
    let mut text = None;
    properties.visit(&mut |info, field| {
        if info.name == name && text.is_none() {
            text = Some(field.text());
        }
    });
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Shared ones.
    #[derive(Properties)]
    struct Common {
        /// Slot.
        #[prop(default = -1)]
        addr: i32,
    }

    /// An example.
    #[derive(Properties)]
    struct Example {
        /// Common properties.
        #[prop(flatten)]
        common: Common,
        /// Port base.
        #[prop(default = 0x402u32)]
        iobase: u32,
        /// Reads back.
        #[prop(default = true, name = "read_back")]
        read_back: bool,
        /// A mode.
        mode: OnOffAuto,
        /// Where it goes.
        chardev: String,
    }

    fn set_error(name: &str, value: &Input<'_>) -> String {
        set(&mut Example::default(), "example", name, value).expect_err("error").to_string()
    }

    #[test]
    fn properties_are_set_from_both_syntaxes() {
        let mut example = Example::default();
        for (name, value) in [
            ("addr", Input::Int(7)),
            ("iobase", Input::Text("0x10")),
            ("read_back", Input::Text("off")),
            ("mode", Input::Text("on")),
            ("chardev", Input::Text("c0")),
        ] {
            set(&mut example, "example", name, &value).expect(name);
        }
        assert_eq!((example.common.addr, example.iobase, example.read_back), (7, 0x10, false));
        assert_eq!((example.mode, example.chardev.as_str()), (OnOffAuto::On, "c0"));
        assert_eq!(get(&mut example, "mode").as_deref(), Some("\"on\""));
    }

    #[test]
    fn errors_are_worded_as_in_qemu() {
        assert_eq!(set_error("foo", &Input::Text("1")), "Property 'example.foo' not found");
        assert_eq!(set_error("iobase", &Input::Text("foo")), "Parameter 'iobase' expects integer");
        assert_eq!(set_error("iobase", &Input::Text("99999999999")), "Parameter 'iobase' expects uint32_t");
        assert_eq!(
            set_error("read_back", &Input::Text("foo")),
            "Parameter 'read_back' expects 'on' or 'off'"
        );
        assert_eq!(
            set_error("read_back", &Input::Str("on")),
            "Invalid parameter type for 'read_back', expected: boolean"
        );
        assert_eq!(set_error("mode", &Input::Text("foo")), "Parameter 'mode' does not accept value 'foo'");
    }
}
