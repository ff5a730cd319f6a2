//! Interrupt routing: the link devices, and which slot's pin is at which.

use crate::aml::{
    Sync, Term, and, arg, device, dword_field, eisa_id, equal, int, less, list, method, name, or, otherwise,
    package, path, ret, scope, store, when,
};
use crate::config::Board;
use crate::resource::{interrupts, template};

/// Interrupts that a link may be given.
const CHOICES: [u32; 3] = [5, 10, 11];
/// Offset of the interrupt in the descriptor that `_SRS` gets and `IQCR` returns.
const INTERRUPT_AT: u64 = 5;

pub(super) fn build(board: Board) -> Term {
    match board {
        Board::I440fx => i440fx(),
        Board::Q35 => q35(),
    }
}

/// `_PRT`'s contents: for every slot and pin, the link that `of` names.
fn routes(of: impl Fn(u32, u32) -> String) -> Term {
    let all = (0..32).flat_map(|slot| (0..4).map(move |pin| (slot, pin)));
    package(
        all.map(|(slot, pin)| {
            let address = u64::from(slot << 16 | 0xffff);
            package(vec![int(address), int(pin.into()), path(&of(slot, pin)), int(0)])
        })
        .collect(),
    )
}

fn letter(n: u32) -> char {
    char::from(b'A' + (n & 7) as u8)
}

/// `_STA` of a link: whether its routing register names an interrupt.
fn status() -> Term {
    method("IQST", 1, Sync::Free, [when(and(arg(0), int(0x80), None), [ret(int(9))]), ret(int(0x0b))])
}

/// `_CRS` of a link, from its routing register's value. `set` stores the interrupt in `PRRI`.
fn current(set: Term) -> Term {
    method(
        "IQCR",
        1,
        Sync::Serialized,
        [
            name("PRR0", template([interrupts(&[0])])),
            dword_field(&path("PRR0"), INTERRUPT_AT, "PRRI"),
            set,
            ret(path("PRR0")),
        ],
    )
}

/// A link with the routing register `register`.
fn link(n: u32, register: &str) -> Term {
    let reg = path(register);
    let call = |method: &str| ret(list([path(method), reg.clone()]));
    device(
        &format!("LNK{}", letter(n)),
        [
            name("_HID", eisa_id("PNP0C0F")),
            name("_UID", int(n.into())),
            name("_PRS", template([interrupts(&CHOICES)])),
            method("_STA", 0, Sync::Free, [call("IQST")]),
            method("_DIS", 0, Sync::Free, [or(reg.clone(), int(0x80), Some(&reg))]),
            method("_CRS", 0, Sync::Free, [call("IQCR")]),
            method(
                "_SRS",
                1,
                Sync::Free,
                [dword_field(&arg(0), INTERRUPT_AT, "PRRI"), store(path("PRRI"), &reg)],
            ),
        ],
    )
}

fn i440fx() -> Term {
    // The south bridge's own functions (the ACPI registers') raise the SCI, which is not routed.
    let route = |slot: u32, pin: u32| match (slot, pin) {
        (1, 0) => "LNKS".to_owned(),
        _ => format!("LNK{}", letter((slot + pin).wrapping_sub(1) & 3)),
    };
    let sci = device(
        "LNKS",
        [
            name("_HID", eisa_id("PNP0C0F")),
            name("_UID", int(4)),
            name("_PRS", template([interrupts(&[9])])),
            method("_STA", 0, Sync::Free, [ret(int(0x0b))]),
            method("_DIS", 0, Sync::Free, []),
            method("_CRS", 0, Sync::Free, [ret(path("_PRS"))]),
            method("_SRS", 1, Sync::Free, []),
        ],
    );
    scope(
        "\\_SB",
        [
            scope("PCI0", [method("_PRT", 0, Sync::Free, [ret(routes(route))])]),
            status(),
            current(when(less(arg(0), int(0x80)), [store(arg(0), &path("PRRI"))])),
            list((0..4).map(|n| link(n, &format!("PRQ{n}")))),
            sci,
        ],
    )
}

fn q35() -> Term {
    // Slots 25 to 29 and 31 are the chip set's own and use the first four lines, the others the last four by turns;
    // 30 is the bridge to conventional PCI, whose pins are in order.
    let line = |slot: u32, pin: u32| match slot {
        25..=29 | 31 => pin,
        30 => 4 + pin,
        _ => 4 + (slot + pin) % 4,
    };
    let gsi = |n: u32| {
        let here = || template([interrupts(&[16 + n])]);
        device(
            &format!("GSI{}", letter(n)),
            [
                name("_HID", eisa_id("PNP0C0F")),
                name("_UID", int(u64::from(16 + n))),
                name("_PRS", here()),
                name("_CRS", here()),
                method("_DIS", 0, Sync::Free, []),
                method("_SRS", 1, Sync::Free, []),
            ],
        )
    };
    list([
        // Which interrupt controllers the system uses: 0 the PICs, else the I/O APIC.
        name("\\PICF", int(0)),
        method("\\_PIC", 1, Sync::Free, [store(arg(0), &path("\\PICF"))]),
        scope(
            "\\_SB",
            [
                scope(
                    "PCI0",
                    [
                        name("PRTP", routes(|slot, pin| format!("LNK{}", letter(line(slot, pin))))),
                        name("PRTA", routes(|slot, pin| format!("GSI{}", letter(line(slot, pin))))),
                        method(
                            "_PRT",
                            0,
                            Sync::Free,
                            [
                                when(equal(path("\\PICF"), int(0)), [ret(path("PRTP"))]),
                                otherwise([ret(path("PRTA"))]),
                            ],
                        ),
                    ],
                ),
                status(),
                current(store(and(arg(0), int(0x0f), None), &path("PRRI"))),
                list((0..8).map(|n| link(n, &format!("PRQ{}", letter(n))))),
                list((0..8).map(gsi)),
            ],
        ),
    ])
}
