//! Linux bzImage (Documentation/arch/x86/boot.rst, the x86 boot protocol).

use crate::bytes::{put, u16_at, u32_at, u64_at};
use crate::{BootError, BootRequest, MemoryMap, layout, long_mode_state, protected_mode_state, put_string};
use guestmem::AddressSpace;
use x86::X86State;
use x86::reg::gpr;

/// Offsets in the setup header, which lies at the same place in the file and in the zero page.
mod field {
    pub(super) const SETUP_SECTS: usize = 0x1f1;
    pub(super) const MAGIC: usize = 0x202;
    pub(super) const VERSION: usize = 0x206;
    pub(super) const LOADER_TYPE: usize = 0x210;
    pub(super) const LOADFLAGS: usize = 0x211;
    pub(super) const CODE32_START: usize = 0x214;
    pub(super) const RAMDISK_IMAGE: usize = 0x218;
    pub(super) const RAMDISK_SIZE: usize = 0x21c;
    pub(super) const CMD_LINE_PTR: usize = 0x228;
    pub(super) const INITRD_ADDR_MAX: usize = 0x22c;
    pub(super) const XLOADFLAGS: usize = 0x236;
    pub(super) const INIT_SIZE: usize = 0x260;
    pub(super) const PREF_ADDRESS: usize = 0x258;
}

/// Offsets in the zero page outside the setup header (Documentation/arch/x86/zero-page.rst).
mod zero_page {
    pub(super) const ACPI_RSDP: usize = 0x070;
    pub(super) const E820_ENTRIES: usize = 0x1e8;
    pub(super) const SETUP_HEADER: usize = 0x1f1;
    pub(super) const E820_TABLE: usize = 0x2d0;
    pub(super) const E820_MAX: usize = 128;
}

const HDRS: u32 = u32::from_le_bytes(*b"HdrS");
/// The protected-mode code is loaded at 1 MiB.
const LOADED_HIGH: u8 = 1 << 0;
/// The kernel has the 64-bit entry point at 0x200.
const XLF_KERNEL_64: u16 = 1 << 0;
/// `initrd_addr_max` before protocol 2.03.
const OLD_INITRD_MAX: u32 = 0x37ff_ffff;
/// The loader's number that the protocol assigns to QEMU, and its version 0.
const LOADER: u8 = 0xb0;

/// What the setup header of a bzImage says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SetupHeader {
    /// Protocol version: 0x020f is 2.15.
    pub version: u16,
    /// Bytes in front of the protected-mode code.
    pub setup_size: usize,
    /// End of the header in the zero page.
    pub header_end: usize,
    /// Highest address for the last byte of the initial RAM disk.
    pub initrd_max: u32,
    /// Bytes that the kernel needs from its start on before it can read the memory map.
    pub init_size: u32,
    /// Where the kernel would like to run.
    pub preferred_address: u64,
    /// The kernel can be entered in 64-bit mode.
    pub entry_64: bool,
}

impl SetupHeader {
    /// Whether the image has a setup header.
    pub fn is_present(image: &[u8]) -> bool {
        u32_at(image, field::MAGIC) == Some(HDRS)
    }

