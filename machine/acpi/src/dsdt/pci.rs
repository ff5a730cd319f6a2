//! The PCI host bridge, what it decodes, its slots and their hotplug.
//!
//! The hotplug registers (QEMU's documentation, `docs/specs/acpi_pci_hotplug`): slots that got a device (PCIU), slots
//! whose device is to go (PCID), eject (B0EJ), selected bus (BNUM), label of a selected slot (PIDX).

use super::{is_q35, isa};
use crate::aml::{
    Access, Space, Sync, Term, Unit, Update, acquire, and, arg, both, buffer, call, device, dword_field,
    eisa_id, equal, field, int, less, list, local, method, mutex, name, not, notify, or, otherwise, package,
    path, place, region, release, ret, scope, shift_left, store, string, uuid, when,
};
use crate::config::{Config, FunctionKind};
use crate::resource::{Cacheable, buses, io, memory_32, memory_64, ports, template};

/// `_OSC`'s identifier for host bridges (PCI firmware specification 3.3, chapter 4.5.1).
const OSC_UUID: &str = "33db4d5b-1ff7-401c-9657-7441c03dd766";
/// What the system may take over on PCI Express: SHPC hotplug, PME, AER, the capability structure; not native hotplug.
const OSC_CONTROL: u64 = 0x1e;
/// `_DSM`'s identifier for device labels (PCI firmware specification 3.3, chapter 4.6).
const LABEL_UUID: &str = "e5c937d0-3553-4d7a-9117-ea4d19c3434d";
/// The I/O APIC and what lies above it is not PCI's.
const LAST_32: u32 = 0xfebf_ffff;

pub(super) fn host_bridge(config: &Config) -> Term {
    let mut body = Vec::new();
    if is_q35(config) {
        body.push(name("_HID", eisa_id("PNP0A08")));
        body.push(name("_CID", eisa_id("PNP0A03")));
        body.push(name("_UID", int(0)));
        body.push(capabilities());
    } else {
        body.push(name("_HID", eisa_id("PNP0A03")));
        body.push(name("_UID", int(0)));
    }
    let mut out = vec![device("PCI0", body)];
    if let Some(base) = config.mcfg {
        out.push(device(
            "DRAC",
            [
                name("_HID", string("PNP0C01")),
                name("_CRS", template([memory_32(Cacheable::No, base, base | 0x0fff_ffff)])),
            ],
        ));
    }
    scope("\\_SB", out)
}

/// `_OSC (identifier, revision, count, buffer)`: what the system may control. Status bits: 2 unknown identifier, 3 unknown
/// revision, 4 something was masked.
fn capabilities() -> Term {
    let granted = local(0);
    let flag = |bit: u64| or(path("CDW1"), int(1 << bit), Some(&path("CDW1")));
    method(
        "_OSC",
        4,
        Sync::Free,
        [
            dword_field(&arg(3), 0, "CDW1"),
            when(
                equal(arg(0), uuid(OSC_UUID)),
                [
                    dword_field(&arg(3), 8, "CDW3"),
                    and(path("CDW3"), int(OSC_CONTROL), Some(&granted)),
                    when(not(equal(arg(1), int(1))), [flag(3)]),
                    when(not(equal(granted.clone(), path("CDW3"))), [flag(4)]),
                    store(granted, &path("CDW3")),
                ],
            ),
            otherwise([flag(2)]),
            ret(arg(3)),
        ],
    )
}

/// The hotplug registers, and the methods that the slots' objects use.
pub(super) fn hotplug_registers(config: &Config) -> Vec<Term> {
    let port = u64::from(config.pci_hotplug_port());
    let dwords = |id, offset, names: &[&'static str]| {
        let units: Vec<_> = names.iter().map(|&n| Unit::Field(n, 32)).collect();
        list([
            region(id, Space::Io, port + offset, 4 * names.len() as u64),
            field(id, Access::Dword, false, Update::Zeros, &units),
        ])
    };
    let slot_bit = || shift_left(int(1), arg(1));
    vec![
        dwords("PCST", 0, &["PCIU", "PCID"]),
        dwords("SEJ", 8, &["B0EJ"]),
        dwords("BNMR", 0x10, &["BNUM", "PIDX"]),
        mutex("BLCK"),
        // PCEJ (bus, slot): ejects.
        method(
            "PCEJ",
            2,
            Sync::Free,
            [
                acquire("BLCK"),
                store(arg(0), &path("BNUM")),
                store(slot_bit(), &path("B0EJ")),
                release("BLCK"),
                ret(int(0)),
            ],
        ),
        // AIDX (bus, slot): the label's number; 0 or all ones: none.
        method(
            "AIDX",
            2,
            Sync::Free,
            [
                acquire("BLCK"),
                store(arg(0), &path("BNUM")),
                store(slot_bit(), &path("PIDX")),
                store(path("PIDX"), &local(0)),
                release("BLCK"),
                ret(local(0)),
            ],
        ),
        labels(),
    ]
}

