//! What firmware is told of a kernel that it is to start (`-bios` or `-machine firmware=` together with `-kernel`):
//! the items of fw_cfg from which its option ROM loads the kernel.
//!
//! Source: Documentation/arch/x86/boot.rst for the header; the places are the ones that QEMU's option ROMs expect.

use crate::bytes::{put, u16_at};
use crate::{BootError, BootRequest, ImageKind, SetupHeader, identify, pvh};

/// Bytes that a Linux kernel's header may take, as it is read and handed on.
const HEADER: usize = 8192;
/// The real-mode part, the command line and the protected-mode part.
const REAL: u32 = 0x1_0000;
const COMMAND_LINE: u32 = 0x2_0000;
const PROTECTED: u32 = 0x10_0000;
/// XLOADFLAGS: the RAM disk may lie above 4 GiB, which also means anywhere below.
const ABOVE_4G: u16 = 1 << 1;
/// LOADFLAGS: there is a heap.
const CAN_USE_HEAP: u8 = 1 << 7;

/// A kernel as firmware finds it in fw_cfg.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Handover {
    /// The option ROM that starts it.
    pub option_rom: &'static str,
    /// Entry point, for a kernel that is entered in protected mode.
    pub entry: Option<u32>,
    /// Address, size and, unless it is put into memory by itself, contents of the protected-mode part.
    pub kernel: (u32, u32, Option<Vec<u8>>),
    /// Address (0: left to the option ROM) and contents of the real-mode part.
    pub setup: (u32, Vec<u8>),
    /// Address (0: left to the option ROM) of the command line; the text ends with a zero.
    pub command_line: (u32, Vec<u8>),
    /// Address and contents of the initial RAM disk.
    pub initrd: Option<(u32, Vec<u8>)>,
}

fn damaged() -> BootError {
    BootError::Invalid("qemu: invalid kernel header".to_owned())
}

/// Prepares a kernel for firmware. `top` is the end of the RAM below 4 GiB that a RAM disk may use.
///
/// # Errors
/// The kernel is of no kind for which this is built, is damaged, or the RAM disk does not fit.
pub fn handover(request: BootRequest, top: u64) -> Result<Handover, BootError> {
    let mut command_line = request.command_line.into_bytes();
    command_line.push(0);
    let initrd = request.modules.into_iter().next().map(|module| module.data);
    match identify(&request.kernel) {
        Some(ImageKind::Linux) => linux(request.kernel, command_line, initrd, top),
        Some(ImageKind::Pvh) => {
            let (entry, start, size) = pvh::extent(&request.kernel).ok_or_else(damaged)?;
            let mut setup = request.kernel;
            setup.resize(HEADER, 0);
            Ok(Handover {
                option_rom: "pvh.bin",
                entry: Some(entry),
                kernel: (start, size, None),
                setup: (0, setup),
                command_line: (0, command_line),
                initrd: initrd.map(|data| place(data, top.saturating_sub(1))).transpose()?,
            })
        }
        Some(ImageKind::Multiboot) => Err(BootError::Invalid(
            "firmware with a multiboot kernel is not supported by this build".to_owned(),
        )),
        None => Err(damaged()),
    }
}

fn linux(
    mut image: Vec<u8>,
    command_line: Vec<u8>,
    initrd: Option<Vec<u8>>,
    top: u64,
) -> Result<Handover, BootError> {
    let header = SetupHeader::parse(&image)?;
    let kernel = image.split_off(header.setup_size);
    let mut setup = image;
    let above = header.version >= 0x20c && u16_at(&setup, 0x236).is_some_and(|flags| flags & ABOVE_4G != 0);
    let highest = if above { u32::MAX } else { header.initrd_max };
    put(&mut setup, 0x228, &COMMAND_LINE.to_le_bytes());
    if let Some(mode) = video_mode(&command_line) {
        put(&mut setup, 0x1fa, &mode.to_le_bytes());
    }
    setup[0x210] = 0xb0;
    setup[0x211] |= CAN_USE_HEAP;
    put(&mut setup, 0x224, &((COMMAND_LINE - REAL - 0x200) as u16).to_le_bytes());
    let initrd = match initrd {
        Some(data) => {
            let (at, data) = place(data, u64::from(highest).min(top.saturating_sub(1)))?;
            put(&mut setup, 0x218, &at.to_le_bytes());
            put(&mut setup, 0x21c, &(data.len() as u32).to_le_bytes());
            Some((at, data))
        }
        None => None,
    };
    Ok(Handover {
        option_rom: "linuxboot_dma.bin",
        entry: None,
        kernel: (PROTECTED, u32::try_from(kernel.len()).map_err(|_| damaged())?, Some(kernel)),
        setup: (REAL, setup),
        command_line: (COMMAND_LINE, command_line),
        initrd,
    })
}

