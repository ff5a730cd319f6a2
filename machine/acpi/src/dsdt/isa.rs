//! The devices behind the ISA bridge.

use crate::aml::{
    Access, Space, Sync, Term, Unit, Update, arg, buffer, device, eisa_id, field, int, list, method, name,
    package, path, region, ret, scope, store, string,
};
use crate::config::{Board, Config, FloppyDrive};
use crate::resource::{dma, io, irq, template};

/// What the object of the ISA bridge holds; `bridge` is its name.
pub(super) fn bridge(config: &Config, bridge: &str) -> Term {
    let isa = &config.isa;
    let mut out = vec![routing_registers(config.board, bridge)];
    if let Some(port) = isa.pvpanic {
        out.push(pvpanic(port));
    }
    if isa.keyboard {
        out.push(keyboard());
        out.push(device(
            "MOU",
            [name("_HID", eisa_id("PNP0F13")), name("_STA", int(0x0f)), name("_CRS", template([irq(12)]))],
        ));
    }
    if let Some(drives) = isa.floppy {
        out.push(floppy(drives));
    }
    out.extend((0..3).rev().filter(|&n| isa.parallel[n]).map(parallel));
    out.extend((0..4).rev().filter(|&n| isa.serial[n]).map(serial));
    if isa.rtc {
        out.push(device(
            "RTC",
            [name("_HID", eisa_id("PNP0B00")), name("_CRS", template([io(0x70, 1, 8), irq(8)]))],
        ));
    }
    list(out)
}

/// The bridge's interrupt routing registers, as names in `\_SB`.
fn routing_registers(board: Board, bridge: &str) -> Term {
    let eight = ["PRQA", "PRQB", "PRQC", "PRQD", "PRQE", "PRQF", "PRQG", "PRQH"].map(|n| Unit::Field(n, 8));
    let (id, len, units) = match board {
        Board::I440fx => ("P40C", 4, ["PRQ0", "PRQ1", "PRQ2", "PRQ3"].map(|n| Unit::Field(n, 8)).to_vec()),
        Board::Q35 => {
            let (first, second) = eight.split_at(4);
            ("PIRQ", 0x0c, [first, &[Unit::Skip(32)], second].concat())
        }
    };
    list([
        region(id, Space::PciConfig, 0x60, len),
        scope(
            "\\_SB",
            [field(&format!("PCI0.{bridge}.{id}"), Access::Byte, false, Update::Preserve, &units)],
        ),
    ])
}

fn pvpanic(port: u16) -> Term {
    device(
        "PEVT",
        [
            name("_HID", string("QEMU0001")),
            name("_CRS", template([io(port, 1, 1)])),
            region("PEOR", Space::Io, port.into(), 1),
            field("PEOR", Access::Byte, false, Update::Preserve, &[Unit::Field("PEPT", 8)]),
            name("_STA", int(0x0f)),
            method("RDPT", 0, Sync::Free, [ret(path("PEPT"))]),
            method("WRPT", 1, Sync::Free, [store(arg(0), &path("PEPT"))]),
        ],
    )
}

fn keyboard() -> Term {
    device(
        "KBD",
        [
            name("_HID", eisa_id("PNP0303")),
            name("_STA", int(0x0f)),
            name("_CRS", template([io(0x60, 1, 1), io(0x64, 1, 1), irq(1)])),
        ],
    )
}

fn serial(n: usize) -> Term {
    let (port, line) = [(0x3f8, 4), (0x2f8, 3), (0x3e8, 4), (0x2e8, 3)][n & 3];
    device(
        &format!("COM{}", n + 1),
        [
            name("_HID", eisa_id("PNP0501")),
            name("_UID", int(n as u64 + 1)),
            name("_STA", int(0x0f)),
            name("_CRS", template([io(port, 0, 8), irq(line)])),
        ],
    )
}

fn parallel(n: usize) -> Term {
    let (port, line) = [(0x378, 7), (0x278, 5), (0x3bc, 7)][n % 3];
    device(
        &format!("LPT{}", n + 1),
        [
            name("_HID", eisa_id("PNP0400")),
            name("_UID", int(n as u64 + 1)),
            name("_STA", int(0x0f)),
            name("_CRS", template([io(port, 8, 8), irq(line)])),
        ],
    )
}

fn floppy(drives: [Option<FloppyDrive>; 2]) -> Term {
    // _FDE: presence of four drives, and of a tape drive (2: unknown), 32 bits each.
    let mut found = [0u8; 20];
    found[16] = 2;
    let mut body = vec![
        name("_HID", eisa_id("PNP0700")),
        name("_CRS", template([io(0x3f2, 0, 4), io(0x3f7, 0, 1), irq(6), dma(2)])),
    ];
    for (n, drive) in drives.into_iter().enumerate() {
        let Some(drive) = drive else { continue };
        found[4 * n] = 1;
        // _FDI: drive number and type, highest cylinder, sector and head, then the values for INT 13h's parameter table.
        let fdi = [
            n as u64,
            drive.drive_type.into(),
            drive.max_cylinder.into(),
            drive.max_sector.into(),
            drive.max_head.into(),
            0xaf,
            0x02,
            0x25,
            0x02,
            0x12,
            0x1b,
            0xff,
            0x6c,
            0xf6,
            0x0f,
            0x08,
        ];
        body.push(device(
            ["FLPA", "FLPB"][n & 1],
            [name("_ADR", int(n as u64)), name("_FDI", package(fdi.map(int).to_vec()))],
        ));
    }
    body.push(name("_FDE", buffer(&found)));
    device("FDC0", body)
}
