//! The watchdog timer of Intel's 6300ESB ICH (its data sheet, chapter 16), with QEMU's deviations: no interrupt after
//! the first stage, and the registers read as 0 but for the flag of the last reset.

use crate::window::window;
use clock::{Clock, Timer};
use guestmem::{IoRules, Region};
use parking_lot::Mutex;
use pci::{BarKind, FunctionBuilder, Ids, PciFunction, PciHooks, PciProperties, PciSlot};
use qdev::{Category, Device, DeviceSpec, Properties, SystemRequest, take_properties};
use std::sync::{Arc, Weak};

/// WDT Configuration Register in configuration space, 16 bits.
const CONFIG: u16 = 0x60;
/// CONFIG: the second stage does not reset.
const CONFIG_NO_REBOOT: u16 = 1 << 5;
/// CONFIG: the timer counts at 1 MHz rather than 1 kHz.
const CONFIG_FREQUENCY: u16 = 1 << 2;
/// CONFIG: what the first stage raises.
const CONFIG_INTERRUPT: u16 = 0x11;
/// WDT Lock Register in configuration space, 8 bits.
const LOCK: u16 = 0x68;
/// LOCK: the timer starts over after the second stage.
const LOCK_FREE_RUN: u8 = 1 << 2;
/// LOCK: the timer runs.
const LOCK_ENABLE: u8 = 1 << 1;
/// LOCK: this register keeps its value until the next reset.
const LOCK_LOCKED: u8 = 1 << 0;
/// Preload Value 1 Register in memory: the length of the first stage.
const PRELOAD_1: u64 = 0;
/// Preload Value 2 Register: that of the second.
const PRELOAD_2: u64 = 4;
/// Reload Register.
const RELOAD: u64 = 0xc;
/// RELOAD: the first stage begins anew.
const RELOAD_PING: u64 = 1 << 8;
/// RELOAD: the second stage has run out before; a one clears it. Bit 12 is where Linux's driver looks for it.
const RELOAD_TIMEOUT: u64 = 1 << 9 | 1 << 12;
/// What has to be written to RELOAD, one after the other, before any register in memory takes a value.
const KEYS: [u64; 2] = [0x80, 0x86];
/// A tick of the PCI clock, in nanoseconds.
const TICK: u64 = 30;

#[derive(Clone, Copy)]
pub(super) struct State {
    reboot: bool,
    fast: bool,
    interrupt: u16,
    free_run: bool,
    locked: bool,
    enabled: bool,
    preload: [u64; 2],
    second_stage: bool,
    /// How many keys have been seen.
    unlocked: usize,
    /// The flag that outlives a reset.
    timed_out: bool,
}

impl State {
    fn new(timed_out: bool) -> Self {
        Self {
            reboot: true,
            fast: false,
            interrupt: 0,
            free_run: false,
            locked: false,
            enabled: false,
            preload: [0xf_ffff; 2],
            second_stage: false,
            unlocked: 0,
            timed_out,
        }
    }

    pub(super) fn config(&self) -> u16 {
        let bit = |on: bool, bit: u16| if on { bit } else { 0 };
        bit(!self.reboot, CONFIG_NO_REBOOT) | bit(self.fast, CONFIG_FREQUENCY) | self.interrupt
    }

    pub(super) fn lock(&self) -> u8 {
        let bit = |on: bool, bit: u8| if on { bit } else { 0 };
        bit(self.free_run, LOCK_FREE_RUN) | bit(self.locked, LOCK_LOCKED) | bit(self.enabled, LOCK_ENABLE)
    }

    /// Nanoseconds of the stage that begins.
    fn stage(&self) -> u64 {
        let preload = self.preload[usize::from(self.second_stage)];
        (preload << if self.fast { 5 } else { 15 }) * TICK
    }
}

/// The timer with its registers.
pub struct I6300esb {
    pub(super) state: Mutex<State>,
    timer: Timer,
    expired: Box<dyn Fn() + Send + Sync>,
}

impl I6300esb {
    /// A timer on `clock` that calls `expired` when the second stage runs out.
    pub fn new(clock: &Clock, expired: impl Fn() + Send + Sync + 'static) -> Arc<Self> {
        Arc::new_cyclic(|own: &Weak<Self>| {
            let own = own.clone();
            let timer = clock.timer(move || {
                if let Some(watchdog) = own.upgrade() {
                    watchdog.stage_ends();
                }
            });
            Self { state: Mutex::new(State::new(false)), timer, expired: Box::new(expired) }
        })
    }

    /// The registers in memory.
    pub fn region(self: &Arc<Self>) -> Region {
        window("i6300esb", 0x10, IoRules::UP_TO_4, self, Self::read, Self::write)
    }

    /// System reset.
    pub fn reset(&self) {
        self.timer.disarm();
        let mut state = self.state.lock();
        *state = State::new(state.timed_out);
    }

    fn start(&self, second_stage: bool) {
        let stage = {
            let mut state = self.state.lock();
            if !state.enabled {
                return;
            }
            state.second_stage = second_stage;
            state.stage()
        };
        self.timer.arm(self.timer.clock().now() + stage);
    }

    fn stage_ends(&self) {
        let (second, reboot) = {
            let mut state = self.state.lock();
            state.timed_out |= state.second_stage && state.reboot;
            (state.second_stage, state.reboot)
        };
        if !second {
            return self.start(true);
        }
        if reboot {
            (self.expired)();
            self.reset();
        }
        if self.state.lock().free_run {
            self.start(false);
        }
    }

    fn read(&self, offset: u64, size: u8) -> u64 {
        let set = offset == RELOAD && size == 2 && self.state.lock().timed_out;
        if set { RELOAD_TIMEOUT } else { 0 }
    }