/// The RAM disk as high as it may lie, on a page.
fn place(data: Vec<u8>, highest: u64) -> Result<(u32, Vec<u8>), BootError> {
    let size = data.len() as u64;
    match highest.checked_sub(size).and_then(|at| u32::try_from(at & !0xfff).ok()) {
        Some(at) => Ok((at, data)),
        None => Err(BootError::TooLarge(format!(
            "qemu: initrd is too large, cannot support.(max: {highest}, need {size})"
        ))),
    }
}

/// What `vga=` in a command line stands for.
fn video_mode(command_line: &[u8]) -> Option<u16> {
    let line = String::from_utf8_lossy(command_line);
    let value = line.split("vga=").nth(1)?.split([' ', '\0']).next()?;
    match value {
        "normal" => Some(0xffff),
        "ext" => Some(0xfffe),
        "ask" => Some(0xfffd),
        number => match number.strip_prefix("0x") {
            Some(hex) => u16::from_str_radix(hex, 16).ok(),
            None => number.parse().ok(),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Module;
    use crate::bytes::u32_at;

    fn request(kernel: Vec<u8>) -> BootRequest {
        let module = Module { data: vec![0x5a; 5000], command_line: String::new() };
        BootRequest {
            kernel,
            command_line: "quiet vga=0x317".into(),
            modules: vec![module],
            ..BootRequest::default()
        }
    }

    #[test]
    fn a_linux_kernel_is_divided_and_its_header_filled_in() {
        let image = crate::linux::tests::bzimage(0x20f, true);
        let made = handover(request(image.clone()), 64 << 20).expect("a kernel");
        assert_eq!(made.option_rom, "linuxboot_dma.bin");
        let (address, size, kernel) = made.kernel;
        assert_eq!((address, size, kernel.as_deref()), (0x10_0000, 0x1000, Some(&image[0x400..])));
        let (initrd, data) = made.initrd.expect("a RAM disk");
        assert_eq!((initrd, data.len()), ((64 << 20) - 0x2000, 5000));
        let (real, setup) = made.setup;
        assert_eq!(
            (real, setup.len(), u32_at(&setup, 0x218), u32_at(&setup, 0x21c)),
            (0x1_0000, 0x400, Some(initrd), Some(5000))
        );
        assert_eq!((setup[0x210], setup[0x211] & 0x80, u16_at(&setup, 0x1fa)), (0xb0, 0x80, Some(0x317)));
        assert_eq!(made.command_line, (0x2_0000, b"quiet vga=0x317\0".to_vec()));
    }

    #[test]
    fn an_elf_kernel_is_told_by_its_entry() {
        let made = handover(request(crate::pvh::tests::image()), 64 << 20).expect("a kernel");
        assert_eq!((made.option_rom, made.entry), ("pvh.bin", Some(0x20_0008)));
        assert_eq!(made.kernel, (0x20_0000, 0x3000, None));
        assert_eq!(made.setup.1.len(), HEADER);
    }

    #[test]
    fn what_cannot_be_handed_on_is_refused() {
        let large = handover(request(crate::linux::tests::bzimage(0x20f, true)), 4096).expect_err("no room");
        assert!(large.to_string().starts_with("qemu: initrd is too large"));
        assert!(handover(request(vec![0; 4096]), 1 << 30).is_err());
        assert!(
            handover(request(crate::multiboot::tests::flat()), 1 << 30)
                .expect_err("multiboot")
                .to_string()
                .contains("multiboot")
        );
    }
}
