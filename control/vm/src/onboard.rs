//! The board's own devices as device types: what `-global` may set of them, and how `info qtree` shows them.
//!
//! The board makes and resets them; the nodes here only describe. Almost every property has the one value that is
//! built.

use crate::known_types::KNOWN_TYPES;
use chipset::acpi_pm::PmConfig;
use chipset::rtc::LostTicks;
use pc::{BoardModel, Pc};
use pci::{Devfn, PciFunction, PciProperties};
use qdev::{
    Bus, Category, Context, Device, DeviceError, DeviceSpec, DeviceTree, Enumeration, Globals, OnOffAuto,
    Only, Properties, Size,
};
use std::sync::Arc;

const fn spec(name: &'static str, bus: &'static str, properties: fn() -> Box<dyn Properties>) -> DeviceSpec {
    DeviceSpec {
        name,
        aliases: &[],
        desc: "",
        bus,
        category: Category::Bridge,
        user_creatable: false,
        properties,
        realize: |_, _| Err(DeviceError::new("part of the board")),
    }
}

/// Device types: `NAME Struct "type" "bus" { field: Type = value, "name"; }`; with `pci` also a PCI function's properties.
macro_rules! parts {
    ($($spec:ident $properties:ident $type:literal $bus:literal
        { $($field:ident: $kind:ty = $value:expr, $name:literal;)* } $($pci:ident)?;)*) => {$(
        #[derive(Properties)]
        struct $properties {
            $(#[prop(name = $name, default = $value)] $field: $kind,)*
            $(#[prop(flatten)] $pci: PciProperties,)?
        }
        static $spec: DeviceSpec = spec($type, $bus, || Box::<$properties>::default());
    )*};
}

fn only<T>(value: T) -> Only<T> {
    Only::new(value)
}

const GIB: u64 = 1 << 30;

parts! {
    FW_CFG FwCfg "fw_cfg_io" "System" {
        dma: Only<bool> = only(true), "dma_enabled";
        slots: Only<u16> = only(32), "x-file-slots";
        restore: Only<bool> = only(true), "acpi-mr-restore";
    };
    I440FX_HOST I440fxHost "i440FX-pcihost" "System" {
        hole: Only<Size> = only(Size(2 * GIB)), "pci-hole64-size";
        short: Only<u32> = only(0), "short_root_bus";
        fix: Only<bool> = only(true), "x-pci-hole64-fix";
        config: Only<bool> = only(true), "x-config-reg-migration-enabled";
        bypass: Only<bool> = only(false), "bypass-iommu";
    };
    Q35_HOST Q35Host "q35-pcihost" "System" {
        mcfg: Only<i64> = only(-1), "MCFG";
        hole: Only<Size> = only(Size(32 * GIB)), "pci-hole64-size";
        short: Only<u32> = only(0), "short_root_bus";
        below: Only<Size> = only(Size(0)), "below-4g-mem-size";
        above: Only<Size> = only(Size(0)), "above-4g-mem-size";
        fix: Only<bool> = only(true), "x-pci-hole64-fix";
        config: Only<bool> = only(true), "x-config-reg-migration-enabled";
        bypass: Only<bool> = only(false), "bypass-iommu";
    };
    IOAPIC IoApic "ioapic" "System" { version: Only<u8> = only(0x20), "version"; };
    HPET Hpet "hpet" "System" {
        timers: Only<u8> = only(3), "timers";
        msi: Only<bool> = only(false), "msi";
        intcap: Only<u32> = only(0), "hpet-intcap";
        saved: Only<bool> = only(true), "hpet-offset-saved";
    };
    PS2_KBD Ps2Kbd "ps2-kbd" "System" {};
    PS2_MOUSE Ps2Mouse "ps2-mouse" "System" {};
    I440FX I440fx "i440FX" "PCI" {} pci;
    PIIX3 Piix3 "PIIX3" "PCI" {} pci;
    PIIX3_IDE Piix3Ide "piix3-ide" "PCI" {} pci;
    PIIX4_PM Piix4Pm "PIIX4_PM" "PCI" {
        smb_io_base: Only<u32> = only(0xb100), "smb_io_base";
        disable_s3: u8 = 0u8, "disable_s3";
        disable_s4: u8 = 0u8, "disable_s4";
        s4_val: u8 = 2u8, "s4_val";
        bridges: Only<bool> = only(true), "acpi-pci-hotplug-with-bridge-support";
        root: Only<bool> = only(true), "acpi-root-pci-hotplug";
        memory: Only<bool> = only(true), "memory-hotplug-support";
        compat: Only<bool> = only(false), "smm-compat";
        smm: Only<bool> = only(true), "smm-enabled";
        index: Only<bool> = only(false), "x-not-migrate-acpi-index";
    } pci;
    MCH Mch "mch" "PCI" {
        tseg: Only<u16> = only(16), "extended-tseg-mbytes";
        smbase: Only<bool> = only(true), "smbase-smram";
    } pci;
    ICH9_AHCI Ich9Ahci "ich9-ahci" "PCI" {} pci;
    ICH9_SMB Ich9Smb "ICH9-SMB" "PCI" {} pci;
    PIC Pic "isa-i8259" "ISA" {
        iobase: Only<u32> = only(0x20), "iobase";
        elcr: Only<u32> = only(0x4d0), "elcr_addr";
        mask: Only<u8> = only(0xf8), "elcr_mask";
        master: Only<bool> = only(true), "master";
    };
    DMA Dma "i8257" "ISA" {
        base: Only<u32> = only(0), "base";
        page: Only<u32> = only(0x80), "page-base";
        high: Only<i32> = only(-1), "pageh-base";
        shift: Only<u32> = only(0), "dshift";
    };
    RTC Rtc "mc146818rtc" "ISA" {
        year: Only<i32> = only(0), "base_year";
        iobase: Only<u16> = only(0x70), "iobase";
        irq: Only<u8> = only(8), "irq";
        policy: LostTickPolicy = LostTickPolicy::Discard, "lost_tick_policy";
    };
    PIT Pit "isa-pit" "ISA" { iobase: Only<u32> = only(0x40), "iobase"; };
    SPEAKER Speaker "isa-pcspk" "ISA" {
        audiodev: Only<String> = only(String::new()), "audiodev";
        iobase: Only<u32> = only(0x61), "iobase";
        migrate: Only<bool> = only(true), "migrate";
    };
    SERIAL Serial "isa-serial" "ISA" {
        index: Only<u32> = only(0), "index";
        iobase: Only<u32> = only(0), "iobase";
        irq: Only<u32> = only(0), "irq";
    };
    KEYBOARD Keyboard "i8042" "ISA" {
        extended: Only<bool> = only(true), "extended-state";
        throttle: Only<bool> = only(false), "kbd-throttle";
        keys: Only<u8> = only(1), "kbd-irq";
        mouse: Only<u8> = only(12), "mouse-irq";
    };
    PORT92 Port92 "port92" "ISA" {};
}

/// The LPC bridge; its sleep states can be set and are not shown.
#[derive(Properties)]
struct Ich9Lpc {
    #[prop(default = Only::new(true))]
    noreboot: Only<bool>,
    #[prop(default = Only::new(false))]
    smm_compat: Only<bool>,
    #[prop(default = Only::new(true))]
    x_smi_broadcast: Only<bool>,
    #[prop(default = Only::new(true))]
    x_smi_cpu_hotplug: Only<bool>,
    #[prop(default = Only::new(true))]
    x_smi_cpu_hotunplug: Only<bool>,
    #[prop(flatten)]
    pci: PciProperties,
    #[prop(part, name = "disable_s3", default = 0u8)]
    disable_s3: u8,
    #[prop(part, name = "disable_s4", default = 0u8)]
    disable_s4: u8,
    #[prop(part, name = "s4_val", default = 2u8)]
    s4_val: u8,
}
static ICH9_LPC: DeviceSpec = spec("ICH9-LPC", "PCI", || Box::<Ich9Lpc>::default());

/// What becomes of lost periodic interrupts, by QEMU's names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum LostTickPolicy {
    Discard,
    Delay,
    Slew,
}

impl Enumeration for LostTickPolicy {
    const TYPE: &'static str = "LostTickPolicy";
    const VALUES: &'static [(&'static str, Self)] =
        &[("discard", Self::Discard), ("delay", Self::Delay), ("slew", Self::Slew)];
}

