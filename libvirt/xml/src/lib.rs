//! XML as libvirt reads and writes it: an element is a struct whose fields are declared once (`#[xml::element]`);
//! reader, writer and documentation come from the declaration.
//!
//! What an element does not declare is an error that names it: nothing is dropped silently.
#![forbid(unsafe_code)]

// The macros name this crate by its outer name.
extern crate self as xml;

mod error;
mod internal;
mod node;
mod pack;
mod tree;
mod value;
mod writer;

pub use derive::{element, words};
pub use error::{Code, Error, Result};
pub use internal::{Any, Internal};
pub use node::{MAX_DEPTH, MAX_SIZE, Node, parse, parse_internal};
pub use pack::{Pack, Packer, Unpacker, pack, unpack};
pub use tree::{Tree, verbatim, write_verbatim};
pub use value::{Expected, Hex, Value};
pub use writer::Writer;

/// What errors begin with that the reader finds itself.
const MISSING_ATTRIBUTE: &str = "Missing required attribute";
const INVALID_ATTRIBUTE: &str = "Invalid value for attribute";

/// An element with attributes and content. `#[xml::element]` implements it.
pub trait Element: Default {
    /// The attributes that must be there.
    fn required() -> &'static [&'static str] {
        &[]
    }

    /// Looks at the whole element before its parts are taken one by one.
    fn begin(&mut self, node: &Node<'_>) -> Result<()> {
        let _ = node;
        Ok(())
    }

    /// Takes an attribute; false if there is none of that name. `element` is the element's name, for errors.
    fn attribute(&mut self, name: &str, value: &str, element: &str) -> Result<bool>;

    /// Takes a child element; false if there is none of that name.
    fn child(&mut self, name: &str, node: &Node<'_>) -> Result<bool>;

    /// Takes the element's own text; false if it has none.
    fn text(&mut self, text: &str, element: &str) -> Result<bool> {
        let _ = (text, element);
        Ok(false)
    }

    /// Writes the attributes.
    fn write_attributes(&self, writer: &mut Writer);

    /// Writes the children, or the text.
    fn write_content(&self, writer: &mut Writer);
}

/// Reads an element; whatever it does not know is an error.
pub fn read<T: Element>(node: &Node<'_>) -> Result<T> {
    let mut element = T::default();
    let name = node.name();
    for attribute in T::required() {
        if node.attribute(attribute).is_none() {
            return Err(Error::xml(format!("{MISSING_ATTRIBUTE} '{attribute}' in element '{name}'")));
        }
    }
    element.begin(node)?;
    for (attribute, value) in node.attributes() {
        if !element.attribute(&attribute, value, name)? {
            return Err(Error::unsupported(format!(
                "attribute '{attribute}' of element '{name}' is not supported"
            )));
        }
    }
    for child in node.children() {
        // What a program has noted for itself may be of a later version of it.
        let passed_over = node.is_internal() && child.name() == "privateData";
        if !element.child(child.name(), &child)? && !passed_over {
            return Err(Error::unsupported(format!(
                "element '{}' in element '{name}' is not supported",
                child.name()
            )));
        }
    }
    let text = node.text();
    if (!text.trim().is_empty() || !node.has_children())
        && !element.text(&text, name)?
        && !text.trim().is_empty()
    {
        return Err(Error::unsupported(format!("text in element '{name}' is not supported")));
    }
    Ok(element)
}

/// Reads a document whose root element has the given name.
pub fn from_str<T: Element>(text: &str, root: &str) -> Result<T> {
    parse(text, root, read)
}

/// The text of a document with that root element.
pub fn to_string<T: Element>(element: &T, root: &str) -> String {
    let mut writer = Writer::default();
    writer.element(root, element);
    writer.finish()
}

/// A field that stands as an attribute.
pub trait FromAttribute: Sized {
    /// Reads the attribute's value.
    fn from_attribute(value: &str, name: &str, element: &str) -> Result<Self>;
    /// Writes the attribute, if there is one.
    fn write(&self, name: &str, writer: &mut Writer);
}

impl<T: Value> FromAttribute for T {
    fn from_attribute(value: &str, name: &str, element: &str) -> Result<Self> {
        T::parse(value).map_err(|expected| expected.error(name, element, value))
    }

    fn write(&self, name: &str, writer: &mut Writer) {
        writer.attribute(name, &self.format());
    }
}

impl<T: Value> FromAttribute for Option<T> {
    fn from_attribute(value: &str, name: &str, element: &str) -> Result<Self> {
        T::from_attribute(value, name, element).map(Some)
    }

    fn write(&self, name: &str, writer: &mut Writer) {
        if let Some(value) = self {
            FromAttribute::write(value, name, writer);
        }
    }
}

/// A field that stands as child elements.
pub trait FromChild {
    /// Adds a child.
    fn add(&mut self, node: &Node<'_>) -> Result<()>;
    /// Writes the children.
    fn write(&self, name: &str, writer: &mut Writer);
}

/// The error for an element that stands twice where it may stand once.
fn twice(node: &Node<'_>) -> Error {
    Error::unsupported(format!("element '{}' is given more than once", node.name()))
}

impl<T: Element> FromChild for Option<T> {
    fn add(&mut self, node: &Node<'_>) -> Result<()> {
        if self.is_some() {
            return Err(twice(node));
        }
        *self = Some(read(node)?);
        Ok(())
    }

    fn write(&self, name: &str, writer: &mut Writer) {
        if let Some(element) = self {
            writer.element(name, element);
        }
    }
}

impl<T: Element> Element for Box<T> {
    fn required() -> &'static [&'static str] {
        T::required()
    }