    /// Reads the header.
    ///
    /// # Errors
    /// It is not there or cut off, or the kernel is a zImage or older than protocol 2.02 (Linux 2.4).
    pub fn parse(image: &[u8]) -> Result<Self, BootError> {
        let damaged = || BootError::Invalid("qemu: invalid kernel header".to_owned());
        if !Self::is_present(image) {
            return Err(damaged());
        }
        let version = u16_at(image, field::VERSION).ok_or_else(damaged)?;
        let loadflags = *image.get(field::LOADFLAGS).ok_or_else(damaged)?;
        if version < 0x202 || loadflags & LOADED_HIGH == 0 {
            return Err(BootError::Invalid(
                "qemu: linux kernel too old: boot protocol 2.02 and a bzImage are needed".into(),
            ));
        }
        let setup_sects = match *image.get(field::SETUP_SECTS).ok_or_else(damaged)? {
            // Zero means four, for historical reasons.
            0 => 4,
            n => usize::from(n),
        };
        let setup_size = (setup_sects + 1) * 512;
        if setup_size >= image.len() {
            return Err(damaged());
        }
        // The byte at 0x201 is the short jump over the header: it tells the header's length.
        let header_end = 0x202 + usize::from(*image.get(0x201).ok_or_else(damaged)?);
        let since = |needed: u16, value: Option<u32>| if version >= needed { value } else { None };
        Ok(Self {
            version,
            setup_size,
            header_end: header_end.min(zero_page::E820_TABLE).min(image.len()),
            initrd_max: since(0x203, u32_at(image, field::INITRD_ADDR_MAX)).unwrap_or(OLD_INITRD_MAX),
            init_size: since(0x20a, u32_at(image, field::INIT_SIZE)).unwrap_or(0),
            preferred_address: if version >= 0x20a { u64_at(image, field::PREF_ADDRESS) } else { None }
                .unwrap_or(layout::KERNEL),
            entry_64: version >= 0x20c
                && u16_at(image, field::XLOADFLAGS).is_some_and(|f| f & XLF_KERNEL_64 != 0),
        })
    }
}

