//! The reader's view of a document.

use std::borrow::Cow;

use crate::{Code, Error, Result};

/// The longest document, in bytes: the longest string of libvirt's protocol.
pub const MAX_SIZE: usize = 4 << 20;

/// The deepest nesting of elements.
pub const MAX_DEPTH: usize = 256;

/// Most attributes of an element: each is compared with all others.
const MAX_ATTRIBUTES: usize = 256;

/// Most declarations of name spaces: those in force are compared at each element that declares one.
const MAX_NAMESPACES: usize = 128;

/// Most nodes of a document.
const MAX_NODES: u32 = 1 << 20;

/// The name spaces whose elements are part of a domain, and the prefix by which they are known here.
const NAMESPACES: &[(&str, &str)] = &[("http://libvirt.org/schemas/domain/qemu/1.0", "qemu:")];

/// An element of the document.
#[derive(Clone)]
pub struct Node<'a> {
    inner: roxmltree::Node<'a, 'a>,
    name: Cow<'a, str>,
    internal: bool,
}

impl<'a> Node<'a> {
    fn new(inner: roxmltree::Node<'a, 'a>, internal: bool) -> Self {
        let name = inner.tag_name();
        let name = match name.namespace() {
            None => Cow::Borrowed(name.name()),
            Some(uri) => match NAMESPACES.iter().find(|(known, _)| *known == uri) {
                Some((_, prefix)) => Cow::Owned(format!("{prefix}{}", name.name())),
                None => Cow::Borrowed(qualified(inner)),
            },
        };
        Self { inner, name, internal }
    }

    /// The element's name, with the known prefix of a name space that belongs to libvirt.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The value of an attribute.
    pub fn attribute(&self, name: &str) -> Option<&str> {
        self.inner.attribute(name)
    }

    /// All attributes, without declarations of name spaces.
    pub fn attributes(&self) -> Vec<(Cow<'a, str>, &'a str)> {
        self.inner
            .attributes()
            .map(|attribute| {
                let name = match attribute.namespace() {
                    None => Cow::Borrowed(attribute.name()),
                    Some(uri) => Cow::Owned(format!("{{{uri}}}{}", attribute.name())),
                };
                (name, attribute.value())
            })
            .collect()
    }

    /// The child elements.
    pub fn children(&self) -> impl Iterator<Item = Node<'a>> + use<'a> {
        let internal = self.internal;
        self.inner.children().filter(roxmltree::Node::is_element).map(move |child| Node::new(child, internal))
    }

    /// Whether the document is the program's own, which may hold [`crate::Internal`] parts.
    pub fn is_internal(&self) -> bool {
        self.internal
    }

    /// Whether there are child elements.
    pub fn has_children(&self) -> bool {
        self.inner.children().any(|child| child.is_element())
    }

    /// The text that stands directly in the element.
    pub fn text(&self) -> String {
        self.inner.children().filter(roxmltree::Node::is_text).filter_map(|child| child.text()).collect()
    }

    /// The whole document, for who validates it.
    pub fn document(&self) -> &'a roxmltree::Document<'a> {
        self.inner.document()
    }

    pub(crate) fn inner(&self) -> roxmltree::Node<'a, 'a> {
        self.inner
    }
}

/// The element's name with its prefix, as it stands in the text.
pub(crate) fn qualified<'a>(node: roxmltree::Node<'a, 'a>) -> &'a str {
    let text = &node.document().input_text()[node.range()];
    let text = text.strip_prefix('<').unwrap_or(text);
    let end = text.find(|c: char| c.is_whitespace() || c == '>' || c == '/').unwrap_or(text.len());
    &text[..end]
}

