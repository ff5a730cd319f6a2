//! Processors: their objects, and the methods behind hotplug.
//!
//! The registers (QEMU's documentation, `docs/specs/acpi_cpu_hotplug`): a selector (CSEL), a command (CCMD) with its
//! data (CDAT), and flags of the selected processor: enabled (CPEN), inserted (CINS), to be removed (CRMV), eject (CEJ0).

use crate::aml::{
    Access, Space, Sync, Term, Unit, Update, acquire, arg, buffer, call, device, eisa_id, either, equal,
    field, increment, int, less, list, local, method, mutex, name, not, notify, path, processor, region,
    release, repeat, ret, scope, stop, store, string, when,
};
use crate::config::Config;
use crate::resource::{io, template};
use crate::tables::madt_cpu;

/// Most processors whose identifier fits the old kind of object and of MADT entry.
const OLD_IDS: u32 = 255;

fn register(name: &str) -> Term {
    path(&format!("\\_SB.PCI0.PRES.{name}"))
}

const LOCK: &str = "\\_SB.PCI0.PRES.CPLK";

/// `body` with the registers' lock held.
fn locked(body: impl IntoIterator<Item = Term>) -> Term {
    list([acquire(LOCK), list(body), release(LOCK)])
}

fn object_name(index: usize) -> String {
    format!("C{index:03X}")
}

pub(super) fn build(config: &Config) -> Term {
    list([
        scope("\\_SB.PCI0", [registers(config)]),
        scope("\\_SB", [container(config)]),
        method("\\_GPE._E02", 0, Sync::Free, [call("\\_SB.CPUS.CSCN", [])]),
    ])
}

fn registers(config: &Config) -> Term {
    let port = config.cpu_hotplug_port();
    device(
        "PRES",
        [
            name("_HID", eisa_id("PNP0A06")),
            name("_UID", string("CPU Hotplug resources")),
            mutex("CPLK"),
            name("_CRS", template([io(port, 1, 0x0c)])),
            region("PRST", Space::Io, port.into(), 0x0c),
            field(
                "PRST",
                Access::Byte,
                false,
                Update::Zeros,
                &[
                    Unit::Skip(32),
                    Unit::Field("CPEN", 1),
                    Unit::Field("CINS", 1),
                    Unit::Field("CRMV", 1),
                    Unit::Field("CEJ0", 1),
                    Unit::Field("CEJF", 1),
                    Unit::Skip(3),
                    Unit::Field("CCMD", 8),
                ],
            ),
            field(
                "PRST",
                Access::Dword,
                false,
                Update::Preserve,
                &[Unit::Field("CSEL", 32), Unit::Skip(32), Unit::Field("CDAT", 32)],
            ),
            // The first write turns the old register layout into this one.
            method("_INI", 0, Sync::Serialized, [store(int(0), &path("CSEL"))]),
        ],
    )
}

fn container(config: &Config) -> Term {
    let mut body = vec![
        name("_HID", string("ACPI0010")),
        name("_CID", eisa_id("PNP0A05")),
        tell(config.cpus.len()),
        status(),
        eject(),
        scan(config.cpus.len()),
        report(),
    ];
    body.extend(config.cpus.iter().enumerate().map(|(index, cpu)| object(index, cpu.apic_id)));
    device("CPUS", body)
}

/// `CTFY (index, event)`: tells the system of an event at a processor.
fn tell(count: usize) -> Term {
    method(
        "CTFY",
        2,
        Sync::Free,
        (0..count).map(|i| when(equal(arg(0), int(i as u64)), [notify(&object_name(i), arg(1))])),
    )
}

/// `CSTA (index)`: `_STA` of a processor.
fn status() -> Term {
    let value = local(0);
    method(
        "CSTA",
        1,
        Sync::Serialized,
        [
            store(int(0), &value),
            locked([
                store(arg(0), &register("CSEL")),
                when(equal(register("CPEN"), int(1)), [store(int(0x0f), &value)]),
            ]),
            ret(value),
        ],
    )
}

/// `CEJ0 (index)`: takes a processor out.
fn eject() -> Term {
    method(
        "CEJ0",
        1,
        Sync::Serialized,
        [locked([store(arg(0), &register("CSEL")), store(int(1), &register("CEJ0"))])],
    )
}

/// `CSCN ()`: finds the processors that something happened to. Command 0 selects the next one from the selected one on;
/// when nothing happened to what it selects, none is left.
fn scan(count: usize) -> Term {
    let (from, found) = (local(0), local(1));
    let handle = |flag: &str, event: u64| {
        when(
            equal(register(flag), int(1)),
            [call("CTFY", [found.clone(), int(event)]), store(int(1), &register(flag))],
        )
    };
    method(
        "CSCN",
        0,
        Sync::Serialized,
        [
            store(int(0), &from),
            locked([repeat(
                less(from.clone(), int(count as u64)),
                [
                    store(from.clone(), &register("CSEL")),
                    store(int(0), &register("CCMD")),
                    store(register("CDAT"), &found),
                    // The search has come round.
                    when(less(found.clone(), from.clone()), [stop()]),
                    when(
                        not(either(equal(register("CINS"), int(1)), equal(register("CRMV"), int(1)))),
                        [stop()],
                    ),
                    handle("CINS", 1),
                    handle("CRMV", 3),
                    store(found.clone(), &from),
                    increment(&from),
                ],
            )]),
        ],
    )
}

/// `COST (index, event, status, details)`: passes on what the system made of an event.
fn report() -> Term {
    method(
        "COST",
        4,
        Sync::Serialized,
        [locked([
            store(arg(0), &register("CSEL")),
            store(int(1), &register("CCMD")),
            store(arg(1), &register("CDAT")),
            store(int(2), &register("CCMD")),
            store(arg(2), &register("CDAT")),
        ])],
    )
}

fn object(index: usize, apic_id: u32) -> Term {
    let number = int(index as u64);
    let mut body = vec![method("_STA", 0, Sync::Serialized, [ret(call("CSTA", [number.clone()]))])];
    let uid = u32::try_from(index).unwrap_or(u32::MAX);
    body.push(name("_MAT", buffer(&madt_cpu(uid, apic_id, true))));
    // The first processor stays.
    if index > 0 {
        body.push(method("_EJ0", 1, Sync::Free, [call("CEJ0", [number.clone()])]));
    }
    body.push(method("_OST", 3, Sync::Serialized, [call("COST", [number.clone(), arg(0), arg(1), arg(2)])]));
    let id = object_name(index);
    match u8::try_from(uid) {
        Ok(old) if apic_id < OLD_IDS && uid < OLD_IDS => processor(&id, old, body),
        _ => device(&id, [name("_HID", string("ACPI0007")), name("_UID", number), list(body)]),
    }
}
