//! Kernel images, initial file systems and command lines of any content.

use boot::{BootRequest, MemoryMap, Module};
use guestmem::{AddressSpace, RamBlock, Region};
use std::sync::LazyLock;

const RAM: u64 = 32 << 20;

static MEMORY: LazyLock<AddressSpace> = LazyLock::new(|| {
    let root = Region::whole("system");
    root.add(&Region::ram("ram", RamBlock::new("ram", RAM).expect("memory")), 0);
    AddressSpace::memory("memory", &root)
});

/// The input: a byte of switches, the lengths of the command line and of the module, these two, and the image.
pub fn run(data: &[u8]) {
    let Some((&[switches, command, module], rest)) = data.split_first_chunk::<3>() else { return };
    let (command, rest) = rest.split_at(usize::from(command).min(rest.len()));
    let (module, kernel) = rest.split_at(usize::from(module).min(rest.len()));
    // Sizes that matter are near those of memory: an image may be followed by zeros, and memory may be small.
    let mut kernel = kernel.to_vec();
    if switches & 1 != 0 {
        kernel.resize(kernel.len() + 0x2_0000, 0);
    }
    let below_4g = if switches & 2 != 0 { 2 << 20 } else { RAM };
    let modules = (0..switches >> 4 & 3)
        .map(|_| Module {
            data: module.to_vec(),
            command_line: String::from_utf8_lossy(command).into_owned(),
        })
        .collect();
    let request = BootRequest {
        kernel,
        kernel_name: "kernel".to_owned(),
        command_line: String::from_utf8_lossy(command).into_owned(),
        modules,
        rsdp: if switches & 4 != 0 { 0xf_5000 } else { 0 },
        long_mode: switches & 8 != 0,
    };
    let _ = boot::load(&MEMORY, &MemoryMap::pc(below_4g, 0, 0x2_0000), &request);
}
