//! Documents compared with schemas, by derivatives of patterns.

use crate::Error;
use crate::datatype::collapse;
use crate::pattern::{EMPTY, Id, NOT_ALLOWED, Pattern, TEXT};
use crate::schema::Grammar;
use roxmltree::{Document, Node};

/// Elements within each other.
const DEPTH: usize = 200;
/// What a document may bring about: people's take some ten thousand.
const MOST_PATTERNS: usize = 1_000_000;

/// Whether the document is as the grammar wants it.
pub(crate) fn validate(grammar: Grammar<'_>, document: &Document<'_>) -> Result<(), Error> {
    let start = grammar.start;
    let mut this = Validator { grammar };
    let left = this.element(start, document.root_element(), 0)?;
    if this.grammar.patterns.is_nullable(left) { Ok(()) } else { Err(Error::Invalid("incomplete".to_owned())) }
}

struct Validator<'a> {
    grammar: Grammar<'a>,
}

/// What an operation makes of what is behind an element.
#[derive(Clone, Copy)]
enum Behind {
    /// This comes behind it in a group.
    Group(Id),
    /// This may come among it.
    Interleave(Id),
    /// This is outside of it.
    After(Id),
}

fn name(node: Node<'_, '_>) -> (String, String) {
    let name = node.tag_name();
    (name.namespace().unwrap_or_default().to_owned(), name.name().to_owned())
}

fn failed(line: String, parents: &str) -> Error {
    Error::Invalid(format!("{line}\nElement {parents} failed to validate content"))
}

