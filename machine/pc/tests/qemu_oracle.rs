//! Our boards beside the distribution's QEMU after power-up: every port, the registers in memory, fw_cfg's files.

use accel::CpuIo;
use clock::Clock;
use guestmem::RamBlock;
use irq::CpuSignals;
use pc::{BoardModel, Pc, PcConfig};
use qdev::{SystemControl, SystemRequest};
use qtest::{QEMU, Qtest};
use std::sync::Arc;

/// 128 MiB, QEMU's default.
const RAM: u64 = 128 << 20;

struct Nobody;

impl SystemControl for Nobody {
    fn request(&self, _request: SystemRequest) {}
}

const MODELS: [(&str, BoardModel); 2] =
    [("pc-i440fx-7.2", BoardModel::I440fx), ("pc-q35-7.2", BoardModel::Q35)];

fn board(machine: &str, model: BoardModel) -> Pc {
    let ram = RamBlock::new("pc.ram", RAM).expect("RAM");
    let clock = Clock::manual();
    let mut config = PcConfig::new(model, ram, &clock, Arc::new(Nobody));
    config.cpus = vec![Arc::new(CpuSignals::new())];
    // The default model of QEMU calls itself AMD's.
    config.amd = true;
    config.identity.machine = machine.to_owned();
    let pc = Pc::new(config).expect("board");
    pc.publish_tables();
    pc.reset();
    pc
}

/// Runs `compare` on both boards; says so when there is nothing to compare with.
fn with_both(compare: impl Fn(&str, &Pc, &mut Qtest)) {
    for (machine, model) in MODELS {
        match Qtest::start(&["-M", machine, "-serial", "null"]) {
            Some(mut qemu) => compare(machine, &board(machine, model), &mut qemu),
            None => println!("SKIPPED {machine}: there is no {QEMU}"),
        }
    }
}

#[test]
fn every_port_reads_as_qemus() {
    with_both(|machine, pc, qemu| {
        // Not built: the floppy controller, VMware's port, the helper of an option ROM; and COM1, which has no back
        // end here. What counts: the timer; the clock.
        let passed_over = |port: u16| {
            matches!(
                port,
                0x40..=0x43 | 0x61 | 0x71 | 0x7e | 0x7f | 0x3f0..=0x3f5 | 0x3f7 | 0x3f8..=0x3ff | 0x5658
            )
        };
        let ports: Vec<u16> = (0..=0xffff).filter(|&port| !passed_over(port)).collect();
        let lines: Vec<String> = ports.iter().map(|port| format!("inb {port:#x}")).collect();
        let expected = qemu.read(&lines);
        let differing: Vec<String> = ports
            .iter()
            .zip(expected)
            .filter_map(|(&port, expected)| {
                let found = u64::from(pc.cpus[0].port_read(port, 1));
                (found != expected).then(|| format!("{port:#06x}: {found:#x}, QEMU {expected:#x}"))
            })
            .collect();
        assert!(differing.is_empty(), "{machine}: {differing:#?}");
    });
}

#[test]
fn registers_in_memory_read_as_qemus() {
    with_both(|machine, pc, qemu| {
        let hpet = (0..0x160).step_by(8).map(|at| 0xfed0_0000 + at);
        let ioapic = [0xfec0_0000u64, 0xfec0_0010];
        let holes = [0xfee0_0000u64 - 8, 0xfef0_0000, 0xa_0000, RAM, RAM + 0x1000, 0xb000_0000, 0xfed1_c000];
        let places: Vec<u64> = hpet.chain(ioapic).chain(holes).collect();
        let lines: Vec<String> = places.iter().map(|at| format!("readl {at:#x}")).collect();
        let expected = qemu.read(&lines);
        let differing: Vec<String> = places
            .iter()
            .zip(expected)
            .filter_map(|(&at, expected)| {
                let found = pc.cpus[0].mmio_read(at, 4);
                (found != expected).then(|| format!("{at:#x}: {found:#x}, QEMU {expected:#x}"))
            })
            .collect();
        assert!(differing.is_empty(), "{machine}: {differing:#?}");
    });
}

/// Files by name and size, and contents by key or name.
type FwCfg = (Vec<(String, usize)>, Vec<(String, Vec<u8>)>);

/// The directory of fw_cfg: name and size of each file; then the items and the files that must be the same bytes.
fn fw_cfg(mut read: impl FnMut(u16, usize) -> Vec<u8>) -> FwCfg {
    let mut contents: Vec<(String, Vec<u8>)> = [0, 1, 2, 3, 4, 5, 0xd, 0xe, 0xf, 0x8000, 0x8002, 0x8004]
        .map(|key| (format!("{key:#x}"), read(key, 160)))
        .into();
    let count = u32::from_be_bytes(read(0x19, 4).try_into().expect("count")) as usize;
    let directory = read(0x19, 4 + 64 * count);
    let mut files = Vec::new();
    for entry in directory[4..].chunks(64) {
        let size = u32::from_be_bytes(entry[..4].try_into().expect("size")) as usize;
        let key = u16::from_be_bytes(entry[4..6].try_into().expect("key"));
        let name = String::from_utf8_lossy(&entry[8..]).trim_end_matches('\0').to_owned();
        if ["etc/e820", "etc/system-states", "etc/boot-fail-wait", "bootorder"].contains(&name.as_str()) {
            contents.push((name.clone(), read(key, size)));
        }
        files.push((name, size));
    }
    (files, contents)
}

#[test]
fn fw_cfg_tells_what_qemus_tells() {
    with_both(|machine, pc, qemu| {
        let cpu = &pc.cpus[0];
        let ours = fw_cfg(|key, len| {
            cpu.port_write(0x510, 2, key.into());
            (0..len).map(|_| cpu.port_read(0x511, 1) as u8).collect()
        });
        let theirs = fw_cfg(|key, len| {
            let mut lines = vec![format!("outw 0x510 {key:#x}")];
            lines.extend((0..len).map(|_| "inb 0x511".to_owned()));
            let answers = qemu.ask(&lines);
            answers[1..]
                .iter()
                .map(|text| u8::from_str_radix(text.trim_start_matches("0x"), 16).expect("byte"))
                .collect()
        });
        for (found, expected) in ours.1.iter().zip(&theirs.1) {
            assert_eq!(found, expected, "{machine}");
        }
        // Option ROMs and the features of system management mode are not built.
        let built =
            |name: &&(String, usize)| !name.0.starts_with("genroms/") && !name.0.starts_with("etc/smi/");
        let names = |files: &[(String, usize)]| {
            files.iter().filter(built).map(|(name, _)| name.clone()).collect::<Vec<_>>()
        };
        assert_eq!(names(&ours.0), names(&theirs.0), "{machine}: files");
    });
}
