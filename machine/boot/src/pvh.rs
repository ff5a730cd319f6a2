//! PVH: an ELF kernel with a Xen note that names a 32-bit entry point (Xen's public/arch-x86/hvm/start_info.h).

use crate::bytes::{array, put};
use crate::elf::Elf;
use crate::{BootError, BootRequest, MemoryMap, layout, protected_mode_state, put_string};
use guestmem::AddressSpace;
use x86::X86State;
use x86::reg::gpr;

/// XEN_ELFNOTE_PHYS32_ENTRY.
const PHYS32_ENTRY: u32 = 18;
/// XEN_HVM_START_MAGIC_VALUE.
const START_MAGIC: u32 = 0x336e_c578;
const START_INFO_SIZE: usize = 56;

/// The entry point that the PVH note names; `None` when there is no such note.
pub(crate) fn entry_point(image: &[u8]) -> Option<u32> {
    entry_of(&Elf::parse(image)?)
}

/// Entry point, lowest address and bytes in memory of a kernel with a PVH note.
pub(crate) fn extent(image: &[u8]) -> Option<(u32, u32, u32)> {
    let elf = Elf::parse(image)?;
    let (start, end) = elf.extent()?;
    Some((entry_of(&elf)?, u32::try_from(start).ok()?, u32::try_from(end - start).ok()?))
}

fn entry_of(elf: &Elf<'_>) -> Option<u32> {
    // The value is a native word of the kernel; its low half is the 32-bit address.
    array(elf.note(b"Xen\0", PHYS32_ENTRY)?, 0).map(u32::from_le_bytes)
}

pub(crate) fn load(
    memory: &AddressSpace,
    map: &MemoryMap,
    request: &BootRequest,
) -> Result<X86State, BootError> {
    let damaged = || BootError::Invalid("qemu: invalid kernel header".to_owned());
    let elf = Elf::parse(&request.kernel).ok_or_else(damaged)?;
    let entry = entry_of(&elf).ok_or_else(damaged)?;
    let kernel_end = elf.load(memory)?;
    put_string(memory, layout::COMMAND_LINE, &request.command_line)?;

    let mut info = [0; START_INFO_SIZE];
    put(&mut info, 0, &START_MAGIC.to_le_bytes());
    put(&mut info, 4, &1u32.to_le_bytes());
    put(&mut info, 24, &layout::COMMAND_LINE.to_le_bytes());
    put(&mut info, 32, &request.rsdp.to_le_bytes());

    let mut table = Vec::new();
    for range in &map.ranges {
        table.extend_from_slice(&range.start.to_le_bytes());
        table.extend_from_slice(&range.len.to_le_bytes());
        table.extend_from_slice(&u64::from(range.kind as u32).to_le_bytes());
    }
    memory.load(layout::TABLES, &table);
    put(&mut info, 40, &layout::TABLES.to_le_bytes());
    put(&mut info, 48, &(map.ranges.len() as u32).to_le_bytes());

    if let Some(initrd) = request.modules.first() {
        let size = initrd.data.len() as u64;
        let ram_end = map.usable_end(layout::KERNEL).unwrap_or(0);
        let start = ram_end.checked_sub(size).map(|at| at & !0xfff).filter(|&at| at >= kernel_end);
        let start = start.ok_or_else(|| {
            BootError::TooLarge(format!(
                "qemu: initrd is too large, cannot support.(max: {}, need {size})",
                ram_end.saturating_sub(kernel_end)
            ))
        })?;
        memory.load(start, &initrd.data);
        let list = layout::TABLES + table.len() as u64;
        let mut module = [0; 32];
        put(&mut module, 0, &start.to_le_bytes());
        put(&mut module, 8, &size.to_le_bytes());
        memory.load(list, &module);
        put(&mut info, 12, &1u32.to_le_bytes());
        put(&mut info, 16, &list.to_le_bytes());
    }
    memory.load(layout::INFO, &info);
    let mut state = protected_mode_state(memory, entry);
    state.gpr[gpr::RBX] = layout::INFO;
    Ok(state)
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::tests::ram;
    use crate::{ImageKind, Module, identify};

    /// A 64-bit ELF file with one segment of code at 2 MiB and a PVH note.
    pub(crate) fn image() -> Vec<u8> {
        let mut elf = vec![0u8; 0x200];
        put(&mut elf, 0, b"\x7fELF\x02\x01\x01");
        put(&mut elf, 18, &62u16.to_le_bytes());
        put(&mut elf, 32, &64u64.to_le_bytes());
        put(&mut elf, 54, &56u16.to_le_bytes());
        put(&mut elf, 56, &2u16.to_le_bytes());
        let mut header = |at: usize, kind: u32, offset: u64, physical: u64, file: u64, memory: u64| {
            put(&mut elf, at, &kind.to_le_bytes());
            for (field, value) in [(8, offset), (24, physical), (32, file), (40, memory)] {
                put(&mut elf, at + field, &value.to_le_bytes());
            }
        };
        header(64, 1, 0x1f0, 0x20_0000, 16, 0x3000);
        header(120, 4, 0x100, 0, 24, 24);
        put(&mut elf, 0x100, &[4, 0, 0, 0, 8, 0, 0, 0, 18, 0, 0, 0]);
        put(&mut elf, 0x10c, b"Xen\0");
        put(&mut elf, 0x110, &0x20_0008u64.to_le_bytes());
        put(&mut elf, 0x1f0, &[0x90; 16]);
        elf
    }

    #[test]
    fn the_start_information_leads_to_everything() {
        let (memory, map) = ram(8);
        assert_eq!(identify(&image()), Some(ImageKind::Pvh));
        let module = Module { data: b"initrd".to_vec(), command_line: String::new() };
        let request = BootRequest {
            kernel: image(),
            command_line: "quiet".into(),
            modules: vec![module],
            ..BootRequest::default()
        };
        memory.load(0x20_0800, &[0xff]);
        let state = load(&memory, &map, &request).expect("load");
        assert_eq!((state.rip, state.gpr[gpr::RBX]), (0x20_0008, layout::INFO));
        assert_eq!((memory.read_int(0x20_000f, 1), memory.read_int(0x20_0800, 1)), (0x90, 0));
        let info = |offset, size| memory.read_int(layout::INFO + offset, size);
        assert_eq!((info(0, 4), info(12, 4), info(48, 4)), (START_MAGIC.into(), 1, 4));
        let initrd = memory.read_int(info(16, 8), 8);
        let mut data = [0; 6];
        memory.read(initrd, &mut data);
        assert_eq!(&data, b"initrd");
        memory.read(info(24, 8), &mut data);
        assert_eq!(&data, b"quiet\0");
    }

    #[test]
    fn a_segment_outside_ram_is_refused() {
        let (memory, map) = ram(2);
        let request = BootRequest { kernel: image(), ..BootRequest::default() };
        let error = load(&memory, &map, &request).expect_err("no RAM there");
        assert_eq!(error.to_string(), "kernel segment 0x200000-0x203000 does not lie in guest RAM");
    }
}
