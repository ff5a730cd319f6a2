//! A guest that writes and reads any port, register and memory of a board: every chip, PCI configuration, fw_cfg,
//! virtio devices and their queues.

use accel::CpuIo;
use block::{BlockBackend, BlockOptions};
use clock::Clock;
use guestmem::RamBlock;
use irq::CpuSignals;
use pc::{BoardModel, Pc, PcConfig};
use qdev::{Context, Device, DeviceSpec, Input, Links, SystemControl, SystemRequest};
use std::sync::{Arc, LazyLock, Mutex};

const RAM: u64 = 16 << 20;

struct Nobody;

impl SystemControl for Nobody {
    fn request(&self, _: SystemRequest) {}
}

struct Machine {
    pc: Pc,
    clock: Clock,
    devices: Vec<Arc<dyn Device>>,
    /// Where registers are: the fixed ones and those of BARs.
    places: Vec<u64>,
    _peers: Vec<chardev::MemoryPeer>,
}

impl Machine {
    fn new(model: BoardModel) -> Self {
        let clock = Clock::manual();
        let ram = RamBlock::new("pc.ram", RAM).expect("memory");
        let mut config = PcConfig::new(model, ram, &clock, Arc::new(Nobody));
        config.cpus = (0..2).map(|_| Arc::new(CpuSignals::new())).collect();
        config.tsc_deadline = true;
        let (fronts, peers): (Vec<_>, Vec<_>) = (0..2).map(|_| chardev::memory("serial")).unzip();
        config.serials = fronts.into_iter().map(Some).collect();
        let pc = Pc::new(config).expect("a board");
        let links = Arc::new(Links::default());
        let path = std::env::temp_dir().join(format!("tinamou-fuzz-{}-{model:?}", std::process::id()));
        std::fs::write(&path, vec![0; 1 << 20]).expect("a file");
        let options = BlockOptions {
            file: path.to_str().map(str::to_owned),
            format: Some("raw".to_owned()),
            ..BlockOptions::default()
        };
        let disk = BlockBackend::open("disk", &options).expect("a disk");
        std::fs::remove_file(&path).expect("the file goes when it is closed");
        links.insert("disk", disk);
        let plug = |spec: &'static DeviceSpec, properties: &[(&str, &str)]| {
            let mut made = (spec.properties)();
            for (name, value) in properties {
                qdev::set(made.as_mut(), spec.name, name, &Input::Text(value)).expect(name);
            }
            let context =
                Context { id: None, links: links.clone(), clock: clock.clone(), system: Arc::new(Nobody) };
            let bus: &dyn qdev::Bus = &*pc.pci;
            bus.plug(spec, made, context).unwrap_or_else(|error| panic!("{}: {error}", spec.name))
        };
        let devices =
            vec![plug(&virtio::BLK_SPECS[0], &[("drive", "disk")]), plug(&virtio::RNG_SPECS[0], &[])];
        Self { pc, clock, devices, places: Vec::new(), _peers: peers }
    }

    /// Power-up, and what firmware does.
    fn reset(&mut self) {
        self.pc.reset();
        for device in &self.devices {
            device.reset();
        }
        self.pc.firmware_setup();
        self.places = vec![0xfee0_0000, 0xfec0_0000, 0xfed0_0000, 0xe000_0000, 0xb000_0000, 0xf_0000];
        let cpu = &self.pc.cpus[0];
        for slot in 0..8u64 {
            for bar in 0..6u64 {
                cpu.port_write(0xcf8, 4, (0x8000_0010 | slot << 11 | bar << 2) as u32);
                let address = u64::from(cpu.port_read(0xcfc, 4));
                if address & 1 == 0 && address & !15 != 0 {
                    self.places.push(address & !15);
                }
            }
        }
    }
}

static MACHINES: LazyLock<Mutex<[Machine; 2]>> =
    LazyLock::new(|| Mutex::new([Machine::new(BoardModel::I440fx), Machine::new(BoardModel::Q35)]));

/// Ports of the chips, the first of each.
const PORTS: [u16; 32] = [
    0x00, 0x08, 0x20, 0x40, 0x60, 0x61, 0x64, 0x70, 0x71, 0x80, 0x92, 0xa0, 0xb2, 0xc0, 0xd0, 0xf0, 0x1f0,
    0x2f8, 0x3f6, 0x3f8, 0x402, 0x4d0, 0x510, 0x511, 0x514, 0x518, 0x600, 0xae00, 0xaf00, 0xcd8, 0xcf8,
    0xcfc,
];

/// The input: a byte that chooses the board, then accesses of eight bytes each.
pub fn run(data: &[u8]) {
    let Some((&choice, accesses)) = data.split_first() else { return };
    let mut machines = MACHINES.lock().expect("no panic before");
    let machine = &mut machines[usize::from(choice & 1)];
    machine.reset();
    let (pc, places) = (&machine.pc, &machine.places);
    let space = &pc.memory.memory;
    for access in accesses.chunks_exact(8).take(512) {
        let [what, place, low, high, ref value @ ..] = *access else { continue };
        let value = u64::from(u32::from_le_bytes([value[0], value[1], value[2], value[3]]));
        let cpu = &pc.cpus[usize::from(what >> 7)];
        let size = 1 << (what >> 5 & 3);
        let offset = u64::from(u16::from_le_bytes([low, high]));
        let port = PORTS[usize::from(place & 31)].wrapping_add(u16::from(low & 15));
        let address = places[usize::from(place) % places.len()] + (offset & 0x3fff);
        match what & 15 {
            0 | 1 => cpu.port_write(port, size.min(4), value as u32),
            2 => drop(cpu.port_read(port, size.min(4))),
            3 => cpu.port_write(offset as u16, size.min(4), value as u32),
            4 => drop(cpu.port_read(offset as u16, size.min(4))),
            5 | 6 => cpu.mmio_write(address, size, value | value << 32),
            7 => drop(cpu.mmio_read(address, size)),
            // A configuration register of a function on the root bus.
            8 | 9 => {
                cpu.port_write(0xcf8, 4, 0x8000_0000 | u32::from(place) << 8 | u32::from(low & 0xfc));
                let at = 0xcfc + u16::from(low & 3);
                if what & 1 == 0 {
                    cpu.port_write(at, size.min(4), value as u32);
                } else {
                    cpu.port_read(at, size.min(4));
                }
            }
            // Queues and fw_cfg's control blocks lie in the first pages.
            10 | 11 => space.write_int(0x1000 + (offset & 0x3fff), size, value),
            // Up to an eighth of a second: every period of a fast timer is gone through.
            12 => machine.clock.advance((value & 0xff_ffff) << (high & 3)),
            13 => drop(cpu.acknowledge_interrupt()),
            14 => drop(cpu.apic_msr_write(0x800 + u32::from(low & 0x3f), value | u64::from(high) << 32)),
            _ => {
                cpu.set_apic_base(value | u64::from(low) << 8);
                cpu.set_tpr(high);
            }
        }
    }
}