/// What the list says of the board's power management.
///
/// # Errors
/// A property that does not exist, or a value that is not built: the text for the user.
pub(crate) fn sleep(globals: &Globals, model: BoardModel) -> Result<PmConfig, String> {
    let (mut piix, mut ich) = (Piix4Pm::default(), Ich9Lpc::default());
    let (s3, s4, value) = match model {
        BoardModel::I440fx => {
            globals.apply(&PIIX4_PM, &mut piix).map_err(|error| error.0)?;
            (piix.disable_s3, piix.disable_s4, piix.s4_val)
        }
        BoardModel::Q35 => {
            globals.apply(&ICH9_LPC, &mut ich).map_err(|error| error.0)?;
            (ich.disable_s3, ich.disable_s4, ich.s4_val)
        }
    };
    Ok(PmConfig { disable_s3: s3 != 0, disable_s4: s4 != 0, s4_val: value, ..PmConfig::default() })
}

fn rtc(globals: &Globals, slew: bool) -> Result<Rtc, String> {
    let mut rtc = Rtc::default();
    if slew {
        rtc.policy = LostTickPolicy::Slew;
    }
    globals.apply(&RTC, &mut rtc).map_err(|error| error.0)?;
    Ok(rtc)
}

/// What becomes of the real-time clock's lost interrupts; `slew`: `-rtc driftfix=slew`, over which `-global` goes.
///
/// # Errors
/// As for [`sleep`], or no such clock can be made.
pub(crate) fn lost_ticks(globals: &Globals, slew: bool) -> Result<LostTicks, String> {
    match rtc(globals, slew)?.policy {
        LostTickPolicy::Discard => Ok(LostTicks::Discard),
        LostTickPolicy::Slew => Ok(LostTicks::Slew),
        LostTickPolicy::Delay => Err("Invalid lost tick policy.".to_owned()),
    }
}

