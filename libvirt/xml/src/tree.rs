//! Elements that are kept as they are.

use crate::node::qualified;
use crate::{Node, Result, Writer};

/// A part of a document that is kept and written again, indented anew.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Tree {
    /// An element: its name with the prefix, attributes (declarations of name spaces among them), content.
    Element(String, Vec<(String, String)>, Vec<Tree>),
    /// Text.
    Text(String),
    /// A comment.
    Comment(String),
}

impl Tree {
    fn of<'a>(node: roxmltree::Node<'a, 'a>, outermost: bool) -> Self {
        let text = node.document().input_text();
        let mut attributes: Vec<(String, String)> = Vec::new();
        let known = node.parent_element().filter(|_| !outermost);
        for space in node.namespaces() {
            let declared_above = known.is_some_and(|above| above.namespaces().any(|other| other == space));
            let used = !outermost || uses(node, space.uri());
            if !declared_above && used && space.uri() != "http://www.w3.org/XML/1998/namespace" {
                let name =
                    space.name().map_or_else(|| "xmlns".to_owned(), |prefix| format!("xmlns:{prefix}"));
                attributes.push((name, space.uri().to_owned()));
            }
        }
        for attribute in node.attributes() {
            attributes.push((text[attribute.range_qname()].to_owned(), attribute.value().to_owned()));
        }
        let mixed =
            node.children().any(|child| child.is_text() && !child.text().unwrap_or("").trim().is_empty());
        let children = node
            .children()
            .filter_map(|child| {
                if child.is_element() {
                    Some(Self::of(child, false))
                } else if child.is_comment() {
                    Some(Self::Comment(child.text().unwrap_or("").to_owned()))
                } else if child.is_text() && (mixed || !node.has_children()) {
                    Some(Self::Text(child.text().unwrap_or("").to_owned()))
                } else {
                    None
                }
            })
            .collect();
        Self::Element(qualified(node).to_owned(), attributes, children)
    }

    fn write(&self, out: &mut String, indent: Option<usize>) {
        if let Some(indent) = indent {
            out.extend(std::iter::repeat_n(' ', indent));
        }
        match self {
            Self::Text(text) => out.push_str(&escape(text, false)),
            Self::Comment(text) => {
                out.push_str("<!--");
                out.push_str(text);
                out.push_str("-->");
            }
            Self::Element(name, attributes, children) => {
                out.push('<');
                out.push_str(name);
                for (key, value) in attributes {
                    out.push_str(&format!(" {key}=\"{}\"", escape(value, true)));
                }
                if children.is_empty() {
                    out.push_str("/>");
                } else {
                    out.push('>');
                    let inner = indent
                        .filter(|_| !children.iter().any(|c| matches!(c, Self::Text(_))))
                        .map(|i| i + 2);
                    for child in children {
                        if inner.is_some() {
                            out.push('\n');
                        }
                        child.write(out, inner);
                    }
                    if inner.is_some() {
                        out.push('\n');
                        out.extend(std::iter::repeat_n(' ', indent.unwrap_or(0)));
                    }
                    out.push_str("</");
                    out.push_str(name);
                    out.push('>');
                }
            }
        }
    }
}

/// Whether an element or attribute below `node` is in the name space.
fn uses(node: roxmltree::Node<'_, '_>, uri: &str) -> bool {
    node.descendants().any(|inner| {
        inner.is_element()
            && (inner.tag_name().namespace() == Some(uri)
                || inner.attributes().any(|attribute| attribute.namespace() == Some(uri)))
    })
}

/// The escapes of libxml2.
fn escape(text: &str, attribute: bool) -> String {
    let mut out = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '&' => out.push_str("&amp;"),
            '"' if attribute => out.push_str("&quot;"),
            '\n' if attribute => out.push_str("&#10;"),
            '\t' if attribute => out.push_str("&#9;"),
            '\r' => out.push_str("&#13;"),
            other => out.push(other),
        }
    }
    out
}

/// Keeps an element.
pub fn verbatim(node: &Node<'_>, kept: &mut Option<Tree>) -> Result<()> {
    *kept = Some(Tree::of(node.inner(), true));
    Ok(())
}

/// Writes a kept element.
pub fn write_verbatim(kept: &Option<Tree>, writer: &mut Writer) {
    if let Some(tree) = kept {
        let mut text = String::new();
        tree.write(&mut text, Some(writer.indent()));
        writer.line(&text);
    }
}
