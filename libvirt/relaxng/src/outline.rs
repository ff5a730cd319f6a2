//! The outermost elements of a schema, as far as errors tell of them.

use crate::Error;
use crate::pattern::Id;
use crate::schema::{Grammar, NameClass, parts};
use roxmltree::Node;

/// Definitions within each other; what is deeper is not told of.
const DEPTH: usize = 64;

/// An element that may be outermost.
pub(crate) struct Outline {
    pub(crate) name: NameClass,
    pub(crate) content: Vec<Item>,
    pub(crate) attributes: Vec<NameClass>,
}

/// A part of an element's content.
pub(crate) enum Item {
    Interleave(Vec<Item>),
    /// One behind the other, with an interleave among them.
    All(Vec<Item>),
    /// Anything else, and the names of the elements in it.
    Other {
        pattern: Id,
        names: Vec<NameClass>,
    },
}

impl Item {
    /// Whether such an element is part of it.
    pub(crate) fn begins(&self, namespace: &str, local: &str) -> bool {
        match self {
            Self::Interleave(items) | Self::All(items) => {
                items.iter().any(|item| item.begins(namespace, local))
            }
            Self::Other { names, .. } => names.iter().any(|name| name.has(namespace, local)),
        }
    }

    pub(crate) fn is_nested(&self) -> bool {
        !matches!(self, Self::Other { .. })
    }
}

impl<'a> Grammar<'a> {
    /// The elements that may be outermost.
    pub(crate) fn outlines(&mut self) -> Result<Vec<Outline>, Error> {
        let mut elements = Vec::new();
        for start in self.starts.clone() {
            self.collect(start, "element", DEPTH, &mut elements);
        }
        elements.into_iter().map(|element| self.outline(element)).collect()
    }

    fn outline(&mut self, element: Node<'a, 'a>) -> Result<Outline, Error> {
        let (name, content) = self.named(element, false)?;
        let content = content.map(|part| self.item(part, DEPTH)).collect::<Result<_, _>>()?;
        let mut attributes = Vec::new();
        self.collect(element, "attribute", DEPTH, &mut attributes);
        let attributes = attributes.into_iter().map(|node| Ok(self.named(node, true)?.0));
        Ok(Outline { name, content, attributes: attributes.collect::<Result<_, Error>>()? })
    }

    fn item(&mut self, node: Node<'a, 'a>, depth: usize) -> Result<Item, Error> {
        let within = |this: &mut Self, nodes: Vec<Node<'a, 'a>>| {
            nodes
                .into_iter()
                .map(|part| this.item(part, depth.saturating_sub(1)))
                .collect::<Result<Vec<_>, _>>()
        };
        if depth > 0 {
            let nodes = match node.tag_name().name() {
                "interleave" => return Ok(Item::Interleave(within(self, parts(node).collect())?)),
                "group" => parts(node).collect(),
                "ref" => {
                    match self.definitions.get(node.attribute("name").unwrap_or_default()).map(Vec::as_slice)
                    {
                        Some([only]) => parts(*only).collect(),
                        _ => Vec::new(),
                    }
                }
                _ => Vec::new(),
            };
            let items = within(self, nodes)?;
            if items.iter().any(Item::is_nested) {
                return Ok(Item::All(items));
            }
        }
        let mut elements = Vec::new();
        self.collect(node, "element", DEPTH - 1, &mut elements);
        let names = elements.into_iter().map(|element| Ok(self.named(element, false)?.0));
        let names = names.collect::<Result<_, Error>>()?;
        Ok(Item::Other { pattern: self.compile(node, 0)?, names })
    }

    /// The nodes of a kind that the node has, without those that are within another element.
    fn collect(&self, node: Node<'a, 'a>, kind: &str, depth: usize, found: &mut Vec<Node<'a, 'a>>) {
        if node.tag_name().name() == kind && depth < DEPTH {
            found.push(node);
            return;
        }
        if depth == 0 || depth < DEPTH && matches!(node.tag_name().name(), "element" | "attribute") {
            return;
        }
        let definition = match node.tag_name().name() {
            "ref" => self
                .definitions
                .get(node.attribute("name").unwrap_or_default())
                .map_or(&[][..], Vec::as_slice),
            _ => &[],
        };
        for part in parts(node).chain(definition.iter().flat_map(|definition| parts(*definition))) {
            self.collect(part, kind, depth - 1, found);
        }
    }
}