/// Devices that boards have and that are not listed here.
const UNLISTED: &[&str] = &["apic", "cpu", "vmport", "vmmouse", "isa-fdc"];

/// Looks at what nothing has asked for, once all devices exist.
///
/// # Errors
/// The machine has such a device, and the property is not built: the text for the user.
pub(crate) fn check_unused(globals: &Globals) -> Result<(), String> {
    for qdev::Global { driver, property, .. } in globals.unused() {
        if UNLISTED.contains(&driver.as_str()) || driver.ends_with("-cpu") {
            return Err(format!("global {driver}.{property} is not supported by this build"));
        }
        if !crate::devices::is_type(&driver) && KNOWN_TYPES.binary_search(&driver.as_str()).is_err() {
            report::warn_report!("global {driver}.{property} has invalid class name");
        }
    }
    Ok(())
}

/// A bus that takes no devices of this build.
struct Closed {
    name: &'static str,
    kind: &'static str,
}

impl Bus for Closed {
    fn name(&self) -> String {
        self.name.to_owned()
    }

    fn bus_type(&self) -> &'static str {
        self.kind
    }

    fn plug(
        &self,
        spec: &'static DeviceSpec,
        _properties: Box<dyn Properties>,
        _context: Context,
    ) -> Result<Arc<dyn Device>, DeviceError> {
        Err(DeviceError::new(format!(
            "Device '{}' is not supported by this build on {}",
            spec.name, self.name
        )))
    }
}

