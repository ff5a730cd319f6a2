//! `info mtree`: the tree as text.

use crate::region::{Inner, Kind, Region};
use std::fmt::Write as _;
use std::sync::{Arc, Weak};

/// The trees of address spaces, then those of regions that aliases in them show; each is a name with its root.
///
/// Regions that are switched off are left out, unless `disabled` asks for them; their children are shown either way.
pub fn describe(spaces: &[(&str, &Region)], disabled: bool) -> String {
    let mut writer = Writer { out: String::new(), aliased: Vec::new(), disabled };
    for (name, root) in spaces {
        let _ = writeln!(writer.out, "address-space: {name}");
        writer.tree(root, 1, 0, 0);
        writer.out.push('\n');
    }
    let mut next = 0;
    while let Some(region) = writer.aliased.get(next).cloned() {
        let _ = writeln!(writer.out, "memory-region: {}", region.name());
        let (offset, priority) = region.inner.place();
        writer.tree(&region, 1, offset, priority);
        writer.out.push('\n');
        next += 1;
    }
    writer.out
}

struct Writer {
    out: String,
    /// What aliases show, in the order in which they were met.
    aliased: Vec<Region>,
    disabled: bool,
}

impl Writer {
    fn tree(&mut self, region: &Region, depth: usize, base: u64, priority: i32) {
        let size = region.inner.size;
        let end = |start: u64| start.wrapping_add(u64::try_from(size.saturating_sub(1)).unwrap_or(u64::MAX));
        let shown = region.is_enabled() || self.disabled;
        let off = if region.is_enabled() { "" } else { " [disabled]" };
        let (indent, kind) = ("  ".repeat(depth), region.kind_name());
        let head = format!("{indent}{base:016x}-{:016x} (prio {priority}, {kind}): ", end(base));
        if let Kind::Alias { target, offset } = &region.inner.kind {
            if !self.aliased.iter().any(|known| Arc::ptr_eq(&known.inner, &target.inner)) {
                self.aliased.push(target.clone());
            }
            if shown {
                let (name, target) = (region.name(), target.name());
                let last = end(*offset);
                let _ = writeln!(self.out, "{head}alias {name} @{target} {offset:016x}-{last:016x}{off}");
            }
        } else if shown {
            let _ = writeln!(self.out, "{head}{}{off}", region.name());
        }
        let mut children = region.children();
        children.sort_by_key(|c| (c.offset, std::cmp::Reverse(c.priority)));
        for child in children {
            self.tree(&child.region, depth + 1, base.wrapping_add(child.offset), child.priority);
        }
    }
}

impl Inner {
    /// Where the region is in the container that holds it; 0 for one in no container.
    fn place(&self) -> (u64, i32) {
        let parents: Vec<Arc<Self>> = self.shown_by.lock().iter().filter_map(Weak::upgrade).collect();
        let own = |parent: &Arc<Self>| {
            let children = parent.children.lock();
            let child = children.iter().find(|child| std::ptr::eq(Arc::as_ptr(&child.region.inner), self))?;
            Some((child.offset, child.priority))
        };
        parents.iter().find_map(own).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::RamBlock;

    #[test]
    fn trees_are_laid_out_as_in_the_monitor() {
        let root = Region::container("io", 0x100);
        let inner = Region::container("chip", 0x10);
        inner.add(&Region::container("registers", 4), 4);
        root.add_overlap(&inner, 0x20, 1);
        let ram = Region::ram("ram", RamBlock::new("ram", 0x1000).expect("memory"));
        root.add_overlap(&Region::alias("low", &ram, 0x40, 0x10), 0x40, -1);
        inner.set_enabled(false);
        let start = "address-space: I/O\n  0000000000000000-00000000000000ff (prio 0, i/o): io\n";
        let chip = "    0000000000000020-000000000000002f (prio 1, i/o): chip [disabled]\n";
        let rest = "      0000000000000024-0000000000000027 (prio 0, i/o): registers\n\
                    \x20   0000000000000040-000000000000004f (prio -1, ram): alias low @ram \
                    0000000000000040-000000000000004f\n\n\
                    memory-region: ram\n  0000000000000000-0000000000000fff (prio 0, ram): ram\n\n";
        assert_eq!(describe(&[("I/O", &root)], false), format!("{start}{rest}"));
        assert_eq!(describe(&[("I/O", &root)], true), format!("{start}{chip}{rest}"));
        let pci = Region::whole("pci");
        root.add_overlap(&pci, 7, 3);
        assert_eq!(pci.inner.place(), (7, 3));
    }
}