/// Reads a document's root element by `read`, if it has the name `root`.
pub fn parse<T>(text: &str, root: &str, read: impl FnOnce(&Node<'_>) -> Result<T>) -> Result<T> {
    parse_as(text, root, false, read)
}

/// As [`parse`], for a document that the program itself has written: it may hold [`crate::Internal`] parts.
pub fn parse_internal<T>(text: &str, root: &str, read: impl FnOnce(&Node<'_>) -> Result<T>) -> Result<T> {
    parse_as(text, root, true, read)
}

fn parse_as<T>(
    text: &str,
    root: &str,
    internal: bool,
    read: impl FnOnce(&Node<'_>) -> Result<T>,
) -> Result<T> {
    let document = document(text, "(domain_definition)")?;
    let node = Node::new(document.root_element(), internal);
    if node.name() != root {
        return Err(Error::xml(format!("expecting root element of '{root}', not '{}'", node.name())));
    }
    read(&node)
}

/// Takes a text apart, if it is not too long, too deep or too many nodes; `shown` is its name in errors.
pub(crate) fn document<'a>(text: &'a str, shown: &str) -> Result<roxmltree::Document<'a>> {
    if text.len() > MAX_SIZE {
        return Err(Error {
            code: Code::Detail,
            detail: format!("the document is longer than {MAX_SIZE} bytes"),
        });
    }
    let options =
        roxmltree::ParsingOptions { allow_dtd: false, nodes_limit: MAX_NODES, ..Default::default() };
    if let Some(detail) = excess(text) {
        return Err(Error { code: Code::Detail, detail });
    }
    roxmltree::Document::parse_with_options(text, options)
        .map_err(|error| Error { code: Code::Detail, detail: format!("{shown}:{error}") })
}

/// What the document has too much of, if anything. It has to be known before it is parsed.
fn excess(text: &str) -> Option<String> {
    let shape = Shape::of(text);
    if shape.depth > MAX_DEPTH {
        return Some(format!("elements are nested deeper than {MAX_DEPTH}"));
    }
    if shape.attributes > MAX_ATTRIBUTES {
        return Some(format!("an element has more than {MAX_ATTRIBUTES} attributes"));
    }
    let many = shape.namespaces > MAX_NAMESPACES;
    many.then(|| format!("there are more than {MAX_NAMESPACES} declarations of name spaces"))
}

/// At least the depth of a document's elements, most attributes that any of them has, and all declarations of name
/// spaces: counted from what looks like tags.
#[derive(Debug, Default, PartialEq, Eq)]
struct Shape {
    depth: usize,
    attributes: usize,
    namespaces: usize,
}

impl Shape {
    fn of(text: &str) -> Self {
        let bytes = text.as_bytes();
        let mut shape = Self::default();
        let (mut depth, mut position) = (0_usize, 0);
        while let Some(offset) = text[position..].find('<') {
            let start = position + offset;
            let skip = |opening: &str, closing: &str| {
                text[start..].starts_with(opening).then(|| {
                    let from = start + opening.len();
                    text[from..].find(closing).map_or(text.len(), |end| from + end + closing.len())
                })
            };
            if let Some(end) =
                skip("<!--", "-->").or_else(|| skip("<![CDATA[", "]]>")).or_else(|| skip("<?", "?>"))
            {
                position = end;
                continue;
            }
            let mut end = start + 1;
            let (mut quote, mut attributes) = (None, 0);
            while end < bytes.len() {
                match (quote, bytes[end]) {
                    (None, b'>') => break,
                    (None, mark @ (b'"' | b'\'')) => {
                        quote = Some(mark);
                        attributes += 1;
                    }
                    (None, b'x') if bytes[end..].starts_with(b"xmlns") => shape.namespaces += 1,
                    (Some(open), mark) if open == mark => quote = None,
                    _ => {}
                }
                end += 1;
            }
            shape.attributes = shape.attributes.max(attributes);
            if bytes.get(start + 1) == Some(&b'/') {
                depth = depth.saturating_sub(1);
            } else if bytes[end - 1] != b'/' {
                depth += 1;
                shape.depth = shape.depth.max(depth);
            }
            position = (end + 1).min(text.len());
        }
        shape
    }
}

#[cfg(test)]
mod tests {
    use super::{Shape, excess};

    #[test]
    fn too_much_is_refused_before_it_is_read() {
        let attributes: String = (0..257).map(|at| format!(" a{at}=''")).collect();
        let error = excess(&format!("<d><a{attributes}/></d>"));
        assert_eq!(error.as_deref(), Some("an element has more than 256 attributes"));
        let spaces: String = (0..129).map(|at| format!("<a xmlns:b{at}='x'/>")).collect();
        let error = excess(&format!("<d>{spaces}</d>"));
        assert_eq!(error.as_deref(), Some("there are more than 128 declarations of name spaces"));
        assert_eq!(excess(&"<a>".repeat(257)).as_deref(), Some("elements are nested deeper than 256"));
        assert_eq!(excess(&format!("<d>{}</d>", "<a b='xmlns xmlns'/>".repeat(1000))), None);
    }

    #[test]
    fn nesting_is_counted_without_comments_and_quotes() {
        assert_eq!(Shape::of("<a><b x='>'/><!-- <c><d><e> --><f><![CDATA[<g><h>]]></f></a>").depth, 2);
        assert_eq!(Shape::of("<a").depth, 1);
        assert_eq!(Shape::of("<").depth, 1);
    }
}
