//! What is wrong with a document, in libxml2's words as far as those tell something: it looks at the outermost element
//! only, most of whose content stands in one `<interleave>`, and names the first part of that with which it cannot go on.

use crate::Error;
use crate::outline::{Item, Outline};
use crate::pattern::NOT_ALLOWED;
use crate::validate::Validator;
use roxmltree::{Attribute, Node};

/// Lines about the document's outermost element, which does not fit the schema.
pub(crate) fn explain(validator: &mut Validator<'_, '_>, root: Node<'_, '_>) -> Result<Vec<String>, Error> {
    let name = root.tag_name().name();
    let elements = validator.grammar.outlines()?;
    let space = root.tag_name().namespace().unwrap_or_default();
    let fits = |element: &&Outline| element.name.has(space, name);
    let Some(element) = elements.iter().find(fits) else {
        return Ok(match &elements[..] {
            [only] => vec![format!("Expecting element {}, got {name}", only.name.shown())],
            _ => vec![failed(name)],
        });
    };
    let known = |attribute: &Attribute<'_, '_>| {
        let (space, name) = (attribute.namespace().unwrap_or_default(), attribute.name());
        element.attributes.iter().any(|known| known.has(space, name))
    };
    if !validator.has_attributes_of(root, known)? {
        return Ok(vec![failed(name)]);
    }
    let Some(groups) = interleave_of(&element.content) else { return Ok(vec![failed(name)]) };
    let children: Vec<_> = root.children().filter(Node::is_element).collect();
    let (mut lines, rest) = of_interleave(validator, groups, &children)?;
    // What comes behind the interleave is not looked into.
    let begins = |item: &Item, node: Node<'_, '_>| {
        item.begins(node.tag_name().namespace().unwrap_or_default(), node.tag_name().name())
    };
    let rest = rest.filter(|rest| !element.content.iter().any(|item| begins(item, *rest)));
    let unknown = root.attributes().find(|attribute| !known(attribute));
    lines.push(match (lines.is_empty(), rest, unknown) {
        (true, Some(rest), _) => format!("Element {name} has extra content: {}", rest.tag_name().name()),
        (true, None, Some(attribute)) => format!("Invalid attribute {} for element {name}", attribute.name()),
        _ => failed(name),
    });
    Ok(lines)
}

/// The first interleave among the items.
fn interleave_of(items: &[Item]) -> Option<&[Item]> {
    items.iter().find_map(|item| match item {
        Item::Interleave(groups) => Some(&groups[..]),
        Item::All(items) => interleave_of(items),
        Item::Other { .. } => None,
    })
}

fn failed(name: &str) -> String {
    format!("Element {name} failed to validate content")
}

/// What is wrong with the elements within an interleave, and the first one that is nothing of it.
fn of_interleave<'d>(
    validator: &mut Validator<'_, '_>,
    groups: &[Item],
    children: &[Node<'d, 'd>],
) -> Result<(Vec<String>, Option<Node<'d, 'd>>), Error> {
    let mut parts: Vec<Vec<Node<'d, 'd>>> = vec![Vec::new(); groups.len()];
    let mut rest = None;
    for child in children {
        let (space, name) = (child.tag_name().namespace().unwrap_or_default(), child.tag_name().name());
        match groups.iter().position(|group| group.begins(space, name)) {
            Some(group) => parts[group].push(*child),
            None => {
                rest = Some(*child);
                break;
            }
        }
    }
    for (group, part) in groups.iter().zip(parts) {
        let mut lines = of_group(validator, group, &part)?;
        if !lines.is_empty() {
            if !lines.last().is_some_and(|line| line.starts_with("Extra element")) || group.is_nested() {
                lines.push("Invalid sequence in interleave".to_owned());
            }
            return Ok((lines, None));
        }
    }
    Ok((Vec::new(), rest))
}

fn of_group(
    validator: &mut Validator<'_, '_>,
    group: &Item,
    children: &[Node<'_, '_>],
) -> Result<Vec<String>, Error> {
    match group {
        Item::Interleave(groups) => of_interleave(validator, groups, children).map(|(lines, _)| lines),
        Item::All(items) => {
            // Attributes have been looked at.
            let groups = interleave_of(items).unwrap_or_default();
            of_interleave(validator, groups, children).map(|(lines, _)| lines)
        }
        Item::Other { pattern, names } => {
            let mut left = *pattern;
            for child in children {
                left = validator.element(left, *child, 0)?;
                if left == NOT_ALLOWED {
                    return Ok(vec![format!("Extra element {} in interleave", child.tag_name().name())]);
                }
            }
            let missing = !validator.grammar.patterns.is_nullable(left);
            Ok(match names.first().filter(|_| missing && children.is_empty()) {
                Some(name) => vec![format!("Expecting an element {}, got nothing", name.shown())],
                None => Vec::new(),
            })
        }
    }
}
