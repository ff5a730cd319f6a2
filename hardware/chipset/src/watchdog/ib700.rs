//! The watchdog of iBASE's IB700 boards: two write-only ports.

use crate::window::{byte, window};
use clock::{Clock, NANOS, Timer};
use guestmem::{IoRules, Region};
use isa::IsaSlot;
use qdev::{Category, Device, DeviceSpec, Properties, SystemRequest};
use std::sync::Arc;

/// The first port of four: the first two stop the timer, the others start it with a time.
pub const PORT: u32 = 0x441;

/// The timer behind the ports.
pub struct Ib700 {
    timer: Timer,
}

impl Ib700 {
    /// A timer on `clock` that calls `expired` when it runs out.
    pub fn new(clock: &Clock, expired: impl Fn() + Send + Sync + 'static) -> Arc<Self> {
        Arc::new(Self { timer: clock.timer(expired) })
    }

    /// The registers, to be mapped at port 0x441.
    pub fn region(self: &Arc<Self>) -> Region {
        window("ib700", 4, IoRules::BYTES, self, |_, _, _| 0xff, |w, o, _, v| w.write(o, byte(v)))
    }

    /// System reset.
    pub fn reset(&self) {
        self.timer.disarm();
    }

    fn write(&self, offset: u64, value: u8) {
        match offset {
            0 | 1 => self.timer.disarm(),
            2 | 3 => {
                // 30 seconds for 0, 28 for 1, ... 0 for 15.
                let seconds = 30 - 2 * u64::from(value & 0xf);
                self.timer.arm(self.timer.clock().now() + seconds * NANOS);
            }
            // The end of a wide access.
            _ => {}
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
        slot.map("ib700", &watchdog.region(), PORT, 4, None);
        Ok(Arc::new(OnBus(watchdog)))
    },
};
