//! Patterns, each kept once.

use std::collections::HashMap;

/// The number of a pattern.
pub(crate) type Id = u32;

/// Nothing fits.
pub(crate) const NOT_ALLOWED: Id = 0;
/// Nothing is left to come.
pub(crate) const EMPTY: Id = 1;
/// Any text, or none.
pub(crate) const TEXT: Id = 2;

/// A pattern. Numbers that are no [`Id`] are places in the schema's lists.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) enum Pattern {
    NotAllowed,
    Empty,
    Text,
    /// One of two or more, in the order of their numbers.
    Choice(Vec<Id>),
    Group(Id, Id),
    Interleave(Id, Id),
    OneOrMore(Id),
    /// Text of a data type.
    Data(usize),
    /// One text.
    Value(usize),
    Attribute(usize, Id),
    Element(usize),
    /// The first within an element that is open, the second behind it.
    After(Id, Id),
}

/// All patterns there are.
#[derive(Debug)]
pub(crate) struct Patterns {
    list: Vec<Kept>,
    known: HashMap<Pattern, Id>,
    levels: u32,
}

#[derive(Debug)]
struct Kept {
    pattern: Pattern,
    /// Satisfied by nothing.
    nullable: bool,
    /// How many patterns are within each other here.
    levels: u32,
}

impl Default for Patterns {
    fn default() -> Self {
        let mut this = Self { list: Vec::new(), known: HashMap::new(), levels: 0 };
        for (pattern, id) in
            [(Pattern::NotAllowed, NOT_ALLOWED), (Pattern::Empty, EMPTY), (Pattern::Text, TEXT)]
        {
            assert_eq!(this.keep(pattern), id, "the first ones have fixed numbers");
        }
        this
    }
}

impl Patterns {
    /// The most patterns within each other.
    pub(crate) fn levels(&self) -> u32 {
        self.levels
    }

    pub(crate) fn get(&self, id: Id) -> &Pattern {
        &self.list[id as usize].pattern
    }

    /// Whether it is satisfied by nothing.
    pub(crate) fn is_nullable(&self, id: Id) -> bool {
        self.list[id as usize].nullable
    }

    fn keep(&mut self, pattern: Pattern) -> Id {
        if let Some(id) = self.known.get(&pattern) {
            return *id;
        }
        let nullable = |id: &Id| self.is_nullable(*id);
        let is = match &pattern {
            Pattern::Empty | Pattern::Text => true,
            Pattern::Choice(any) => any.iter().any(nullable),
            Pattern::Group(one, other) | Pattern::Interleave(one, other) => nullable(one) && nullable(other),
            Pattern::OneOrMore(one) => nullable(one),
            _ => false,
        };
        let levels_of = |id: &Id| self.list[*id as usize].levels;
        let levels = 1 + match &pattern {
            Pattern::Choice(any) => any.iter().map(levels_of).max().unwrap_or(0),
            Pattern::Group(one, other) | Pattern::Interleave(one, other) | Pattern::After(one, other) => {
                levels_of(one).max(levels_of(other))
            }
            Pattern::OneOrMore(one) | Pattern::Attribute(_, one) => levels_of(one),
            _ => 0,
        };
        self.levels = self.levels.max(levels);
        let id = self.list.len() as Id;
        self.list.push(Kept { pattern: pattern.clone(), nullable: is, levels });
        self.known.insert(pattern, id);
        id
    }

    pub(crate) fn choice(&mut self, of: impl IntoIterator<Item = Id>) -> Id {
        let mut all = Vec::new();
        for id in of {
            match self.get(id) {
                Pattern::NotAllowed => {}
                Pattern::Choice(more) => all.extend_from_slice(more),
                _ => all.push(id),
            }
        }
        all.sort_unstable();
        all.dedup();
        match all[..] {
            [] => NOT_ALLOWED,
            [one] => one,
            _ => self.keep(Pattern::Choice(all)),
        }
    }

    pub(crate) fn group(&mut self, one: Id, other: Id) -> Id {
        match (one, other) {
            (NOT_ALLOWED, _) | (_, NOT_ALLOWED) => NOT_ALLOWED,
            (EMPTY, id) | (id, EMPTY) => id,
            _ => self.keep(Pattern::Group(one, other)),
        }
    }

    pub(crate) fn interleave(&mut self, one: Id, other: Id) -> Id {
        match (one.min(other), one.max(other)) {
            (NOT_ALLOWED, _) => NOT_ALLOWED,
            (EMPTY, id) => id,
            (one, other) => self.keep(Pattern::Interleave(one, other)),
        }
    }

    pub(crate) fn one_or_more(&mut self, one: Id) -> Id {
        match one {
            NOT_ALLOWED | EMPTY | TEXT => one,
            _ => self.keep(Pattern::OneOrMore(one)),
        }
    }

    pub(crate) fn after(&mut self, within: Id, behind: Id) -> Id {
        match (within, behind) {
            (NOT_ALLOWED, _) | (_, NOT_ALLOWED) => NOT_ALLOWED,
            _ => self.keep(Pattern::After(within, behind)),
        }
    }

    pub(crate) fn attribute(&mut self, name: usize, value: Id) -> Id {
        if value == NOT_ALLOWED { NOT_ALLOWED } else { self.keep(Pattern::Attribute(name, value)) }
    }

    pub(crate) fn data(&mut self, data: usize) -> Id {
        self.keep(Pattern::Data(data))
    }

    pub(crate) fn value(&mut self, value: usize) -> Id {
        self.keep(Pattern::Value(value))
    }

    pub(crate) fn element(&mut self, element: usize) -> Id {
        self.keep(Pattern::Element(element))
    }
}