/// `PDSM (identifier, revision, function, bus, slot)`: `_DSM` of a slot. Function 0: which functions there are; function
/// 7: the label.
fn labels() -> Term {
    let (number, answer) = (local(0), local(1));
    let known = both(equal(arg(0), uuid(LABEL_UUID)), not(less(arg(1), int(2))));
    let labelled = both(not(equal(number.clone(), int(0))), not(equal(number.clone(), int(0xffff_ffff))));
    method(
        "PDSM",
        5,
        Sync::Serialized,
        [
            store(call("AIDX", [arg(3), arg(4)]), &number),
            when(
                equal(arg(2), int(0)),
                [
                    store(buffer(&[0]), &answer),
                    when(both(known, labelled.clone()), [store(int(0x81), &place(&answer, int(0)))]),
                    ret(answer),
                ],
            ),
            store(package(vec![int(0), string("")]), &local(2)),
            when(both(equal(arg(2), int(7)), labelled), [store(number, &place(&local(2), int(0)))]),
            ret(local(2)),
        ],
    )
}

/// `_CRS`: buses, the configuration ports, and all that RAM and chips leave free.
pub(super) fn resources(config: &Config) -> Term {
    let mut out = vec![
        buses(0, 0xff),
        io(0xcf8, 1, 8),
        ports(0, 0xcf7),
        ports(0xd00, 0xffff),
        memory_32(Cacheable::Yes, 0xa_0000, 0xb_ffff),
    ];
    let mut first = u32::try_from(config.below_4g).unwrap_or(u32::MAX);
    if let Some(base) = config.mcfg {
        if first < base {
            out.push(memory_32(Cacheable::No, first, base - 1));
        }
        first = base + 0x1000_0000;
    }
    if first < LAST_32 {
        out.push(memory_32(Cacheable::No, first, LAST_32));
    }
    if config.hole_64 > 0 {
        let start = config.high_end.max(1 << 32).next_multiple_of(1 << 30);
        out.push(memory_64(Cacheable::Yes, start, start.saturating_add(config.hole_64 - 1)));
    }
    name("_CRS", template(out))
}

fn object_name(devfn: u8) -> String {
    format!("S{devfn:02X}")
}

fn address(devfn: u8) -> Term {
    name("_ADR", int(u64::from(devfn >> 3) << 16 | u64::from(devfn & 7)))
}

/// The objects of the functions that are there, and of the slots that may get one.
pub(super) fn functions(config: &Config) -> Term {
    let mut functions = config.functions.clone();
    functions.sort_by_key(|f| f.devfn);
    let mut out: Vec<Term> = functions
        .iter()
        .map(|f| {
            let id = object_name(f.devfn);
            let more = match f.kind {
                FunctionKind::Plain => list([]),
                FunctionKind::IsaBridge => isa::bridge(config, &id),
                FunctionKind::Vga => {
                    list(["_S1D", "_S2D", "_S3D"].map(|m| method(m, 0, Sync::Free, [ret(int(0))])))
                }
            };
            device(&id, [address(f.devfn), more])
        })
        .collect();
    if config.pci_hotplug {
        out.push(name("BSEL", int(0)));
        let mut events = Vec::new();
        for slot in 0..32u8 {
            let devfn = slot << 3;
            let id = object_name(devfn);
            let mut here = functions.iter().filter(|f| f.devfn >> 3 == slot).peekable();
            if here.peek().is_none() {
                out.push(device(&id, [address(devfn), slot_methods(slot)]));
            } else if here.all(|f| f.hotpluggable) && functions.iter().any(|f| f.devfn == devfn) {
                out.push(scope(&id, [slot_methods(slot)]));
            } else {
                continue;
            }
            events.push(when(and(arg(0), int(1 << slot), None), [notify(&id, arg(1))]));
        }
        // DVNT (slots, event): tells the system of an event at slots.
        out.push(method("DVNT", 2, Sync::Free, events));
        out.push(method(
            "PCNT",
            0,
            Sync::Free,
            [
                store(int(0), &path("BNUM")),
                call("DVNT", [path("PCIU"), int(1)]),
                call("DVNT", [path("PCID"), int(3)]),
            ],
        ));
    }
    list(out)
}

fn slot_methods(slot: u8) -> Term {
    list([
        name("ASUN", int(slot.into())),
        method(
            "_DSM",
            4,
            Sync::Serialized,
            [ret(call("PDSM", [arg(0), arg(1), arg(2), path("BSEL"), path("ASUN")]))],
        ),
        name("_SUN", int(slot.into())),
        method("_EJ0", 1, Sync::Free, [call("PCEJ", [path("BSEL"), path("_SUN")])]),
    ])
}

/// General-purpose event 1: something happened to a slot.
pub(super) fn event(config: &Config) -> Term {
    let body = if config.pci_hotplug {
        vec![acquire("\\_SB.PCI0.BLCK"), call("\\_SB.PCI0.PCNT", []), release("\\_SB.PCI0.BLCK")]
    } else {
        Vec::new()
    };
    scope("\\_GPE", [method("_E01", 0, Sync::Free, body)])
}
