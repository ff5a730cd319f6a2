//! The writer: two spaces a level, single quotes, no element that is both empty and split.

use crate::Element;

/// Writes elements one below the other.
#[derive(Debug, Default)]
pub struct Writer {
    out: String,
    indent: usize,
    inline: bool,
    split: bool,
    internal: bool,
}

impl Writer {
    /// A writer whose outermost elements are indented by that many spaces.
    pub fn indented(indent: usize) -> Self {
        Self { indent, ..Self::default() }
    }

    /// A writer of a document for the program itself: with what is [`crate::Internal`].
    pub fn internal() -> Self {
        Self { internal: true, ..Self::default() }
    }

    /// Whether the document is for the program itself.
    pub fn is_internal(&self) -> bool {
        self.internal
    }

    /// The text.
    pub fn finish(self) -> String {
        self.out
    }

    /// The present indentation in spaces.
    pub fn indent(&self) -> usize {
        self.indent
    }

    fn start(&mut self, name: &str) {
        self.out.extend(std::iter::repeat_n(' ', self.indent));
        self.out.push('<');
        self.out.push_str(name);
    }

    /// Writes an attribute of the element that was started last.
    pub fn attribute(&mut self, name: &str, value: &str) {
        self.out.push(' ');
        self.out.push_str(name);
        self.out.push_str("='");
        escape(value, &mut self.out);
        self.out.push('\'');
    }

    /// Writes an element.
    pub fn element<T: Element>(&mut self, name: &str, element: &T) {
        self.with(name, |writer| element.write_attributes(writer), |writer| element.write_content(writer));
    }

    /// Writes an element whose attributes and content are written by functions.
    pub fn with(&mut self, name: &str, attributes: impl FnOnce(&mut Self), content: impl FnOnce(&mut Self)) {
        self.start(name);
        attributes(self);
        let mark = self.out.len();
        self.out.push_str(">\n");
        self.indent += 2;
        content(self);
        self.indent -= 2;
        if self.out.len() == mark + 2 && !self.inline && !std::mem::take(&mut self.split) {
            self.out.truncate(mark);
            self.out.push_str("/>\n");
            return;
        }
        self.split = false;
        if !std::mem::take(&mut self.inline) {
            self.out.extend(std::iter::repeat_n(' ', self.indent));
        }
        self.out.push_str("</");
        self.out.push_str(name);
        self.out.push_str(">\n");
    }

    /// Writes an element without attributes and content.
    pub fn empty(&mut self, name: &str) {
        self.start(name);
        self.out.push_str("/>\n");
    }

    /// Writes an element that holds text.
    pub fn text_element(&mut self, name: &str, text: &str) {
        self.with(name, |_| {}, |writer| writer.text(text));
    }

    /// Writes the text of the element that was started last; it has no children then.
    pub fn text(&mut self, text: &str) {
        if !text.is_empty() {
            self.out.pop();
            escape(text, &mut self.out);
            self.inline = true;
        }
    }

    /// The element that was started last is written with two tags even if it stays empty.
    pub fn split(&mut self) {
        self.split = true;
    }

    /// Writes a finished line (or several).
    pub fn line(&mut self, text: &str) {
        self.out.push_str(text);
        self.out.push('\n');
    }
}

/// The escapes of libvirt: the five marks of XML; control characters are left out.
fn escape(text: &str, out: &mut String) {
    for character in text.chars() {
        match character {
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '&' => out.push_str("&amp;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&apos;"),
            '\n' | '\t' | '\r' => out.push(character),
            control if control < ' ' => {}
            other => out.push(other),
        }
    }
}
