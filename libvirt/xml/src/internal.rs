//! Parts of documents that a program writes for itself: read and written there only, whatever their form.

use crate::{Element, Error, FromChild, Node, Result, Writer, read};

/// An element of any form, written again in the form of declared ones.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Any {
    /// The attributes.
    pub attributes: Vec<(String, String)>,
    /// The child elements.
    pub children: Vec<(String, Any)>,
    /// The text, if it is not blank.
    pub text: String,
}

impl Any {
    /// An element with these attributes.
    pub fn with(attributes: &[(&str, &str)]) -> Self {
        let owned = |&(name, value): &(&str, &str)| (name.to_owned(), value.to_owned());
        Self { attributes: attributes.iter().map(owned).collect(), ..Self::default() }
    }

    /// An element with these children.
    pub fn of(children: impl IntoIterator<Item = (&'static str, Self)>) -> Self {
        let owned = |(name, child): (&str, Self)| (name.to_owned(), child);
        Self { children: children.into_iter().map(owned).collect(), ..Self::default() }
    }

    /// An element with that text.
    pub fn text(text: impl ToString) -> Self {
        Self { text: text.to_string(), ..Self::default() }
    }

    /// The same as another element.
    pub fn like<T: Element>(element: &T) -> Self {
        let text = crate::to_string(element, "like");
        crate::parse_internal(&text, "like", read).unwrap_or_default()
    }

    /// The value of an attribute.
    pub fn attribute(&self, name: &str) -> Option<&str> {
        self.attributes.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    /// The first child of that name.
    pub fn child(&self, name: &str) -> Option<&Self> {
        self.children.iter().find(|(key, _)| key == name).map(|(_, child)| child)
    }

    /// The first child of that name.
    pub fn child_mut(&mut self, name: &str) -> Option<&mut Self> {
        self.children.iter_mut().find(|(key, _)| key == name).map(|(_, child)| child)
    }
}

impl Element for Any {
    fn attribute(&mut self, name: &str, value: &str, _: &str) -> Result<bool> {
        self.attributes.push((name.to_owned(), value.to_owned()));
        Ok(true)
    }

    fn child(&mut self, name: &str, node: &Node<'_>) -> Result<bool> {
        self.children.push((name.to_owned(), read(node)?));
        Ok(true)
    }

    fn text(&mut self, text: &str, _: &str) -> Result<bool> {
        if !text.trim().is_empty() {
            text.clone_into(&mut self.text);
        }
        Ok(true)
    }

    fn write_attributes(&self, writer: &mut Writer) {
        self.attributes.iter().for_each(|(name, value)| writer.attribute(name, value));
    }

    fn write_content(&self, writer: &mut Writer) {
        if self.children.is_empty() {
            writer.text(&self.text);
        }
        self.children.iter().for_each(|(name, child)| writer.element(name, child));
    }
}

/// A child element that only documents for the program itself may have: elsewhere it is an error to give it, and it is
/// not written.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Internal(pub Option<Any>);

impl FromChild for Internal {
    fn add(&mut self, node: &Node<'_>) -> Result<()> {
        if !node.is_internal() {
            return Err(Error::unsupported(format!("element '{}' is not supported", node.name())));
        }
        self.0.add(node)
    }

    fn write(&self, name: &str, writer: &mut Writer) {
        if writer.is_internal() {
            self.0.write(name, writer);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{parse, parse_internal};

    #[derive(Debug, Default, PartialEq)]
    struct Outer {
        inner: Internal,
    }

    impl Element for Outer {
        fn attribute(&mut self, _: &str, _: &str, _: &str) -> Result<bool> {
            Ok(false)
        }

        fn child(&mut self, _: &str, node: &Node<'_>) -> Result<bool> {
            FromChild::add(&mut self.inner, node)?;
            Ok(true)
        }

        fn write_attributes(&self, _: &mut Writer) {}

        fn write_content(&self, writer: &mut Writer) {
            FromChild::write(&self.inner, "inner", writer);
        }
    }

    #[test]
    fn parts_for_the_program_itself() {
        let text = "<outer>\n  <inner a='1'>\n    <b c='&lt;'/>\n    <d>text</d>\n  </inner>\n</outer>\n";
        let refused = parse(text, "outer", read::<Outer>).unwrap_err();
        assert!(refused.to_string().contains("element 'inner' is not supported"), "{refused}");
        let outer: Outer = parse_internal(text, "outer", read).expect("internal");
        let inner = outer.inner.0.as_ref().expect("inner");
        assert_eq!(inner.attribute("a"), Some("1"));
        assert_eq!(inner.child("b").and_then(|b| b.attribute("c")), Some("<"));
        let written = |mut writer: Writer| {
            writer.element("outer", &outer);
            writer.finish()
        };
        assert_eq!(written(Writer::internal()), text);
        assert_eq!(written(Writer::default()), "<outer/>\n");
        let made = Any {
            attributes: inner.attributes.clone(),
            ..Any::of([("b", Any::with(&[("c", "<")])), ("d", Any::text("text"))])
        };
        assert_eq!(*inner, made);
    }
}
