//! Direct kernel boot (`-kernel`): puts an image into guest memory as a boot loader would and says in which state the
//! processor starts. No firmware runs.
//!
//! Three kinds of image: Linux bzImage (64-bit or 32-bit entry), ELF with a PVH note, multiboot version 1. Images are
//! untrusted input: every field is checked, every write is bounded by guest RAM.
#![forbid(unsafe_code)]

mod bytes;
mod elf;
mod entry;
mod handover;
mod linux;
mod map;
mod multiboot;
mod pvh;

use entry::multiboot_state;
pub use entry::{long_mode_state, protected_mode_state};
pub use handover::{Handover, handover};
pub use linux::SetupHeader;
pub use map::{MemoryKind, MemoryMap, MemoryRange};
pub use multiboot::split_modules;

use guestmem::AddressSpace;
use thiserror::Error;
use x86::X86State;

/// Why an image cannot be started; the texts are what the user sees. One that begins with `qemu: ` is the whole line,
/// as QEMU prints it; others follow the program's name.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum BootError {
    /// The image is of no known kind, or damaged.
    #[error("{0}")]
    Invalid(String),
    /// The image or what comes with it does not fit into guest memory.
    #[error("{0}")]
    TooLarge(String),
}

/// A module that goes with the kernel: its bytes and its command line (a multiboot module's arguments).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Module {
    /// Contents.
    pub data: Vec<u8>,
    /// Command line; for multiboot the file name and its arguments.
    pub command_line: String,
}

/// What to start.
#[derive(Clone, Debug, Default)]
pub struct BootRequest {
    /// The kernel file.
    pub kernel: Vec<u8>,
    /// Its name as the user gave it (multiboot kernels see it in front of the command line).
    pub kernel_name: String,
    /// `-append`. A kernel that takes only a shorter one cuts it off.
    pub command_line: String,
    /// `-initrd`: one module for Linux and PVH, any number for multiboot.
    pub modules: Vec<Module>,
    /// Physical address of the ACPI RSDP; 0: none.
    pub rsdp: u64,
    /// Whether the processor offers long mode.
    pub long_mode: bool,
}

/// The kind of a kernel image.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ImageKind {
    /// Linux bzImage.
    Linux,
    /// ELF with a PVH entry note.
    Pvh,
    /// Multiboot version 1.
    Multiboot,
}

/// Tells what kind of image `kernel` is; `None`: none that can be started.
pub fn identify(kernel: &[u8]) -> Option<ImageKind> {
    if SetupHeader::is_present(kernel) {
        Some(ImageKind::Linux)
    } else if multiboot::Header::find(kernel).is_some() {
        Some(ImageKind::Multiboot)
    } else if pvh::entry_point(kernel).is_some() {
        Some(ImageKind::Pvh)
    } else {
        None
    }
}

/// Puts the segments of an ELF kernel into memory, as for firmware that is told its entry point.
///
/// # Errors
/// It is damaged or does not fit.
pub fn load_elf(memory: &AddressSpace, kernel: &[u8]) -> Result<(), BootError> {
    let elf = elf::Elf::parse(kernel)
        .ok_or_else(|| BootError::Invalid("Error while loading elf kernel".to_owned()))?;
    elf.load(memory).map(drop)
}

/// Loads the kernel and what goes with it into `memory` and returns the state in which processor 0 starts.
///
/// # Errors
/// The image is not one of the three kinds, is damaged, or does not fit.
pub fn load(memory: &AddressSpace, map: &MemoryMap, request: &BootRequest) -> Result<X86State, BootError> {
    match identify(&request.kernel) {
        Some(ImageKind::Linux) => linux::load(memory, map, request),
        Some(ImageKind::Multiboot) => multiboot::load(memory, map, request),
        Some(ImageKind::Pvh) => pvh::load(memory, map, request),
        None if request.kernel.starts_with(b"\x7fELF") => {
            Err(BootError::Invalid("Error loading uncompressed kernel without PVH ELF Note".to_owned()))
        }
        None => Err(BootError::Invalid("qemu: invalid kernel header".to_owned())),
    }
}

/// Fixed places in low memory that the loader uses. They lie in RAM that the guest may reuse once it has read them,
/// above the real-mode data areas and below the EBDA.
mod layout {
    /// Global descriptor table of the entry state.
    pub(crate) const GDT: u64 = 0x6000;
    /// Start-of-day information (PVH, multiboot).
    pub(crate) const INFO: u64 = 0x6100;
    /// Linux zero page.
    pub(crate) const ZERO_PAGE: u64 = 0x7000;
    /// PML4, page-directory-pointer table and four page directories: identity for 4 GiB.
    pub(crate) const PAGE_TABLES: u64 = 0x9000;
    /// Stack of 32-bit entries that expect one (its top).
    pub(crate) const STACK_TOP: u64 = 0x1_8000;
    /// Memory map for PVH and multiboot, then module lists.
    pub(crate) const TABLES: u64 = 0x1_8000;
    /// Command lines.
    pub(crate) const COMMAND_LINE: u64 = 0x2_0000;
    /// End of the room for command lines.
    pub(crate) const COMMAND_LINE_END: u64 = 0x9_0000;
    /// Where kernels are loaded: the first byte above the real-mode megabyte.
    pub(crate) const KERNEL: u64 = 0x10_0000;
}

/// Puts `text` with its terminating zero at `address`.
fn put_string(memory: &AddressSpace, address: u64, text: &str) -> Result<(), BootError> {
    let end = address + text.len() as u64 + 1;
    if end > layout::COMMAND_LINE_END {
        return Err(BootError::TooLarge("kernel command line is too long".to_owned()));
    }
    memory.load(address, text.as_bytes());
    memory.load(end - 1, &[0]);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use guestmem::{RamBlock, Region};
    use proptest::prelude::*;

    pub(crate) fn ram(megabytes: u64) -> (AddressSpace, MemoryMap) {
        let root = Region::whole("system");
        let block = RamBlock::new("ram", megabytes << 20).expect("ram");
        root.add(&Region::ram("ram", block), 0);
        (AddressSpace::memory("memory", &root), MemoryMap::pc(megabytes << 20, 0, 0))
    }

    #[test]
    fn an_unknown_image_is_refused() {
        let (memory, map) = ram(16);
        let request = BootRequest { kernel: vec![0; 4096], ..BootRequest::default() };
        let error = load(&memory, &map, &request).expect_err("zeros");
        assert_eq!(error.to_string(), "qemu: invalid kernel header");
    }

    proptest! {
        #[test]
        fn damaged_images_never_panic(
            seed in 0usize..3,
            edits in proptest::collection::vec((0usize..0x400, any::<u8>()), 0..40),
            len in 0usize..0x3000,
        ) {
            let mut kernel = match seed {
                0 => linux::tests::bzimage(0x20f, true),
                1 => pvh::tests::image(),
                _ => multiboot::tests::flat(),
            };
            for (at, value) in edits {
                if let Some(byte) = kernel.get_mut(at) {
                    *byte = value;
                }
            }
            kernel.truncate(len.max(16));
            let (memory, map) = ram(4);
            let module = Module { data: vec![1; 5000], command_line: "m".into() };
            let request = BootRequest {
                kernel,
                command_line: "console=ttyS0".into(),
                modules: vec![module],
                long_mode: len % 2 == 0,
                ..BootRequest::default()
            };
            let _ = load(&memory, &map, &request);
        }
    }
}
