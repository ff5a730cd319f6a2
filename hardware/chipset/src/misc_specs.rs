//! The small devices as device types: `isa-debugcon`, `isa-debug-exit`, `pvpanic`, `pvpanic-pci`.

use crate::misc::{DebugCon, DebugExit, PanicEvent, PvPanic};
use chardev::Chardevs;
use isa::IsaSlot;
use pci::{BarKind, FunctionBuilder, Ids, PciFunction, PciProperties, PciSlot};
use qdev::{Category, Context, Device, DeviceError, DeviceSpec, Properties, SystemRequest, take_properties};
use std::sync::Arc;

/// A device whose registers hold nothing.
struct Stateless;

impl Device for Stateless {
    fn reset(&self) {}
}

/// Properties of the debug console.
#[derive(Properties)]
struct DebugConProperties {
    #[prop(default = 0xe9u32)]
    iobase: u32,
    /// ID of a chardev to use as a backend
    chardev: String,
    #[prop(default = 0xe9u32)]
    readback: u32,
}

/// `isa-debugcon`.
pub static DEBUGCON_SPEC: DeviceSpec = DeviceSpec {
    name: "isa-debugcon",
    aliases: &[],
    desc: "",
    bus: "ISA",
    category: Category::Misc,
    user_creatable: true,
    properties: || Box::<DebugConProperties>::default(),
    realize: |properties, slot| {
        let properties = take_properties::<DebugConProperties>(properties)?;
        let slot = IsaSlot::from_any(slot)?;
        let Some(front) = Chardevs::link(&slot.context().links, "isa-debugcon", &properties.chardev)? else {
            return Err(DeviceError::new("Can't create debugcon device, empty char device"));
        };
        let readback = properties.readback.to_le_bytes()[0];
        // A back end that is full loses bytes: the port has no way to say that it is busy.
        let console = DebugCon::new(readback, move |byte| {
            front.write(&[byte]);
        });
        slot.map("isa-debugcon", &console.region(), properties.iobase, 1, None);
        Ok(Arc::new(Stateless))
    },
};

/// Properties of the exit port.
#[derive(Properties)]
struct DebugExitProperties {
    #[prop(default = 0x501u32)]
    iobase: u32,
    #[prop(default = 2u32)]
    iosize: u32,
}

/// `isa-debug-exit`.
pub static DEBUG_EXIT_SPEC: DeviceSpec = DeviceSpec {
    name: "isa-debug-exit",
    aliases: &[],
    desc: "",
    bus: "ISA",
    category: Category::Misc,
    user_creatable: true,
    properties: || Box::<DebugExitProperties>::default(),
    realize: |properties, slot| {
        let properties = take_properties::<DebugExitProperties>(properties)?;
        let slot = IsaSlot::from_any(slot)?;
        let system = slot.context().system.clone();
        let exit = DebugExit::new(move |status| system.request(SystemRequest::Exit(status)));
        let size = u8::try_from(properties.iosize).unwrap_or(u8::MAX);
        slot.map("isa-debug-exit", &exit.region(size), properties.iobase, size.into(), None);
        Ok(Arc::new(Stateless))
    },
};

/// Bits of `events`.
const EVENTS: u8 = 3;

fn panic_device(events: u8, context: &Context) -> Arc<PvPanic> {
    let system = context.system.clone();
    PvPanic::new(events, move |event| {
        system.request(match event {
            PanicEvent::Panicked => SystemRequest::GuestPanicked,
            PanicEvent::CrashLoaded => SystemRequest::GuestCrashLoaded,
            PanicEvent::Shutdown => SystemRequest::Shutdown,
        });
    })
}

/// Properties of the ISA form.
#[derive(Properties)]
struct PvPanicProperties {
    #[prop(default = 0x505u16)]
    ioport: u16,
    #[prop(default = EVENTS)]
    events: u8,
}

/// `pvpanic`, on ISA.
pub static PVPANIC_SPEC: DeviceSpec = DeviceSpec {
    name: "pvpanic",
    aliases: &[],
    desc: "",
    bus: "ISA",
    category: Category::Misc,
    user_creatable: true,
    properties: || Box::<PvPanicProperties>::default(),
    realize: |properties, slot| {
        let properties = take_properties::<PvPanicProperties>(properties)?;
        let slot = IsaSlot::from_any(slot)?;
        let device = panic_device(properties.events & 7, slot.context());
        slot.map("pvpanic", &device.region(1), properties.ioport.into(), 1, None);
        Ok(Arc::new(Stateless))
    },
};

/// Properties of the PCI form.
#[derive(Properties)]
struct PvPanicPciProperties {
    #[prop(default = EVENTS)]
    events: u8,
    /// Properties of all PCI devices.
    #[prop(flatten)]
    pci: PciProperties,
}

struct PvPanicPci(Arc<PciFunction>);

impl Device for PvPanicPci {
    fn reset(&self) {
        self.0.reset();
    }

    fn describe(&self) -> Vec<String> {
        self.0.qtree_lines()
    }

    fn property(&self, name: &str) -> Option<String> {
        (name == "addr").then(|| self.0.devfn().to_string())
    }
}

/// `pvpanic-pci`.
pub static PVPANIC_PCI_SPEC: DeviceSpec = DeviceSpec {
    name: "pvpanic-pci",
    aliases: &[],
    desc: "",
    bus: "PCI",
    category: Category::Misc,
    user_creatable: true,
    properties: || Box::<PvPanicPciProperties>::default(),
    realize: |properties, slot| {
        let properties = take_properties::<PvPanicPciProperties>(properties)?;
        let slot = PciSlot::from_any(slot)?;
        let device = panic_device(properties.events & 7, slot.context());
        // Ids of QEMU's device list (docs/specs/pci-ids): Red Hat, pvpanic; class "system, other".
        let ids = Ids {
            vendor: 0x1b36,
            device: 0x0011,
            revision: 1,
            class: 0x0880,
            interface: 0,
            subsystem_vendor: 0x1af4,
            subsystem: 0x1100,
        };
        let builder = FunctionBuilder::new("pvpanic-pci", ids).bar(
            0,
            BarKind::Memory32 { prefetchable: false },
            &device.region(2),
        );
        Ok(Arc::new(PvPanicPci(slot.add(builder)?)))
    },
};
