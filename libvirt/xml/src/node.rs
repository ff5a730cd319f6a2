//! The reader's view of a document.

use std::borrow::Cow;

use crate::{Code, Error, Result};

/// The longest document, in bytes: the longest string of libvirt's protocol.
pub const MAX_SIZE: usize = 4 << 20;

/// The deepest nesting of elements.
pub const MAX_DEPTH: usize = 256;

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
        return Err(Error::xml(format!("unexpected root element <{}>, expecting <{root}>", node.name())));
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
    if nesting(text) > MAX_DEPTH {
        return Err(Error {
            code: Code::Detail,
            detail: format!("elements are nested deeper than {MAX_DEPTH}"),
        });
    }
    roxmltree::Document::parse_with_options(text, options)
        .map_err(|error| Error { code: Code::Detail, detail: format!("{shown}:{error}") })
}

/// At least the depth of the document's elements: counts what looks like start and end tags, because the depth has to
/// be known before the document is parsed.
fn nesting(text: &str) -> usize {
    let bytes = text.as_bytes();
    let (mut depth, mut deepest, mut position) = (0_usize, 0, 0);
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
        let mut quote = None;
        while end < bytes.len() {
            match (quote, bytes[end]) {
                (None, b'>') => break,
                (None, mark @ (b'"' | b'\'')) => quote = Some(mark),
                (Some(open), mark) if open == mark => quote = None,
                _ => {}
            }
            end += 1;
        }
        if bytes.get(start + 1) == Some(&b'/') {
            depth = depth.saturating_sub(1);
        } else if bytes[end - 1] != b'/' {
            depth += 1;
            deepest = deepest.max(depth);
        }
        position = (end + 1).min(text.len());
    }
    deepest
}

#[cfg(test)]
mod tests {
    #[test]
    fn nesting_is_counted_without_comments_and_quotes() {
        assert_eq!(super::nesting("<a><b x='>'/><!-- <c><d><e> --><f><![CDATA[<g><h>]]></f></a>"), 2);
        assert_eq!(super::nesting("<a"), 1);
        assert_eq!(super::nesting("<"), 1);
    }
}
