//! Multiboot version 1 (Multiboot Specification 0.6.96).

use crate::bytes::{put, u32_at};
use crate::elf::{Elf, zero};
use crate::{BootError, BootRequest, MemoryKind, MemoryMap, layout, multiboot_state, put_string};
use guestmem::AddressSpace;
use x86::X86State;
use x86::reg::gpr;

const HEADER_MAGIC: u32 = 0x1bad_b002;
const BOOT_MAGIC: u64 = 0x2bad_b002;
/// The header lies within the first 8 KiB of the image.
const SEARCH: usize = 8192;
/// Header flag: the addresses in the header are valid.
const HAS_ADDRESSES: u32 = 1 << 16;
const INFO_SIZE: usize = 88;
/// More modules than anybody passes; bounds the list.
const MAX_MODULES: usize = 256;

/// Information flags: memory sizes, boot device, command line, modules, memory map, loader name.
const INFO_FLAGS: u32 = 1 << 0 | 1 << 1 | 1 << 2 | 1 << 3 | 1 << 6 | 1 << 9;

/// The header of a multiboot image.
pub(crate) struct Header {
    /// Where in the file it lies.
    at: usize,
    flags: u32,
}

impl Header {
    /// Finds the header.
    pub(crate) fn find(image: &[u8]) -> Option<Self> {
        (0..image.len().min(SEARCH).saturating_sub(11)).step_by(4).find_map(|at| {
            let field = |i: usize| u32_at(image, at + 4 * i);
            let (magic, flags, checksum) = (field(0)?, field(1)?, field(2)?);
            let valid = magic == HEADER_MAGIC && magic.wrapping_add(flags).wrapping_add(checksum) == 0;
            valid.then_some(Self { at, flags })
        })
    }

    /// Copies the image into memory by the addresses of the header: the entry point and the end of what is used.
    fn load_flat(&self, memory: &AddressSpace, image: &[u8]) -> Result<(u32, u64), BootError> {
        let damaged = |what: &str| BootError::Invalid(format!("invalid {what} address"));
        let field = |i: usize| {
            u32_at(image, self.at + 12 + 4 * i)
                .ok_or_else(|| BootError::Invalid("qemu: invalid kernel header".to_owned()))
        };
        let (header_addr, load_addr, load_end, bss_end, entry) =
            (field(0)?, field(1)?, field(2)?, field(3)?, field(4)?);
        let skipped = header_addr.checked_sub(load_addr).ok_or_else(|| damaged("load_addr"))? as usize;
        let start = self.at.checked_sub(skipped).ok_or_else(|| damaged("load_addr"))?;
        let data = match load_end {
            // Zero: the whole rest of the file.
            0 => &image[start..],
            end => {
                let len = end.checked_sub(load_addr).ok_or_else(|| damaged("load_end_addr"))? as usize;
                image.get(start..start.saturating_add(len)).ok_or_else(|| damaged("load_end_addr"))?
            }
        };
        let data_end = u64::from(load_addr) + data.len() as u64;
        let end = data_end.max(bss_end.into());
        if memory.slices(load_addr.into(), end - u64::from(load_addr), true).is_none() {
            return Err(BootError::TooLarge(format!(
                "kernel {load_addr:#x}-{end:#x} does not lie in guest RAM"
            )));
        }
        memory.load(load_addr.into(), data);
        zero(memory, data_end, end - data_end);
        Ok((entry, end))
    }
}

/// Splits `-initrd "file1 args,file2"` into file names and the whole text of each module; `,,` is a comma.
pub fn split_modules(option: &str) -> Vec<(String, String)> {
    let mut parts = vec![String::new()];
    let mut chars = option.chars().peekable();
    while let Some(c) = chars.next() {
        if c != ',' {
            parts.last_mut().expect("never empty").push(c);
        } else if chars.next_if_eq(&',').is_some() {
            parts.last_mut().expect("never empty").push(',');
        } else {
            parts.push(String::new());
        }
    }
    parts
        .into_iter()
        .map(|text| {
            let text = text.trim_start_matches(' ').to_owned();
            (text.split(' ').next().unwrap_or_default().to_owned(), text)
        })
        .filter(|(file, _)| !file.is_empty())
        .collect()
}