    fn begin(&mut self, node: &Node<'_>) -> Result<()> {
        (**self).begin(node)
    }

    fn attribute(&mut self, name: &str, value: &str, element: &str) -> Result<bool> {
        (**self).attribute(name, value, element)
    }

    fn child(&mut self, name: &str, node: &Node<'_>) -> Result<bool> {
        (**self).child(name, node)
    }

    fn text(&mut self, text: &str, element: &str) -> Result<bool> {
        (**self).text(text, element)
    }

    fn write_attributes(&self, writer: &mut Writer) {
        (**self).write_attributes(writer);
    }

    fn write_content(&self, writer: &mut Writer) {
        (**self).write_content(writer);
    }
}

impl<T: Element + PartialEq> FromChild for T {
    fn add(&mut self, node: &Node<'_>) -> Result<()> {
        if *self != T::default() {
            return Err(twice(node));
        }
        *self = read(node)?;
        Ok(())
    }

    fn write(&self, name: &str, writer: &mut Writer) {
        writer.element(name, self);
    }
}

impl<T: Element> FromChild for Vec<T> {
    fn add(&mut self, node: &Node<'_>) -> Result<()> {
        self.push(read(node)?);
        Ok(())
    }

    fn write(&self, name: &str, writer: &mut Writer) {
        for element in self {
            writer.element(name, element);
        }
    }
}

/// A field that stands as the text of child elements.
pub trait FromText {
    /// Adds a child's text.
    fn add(&mut self, node: &Node<'_>) -> Result<()>;
    /// Writes the children.
    fn write(&self, name: &str, writer: &mut Writer);
}

fn text_value<T: Value>(node: &Node<'_>) -> Result<T> {
    if let Some((attribute, _)) = node.attributes().into_iter().next() {
        let name = node.name();
        return Err(Error::unsupported(format!(
            "attribute '{attribute}' of element '{name}' is not supported"
        )));
    }
    if let Some(child) = node.children().next() {
        let (child, name) = (child.name(), node.name());
        return Err(Error::unsupported(format!("element '{child}' in element '{name}' is not supported")));
    }
    let text = node.text();
    T::parse(&text)
        .map_err(|_| Error::xml(format!("Invalid value '{text}' for element or attribute '{}'", node.name())))
}

impl<T: Value> FromText for Option<T> {
    fn add(&mut self, node: &Node<'_>) -> Result<()> {
        if self.is_some() {
            return Err(twice(node));
        }
        *self = Some(text_value(node)?);
        Ok(())
    }

    fn write(&self, name: &str, writer: &mut Writer) {
        if let Some(value) = self {
            writer.text_element(name, &value.format());
        }
    }
}

impl<T: Value> FromText for Vec<T> {
    fn add(&mut self, node: &Node<'_>) -> Result<()> {
        self.push(text_value(node)?);
        Ok(())
    }

    fn write(&self, name: &str, writer: &mut Writer) {
        for value in self {
            writer.text_element(name, &value.format());
        }
    }
}

/// A field that is the element's own text.
pub trait Content {
    /// Reads the text.
    fn read(&mut self, text: &str, element: &str) -> Result<()>;
    /// Writes the text.
    fn write(&self, writer: &mut Writer);
}

impl<T: Value> Content for T {
    fn read(&mut self, text: &str, element: &str) -> Result<()> {
        *self = T::parse(text).map_err(|_| {
            Error::xml(format!("Invalid value '{text}' for element or attribute '{element}'"))
        })?;
        Ok(())
    }

    fn write(&self, writer: &mut Writer) {
        writer.text(&self.format());
    }
}

impl<T: Value> Content for Option<T> {
    fn read(&mut self, text: &str, element: &str) -> Result<()> {
        if !text.trim().is_empty() {
            let mut value = T::parse(text).map_err(|_| {
                Error::xml(format!("Invalid value '{text}' for element or attribute '{element}'"))
            })?;
            std::mem::swap(self.get_or_insert_with(|| value.clone()), &mut value);
        }
        Ok(())
    }

    fn write(&self, writer: &mut Writer) {
        if let Some(value) = self {
            writer.text(&value.format());
        }
    }
}

/// Flattened into an element that is written with two tags even if nothing is in it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Split;

impl Element for Split {
    fn attribute(&mut self, _: &str, _: &str, _: &str) -> Result<bool> {
        Ok(false)
    }

    fn child(&mut self, _: &str, _: &Node<'_>) -> Result<bool> {
        Ok(false)
    }

    fn write_attributes(&self, _: &mut Writer) {}

    fn write_content(&self, writer: &mut Writer) {
        writer.split();
    }
}

/// Flattened into an element that is written with two tags in some cases even if nothing is in it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct SplitIf(pub bool);

impl Element for SplitIf {
    fn attribute(&mut self, _: &str, _: &str, _: &str) -> Result<bool> {
        Ok(false)
    }

    fn child(&mut self, _: &str, _: &Node<'_>) -> Result<bool> {
        Ok(false)
    }

    fn write_attributes(&self, _: &mut Writer) {}

    fn write_content(&self, writer: &mut Writer) {
        if self.0 {
            writer.split();
        }
    }
}

/// Takes an empty element.
pub fn flag(node: &Node<'_>, seen: &mut bool) -> Result<()> {
    let _: Empty = read(node)?;
    *seen = true;
    Ok(())
}

/// An element with nothing in it.
#[element]
pub struct Empty {}

#[cfg(test)]
mod tests;