fn closed(name: &'static str, kind: &'static str) -> Arc<dyn Bus> {
    Arc::new(Closed { name, kind })
}

/// What `info qtree` shows of a device besides its properties.
#[derive(Default)]
struct Shown {
    gpios: &'static [&'static str],
    lines: &'static [&'static str],
    function: Option<Arc<PciFunction>>,
    buses: Vec<Arc<dyn Bus>>,
}

impl Device for Shown {
    // The board resets what this stands for.
    fn reset(&self) {}

    fn gpios(&self) -> Vec<String> {
        self.gpios.iter().map(|line| (*line).to_owned()).collect()
    }

    fn describe(&self) -> Vec<String> {
        let function = self.function.iter().flat_map(|function| function.qtree_lines());
        self.lines.iter().map(|line| (*line).to_owned()).chain(function).collect()
    }

    fn property(&self, name: &str) -> Option<String> {
        let function = self.function.as_ref()?;
        match name {
            "addr" => Some(function.devfn().to_string()),
            // Bit 7 of the header type.
            "multifunction" => Some((function.config(0x0e, 1) & 0x80 != 0).to_string()),
            _ => None,
        }
    }

    fn buses(&self) -> Vec<Arc<dyn Bus>> {
        self.buses.clone()
    }
}

/// Adds nodes for a board.
struct Lister<'a> {
    tree: &'a DeviceTree,
    board: &'a Pc,
    globals: &'a Globals,
}

