//! The assembled machine.

use crate::image::Image;
use crate::life::Life;
use crate::vcpus::Vcpus;
use chardev::Chardevs;
use irq::{CpuSignals, Event};
use parking_lot::Mutex;
use pc::Pc;
use qdev::{DeviceTree, Links};
use std::sync::Arc;
use x86::cpuid::CpuidTable;
use x86::{Activity, X86State};

/// Everything that a running machine consists of.
pub(crate) struct Machine {
    /// `-name`
    pub(crate) name: Option<String>,
    /// `-uuid`
    pub(crate) uuid: Option<[u8; 16]>,
    /// The board with its chips.
    pub(crate) board: Pc,
    /// The processors' mailboxes.
    pub(crate) signals: Vec<Arc<CpuSignals>>,
    /// What CPUID says; each processor's own APIC ID aside.
    pub(crate) model: Arc<CpuidTable>,
    /// The processors.
    pub(crate) vcpus: Vcpus,
    /// Run states.
    pub(crate) life: Arc<Life>,
    /// Character devices.
    pub(crate) chardevs: Arc<Chardevs>,
    /// Back ends and objects by name.
    #[expect(dead_code, reason = "for the devices of the command line")]
    pub(crate) links: Arc<Links>,
    /// Devices made by `-device` and their places.
    pub(crate) tree: DeviceTree,
    /// What is booted without firmware.
    pub(crate) image: Option<Image>,
    /// What the time-stamp counter showed when the machine was stopped.
    frozen_tsc: Mutex<Option<u64>>,
}

/// The parts of a [`Machine`] that the assembly makes.
pub(crate) struct Parts {
    pub(crate) name: Option<String>,
    pub(crate) uuid: Option<[u8; 16]>,
    pub(crate) board: Pc,
    pub(crate) signals: Vec<Arc<CpuSignals>>,
    pub(crate) model: Arc<CpuidTable>,
    pub(crate) vcpus: Vcpus,
    pub(crate) life: Arc<Life>,
    pub(crate) chardevs: Arc<Chardevs>,
    pub(crate) links: Arc<Links>,
    pub(crate) tree: DeviceTree,
    pub(crate) image: Option<Image>,
}

impl Machine {
    pub(crate) fn new(parts: Parts) -> Self {
        let Parts { name, uuid, board, signals, model, vcpus, life, chardevs, links, tree, image } = parts;
        Self {
            name,
            uuid,
            board,
            signals,
            model,
            vcpus,
            life,
            chardevs,
            links,
            tree,
            image,
            frozen_tsc: Mutex::new(None),
        }
    }

    /// The registers of processor `index` after power-up.
    fn power_up_state(&self, index: usize) -> X86State {
        let mut state = X86State::default();
        // EDX holds the processor's signature (SDM vol. 3, 10.1.2).
        state.gpr[2] = self.model.read(1, 0).eax.into();
        if index != 0 {
            state.activity = Activity::WaitForSipi;
        }
        state
    }

    /// Returns everything to its power-up state, and puts what boots in place. The processors must stand.
    ///
    /// # Errors
    /// What boots cannot be read any more.
    pub(crate) fn reset(&self) -> Result<(), String> {
        for signals in &self.signals {
            for event in [Event::Nmi, Event::Init, Event::Sipi] {
                signals.clear(event);
            }
        }
        self.board.reset();
        self.tree.reset();
        let start = match &self.image {
            Some(image) => {
                self.board.firmware_setup();
                Some(image.load(&self.board)?)
            }
            None => None,
        };
        // One offset for all, so that the counters of all processors agree, from 0.
        let host = self.vcpus.with(0, |vcpu| vcpu.tsc().wrapping_sub(vcpu.state().tsc_offset)).unwrap_or(0);
        for index in 0..self.vcpus.count() {
            let mut state = match &start {
                Some(start) if index == 0 => start.clone(),
                _ => self.power_up_state(index),
            };
            state.tsc_offset = host.wrapping_neg();
            self.vcpus.with(index, |vcpu| vcpu.set_state(&state));
        }
        // A machine that stands starts its counters when it goes on.
        let mut frozen = self.frozen_tsc.lock();
        if frozen.is_some() {
            *frozen = Some(0);
        }
        Ok(())
    }

    /// The machine has stopped: remembers the time-stamp counter.
    pub(crate) fn freeze(&self) {
        *self.frozen_tsc.lock() = self.vcpus.with(0, |vcpu| vcpu.tsc());
    }

    /// The machine goes on: the time-stamp counters go on from where they stood.
    pub(crate) fn thaw(&self) {
        let Some(then) = self.frozen_tsc.lock().take() else { return };
        let Some(now) = self.vcpus.with(0, |vcpu| vcpu.tsc()) else { return };
        for index in 0..self.vcpus.count() {
            self.vcpus.with(index, |vcpu| vcpu.shift_tsc(then.wrapping_sub(now)));
        }
    }

    /// Presses the power button.
    pub(crate) fn power_button(&self) {
        self.board.power_button();
    }
}
