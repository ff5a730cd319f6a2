use super::*;
use guestmem::{AddressSpace, RamBlock};
use std::sync::atomic::{AtomicUsize, Ordering};

fn device() -> (Arc<FwCfg>, AddressSpace, AddressSpace) {
    let root = Region::whole("system");
    root.add(&Region::ram("ram", RamBlock::new("ram", 0x10_0000).expect("ram")), 0);
    let memory = AddressSpace::memory("memory", &root);
    let fw_cfg = FwCfg::new(Some(Dma::new(&memory)), 32);
    let ports = Region::container("io", 0x1_0000);
    for (port, region) in fw_cfg.ports() {
        ports.add(&region, port);
    }
    (fw_cfg, AddressSpace::ports("I/O", &ports), memory)
}

fn bytes(io: &AddressSpace, key: u16, count: usize) -> Vec<u8> {
    io.write_int(0x510, 2, key.into());
    (0..count).map(|_| io.read_int(0x511, 1) as u8).collect()
}

fn dma(io: &AddressSpace, memory: &AddressSpace, control: u32, length: u32, address: u64) -> u32 {
    memory.write(0x1000, &control.to_be_bytes());
    memory.write(0x1004, &length.to_be_bytes());
    memory.write(0x1008, &address.to_be_bytes());
    io.write_int(0x514, 4, 0);
    io.write_int(0x518, 4, u64::from(0x1000_u32.swap_bytes()));
    (memory.read_int(0x1000, 4) as u32).swap_bytes()
}

#[test]
fn the_signature_and_numbers_read_byte_by_byte() {
    let (fw_cfg, io, _memory) = device();
    assert_eq!(bytes(&io, 0, 5), b"QEMU\0");
    assert_eq!(bytes(&io, 1, 4), [3, 0, 0, 0]);
    fw_cfg.add_u16(key::NB_CPUS, 0x102);
    assert_eq!(bytes(&io, key::NB_CPUS, 3), [2, 1, 0]);
    assert_eq!(bytes(&io, 0x4005, 2), [2, 1]);
    assert_eq!(io.read_int(0x514, 4), u64::from(0x5145_4d55_u32.swap_bytes()));
    assert_eq!(io.read_int(0x518, 4), u64::from(0x2043_4647_u32.swap_bytes()));
}

#[test]
fn files_are_sorted_by_name_in_the_directory() {
    let (fw_cfg, io, _memory) = device();
    fw_cfg.add_file("opt/b", b"bee".to_vec()).expect("add");
    fw_cfg.add_file("etc/a", b"a".to_vec()).expect("add");
    assert_eq!(fw_cfg.add_file("etc/a", vec![]), Err(AddError::Duplicate));
    assert_eq!(fw_cfg.add_file(&"x".repeat(56), vec![]), Err(AddError::BadName));
    let dir = bytes(&io, key::FILE_DIR, 4 + 128);
    assert_eq!(dir[..12], [0, 0, 0, 2, 0, 0, 0, 1, 0, 0x20, 0, 0]);
    assert_eq!(&dir[12..18], b"etc/a\0");
    assert_eq!(dir[68..76], [0, 0, 0, 3, 0, 0x21, 0, 0]);
    assert_eq!(bytes(&io, 0x21, 4), b"bee\0");
}

#[test]
fn dma_reads_skips_writes_and_reports_errors() {
    let (fw_cfg, io, memory) = device();
    let calls = Arc::new(AtomicUsize::new(0));
    let seen = calls.clone();
    fw_cfg.add_file("a", b"0123456789".to_vec()).expect("add");
    fw_cfg
        .add_writable("w", vec![0; 4], move |data| {
            seen.fetch_add(usize::from(data[1]), Ordering::SeqCst);
        })
        .expect("add");
    assert_eq!(dma(&io, &memory, 0x20 << 16 | 8 | 4, 4, 0), 0);
    assert_eq!(dma(&io, &memory, 2, 4, 0x2000), 0);
    let mut buf = [0; 4];
    memory.read(0x2000, &mut buf);
    assert_eq!(&buf, b"4567");
    assert_eq!(dma(&io, &memory, 0x20 << 16 | 8 | 16, 1, 0x2000), 1);
    memory.write(0x3000, &[7, 9]);
    assert_eq!(dma(&io, &memory, 0x21 << 16 | 8 | 16, 2, 0x3000), 0);
    assert_eq!(calls.load(Ordering::SeqCst), 9);
    assert_eq!(dma(&io, &memory, 0x21 << 16 | 8 | 16, 5, 0x3000), 1);
    assert_eq!(dma(&io, &memory, 2, u32::MAX, 0x2000), 1);
}

#[test]
fn any_access_is_harmless() {
    let (fw_cfg, io, _memory) = device();
    let mut seed = 1_u64;
    for _ in 0..10_000 {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let (port, size) = (0x510 + (seed >> 60 & 15), 1 << (seed >> 40 & 3));
        if seed >> 50 & 1 == 0 {
            io.read_int(port, size);
        } else {
            io.write_int(port, size, seed >> 20 & 0xffff);
        }
    }
    fw_cfg.reset();
    assert_eq!(io.read_int(0x511, 1), b'Q'.into());
}