pub(crate) fn load(
    memory: &AddressSpace,
    map: &MemoryMap,
    request: &BootRequest,
) -> Result<X86State, BootError> {
    let image = &request.kernel;
    let header =
        Header::find(image).ok_or_else(|| BootError::Invalid("qemu: invalid kernel header".to_owned()))?;
    let (entry, mut end) = if header.flags & HAS_ADDRESSES != 0 {
        header.load_flat(memory, image)?
    } else {
        let elf = Elf::parse(image)
            .ok_or_else(|| BootError::Invalid("Error while loading elf kernel".to_owned()))?;
        if elf.is_64 {
            return Err(BootError::Invalid("Cannot load x86-64 image, give a 32bit one.".to_owned()));
        }
        let end = elf.load(memory)?;
        (elf.entry as u32, end)
    };

    let mut info = [0u8; INFO_SIZE];
    let mut set = |offset: usize, value: u64| put(&mut info, offset, &(value as u32).to_le_bytes());
    // Command lines follow each other: the kernel's, the modules', the loader's name.
    let mut text_at = layout::COMMAND_LINE;
    let mut string = |text: &str| -> Result<u64, BootError> {
        let at = text_at;
        put_string(memory, at, text)?;
        text_at += text.len() as u64 + 1;
        Ok(at)
    };
    set(16, string(&format!("{} {}", request.kernel_name, request.command_line))?);

    if request.modules.len() > MAX_MODULES {
        return Err(BootError::TooLarge(format!("more than {MAX_MODULES} multiboot modules")));
    }
    let list = layout::TABLES;
    for (i, module) in (0u64..).zip(&request.modules) {
        let start = end.next_multiple_of(4096);
        end = start + module.data.len() as u64;
        if memory.slices(start, end - start, true).is_none() {
            return Err(BootError::TooLarge(format!(
                "module '{}' does not fit into guest RAM",
                module.command_line
            )));
        }
        memory.load(start, &module.data);
        let mut entry = [0; 16];
        put(&mut entry, 0, &(start as u32).to_le_bytes());
        put(&mut entry, 4, &(end as u32).to_le_bytes());
        put(&mut entry, 8, &(string(&module.command_line)? as u32).to_le_bytes());
        memory.load(list + 16 * i, &entry);
    }
    set(20, request.modules.len() as u64);
    set(24, list);

    let mut table = Vec::new();
    for entry in map.e820().chunks(20) {
        table.extend_from_slice(&20u32.to_le_bytes());
        table.extend_from_slice(entry);
    }
    let table_at = list + 16 * request.modules.len() as u64;
    memory.load(table_at, &table);
    set(44, table.len() as u64);
    set(48, table_at);

    let upper = map.ranges.iter().find(|r| r.start == layout::KERNEL && r.kind == MemoryKind::Usable);
    set(0, INFO_FLAGS.into());
    // Up to the extended BIOS data area.
    set(4, 639);
    set(8, upper.map_or(0, |r| r.len / 1024));
    // The first hard disk, no partition.
    set(12, 0x8000_ffff);
    set(64, string("qemu")?);
    memory.load(layout::INFO, &info);

    let mut state = multiboot_state(memory, entry);
    state.gpr[gpr::RAX] = BOOT_MAGIC;
    state.gpr[gpr::RBX] = layout::INFO;
    Ok(state)
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::tests::ram;
    use crate::{ImageKind, Module, identify};

    /// A flat image at 1 MiB whose header lies at file offset 0x40.
    pub(crate) fn flat() -> Vec<u8> {
        let mut image = vec![0x90u8; 0x200];
        let flags = HAS_ADDRESSES;
        let checksum = 0u32.wrapping_sub(HEADER_MAGIC).wrapping_sub(flags);
        let fields = [HEADER_MAGIC, flags, checksum, 0x10_0040, 0x10_0000, 0x10_0200, 0x10_1000, 0x10_0100];
        for (i, value) in fields.into_iter().enumerate() {
            put(&mut image, 0x40 + 4 * i, &value.to_le_bytes());
        }
        image
    }

    #[test]
    fn a_flat_kernel_gets_its_modules_and_its_map() {
        let (memory, map) = ram(8);
        assert_eq!(identify(&flat()), Some(ImageKind::Multiboot));
        let module = |text: &str| Module { data: text.as_bytes().to_vec(), command_line: text.into() };
        let request = BootRequest {
            kernel: flat(),
            kernel_name: "x.flat".into(),
            command_line: "a b".into(),
            modules: vec![module("one 1"), module("two")],
            ..BootRequest::default()
        };
        memory.load(0x10_0800, &[0xff]);
        let state = load(&memory, &map, &request).expect("load");
        assert_eq!((state.rip, state.gpr[gpr::RAX]), (0x10_0100, BOOT_MAGIC));
        assert_eq!(memory.read_int(0x10_0800, 1), 0, "bss is cleared");
        let info = |offset| memory.read_int(state.gpr[gpr::RBX] + offset, 4);
        let text = |at: u64, len: usize| {
            let mut buf = vec![0; len];
            memory.read(at, &mut buf);
            String::from_utf8(buf).expect("text")
        };
        assert_eq!(text(info(16), 11), "x.flat a b\0");
        assert_eq!((info(4), info(8), info(20)), (639, 7 * 1024, 2));
        let second = info(24) + 16;
        assert_eq!(memory.read_int(second, 4), 0x10_2000);
        assert_eq!(text(memory.read_int(second, 4), 3), "two");
        assert_eq!(text(memory.read_int(second + 8, 4), 4), "two\0");
        assert_eq!((info(44), memory.read_int(info(48), 4)), (4 * 24, 20));
    }

    #[test]
    fn a_module_list_is_split_at_single_commas() {
        let parts = split_modules("file1 a=b,file,,2  x, file3");
        let expected = [("file1", "file1 a=b"), ("file,2", "file,2  x"), ("file3", "file3")];
        assert_eq!(parts, expected.map(|(file, text)| (file.to_owned(), text.to_owned())));
    }
}