impl Validator<'_> {
    fn is_too_much(&self) -> Result<(), Error> {
        if self.grammar.patterns.len() > MOST_PATTERNS { Err(Error::TooComplex) } else { Ok(()) }
    }

    /// What of `id` is left behind the element.
    fn element(&mut self, id: Id, node: Node<'_, '_>, depth: usize) -> Result<Id, Error> {
        if depth > DEPTH {
            return Err(Error::TooComplex);
        }
        self.is_too_much()?;
        let (namespace, local) = name(node);
        let mut left = self.open(id, &namespace, &local)?;
        if left == NOT_ALLOWED {
            let parent = node.parent_element().map_or_else(|| local.clone(), |parent| name(parent).1);
            return Err(failed(format!("Did not expect element {local} there"), &parent));
        }
        for attribute in node.attributes() {
            let before = left;
            left = self.attribute(before, attribute.namespace().unwrap_or_default(), attribute.name(), attribute.value());
            if left == NOT_ALLOWED {
                return Err(failed(format!("Invalid attribute {} for element {local}", attribute.name()), &local));
            }
        }
        left = self.close(left);
        if left == NOT_ALLOWED {
            return Err(failed(format!("Element {local} failed to validate attributes"), &local));
        }
        left = self.children(left, node, depth)?;
        let behind = self.end(left);
        if behind == NOT_ALLOWED {
            return Err(failed(format!("Expecting more in element {local}"), &local));
        }
        Ok(behind)
    }

    fn children(&mut self, id: Id, node: Node<'_, '_>, depth: usize) -> Result<Id, Error> {
        let local = node.tag_name().name();
        // Texts between comments are one.
        let mut pieces: Vec<(String, Option<Node<'_, '_>>)> = vec![(String::new(), None)];
        for child in node.children() {
            if child.is_element() {
                pieces.push((String::new(), Some(child)));
                pieces.push((String::new(), None));
            } else if child.is_text()
                && let Some((text, _)) = pieces.last_mut()
            {
                text.push_str(child.text().unwrap_or_default());
            }
        }
        let only_text = pieces.len() == 1;
        let mut left = id;
        for (text, element) in pieces {
            if let Some(element) = element {
                left = self.element(left, element, depth + 1)?;
                continue;
            }
            let blank = text.chars().all(|c| c.is_ascii_whitespace());
            if blank && !only_text {
                continue;
            }
            let matched = self.text(left, &text);
            left = if blank { self.grammar.patterns.choice([left, matched]) } else { matched };
            if left == NOT_ALLOWED {
                return Err(failed(format!("Did not expect text in element {local} content"), local));
            }
        }
        Ok(left)
    }

    /// Puts what is behind an element together with what comes then.
    fn behind(&mut self, id: Id, what: Behind) -> Id {
        match self.grammar.patterns.get(id).clone() {
            Pattern::After(within, outside) => {
                let outside = match what {
                    Behind::Group(rest) => self.grammar.patterns.group(outside, rest),
                    Behind::Interleave(rest) => self.grammar.patterns.interleave(outside, rest),
                    Behind::After(rest) => self.grammar.patterns.after(outside, rest),
                };
                self.grammar.patterns.after(within, outside)
            }
            Pattern::Choice(all) => {
                let all: Vec<_> = all.into_iter().map(|one| self.behind(one, what)).collect();
                self.grammar.patterns.choice(all)
            }
            _ => NOT_ALLOWED,
        }
    }

    fn more(&mut self, one: Id, all: Id) -> Id {
        let _ = one;
        self.grammar.patterns.choice([all, EMPTY])
    }

    /// An element of that name begins.
    fn open(&mut self, id: Id, namespace: &str, local: &str) -> Result<Id, Error> {
        Ok(match self.grammar.patterns.get(id).clone() {
            Pattern::Choice(all) => {
                let all: Result<Vec<_>, _> = all.into_iter().map(|one| self.open(one, namespace, local)).collect();
                self.grammar.patterns.choice(all?)
            }
            Pattern::Element(element) => {
                if !self.grammar.name_of(element).has(namespace, local) {
                    return Ok(NOT_ALLOWED);
                }
                let content = self.grammar.content_of(element)?;
                self.grammar.patterns.after(content, EMPTY)
            }
            Pattern::Interleave(one, other) => {
                let first = self.open(one, namespace, local)?;
                let first = self.behind(first, Behind::Interleave(other));
                let second = self.open(other, namespace, local)?;
                let second = self.behind(second, Behind::Interleave(one));
                self.grammar.patterns.choice([first, second])
            }
            Pattern::OneOrMore(one) => {
                let first = self.open(one, namespace, local)?;
                let more = self.more(one, id);
                self.behind(first, Behind::Group(more))
            }
            Pattern::Group(one, other) => {
                let first = self.open(one, namespace, local)?;
                let first = self.behind(first, Behind::Group(other));
                if !self.grammar.patterns.is_nullable(one) {
                    return Ok(first);
                }
                let second = self.open(other, namespace, local)?;
                self.grammar.patterns.choice([first, second])
            }
            Pattern::After(within, outside) => {
                let first = self.open(within, namespace, local)?;
                self.behind(first, Behind::After(outside))
            }
            _ => NOT_ALLOWED,
        })
    }

    fn attribute(&mut self, id: Id, namespace: &str, local: &str, value: &str) -> Id {
        match self.grammar.patterns.get(id).clone() {
            Pattern::Choice(all) => {
                let all: Vec<_> =
                    all.into_iter().map(|one| self.attribute(one, namespace, local, value)).collect();
                self.grammar.patterns.choice(all)
            }
            Pattern::After(within, outside) => {
                let within = self.attribute(within, namespace, local, value);
                self.grammar.patterns.after(within, outside)
            }
            Pattern::Group(one, other) => {
                let first = self.attribute(one, namespace, local, value);
                let first = self.grammar.patterns.group(first, other);
                let second = self.attribute(other, namespace, local, value);
                let second = self.grammar.patterns.group(one, second);
                self.grammar.patterns.choice([first, second])
            }
            Pattern::Interleave(one, other) => {
                let first = self.attribute(one, namespace, local, value);
                let first = self.grammar.patterns.interleave(first, other);
                let second = self.attribute(other, namespace, local, value);
                let second = self.grammar.patterns.interleave(one, second);
                self.grammar.patterns.choice([first, second])
            }
            Pattern::OneOrMore(one) => {
                let first = self.attribute(one, namespace, local, value);
                let more = self.more(one, id);
                self.grammar.patterns.group(first, more)
            }
            Pattern::Attribute(name, wanted) => {
                if !self.grammar.names[name].has(namespace, local) {
                    return NOT_ALLOWED;
                }
                let blank = value.chars().all(|c| c.is_ascii_whitespace());
                if blank && self.grammar.patterns.is_nullable(wanted) {
                    return EMPTY;
                }
                let left = self.text(wanted, value);
                if self.grammar.patterns.is_nullable(left) { EMPTY } else { NOT_ALLOWED }
            }
            _ => NOT_ALLOWED,
        }
    }

    /// No attribute comes any more.
    fn close(&mut self, id: Id) -> Id {
        match self.grammar.patterns.get(id).clone() {
            Pattern::Attribute(..) => NOT_ALLOWED,
            Pattern::Choice(all) => {
                let all: Vec<_> = all.into_iter().map(|one| self.close(one)).collect();
                self.grammar.patterns.choice(all)
            }
            Pattern::Group(one, other) => {
                let (one, other) = (self.close(one), self.close(other));
                self.grammar.patterns.group(one, other)
            }
            Pattern::Interleave(one, other) => {
                let (one, other) = (self.close(one), self.close(other));
                self.grammar.patterns.interleave(one, other)
            }
            Pattern::OneOrMore(one) => {
                let one = self.close(one);
                self.grammar.patterns.one_or_more(one)
            }
            Pattern::After(within, outside) => {
                let within = self.close(within);
                self.grammar.patterns.after(within, outside)
            }
            _ => id,
        }
    }

    fn text(&mut self, id: Id, text: &str) -> Id {
        match self.grammar.patterns.get(id).clone() {
            Pattern::Text => TEXT,
            Pattern::Choice(all) => {
                let all: Vec<_> = all.into_iter().map(|one| self.text(one, text)).collect();
                self.grammar.patterns.choice(all)
            }
            Pattern::Interleave(one, other) => {
                let first = self.text(one, text);
                let first = self.grammar.patterns.interleave(first, other);
                let second = self.text(other, text);
                let second = self.grammar.patterns.interleave(one, second);
                self.grammar.patterns.choice([first, second])
            }
            Pattern::Group(one, other) => {
                let first = self.text(one, text);
                let first = self.grammar.patterns.group(first, other);
                if !self.grammar.patterns.is_nullable(one) {
                    return first;
                }
                let second = self.text(other, text);
                self.grammar.patterns.choice([first, second])
            }
            Pattern::OneOrMore(one) => {
                let first = self.text(one, text);
                let more = self.more(one, id);
                self.grammar.patterns.group(first, more)
            }
            Pattern::After(within, outside) => {
                let within = self.text(within, text);
                self.grammar.patterns.after(within, outside)
            }
            Pattern::Value(value) => {
                let (wanted, exact) = &self.grammar.values[value];
                let same = if *exact { wanted == text } else { *wanted == collapse(text) };
                if same { EMPTY } else { NOT_ALLOWED }
            }
            Pattern::Data(data) => {
                if self.grammar.data[data].allows(text) { EMPTY } else { NOT_ALLOWED }
            }
            _ => NOT_ALLOWED,
        }
    }

    /// The element that is open ends.
    fn end(&mut self, id: Id) -> Id {
        match self.grammar.patterns.get(id).clone() {
            Pattern::Choice(all) => {
                let all: Vec<_> = all.into_iter().map(|one| self.end(one)).collect();
                self.grammar.patterns.choice(all)
            }
            Pattern::After(within, outside) if self.grammar.patterns.is_nullable(within) => outside,
            _ => NOT_ALLOWED,
        }
    }
}
