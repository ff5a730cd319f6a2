//! Documents compared with schemas, by derivatives of patterns.

use crate::Error;
use crate::datatype::collapse;
use crate::pattern::{EMPTY, Id, NOT_ALLOWED, Pattern, TEXT};
use crate::schema::Grammar;
use roxmltree::{Attribute, Document, Node};
use std::collections::HashMap;

/// Elements within each other, as many as `xml` lets through.
const DEPTH: usize = 256;
/// What a document may cost, in patterns looked at: libvirt's own take up to 25,000.
const MOST_STEPS: usize = 2_000_000;
/// Patterns within each other: each is a level of recursion.
const MOST_LEVELS: u32 = 600;

/// Nothing if the document is as the grammar wants it, else what is wrong with it.
pub(crate) fn validate(
    grammar: &mut Grammar<'_>,
    document: &Document<'_>,
) -> Result<Option<Vec<String>>, Error> {
    let start = grammar.start;
    let mut this = Validator { grammar, events: HashMap::new(), known: HashMap::new(), steps: 0 };
    let left = this.element(start, document.root_element(), 0)?;
    if this.grammar.patterns.is_nullable(left) {
        return Ok(None);
    }
    crate::explain::explain(&mut this, document.root_element()).map(Some)
}

/// What comes next in a document.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Event {
    /// An element of that name space and name begins.
    Open(String, String),
    /// An attribute: name space, name, value.
    Attribute(String, String, String),
    /// No attribute comes any more.
    Close,
    Text(String),
}

pub(crate) struct Validator<'g, 'a> {
    pub(crate) grammar: &'g mut Grammar<'a>,
    events: HashMap<Event, u32>,
    /// What is left of a pattern after an event.
    known: HashMap<(u32, Id), Id>,
    steps: usize,
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

impl Validator<'_, '_> {
    fn step(&mut self, cost: usize) -> Result<(), Error> {
        self.steps = self.steps.saturating_add(cost);
        let deep = self.grammar.patterns.levels() > MOST_LEVELS;
        if self.steps > MOST_STEPS || deep { Err(Error::TooComplex) } else { Ok(()) }
    }

    /// What of `id` is left behind the element.
    pub(crate) fn element(&mut self, id: Id, node: Node<'_, '_>, depth: usize) -> Result<Id, Error> {
        if depth > DEPTH {
            return Err(Error::TooComplex);
        }
        let left = self.tag(id, node, |_| true)?;
        let left = self.children(left, node, depth)?;
        self.end(left)
    }

    /// Whether the outermost element, without attributes that are not counted, has those that it must have.
    pub(crate) fn has_attributes_of(
        &mut self,
        root: Node<'_, '_>,
        counted: impl Fn(&Attribute<'_, '_>) -> bool,
    ) -> Result<bool, Error> {
        let start = self.grammar.start;
        Ok(self.tag(start, root, counted)? != NOT_ALLOWED)
    }

    /// What is left when an element has begun and its attributes have been seen.
    fn tag(
        &mut self,
        id: Id,
        node: Node<'_, '_>,
        counted: impl Fn(&Attribute<'_, '_>) -> bool,
    ) -> Result<Id, Error> {
        let owned = |text: Option<&str>| text.unwrap_or_default().to_owned();
        let name = node.tag_name();
        let mut left = self.after_event(id, Event::Open(owned(name.namespace()), name.name().to_owned()))?;
        for attribute in node.attributes().filter(counted) {
            let (name, value) = (attribute.name().to_owned(), attribute.value().to_owned());
            left = self.after_event(left, Event::Attribute(owned(attribute.namespace()), name, value))?;
        }
        self.after_event(left, Event::Close)
    }

    fn children(&mut self, id: Id, node: Node<'_, '_>, depth: usize) -> Result<Id, Error> {
        let only_text = !node.children().any(|child| child.is_element());
        let mut left = id;
        // Texts between comments are one.
        let mut text = String::new();
        let ends = node.children().map(Some).chain([None]);
        for child in ends {
            if let Some(child) = child.filter(|child| !child.is_element()) {
                if child.is_text() {
                    text.push_str(child.text().unwrap_or_default());
                }
                continue;
            }
            let blank = text.chars().all(|c| c.is_ascii_whitespace());
            if !blank || only_text {
                let matched = self.after_event(left, Event::Text(std::mem::take(&mut text)))?;
                left = if blank { self.grammar.patterns.choice([left, matched]) } else { matched };
            }
            text.clear();
            if let Some(element) = child
                && left != NOT_ALLOWED
            {
                left = self.element(left, element, depth + 1)?;
            }
        }
        Ok(left)
    }

    fn after_event(&mut self, id: Id, event: Event) -> Result<Id, Error> {
        let next = self.events.len() as u32;
        let number = *self.events.entry(event.clone()).or_insert(next);
        self.derive(id, number, &event)
    }

