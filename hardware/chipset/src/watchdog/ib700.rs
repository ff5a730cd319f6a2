//! The watchdog of iBASE's IB700 boards: two write-only ports.

use crate::window::byte;
use clock::{Clock, NANOS, Timer};
use guestmem::{IoHandler, IoRules, Region};
use isa::IsaSlot;
use qdev::{Category, Device, DeviceSpec, Properties, SystemRequest};
use std::sync::Arc;

/// Stops the timer.
const DISABLE: u32 = 0x441;
/// Starts it with a time.
const ENABLE: u32 = 0x443;

/// The timer behind the ports.
pub struct Ib700 {
    timer: Timer,
}

impl Ib700 {
    /// A timer on `clock` that calls `expired` when it runs out.
    pub fn new(clock: &Clock, expired: impl Fn() + Send + Sync + 'static) -> Arc<Self> {
        Arc::new(Self { timer: clock.timer(expired) })
    }

    /// The register windows with their ports: each answers at two addresses.
    pub fn ports(self: &Arc<Self>) -> [(u32, Region); 2] {
        [DISABLE, ENABLE].map(|port| {
            let window = Window { watchdog: self.clone(), port };
            (port, Region::io("ib700", 2, Arc::new(window), IoRules::UP_TO_4))
        })
    }

    /// System reset.
    pub fn reset(&self) {
        self.timer.disarm();
    }

    fn write(&self, port: u32, value: u8) {
        if port < ENABLE {
            self.timer.disarm();
        } else {
            // 30 seconds for 0, 28 for 1, ... 0 for 15.
            let seconds = 30 - 2 * u64::from(value & 0xf);
            self.timer.arm(self.timer.clock().now() + seconds * NANOS);
        }
    }
}

/// One of the windows.
struct Window {
    watchdog: Arc<Ib700>,
    port: u32,
}

impl IoHandler for Window {
    fn read(&self, _offset: u64, _size: u8) -> u64 {
        u64::MAX
    }

    fn write(&self, offset: u64, size: u8, value: u64) {
        // A wide access that begins here goes on in the other window.
        let first = self.port + u32::from(byte(offset));
        for (port, value) in (first..ENABLE + 2).zip(value.to_le_bytes()).take(size.into()) {
            self.watchdog.write(port, value);
        }
    }
}

/// It has no properties.
#[derive(Properties)]
struct Ib700Properties {}

struct OnBus(Arc<Ib700>);

impl Device for OnBus {
    fn reset(&self) {
        self.0.reset();
    }
}

/// `ib700`.
pub static IB700_SPEC: DeviceSpec = DeviceSpec {
    name: "ib700",
    aliases: &[],
    desc: "iBASE 700",
    bus: "ISA",
    category: Category::Watchdog,
    user_creatable: true,
    properties: || Box::<Ib700Properties>::default(),
    realize: |_, slot| {
        let slot = IsaSlot::from_any(slot)?;
        let system = slot.context().system.clone();
        let watchdog = Ib700::new(&slot.context().clock, move || system.request(SystemRequest::Watchdog));
        for (port, region) in watchdog.ports() {
            slot.map("ib700", &region, port, 2, None);
        }
        Ok(Arc::new(OnBus(watchdog)))
    },
};