impl Lister<'_> {
    fn add<P: Properties>(
        &self,
        spec: &'static DeviceSpec,
        bus: &str,
        mut properties: P,
        shown: Shown,
    ) -> Result<(), String> {
        self.globals.apply(spec, &mut properties).map_err(|error| error.0)?;
        self.tree.add(spec, bus, Box::new(properties), Arc::new(shown));
        Ok(())
    }

    /// A function of the chip set; nothing where the board has been told to leave it out.
    fn function<P: Properties>(
        &self,
        spec: &'static DeviceSpec,
        at: (u8, u8),
        properties: P,
        shown: Shown,
    ) -> Result<(), String> {
        let (at, mut properties) = (Devfn::new(at.0, at.1), properties);
        self.globals.apply(spec, &mut properties).map_err(|error| error.0)?;
        for (name, own) in [("addr", "-1"), ("multifunction", "false")] {
            if qdev::get(&mut properties, name).as_deref() != Some(own) {
                return Err(format!("global {}.{name} is not supported by this build", spec.name));
            }
        }
        match self.board.pci.functions().into_iter().find(|function| function.devfn() == at) {
            Some(function) => {
                let bus = Bus::name(&*self.board.pci);
                self.add(spec, &bus, properties, Shown { function: Some(function), ..shown })
            }
            None => Ok(()),
        }
    }

    fn isa<P: Properties>(
        &self,
        spec: &'static DeviceSpec,
        properties: P,
        gpios: &'static [&'static str],
    ) -> Result<(), String> {
        self.add(spec, "isa.0", properties, Shown { gpios, ..Shown::default() })
    }

    fn i440fx(&self) -> Result<(), String> {
        let buses = vec![self.board.pci.clone() as Arc<dyn Bus>];
        let bridge = Shown { buses, ..Shown::default() };
        self.add(&I440FX_HOST, "main-system-bus", I440fxHost::default(), bridge)?;
        self.function(&I440FX, (0, 0), I440fx::default(), Shown::default())?;
        let buses = vec![self.board.isa.clone() as Arc<dyn Bus>];
        self.function(&PIIX3, (1, 0), Piix3::default(), Shown { buses, ..Shown::default() })?;
        let buses = vec![closed("ide.1", "IDE"), closed("ide.0", "IDE")];
        self.function(&PIIX3_IDE, (1, 1), Piix3Ide::default(), Shown { buses, ..Shown::default() })?;
        let gpios = &["gpio-out \"smi-irq\" 1", "gpio-out \"\" 1"];
        let power = Piix4Pm { smm: only(self.board.options.smm != OnOffAuto::Off), ..Piix4Pm::default() };
        let buses = vec![closed("i2c", "i2c-bus")];
        self.function(&PIIX4_PM, (1, 3), power, Shown { gpios, buses, ..Shown::default() })
    }

    fn q35(&self) -> Result<(), String> {
        let layout = self.board.memory.layout;
        let host = Q35Host {
            below: only(Size(layout.below_4g)),
            above: only(Size(layout.above_4g)),
            ..Q35Host::default()
        };
        let buses = vec![self.board.pci.clone() as Arc<dyn Bus>];
        self.add(&Q35_HOST, "main-system-bus", host, Shown { buses, ..Shown::default() })?;
        self.function(&MCH, (0, 0), Mch::default(), Shown::default())?;
        let buses = vec![self.board.isa.clone() as Arc<dyn Bus>];
        let bridge = Shown { gpios: &["gpio-out \"gsi\" 24"], buses, ..Shown::default() };
        self.function(&ICH9_LPC, (0x1f, 0), Ich9Lpc::default(), bridge)?;
        let buses = ["ide.5", "ide.4", "ide.3", "ide.2", "ide.1", "ide.0"].map(|name| closed(name, "IDE"));
        let ahci = Shown { buses: buses.to_vec(), ..Shown::default() };
        self.function(&ICH9_AHCI, (0x1f, 2), Ich9Ahci::default(), ahci)?;
        let buses = vec![closed("i2c", "i2c-bus")];
        self.function(&ICH9_SMB, (0x1f, 3), Ich9Smb::default(), Shown { buses, ..Shown::default() })
    }

    fn common_system(&self) -> Result<(), String> {
        let ioapic = Shown {
            gpios: &["gpio-in \"\" 24"],
            lines: &["mmio 00000000fec00000/0000000000001000"],
            ..Shown::default()
        };
        self.add(&IOAPIC, "main-system-bus", IoApic::default(), ioapic)?;
        if self.board.options.hpet {
            let intcap = match self.board.model {
                BoardModel::I440fx => 4,
                BoardModel::Q35 => 0xff_0104,
            };
            let shown = Shown {
                gpios: &["gpio-in \"\" 2", "gpio-out \"\" 1", "gpio-out \"sysbus-irq\" 32"],
                lines: &["mmio 00000000fed00000/0000000000000400"],
                ..Shown::default()
            };
            let hpet = Hpet { intcap: only(intcap), ..Hpet::default() };
            self.add(&HPET, "main-system-bus", hpet, shown)?;
        }
        if self.board.options.i8042 {
            let shown = || Shown { gpios: &["gpio-out \"\" 1"], ..Shown::default() };
            self.add(&PS2_KBD, "main-system-bus", Ps2Kbd::default(), shown())?;
            self.add(&PS2_MOUSE, "main-system-bus", Ps2Mouse::default(), shown())?;
        }
        Ok(())
    }

    fn isa_devices(&self, slew: bool) -> Result<(), String> {
        let board = self.board;
        self.isa(&DMA, Dma::default(), &[])?;
        let second = Dma { base: only(0xc0), page: only(0x88), shift: only(1), ..Dma::default() };
        self.isa(&DMA, second, &[])?;
        if board.options.has_pic() {
            let gpios = &["gpio-in \"\" 8", "gpio-out \"\" 1"];
            self.isa(&PIC, Pic::default(), gpios)?;
            let slave = Pic { iobase: only(0xa0), elcr: only(0x4d1), mask: only(0xde), master: only(false) };
            self.isa(&PIC, slave, gpios)?;
        }
        self.isa(&RTC, rtc(self.globals, slew)?, &["gpio-out \"\" 1"])?;
        if board.options.has_pit() {
            self.isa(&PIT, Pit::default(), &["gpio-in \"\" 1", "gpio-out \"\" 1"])?;
            self.isa(&SPEAKER, Speaker::default(), &[])?;
        }
        for (index, (port, irq)) in (0u32..).zip(uarts::ISA_SERIAL) {
            if board.has_serial(port) {
                let serial = Serial { index: only(index), iobase: only(port.into()), irq: only(irq) };
                self.isa(&SERIAL, serial, &[])?;
            }
        }
        if board.options.i8042 {
            let gpios = &[
                "gpio-in \"ps2-mouse-input-irq\" 1",
                "gpio-in \"ps2-kbd-input-irq\" 1",
                "gpio-out \"\" 2",
                "gpio-out \"a20\" 1",
            ];
            self.isa(&KEYBOARD, Keyboard::default(), gpios)?;
            self.isa(&PORT92, Port92::default(), &["gpio-out \"a20\" 1"])?;
        }
        Ok(())
    }
}