    fn write(&self, offset: u64, size: u8, value: u64) {
        let mut ping = false;
        {
            let mut state = self.state.lock();
            if offset == RELOAD && value == KEYS[0] {
                state.unlocked = 1;
            } else if offset == RELOAD && value == KEYS[1] && state.unlocked == 1 {
                state.unlocked = 2;
            } else if size >= 2 && state.unlocked == 2 {
                match (offset, size) {
                    (RELOAD, 2) => {
                        ping = value & RELOAD_PING != 0;
                        state.timed_out &= value & RELOAD_TIMEOUT == 0;
                    }
                    (PRELOAD_1, 4) => state.preload[0] = value & 0xf_ffff,
                    (PRELOAD_2, 4) => state.preload[1] = value & 0xf_ffff,
                    _ => {}
                }
                state.unlocked = 0;
            }
        }
        if ping {
            self.start(false);
        }
    }

    pub(super) fn set_config(&self, value: u16) {
        let mut state = self.state.lock();
        state.reboot = value & CONFIG_NO_REBOOT == 0;
        state.fast = value & CONFIG_FREQUENCY != 0;
        state.interrupt = value & CONFIG_INTERRUPT;
    }

    pub(super) fn set_lock(&self, value: u8) {
        let was = {
            let mut state = self.state.lock();
            if state.locked {
                return;
            }
            state.locked = value & LOCK_LOCKED != 0;
            state.free_run = value & LOCK_FREE_RUN != 0;
            std::mem::replace(&mut state.enabled, value & LOCK_ENABLE != 0)
        };
        if value & LOCK_ENABLE == 0 {
            self.timer.disarm();
        } else if !was {
            self.start(false);
        }
    }
}

/// The two registers in configuration space answer to their own width only; other accesses there reach storage that
/// means nothing.
struct Hooks {
    watchdog: Arc<I6300esb>,
    storage: Mutex<[u8; STORED.len()]>,
}

/// Where the bytes of that storage are which the registers hide.
const STORED: [u16; 3] = [CONFIG, CONFIG + 1, LOCK];

impl Hooks {
    /// Puts what an access of this width finds into configuration space.
    fn show(&self, function: &PciFunction, registers: bool) {
        let storage = *self.storage.lock();
        let (config, lock) = if registers {
            let state = self.watchdog.state.lock();
            (state.config(), state.lock())
        } else {
            (u16::from_le_bytes([storage[0], storage[1]]), storage[2])
        };
        function.with_config(|space| {
            space.set(CONFIG, 2, config.into());
            space.set(LOCK, 1, lock.into());
        });
    }
}

/// Whether an access is one of a register rather than of the bytes that it occupies.
fn is_register(offset: u16, size: u8) -> bool {
    matches!((offset, size), (CONFIG, 2) | (LOCK, 1))
}

impl PciHooks for Hooks {
    fn before_read(&self, function: &PciFunction, offset: u16, size: u8) {
        self.show(function, is_register(offset, size));
    }

    fn after_write(&self, function: &PciFunction, offset: u16, size: u8) {
        match (offset, size) {
            (CONFIG, 2) => self.watchdog.set_config((function.config(CONFIG, 2) & 0xffff) as u16),
            (LOCK, 1) => self.watchdog.set_lock(function.config(LOCK, 1).to_le_bytes()[0]),
            _ => {
                let written = offset..offset + u16::from(size);
                for (at, byte) in STORED.iter().zip(self.storage.lock().iter_mut()) {
                    if written.contains(at) {
                        *byte = function.config(*at, 1).to_le_bytes()[0];
                    }
                }
            }
        }
        self.show(function, false);
    }
}

/// Properties of the PCI function.
#[derive(Properties)]
struct I6300esbProperties {
    /// Properties of all PCI devices.
    #[prop(flatten)]
    pci: PciProperties,
}

struct OnBus {
    watchdog: Arc<I6300esb>,
    function: Arc<PciFunction>,
}

impl Device for OnBus {
    fn reset(&self) {
        self.function.reset();
        self.watchdog.reset();
    }

    fn describe(&self) -> Vec<String> {
        self.function.qtree_lines()
    }

    fn property(&self, name: &str) -> Option<String> {
        (name == "addr").then(|| self.function.devfn().to_string())
    }
}

/// `i6300esb`.
pub static I6300ESB_SPEC: DeviceSpec = DeviceSpec {
    name: "i6300esb",
    aliases: &[],
    desc: "Intel 6300ESB",
    bus: "PCI",
    category: Category::Watchdog,
    user_creatable: true,
    properties: || Box::<I6300esbProperties>::default(),
    realize: |properties, slot| {
        take_properties::<I6300esbProperties>(properties)?;
        let slot = PciSlot::from_any(slot)?;
        let system = slot.context().system.clone();
        let expired = move || system.request(SystemRequest::Watchdog);
        let watchdog = I6300esb::new(&slot.context().clock, expired);
        // Intel, 6300ESB watchdog timer; class "system, other".
        let ids = Ids {
            vendor: 0x8086,
            device: 0x25ab,
            revision: 0,
            class: 0x0880,
            interface: 0,
            subsystem_vendor: 0x1af4,
            subsystem: 0x1100,
        };
        let kind = BarKind::Memory32 { prefetchable: false };
        let function = slot.add(FunctionBuilder::new("i6300esb", ids).bar(0, kind, &watchdog.region()))?;
        function.set_hooks(Arc::new(Hooks { watchdog: watchdog.clone(), storage: Mutex::default() }));
        Ok(Arc::new(OnBus { watchdog, function }))
    },
};
