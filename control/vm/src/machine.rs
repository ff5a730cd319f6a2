//! The assembled machine.

use crate::firmware::set_boot_order;
use crate::image::Image;
use crate::life::Life;
use crate::vcpus::Vcpus;
use crate::wake;
use chardev::Chardevs;
use eventloop::{HostTimer, LoopHandle};
use irq::{CpuSignals, Event};
use parking_lot::Mutex;
use pc::Pc;
use qdev::{DeviceTree, Links};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};
use x86::cpuid::CpuidTable;
use x86::dump::DumpOptions;
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
    /// The accelerator's name.
    pub(crate) accelerator: &'static str,
    /// The main loop.
    pub(crate) handle: LoopHandle,
    /// Run states.
    pub(crate) life: Arc<Life>,
    /// Character devices.
    pub(crate) chardevs: Arc<Chardevs>,
    /// Back ends and objects by name.
    pub(crate) links: Arc<Links>,
    /// Devices made by `-device` and their places.
    pub(crate) tree: DeviceTree,
    /// Ids of the drives, in order.
    pub(crate) drives: Vec<String>,
    /// The firmware's name and size.
    pub(crate) rom: Option<(String, u64)>,
    /// What is booted without firmware.
    pub(crate) image: Option<Image>,
    /// An ELF kernel that firmware starts.
    pub(crate) elf: Option<Vec<u8>>,
    /// The order of boot drives.
    pub(crate) boot: cmdline::Boot,
    /// What changes while it runs.
    pub(crate) progress: Progress,
}

/// What a [`Machine`] remembers of its life so far; the default is before the first start.
#[derive(Default)]
pub(crate) struct Progress {
    /// How often the machine has been reset, the first start included.
    resets: AtomicU32,
    /// Where ACPI's tables begin; 0 where firmware puts them.
    rsdp: AtomicU32,
    /// What the time-stamp counter showed when the machine was stopped.
    frozen_tsc: Mutex<Option<u64>>,
    /// Lets go of the keys that are held down.
    held_keys: Mutex<Option<HostTimer>>,
}

impl Machine {
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

    /// What firmware sets up on every processor.
    fn set_memory_types(&self, state: &mut X86State) {
        // Leaf 1, EDX bit 12: there are such registers.
        if self.model.read(1, 0).edx & 1 << 12 == 0 {
            return;
        }
        let types = self.board.memory_types();
        let (base, size) = types.variable;
        let width = self.model.read(0x8000_0008, 0).eax & 0xff;
        let mask = (1u64 << width.clamp(32, 52)) - 1;
        state.mtrr_fixed = types.fixed;
        // Bit 11: the range is valid.
        state.mtrr_var[0] = [base, !(size - 1) & mask | 1 << 11];
        state.mtrr_deftype = types.default;
    }

    /// Returns everything to its power-up state, and puts what boots in place. The processors must stand.
    ///
    /// # Errors
    /// What boots cannot be read any more.
    pub(crate) fn reset(&self) -> Result<(), String> {
        self.reset_devices();
        let order = self.boot.order.as_deref().unwrap_or("cad");
        match self.progress.resets.fetch_add(1, Ordering::Relaxed) {
            0 => set_boot_order(&self.board, self.boot.once.as_deref().unwrap_or(order)),
            1 => set_boot_order(&self.board, order),
            _ => {}
        }
        let start = match &self.image {
            Some(image) => {
                self.board.firmware_setup();
                let tables = self.board.install_tables();
                self.progress.rsdp.store(tables.rsdp, Ordering::Relaxed);
                Some(image.load(&self.board, tables.rsdp.into())?)
            }
            None => None,
        };
        if let Some(elf) = &self.elf {
            boot::load_elf(&self.board.memory.memory, elf).map_err(|error| error.to_string())?;
        }
        self.reset_processors(start);
        Ok(())
    }

    /// Wakes the guest from sleep in memory: a reset that leaves memory alone, after which the guest goes on where its
    /// waking vector says. Firmware looks there by itself; without firmware this does. The processors must stand.
    pub(crate) fn wake(&self) {
        let vector =
            wake::vector(&self.board.memory.memory, self.progress.rsdp.load(Ordering::Relaxed).into());
        self.reset_devices();
        let start = self.image.as_ref().map(|_| {
            self.board.firmware_setup();
            let mut state = self.power_up_state(0);
            wake::enter(&mut state, vector);
            state
        });
        self.reset_processors(start);
        self.board.wake();
    }

    fn reset_devices(&self) {
        for signals in &self.signals {
            for event in [Event::Nmi, Event::Init, Event::Sipi] {
                signals.clear(event);
            }
        }
        self.board.reset();
        self.tree.reset();
    }

    /// Gives every processor its state after a reset; `start` is that of the first when no firmware runs.
    fn reset_processors(&self, start: Option<X86State>) {
        // One offset for all, so that the counters of all processors agree, from 0.
        let host = self.vcpus.with(0, |vcpu| vcpu.tsc().wrapping_sub(vcpu.state().tsc_offset)).unwrap_or(0);
        for index in 0..self.vcpus.count() {
            let mut state = match &start {
                Some(start) if index == 0 => start.clone(),
                _ => self.power_up_state(index),
            };
            if start.is_some() {
                self.set_memory_types(&mut state);
            }
            state.tsc_offset = host.wrapping_neg();
            if report::log::enabled(report::log::Item::CpuReset) {
                let registers = self.vcpus.with(index, |vcpu| {
                    vcpu.state().dump(DumpOptions { fpu: true, ..DumpOptions::default() })
                });
                report::log_item!(CpuReset, "CPU Reset (CPU {index})\n{}", registers.unwrap_or_default());
            }
            self.vcpus.with(index, |vcpu| vcpu.set_state(&state));
        }
        // A machine that stands starts its counters when it goes on.
        let mut frozen = self.progress.frozen_tsc.lock();
        if frozen.is_some() {
            *frozen = Some(0);
        }
    }

    /// The machine has stopped: remembers the time-stamp counter.
    pub(crate) fn freeze(&self) {
        *self.progress.frozen_tsc.lock() = self.vcpus.with(0, |vcpu| vcpu.tsc());
    }

    /// The machine goes on: the time-stamp counters go on from where they stood.
    pub(crate) fn thaw(&self) {
        let Some(then) = self.progress.frozen_tsc.lock().take() else { return };
        let Some(now) = self.vcpus.with(0, |vcpu| vcpu.tsc()) else { return };
        for index in 0..self.vcpus.count() {
            self.vcpus.with(index, |vcpu| vcpu.shift_tsc(then.wrapping_sub(now)));
        }
    }

    /// Presses keys one after the other, and lets them go together.
    pub(crate) fn send_keys(&self, keys: &[u16], hold_ms: u64) {
        let press = |keyboard: &chipset::i8042::I8042, key: u16, down| {
            keyboard.key(key.to_le_bytes()[0], key >> 8 != 0, down);
        };
        for &key in keys {
            press(&self.board.keyboard, key, true);
        }
        let (keys, keyboard) = (keys.to_vec(), self.board.keyboard.clone());
        let timer = self.handle.timer(move || {
            for &key in keys.iter().rev() {
                press(&keyboard, key, false);
            }
        });
        timer.arm(Instant::now() + Duration::from_millis(hold_ms));
        *self.progress.held_keys.lock() = Some(timer);
    }

    /// Presses the power button.
    pub(crate) fn power_button(&self) {
        self.board.power_button();
    }
}