/// Puts the board's devices and buses into the tree, in the order in which QEMU makes them.
///
/// # Errors
/// `-global` asks for what is not there or not built: the text for the user.
pub(crate) fn list(tree: &DeviceTree, board: &Pc, globals: &Globals, slew: bool) -> Result<(), String> {
    let lister = Lister { tree, board, globals };
    tree.add_root_bus(closed("main-system-bus", "System"));
    lister.add(&FW_CFG, "main-system-bus", FwCfg::default(), Shown::default())?;
    match board.model {
        BoardModel::I440fx => lister.i440fx()?,
        BoardModel::Q35 => lister.q35()?,
    }
    lister.common_system()?;
    lister.isa_devices(slew)
}

#[cfg(test)]
mod tests {
    use super::*;
    use qdev::Global;

    fn globals(list: &[(&str, &str, &str)]) -> Globals {
        let entry = |(driver, property, value): &(&str, &str, &str)| Global {
            driver: (*driver).to_owned(),
            property: (*property).to_owned(),
            value: (*value).to_owned(),
        };
        Globals::new(list.iter().map(entry).collect())
    }

    #[test]
    fn sleep_states_are_switched_on_the_board_that_has_the_chip() {
        let list = globals(&[("PIIX4_PM", "disable_s3", "1"), ("ICH9-LPC", "disable_s4", "1")]);
        let config = sleep(&list, BoardModel::I440fx).expect("pc");
        assert_eq!((config.disable_s3, config.disable_s4), (true, false));
        check_unused(&list).expect("the other board's chip is not there");
        let wrong = globals(&[("PIIX4_PM", "foo", "1")]);
        assert_eq!(
            sleep(&wrong, BoardModel::I440fx).expect_err("foo"),
            "can't apply global PIIX4_PM.foo=1: Property 'PIIX4_PM.foo' not found"
        );
    }

    #[test]
    fn lost_ticks_are_chosen_by_option_and_property() {
        let policy =
            |value: &str, slew| lost_ticks(&globals(&[("mc146818rtc", "lost_tick_policy", value)]), slew);
        assert_eq!(lost_ticks(&globals(&[]), true), Ok(LostTicks::Slew));
        assert_eq!(policy("slew", false), Ok(LostTicks::Slew));
        assert_eq!(policy("discard", true), Ok(LostTicks::Discard));
        assert_eq!(policy("delay", false).expect_err("delay"), "Invalid lost tick policy.");
        assert_eq!(
            policy("merge", false).expect_err("merge"),
            "can't apply global mc146818rtc.lost_tick_policy=merge: Parameter 'lost_tick_policy' does not accept value \
             'merge'"
        );
    }

    #[test]
    fn what_is_not_built_is_refused() {
        let list = globals(&[("apic", "version", "4")]);
        assert!(check_unused(&list).expect_err("apic").contains("apic.version"));
        let list = globals(&[("mc146818rtc", "irq", "9")]);
        let text = lost_ticks(&list, false).expect_err("another interrupt");
        assert!(text.ends_with("with a value other than 8 is not supported by this build"), "{text}");
        assert!(KNOWN_TYPES.is_sorted());
    }
}
