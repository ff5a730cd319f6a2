//! Memory slots: guest RAM and ROM as KVM maps them.

use guestmem::{FlatView, RamBlock, Target};
use kvm_bindings::{KVM_MEM_READONLY, kvm_userspace_memory_region};
use kvm_ioctls::VmFd;
use parking_lot::Mutex;
use std::sync::Arc;

const PAGE: u64 = guestmem::PAGE_SIZE;

/// A range of guest addresses that is backed by a RAM block.
#[derive(Clone)]
pub(crate) struct Backing {
    pub(crate) start: u64,
    pub(crate) size: u64,
    pub(crate) block: Arc<RamBlock>,
    pub(crate) offset: u64,
    pub(crate) readonly: bool,
}

impl Backing {
    fn is_same(&self, other: &Self) -> bool {
        (self.start, self.size, self.offset, self.readonly)
            == (other.start, other.size, other.offset, other.readonly)
            && Arc::ptr_eq(&self.block, &other.block)
    }

    fn region(&self, slot: usize, size: u64) -> kvm_userspace_memory_region {
        kvm_userspace_memory_region {
            slot: slot as u32,
            flags: if self.readonly { KVM_MEM_READONLY } else { 0 },
            guest_phys_addr: self.start,
            memory_size: size,
            userspace_addr: self.block.host_base().as_ptr() as u64 + self.offset,
        }
    }
}

/// The RAM of a view, as whole pages; what is left over at the edges is reached like registers.
pub(crate) fn backings(view: &FlatView) -> Vec<Backing> {
    view.ranges()
        .iter()
        .filter_map(|range| {
            let Target::Ram { block, offset, readonly } = &range.target else { return None };
            let start = range.start.checked_next_multiple_of(PAGE)?;
            let end = range.last.checked_add(1)? & !(PAGE - 1);
            let offset = offset + (start - range.start);
            (end > start && offset.is_multiple_of(PAGE)).then(|| Backing {
                start,
                size: end - start,
                block: block.clone(),
                offset,
                readonly: *readonly,
            })
        })
        .collect()
}

struct State {
    /// By slot number.
    slots: Vec<Option<Backing>>,
    failure: Option<String>,
}

/// The slots of a virtual machine.
pub(crate) struct Slots {
    vm: Arc<VmFd>,
    limit: usize,
    state: Mutex<State>,
}

impl Slots {
    pub(crate) fn new(vm: Arc<VmFd>, limit: usize) -> Arc<Self> {
        Arc::new(Self { vm, limit, state: Mutex::new(State { slots: Vec::new(), failure: None }) })
    }

    /// Why the last change did not succeed.
    pub(crate) fn failure(&self) -> Option<String> {
        self.state.lock().failure.clone()
    }

    /// Makes KVM see what `view` shows. What a processor reaches while a slot is exchanged leaves guest mode and is read
    /// or written through the address space, which is right as well.
    pub(crate) fn update(&self, view: &FlatView) {
        let wanted = backings(view);
        let mut state = self.state.lock();
        let mut failure = None;
        for (number, slot) in state.slots.iter_mut().enumerate() {
            if let Some(old) = slot
                && !wanted.iter().any(|new| new.is_same(old))
            {
                failure = failure.or(self.set(number, old, 0));
                *slot = None;
            }
        }
        for new in wanted {
            if state.slots.iter().flatten().any(|old| old.is_same(&new)) {
                continue;
            }
            let free = state.slots.iter().position(Option::is_none).unwrap_or(state.slots.len());
            if free >= self.limit {
                failure = Some("kvm has no memory slot left".to_owned());
                break;
            }
            failure = failure.or(self.set(free, &new, new.size));
            if free == state.slots.len() {
                state.slots.push(None);
            }
            state.slots[free] = Some(new);
        }
        if let Some(text) = &failure {
            report::error_report!("{text}");
        }
        state.failure = failure;
    }

    fn set(&self, number: usize, backing: &Backing, size: u64) -> Option<String> {
        let region = backing.region(number, size);
        // SAFETY: the memory belongs to the block, which the slot's entry keeps alive until the slot is deleted; guest
        // code may write it at any time, as the block's own documentation says.
        let result = unsafe { self.vm.set_user_memory_region(region) };
        result.err().map(|error| {
            format!(
                "kvm_set_user_memory_region: KVM_SET_USER_MEMORY_REGION failed, slot={number}, start={:#x}, \
                 size={size:#x}: {}",
                backing.start,
                crate::reason(error)
            )
        })
    }
}

impl Drop for Slots {
    fn drop(&mut self) {
        let state = self.state.get_mut();
        for (number, slot) in state.slots.iter_mut().enumerate() {
            if let Some(old) = slot.take() {
                // The memory must not be reachable by the guest any more when the block goes.
                let region = old.region(number, 0);
                // SAFETY: deletes a slot.
                let _ = unsafe { self.vm.set_user_memory_region(region) };
            }
        }
    }
}
