//! How processors are grouped.

use crate::parse::{list, number, text};
use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;

/// A processor that is online.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Processor {
    /// Its number.
    pub id: usize,
    /// Its socket.
    pub socket: usize,
    /// Its die.
    pub die: usize,
    /// Its core, counted in the socket.
    pub core: usize,
    /// The processors of the same core, itself included.
    pub siblings: Vec<usize>,
}

/// All processors.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Topology {
    /// Those that are online.
    pub online: Vec<Processor>,
    /// The numbers of all that are there.
    pub present: Vec<usize>,
}

/// The numbers of the processors that are there, and of those that are online, of the host below `root`.
pub fn numbers(root: &Path) -> (Vec<usize>, Vec<usize>) {
    let of = |name: &str| list(&text(&root.join("sys/devices/system/cpu").join(name)));
    (of("present"), of("online"))
}

/// The numbers of the processors that are online, of the host below `root`.
pub fn online(root: &Path) -> Vec<usize> {
    numbers(root).1
}

impl Topology {
    /// The processors of the host below `root`.
    pub fn read(root: &Path) -> Self {
        Self::of(root, numbers(root))
    }

    /// `known`, if still the same processors are there and online, or as [`Topology::read`].
    pub(crate) fn reread(root: &Path, known: &mut Option<Arc<Self>>) -> Arc<Self> {
        let numbers = numbers(root);
        let same = |known: &&mut Arc<Self>| {
            known.present == numbers.0 && known.online.iter().map(|cpu| cpu.id).eq(numbers.1.iter().copied())
        };
        if let Some(known) = known.as_mut().filter(same) {
            return known.clone();
        }
        known.insert(Arc::new(Self::of(root, numbers))).clone()
    }

    fn of(root: &Path, (present, online): (Vec<usize>, Vec<usize>)) -> Self {
        let directory = root.join("sys/devices/system/cpu");
        let processor = |id: usize| {
            let place = directory.join(format!("cpu{id}/topology"));
            let of = |name: &str| number(&place.join(name)).unwrap_or(0);
            let siblings = list(&text(&place.join("thread_siblings_list")));
            Processor {
                id,
                socket: of("physical_package_id"),
                die: of("die_id"),
                core: of("core_id"),
                siblings: if siblings.is_empty() { vec![id] } else { siblings },
            }
        };
        Self { online: online.into_iter().map(processor).collect(), present }
    }

    fn count<K: Ord>(&self, key: impl Fn(&Processor) -> K) -> usize {
        self.online.iter().map(key).collect::<BTreeSet<_>>().len().max(1)
    }

    /// Sockets.
    pub fn sockets(&self) -> usize {
        self.count(|cpu| cpu.socket)
    }

    /// Most dies of a socket.
    pub fn dies(&self) -> usize {
        self.most(|cpu| cpu.socket, |cpu| cpu.die)
    }

    /// Most cores of a die.
    pub fn cores(&self) -> usize {
        self.most(|cpu| (cpu.socket, cpu.die), |cpu| cpu.core)
    }

    /// Most threads of a core.
    pub fn threads(&self) -> usize {
        self.online.iter().map(|cpu| cpu.siblings.len()).max().unwrap_or(1).max(1)
    }

    fn most<G: Ord, K: Ord>(&self, group: impl Fn(&Processor) -> G, key: impl Fn(&Processor) -> K) -> usize {
        let groups: BTreeSet<_> = self.online.iter().map(&group).collect();
        let size = |wanted: &G| {
            let members = self.online.iter().filter(|cpu| group(cpu) == *wanted);
            members.map(&key).collect::<BTreeSet<_>>().len()
        };
        groups.iter().map(size).max().unwrap_or(1).max(1)
    }
}