pub(crate) fn load(
    memory: &AddressSpace,
    map: &MemoryMap,
    request: &BootRequest,
) -> Result<X86State, BootError> {
    let header = SetupHeader::parse(&request.kernel)?;
    let code = &request.kernel[header.setup_size..];
    let ram_end = map.usable_end(layout::KERNEL).unwrap_or(layout::KERNEL);
    let kernel_end = layout::KERNEL + code.len() as u64;
    // The kernel unpacks itself between here and init_size bytes above the address that it prefers.
    let busy_end = if header.init_size == 0 {
        kernel_end
    } else {
        header.preferred_address.max(layout::KERNEL).saturating_add(header.init_size.into()).max(kernel_end)
    };
    if kernel_end > ram_end || busy_end > ram_end {
        return Err(BootError::TooLarge(format!(
            "qemu: kernel needs memory up to {busy_end:#x}, the guest has RAM up to {ram_end:#x}"
        )));
    }
    memory.load(layout::KERNEL, code);

    let mut page = vec![0u8; 4096];
    put(
        &mut page,
        zero_page::SETUP_HEADER,
        request.kernel.get(zero_page::SETUP_HEADER..header.header_end).unwrap_or_default(),
    );
    page[field::LOADER_TYPE] = LOADER;
    put(&mut page, field::CODE32_START, &(layout::KERNEL as u32).to_le_bytes());

    put_string(memory, layout::COMMAND_LINE, &request.command_line)?;
    put(&mut page, field::CMD_LINE_PTR, &(layout::COMMAND_LINE as u32).to_le_bytes());

    if let Some(initrd) = request.modules.first() {
        let size = initrd.data.len() as u64;
        let limit = ram_end.min(u64::from(header.initrd_max) + 1);
        let start = limit.checked_sub(size).map(|at| at & !0xfff).filter(|&at| at >= busy_end);
        let Some(start) = start else {
            return Err(BootError::TooLarge(format!(
                "qemu: initrd is too large, cannot support.(max: {}, need {size})",
                limit.saturating_sub(busy_end)
            )));
        };
        memory.load(start, &initrd.data);
        put(&mut page, field::RAMDISK_IMAGE, &(start as u32).to_le_bytes());
        put(&mut page, field::RAMDISK_SIZE, &(size as u32).to_le_bytes());
    }

    put(&mut page, zero_page::ACPI_RSDP, &request.rsdp.to_le_bytes());
    let entries = map.ranges.len().min(zero_page::E820_MAX);
    page[zero_page::E820_ENTRIES] = entries as u8;
    put(&mut page, zero_page::E820_TABLE, &map.e820()[..20 * entries]);
    memory.load(layout::ZERO_PAGE, &page);

    let mut state = if request.long_mode && header.entry_64 {
        long_mode_state(memory, layout::KERNEL + 0x200)
    } else {
        protected_mode_state(memory, layout::KERNEL as u32)
    };
    state.gpr[gpr::RSI] = layout::ZERO_PAGE;
    Ok(state)
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::Module;
    use crate::tests::ram;

    /// A bzImage whose code is 0x1000 recognisable bytes.
    pub(crate) fn bzimage(version: u16, entry_64: bool) -> Vec<u8> {
        let mut image = vec![0u8; 0x400];
        image[field::SETUP_SECTS] = 1;
        image[0x201] = 0x66;
        put(&mut image, field::MAGIC, b"HdrS");
        put(&mut image, field::VERSION, &version.to_le_bytes());
        image[field::LOADFLAGS] = LOADED_HIGH;
        put(&mut image, field::INITRD_ADDR_MAX, &0x7fff_ffffu32.to_le_bytes());
        put(&mut image, field::XLOADFLAGS, &u16::from(entry_64).to_le_bytes());
        put(&mut image, field::PREF_ADDRESS, &0x10_0000u64.to_le_bytes());
        put(&mut image, field::INIT_SIZE, &0x10_0000u32.to_le_bytes());
        image.extend((0..0x1000).map(|i| i as u8));
        image
    }

    fn request(kernel: Vec<u8>) -> BootRequest {
        BootRequest {
            kernel,
            command_line: "console=ttyS0 panic=-1".into(),
            modules: vec![Module { data: vec![0x5a; 5000], command_line: String::new() }],
            rsdp: 0xf_0010,
            long_mode: true,
            ..BootRequest::default()
        }
    }

    #[test]
    fn a_64_bit_kernel_starts_in_long_mode_with_a_complete_zero_page() {
        let (memory, map) = ram(16);
        let state = load(&memory, &map, &request(bzimage(0x20f, true))).expect("load");
        assert_eq!((state.rip, state.gpr[gpr::RSI]), (0x10_0200, layout::ZERO_PAGE));
        assert_eq!(memory.read_int(0x10_00ff, 1), 0xff);
        let page = |offset: usize, size| memory.read_int(layout::ZERO_PAGE + offset as u64, size);
        assert_eq!(page(field::MAGIC, 4), u64::from(HDRS));
        assert_eq!(page(zero_page::ACPI_RSDP, 8), 0xf_0010);
        assert_eq!(page(zero_page::E820_ENTRIES, 1), 4);
        assert_eq!(page(zero_page::E820_TABLE + 8, 8), 0x9_fc00);
        assert_eq!(page(field::RAMDISK_SIZE, 4), 5000);
        let initrd = page(field::RAMDISK_IMAGE, 4);
        assert_eq!((initrd % 4096, memory.read_int(initrd + 4999, 1)), (0, 0x5a));
        let mut line = [0; 23];
        memory.read(page(field::CMD_LINE_PTR, 4), &mut line);
        assert_eq!(&line, b"console=ttyS0 panic=-1\0");
    }

    #[test]
    fn a_32_bit_kernel_or_processor_starts_in_protected_mode() {
        let (memory, map) = ram(16);
        for (image, long_mode) in [(bzimage(0x20f, false), true), (bzimage(0x20f, true), false)] {
            let state = load(&memory, &map, &BootRequest { long_mode, ..request(image) }).expect("load");
            assert_eq!((state.rip, state.efer, state.cr0 & x86::reg::cr0::PG), (0x10_0000, 0, 0));
        }
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        let (memory, map) = ram(3);
        let mut large = request(bzimage(0x20f, true));
        large.modules[0].data = vec![0; (1 << 20) + 1];
        let error = load(&memory, &map, &large).expect_err("initrd");
        assert!(error.to_string().starts_with("qemu: initrd is too large"), "{error}");
        let mut long = request(bzimage(0x20f, true));
        long.command_line = "x".repeat(1 << 20);
        assert!(matches!(load(&memory, &map, &long), Err(BootError::TooLarge(_))));
        let old = load(&memory, &map, &request(bzimage(0x201, true))).expect_err("old");
        assert!(old.to_string().starts_with("qemu: linux kernel too old"));
        let (tiny, tiny_map) = ram(2);
        assert!(matches!(
            load(&tiny, &tiny_map, &request(bzimage(0x20f, true))),
            Err(BootError::TooLarge(_))
        ));
    }
}
