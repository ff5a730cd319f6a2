//! The tree of regions that a board builds its address spaces from.

use crate::io::{IoHandler, IoRules, IoTarget};
use crate::ram::RamBlock;
use crate::space::SpaceInner;
use parking_lot::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};

/// What a region is made of.
pub(crate) enum Kind {
    Container,
    Ram(Arc<RamBlock>),
    Rom(Arc<RamBlock>),
    Io(Arc<IoTarget>),
    Alias { target: Region, offset: u64 },
}

#[derive(Clone)]
pub(crate) struct Child {
    pub(crate) region: Region,
    pub(crate) offset: u64,
    pub(crate) priority: i32,
}

pub(crate) struct Inner {
    pub(crate) name: String,
    /// Bytes; a u128 so that a whole 64-bit space has a size.
    pub(crate) size: u128,
    pub(crate) kind: Kind,
    enabled: AtomicBool,
    pub(crate) children: Mutex<Vec<Child>>,
    /// Regions that show this one: parents and aliases.
    pub(crate) shown_by: Mutex<Vec<Weak<Inner>>>,
    /// Address spaces whose root this is.
    pub(crate) spaces: Mutex<Vec<Weak<SpaceInner>>>,
}

/// A node of the tree: RAM, ROM, I/O, an alias of (a part of) another region, or a container of children.
///
/// Cloning gives another handle on the same node. Every change takes effect, in all address spaces that show the
/// region, before the call returns.
#[derive(Clone)]
pub struct Region {
    pub(crate) inner: Arc<Inner>,
}

impl Region {
    fn build(name: &str, size: u128, kind: Kind) -> Self {
        Self {
            inner: Arc::new(Inner {
                name: name.to_owned(),
                size,
                kind,
                enabled: AtomicBool::new(true),
                children: Mutex::default(),
                shown_by: Mutex::default(),
                spaces: Mutex::default(),
            }),
        }
    }

    /// A region that only holds others. `size` in bytes.
    pub fn container(name: &str, size: u64) -> Self {
        Self::build(name, size.into(), Kind::Container)
    }

    /// A container of the whole 64-bit address space.
    pub fn whole(name: &str) -> Self {
        Self::build(name, 1 << 64, Kind::Container)
    }

    /// RAM: the whole of `block`.
    pub fn ram(name: &str, block: Arc<RamBlock>) -> Self {
        Self::build(name, block.size().into(), Kind::Ram(block))
    }

    /// ROM: the whole of `block`; guest writes are ignored.
    pub fn rom(name: &str, block: Arc<RamBlock>) -> Self {
        Self::build(name, block.size().into(), Kind::Rom(block))
    }

    /// Registers: `size` bytes handled by `handler` under `rules`.
    pub fn io(name: &str, size: u64, handler: Arc<dyn IoHandler>, rules: IoRules) -> Self {
        Self::build(name, size.into(), Kind::Io(Arc::new(IoTarget { handler, rules, size })))
    }

    /// A window of `size` bytes (`u64::MAX`: of a whole 64-bit space) that shows `target` from `offset` on.
    pub fn alias(name: &str, target: &Self, offset: u64, size: u64) -> Self {
        let size = if size == u64::MAX { 1 << 64 } else { size.into() };
        let alias = Self::build(name, size, Kind::Alias { target: target.clone(), offset });
        let mut shown_by = target.inner.shown_by.lock();
        shown_by.retain(|by| by.strong_count() != 0);
        shown_by.push(Arc::downgrade(&alias.inner));
        drop(shown_by);
        alias
    }

    /// The region's name, as `info mtree` shows it.
    pub fn name(&self) -> &str {
        &self.inner.name
    }

    /// Bytes in the region (a whole 64-bit space counts as `u64::MAX`).
    pub fn size(&self) -> u64 {
        u64::try_from(self.inner.size).unwrap_or(u64::MAX)
    }

    /// Whether the region is shown.
    pub fn is_enabled(&self) -> bool {
        self.inner.enabled.load(Ordering::SeqCst)
    }

    /// Shows or hides the region.
    pub fn set_enabled(&self, enabled: bool) {
        if self.inner.enabled.swap(enabled, Ordering::SeqCst) != enabled {
            self.inner.changed();
        }
    }

    /// Puts `child` at `offset`, with priority 0.
    pub fn add(&self, child: &Self, offset: u64) {
        self.add_overlap(child, offset, 0);
    }

    /// Puts `child` at `offset`. Where siblings overlap the higher priority is seen; of equal ones, the later added.
    pub fn add_overlap(&self, child: &Self, offset: u64, priority: i32) {
        child.inner.shown_by.lock().push(Arc::downgrade(&self.inner));
        self.inner.children.lock().push(Child { region: child.clone(), offset, priority });
        self.inner.changed();
    }

    /// Takes `child` out; nothing happens when it is not there.
    pub fn remove(&self, child: &Self) {
        let before = {
            let mut children = self.inner.children.lock();
            let before = children.len();
            children.retain(|c| !Arc::ptr_eq(&c.region.inner, &child.inner));
            before != children.len()
        };
        if before {
            let own = Arc::downgrade(&self.inner);
            child.inner.shown_by.lock().retain(|p| !p.ptr_eq(&own));
            self.inner.changed();
        }
    }

    /// Moves `child` to `offset`; nothing happens when it is not there.
    pub fn move_to(&self, child: &Self, offset: u64) {
        let mut moved = false;
        for c in self.inner.children.lock().iter_mut() {
            if Arc::ptr_eq(&c.region.inner, &child.inner) && c.offset != offset {
                c.offset = offset;
                moved = true;
            }
        }
        if moved {
            self.inner.changed();
        }
    }

    /// The children, highest priority first.
    pub(crate) fn children(&self) -> Vec<Child> {
        let mut children = self.inner.children.lock().clone();
        children.reverse();
        children.sort_by_key(|c| std::cmp::Reverse(c.priority));
        children
    }

    /// What is behind the region in the end.
    pub(crate) fn kind_name(&self) -> &'static str {
        match &self.inner.kind {
            Kind::Ram(_) => "ram",
            Kind::Rom(_) => "rom",
            Kind::Alias { target, .. } => target.kind_name(),
            _ => "i/o",
        }
    }
}

impl Inner {
    /// Renders anew every address space that shows this region.
    fn changed(&self) {
        let spaces: Vec<_> = self.spaces.lock().iter().filter_map(Weak::upgrade).collect();
        for space in spaces {
            space.render();
        }
        let parents: Vec<_> = self.shown_by.lock().iter().filter_map(Weak::upgrade).collect();
        for parent in parents {
            parent.changed();
        }
    }
}