    /// What is left of a pattern after an event.
    fn derive(&mut self, id: Id, number: u32, event: &Event) -> Result<Id, Error> {
        if let Some(left) = self.known.get(&(number, id)) {
            return Ok(*left);
        }
        self.step(1)?;
        let left = match self.grammar.patterns.get(id).clone() {
            Pattern::Choice(all) => {
                self.step(all.len())?;
                let all: Result<Vec<_>, _> =
                    all.into_iter().map(|one| self.derive(one, number, event)).collect();
                self.choice(&all?)?
            }
            Pattern::After(within, outside) => {
                let within = self.derive(within, number, event)?;
                match event {
                    Event::Open(..) => self.behind(within, Behind::After(outside))?,
                    _ => self.grammar.patterns.after(within, outside),
                }
            }
            Pattern::Group(one, other) => self.group(one, other, number, event)?,
            Pattern::Interleave(one, other) => {
                let first = self.derive(one, number, event)?;
                let second = self.derive(other, number, event)?;
                match event {
                    Event::Close => self.grammar.patterns.interleave(first, second),
                    Event::Open(..) => {
                        let first = self.behind(first, Behind::Interleave(other))?;
                        let second = self.behind(second, Behind::Interleave(one))?;
                        self.choice(&[first, second])?
                    }
                    _ => {
                        let first = self.grammar.patterns.interleave(first, other);
                        let second = self.grammar.patterns.interleave(one, second);
                        self.choice(&[first, second])?
                    }
                }
            }
            Pattern::OneOrMore(one) => {
                let first = self.derive(one, number, event)?;
                let more = self.choice(&[id, EMPTY])?;
                match event {
                    Event::Close => self.grammar.patterns.one_or_more(first),
                    Event::Open(..) => self.behind(first, Behind::Group(more))?,
                    _ => self.grammar.patterns.group(first, more),
                }
            }
            other => self.of_leaf(id, &other, event)?,
        };
        self.known.insert((number, id), left);
        Ok(left)
    }

    fn group(&mut self, one: Id, other: Id, number: u32, event: &Event) -> Result<Id, Error> {
        let first = self.derive(one, number, event)?;
        match event {
            Event::Close => {
                let second = self.derive(other, number, event)?;
                return Ok(self.grammar.patterns.group(first, second));
            }
            Event::Attribute(..) => {
                let second = self.derive(other, number, event)?;
                let first = self.grammar.patterns.group(first, other);
                let second = self.grammar.patterns.group(one, second);
                return self.choice(&[first, second]);
            }
            Event::Open(..) | Event::Text(_) => {}
        }
        let first = match event {
            Event::Open(..) => self.behind(first, Behind::Group(other))?,
            _ => self.grammar.patterns.group(first, other),
        };
        if !self.grammar.patterns.is_nullable(one) {
            return Ok(first);
        }
        let second = self.derive(other, number, event)?;
        self.choice(&[first, second])
    }

    fn of_leaf(&mut self, id: Id, pattern: &Pattern, event: &Event) -> Result<Id, Error> {
        Ok(match (pattern, event) {
            (Pattern::Attribute(..), Event::Close) => NOT_ALLOWED,
            (_, Event::Close) => id,
            (Pattern::Element(element), Event::Open(namespace, local)) => {
                if !self.grammar.name_of(*element).has(namespace, local) {
                    return Ok(NOT_ALLOWED);
                }
                let content = self.grammar.content_of(*element)?;
                self.grammar.patterns.after(content, EMPTY)
            }
            (Pattern::Attribute(name, wanted), Event::Attribute(namespace, local, value)) => {
                if !self.grammar.names[*name].has(namespace, local) {
                    return Ok(NOT_ALLOWED);
                }
                let blank = value.chars().all(|c| c.is_ascii_whitespace());
                if blank && self.grammar.patterns.is_nullable(*wanted) {
                    return Ok(EMPTY);
                }
                let left = self.after_event(*wanted, Event::Text(value.clone()))?;
                if self.grammar.patterns.is_nullable(left) { EMPTY } else { NOT_ALLOWED }
            }
            (Pattern::Text, Event::Text(_)) => TEXT,
            (Pattern::Value(value), Event::Text(text)) => {
                self.step(text.len() / 16)?;
                let (wanted, exact) = &self.grammar.values[*value];
                let same = if *exact { wanted == text } else { *wanted == collapse(text) };
                if same { EMPTY } else { NOT_ALLOWED }
            }
            (Pattern::Data(data), Event::Text(text)) => {
                self.step(text.len())?;
                if self.grammar.data[*data].allows(text) { EMPTY } else { NOT_ALLOWED }
            }
            _ => NOT_ALLOWED,
        })
    }

    fn choice(&mut self, of: &[Id]) -> Result<Id, Error> {
        let id = self.grammar.patterns.choice(of.iter().copied());
        if let Pattern::Choice(all) = self.grammar.patterns.get(id) {
            let cost = all.len();
            self.step(cost)?;
        }
        Ok(id)
    }

    /// Puts what is behind an element together with what comes then.
    fn behind(&mut self, id: Id, what: Behind) -> Result<Id, Error> {
        self.step(1)?;
        Ok(match self.grammar.patterns.get(id).clone() {
            Pattern::After(within, outside) => {
                let outside = match what {
                    Behind::Group(rest) => self.grammar.patterns.group(outside, rest),
                    Behind::Interleave(rest) => self.grammar.patterns.interleave(outside, rest),
                    Behind::After(rest) => self.grammar.patterns.after(outside, rest),
                };
                self.grammar.patterns.after(within, outside)
            }
            Pattern::Choice(all) => {
                let all: Result<Vec<_>, _> = all.into_iter().map(|one| self.behind(one, what)).collect();
                self.choice(&all?)?
            }
            _ => NOT_ALLOWED,
        })
    }

    /// The element that is open ends.
    fn end(&mut self, id: Id) -> Result<Id, Error> {
        self.step(1)?;
        Ok(match self.grammar.patterns.get(id).clone() {
            Pattern::Choice(all) => {
                let all: Result<Vec<_>, _> = all.into_iter().map(|one| self.end(one)).collect();
                self.choice(&all?)?
            }
            Pattern::After(within, outside) if self.grammar.patterns.is_nullable(within) => outside,
            _ => NOT_ALLOWED,
        })
    }
}
