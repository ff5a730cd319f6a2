//! The definition block: the board's devices that cannot be found by probing.
//!
//! The names, identifiers and values are those that guests know from QEMU's boards; what the methods have to do follows
//! from the ACPI specification and from the registers they use.

mod cpus;
mod isa;
mod links;
mod pci;

use crate::aml::{
    Access, Space, Sync, Term, Unit, Update, arg, both, device, eisa_id, element, field, increment, int,
    less, list, local, method, name, not, package, path, region, repeat, ret, scope, shift_right, size_of,
    store, string, subtract, to_buffer, to_hex_string, when,
};
use crate::config::{Board, Config};
use crate::resource::{io, memory_32_fixed, template};

/// The body of the DSDT.
pub(crate) fn build(config: &Config) -> Vec<u8> {
    let mut terms = vec![debug_method(), pci::host_bridge(config)];
    terms.push(scope("\\_SB.PCI0", pci::hotplug_registers(config)));
    terms.push(links::build(config.board));
    if config.hpet {
        terms.push(scope("\\_SB", [hpet()]));
    }
    terms.push(scope("\\_GPE", [name("_HID", string("ACPI0006"))]));
    terms.push(cpus::build(config));
    terms.push(scope("\\_SB.PCI0", [pci::resources(config), fixed_resources(config)]));
    terms.push(scope("\\", [sleep_states(config)]));
    if config.fw_cfg {
        terms.push(scope("\\_SB.PCI0", [fw_cfg()]));
    }
    terms.push(scope("\\_SB.PCI0", [pci::functions(config)]));
    terms.push(pci::event(config));
    list(terms).into_bytes()
}

/// `DBUG`: writes a value, in hexadecimal, to the firmware's debug port.
fn debug_method() -> Term {
    let (text, at) = (local(0), local(1));
    scope(
        "\\",
        [
            region("DBG", Space::Io, 0x402, 1),
            field("DBG", Access::Byte, false, Update::Preserve, &[Unit::Field("DBGB", 8)]),
            method(
                "DBUG",
                1,
                Sync::Free,
                [
                    to_hex_string(arg(0), &text),
                    to_buffer(text.clone(), &text),
                    store(int(0), &at),
                    // The buffer ends with the string's zero.
                    repeat(
                        less(at.clone(), subtract(size_of(&text), int(1))),
                        [store(element(&text, at.clone()), &path("DBGB")), increment(&at)],
                    ),
                    store(int(0x0a), &path("DBGB")),
                ],
            ),
        ],
    )
}

/// The HPET is there if its first register has a vendor and its period is one that the specification allows.
fn hpet() -> Term {
    let vendor = shift_right(path("VEND"), int(16));
    let plausible = both(
        both(less(int(0), vendor.clone()), less(vendor, int(0xffff))),
        both(less(int(0), path("PRD")), not(less(int(100_000_000), path("PRD")))),
    );
    device(
        "HPET",
        [
            name("_HID", eisa_id("PNP0103")),
            name("_UID", int(0)),
            region("HPTM", Space::Memory, 0xfed0_0000, 0x400),
            field(
                "HPTM",
                Access::Dword,
                true,
                Update::Preserve,
                &[Unit::Field("VEND", 32), Unit::Field("PRD", 32)],
            ),
            method("_STA", 0, Sync::Free, [when(plausible, [ret(int(0x0f))]), ret(int(0))]),
            name("_CRS", template([memory_32_fixed(0xfed0_0000, 0x400)])),
        ],
    )
}

/// Devices that only claim the ports of registers.
fn fixed_resources(config: &Config) -> Term {
    let holder = |id: &str, uid: &str, port: u16, len: u8| {
        device(
            id,
            [
                name("_HID", string("PNP0A06")),
                name("_UID", string(uid)),
                name("_STA", int(0x0b)),
                name("_CRS", template([io(port, 1, len)])),
            ],
        )
    };
    let (gpe, gpe_len) = config.gpe();
    list([
        holder("GPE0", "GPE0 resources", gpe, gpe_len),
        holder("PHPR", "PCI Hotplug resources", config.pci_hotplug_port(), 0x18),
    ])
}

fn fw_cfg() -> Term {
    device(
        "FWCF",
        [
            name("_HID", string("QEMU0002")),
            name("_STA", int(0x0b)),
            // Selector, data, and the DMA address register.
            name("_CRS", template([io(0x510, 1, 0x0c)])),
        ],
    )
}

/// The sleep types that PM1 control takes.
fn sleep_states(config: &Config) -> Term {
    let state =
        |id: &str, value: u8| name(id, package(vec![int(value.into()), int(value.into()), int(0), int(0)]));
    let mut out = Vec::new();
    if !config.disable_s3 {
        out.push(state("_S3", 1));
    }
    if !config.disable_s4 {
        out.push(state("_S4", config.s4_val));
    }
    out.push(state("_S5", 0));
    list(out)
}

/// Whether the board is Q35.
fn is_q35(config: &Config) -> bool {
    config.board == Board::Q35
}
