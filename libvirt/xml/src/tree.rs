//! Elements that are kept as they are.

use crate::node::{document, qualified};
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
        // Mostly an element declares none, and has those of the one above it.
        let same = known.is_some_and(|above| {
            let (own, others) = (node.namespaces(), above.namespaces());
            own.len() == others.len() && own.zip(others).all(|(own, other)| std::ptr::eq(own, other))
        });
        for space in node.namespaces().filter(|_| !same) {
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

/// Elements of name spaces other than libvirt's, as `<metadata>` has them.
impl Tree {
    /// Takes a document apart; `shown` stands for its name in errors.
    ///
    /// # Errors
    ///
    /// It is no document, or longer or deeper than [`crate::parse`] allows.
    pub fn parse(text: &str, shown: &str) -> Result<Self> {
        let document = document(text, shown)?;
        Ok(Self::of(document.root_element(), true))
    }

    /// The name space of the element, declared by itself or by the element `above` it.
    fn namespace<'a>(&'a self, above: &'a [(String, String)]) -> Option<&'a str> {
        let Self::Element(name, attributes, _) = self else { return None };
        let declared = declaration_of(name);
        attributes.iter().chain(above).find(|(key, _)| *key == declared).map(|(_, uri)| uri.as_str())
    }

    /// A copy of the child element in the name space `uri`, out of that name space: without the declaration and the prefix.
    pub fn child_of_namespace(&self, uri: &str) -> Option<Self> {
        let Self::Element(_, attributes, children) = self else { return None };
        let mut child = children.iter().find(|child| child.namespace(attributes) == Some(uri))?.clone();
        child.leave_namespace(uri);
        Some(child)
    }

    /// Puts `child` in place of the children in the name space `uri`; `None` takes them away.
    pub fn replace_namespace(&mut self, uri: &str, child: Option<Self>) {
        let Self::Element(_, attributes, children) = self else { return };
        children.retain(|child| child.namespace(attributes) != Some(uri));
        children.extend(child);
    }

    /// Puts the element, and those below it that are in no name space, into the name space `uri` by the prefix `key`.
    pub fn enter_namespace(&mut self, key: &str, uri: &str) {
        self.prefix(key);
        if let Self::Element(_, attributes, _) = self {
            let at = attributes.iter().take_while(|(key, _)| is_declaration(key)).count();
            attributes.insert(at, (format!("xmlns:{key}"), uri.to_owned()));
        }
    }

    fn prefix(&mut self, key: &str) {
        let Self::Element(name, attributes, children) = self else { return };
        if attributes.iter().any(|(key, _)| key == "xmlns") {
            return;
        }
        if !name.contains(':') {
            *name = format!("{key}:{name}");
        }
        for child in children {
            child.prefix(key);
        }
    }

    fn leave_namespace(&mut self, uri: &str) {
        let Self::Element(name, attributes, _) = self else { return };
        let declaration = declaration_of(name);
        attributes.retain(|(key, value)| *key != declaration || value != uri);
        if let Some(key) = declaration.strip_prefix("xmlns:") {
            self.strip(&format!("{key}:"), &declaration);
        }
    }

    fn strip(&mut self, prefix: &str, declaration: &str) {
        let Self::Element(name, attributes, children) = self else { return };
        if attributes.iter().any(|(key, _)| key == declaration) {
            return;
        }
        if let Some(local) = name.strip_prefix(prefix) {
            *name = local.to_owned();
        }
        for child in children {
            child.strip(prefix, declaration);
        }
    }

    /// The text of the element, indented from the margin.
    pub fn text(&self) -> String {
        let mut text = String::new();
        self.write(&mut text, Some(0));
        text
    }

    /// Keeps of the children the first element of each name space, as libvirt does with `<metadata>`.
    pub fn one_of_each_namespace(&mut self) {
        let Self::Element(_, attributes, children) = self else { return };
        let mut seen: Vec<String> = Vec::new();
        children.retain(|child| {
            let Some(uri) = child.namespace(attributes) else { return false };
            let new = !seen.iter().any(|seen| seen == uri);
            if new {
                seen.push(uri.to_owned());
            }
            new
        });
    }
}

/// The attribute that declares the name space of an element of this name.
fn declaration_of(name: &str) -> String {
    match name.split_once(':') {
        Some((prefix, _)) => format!("xmlns:{prefix}"),
        None => "xmlns".to_owned(),
    }
}

fn is_declaration(attribute: &str) -> bool {
    attribute == "xmlns" || attribute.starts_with("xmlns:")
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
