//! Firmware images, and what the user puts into fw_cfg.

use crate::Failed;
use crate::accels::reason;
use cmdline::{DATA_DIRS, FwCfgData, Item, Plan, PropValue};
use fwcfg::{AddError, FwCfg};
use pc::Pc;
use qdev::BootOrder;
use std::path::PathBuf;

/// The image that a board without `-bios` and `-kernel` starts.
const DEFAULT: &str = "bios-256k.bin";

/// The file of this name: as a path, else in the data directories.
fn find(plan: &Plan, name: &str) -> Option<PathBuf> {
    let own = PathBuf::from(name);
    let places = plan.data_dirs.iter().cloned().chain(DATA_DIRS.map(PathBuf::from));
    std::iter::once(own).chain(places.map(|dir| dir.join(name))).find(|path| path.exists())
}

/// Puts firmware at the reset vector, unless a kernel is started directly; returns its name and size.
///
/// # Errors
/// There is no such image, or it is none.
pub(crate) fn load(plan: &Plan, board: &Pc) -> Result<Option<(String, u64)>, Failed> {
    let name = match (&plan.bios, &plan.kernel) {
        (None, Some(_)) => return Ok(None),
        (Some(name), _) => name.as_str(),
        (None, None) => DEFAULT,
    };
    let refused = || Failed::because(format!("qemu: could not load PC BIOS '{name}'"));
    let path = find(plan, name).ok_or_else(refused)?;
    let image = std::fs::read(path).map_err(|_| refused())?;
    board.memory.load_bios(&image).map_err(|_| refused())?;
    let name = name.rsplit('/').next().unwrap_or(name).to_owned();
    Ok(Some((name, image.len() as u64)))
}

/// `-fw_cfg`, in order.
///
/// # Errors
/// A file cannot be read, or a name is taken.
pub(crate) fn add_items(plan: &Plan, fw_cfg: &FwCfg) -> Result<(), Failed> {
    for item in &plan.fw_cfg {
        let failed = |text: String| Failed::because(format!("{}: {text}", item.location));
        let data = match &item.data {
            FwCfgData::Text(text) => text.clone().into_bytes(),
            FwCfgData::File(path) => std::fs::read(path).map_err(|error| {
                failed(format!("can't load {path}: Failed to open file “{path}”: {}", reason(&error)))
            })?,
        };
        fw_cfg.add_file(&item.name, data).map_err(|error| match error {
            AddError::Duplicate => failed(format!("duplicate fw_cfg file name: {}", item.name)),
            AddError::Full => failed("there is no room for another fw_cfg file".to_owned()),
            AddError::BadName => failed("the name is empty or too long".to_owned()),
        })?;
    }
    Ok(())
}

/// RAM below 4 GiB that firmware keeps for tables: a RAM disk ends below it.
const TABLES: u64 = 0x2_8000;

/// Offers the kernel to the firmware of `-bios`, which starts it by the option ROM that goes with it. Returns an ELF
/// kernel, whose segments are to be in memory whenever firmware starts.
///
/// # Errors
/// The kernel is of no kind that can be handed on, or does not fit.
pub(crate) fn offer_kernel(
    plan: &Plan,
    board: &Pc,
    devices: &BootOrder,
    request: boot::BootRequest,
) -> Result<Option<Vec<u8>>, Failed> {
    use fwcfg::key;
    let elf = (boot::identify(&request.kernel) == Some(boot::ImageKind::Pvh)).then(|| request.kernel.clone());
    let top = board.memory.layout.below_4g.saturating_sub(TABLES);
    let handover = boot::handover(request, top).map_err(|error| Failed::because(error.to_string()))?;
    let fw = &board.fw_cfg;
    let size = |bytes: &[u8]| u32::try_from(bytes.len()).unwrap_or(u32::MAX);
    let number = |key: u16, value: u32| {
        if value != 0 {
            fw.add_u32(key, value);
        }
    };
    number(key::KERNEL_ENTRY, handover.entry.unwrap_or(0));
    let (address, length, kernel) = handover.kernel;
    fw.add_u32(key::KERNEL_ADDR, address);
    fw.add_u32(key::KERNEL_SIZE, length);
    if let Some(kernel) = kernel {
        fw.add_bytes(key::KERNEL_DATA, kernel);
    }
    let (address, setup) = handover.setup;
    number(key::SETUP_ADDR, address);
    fw.add_u32(key::SETUP_SIZE, size(&setup));
    fw.add_bytes(key::SETUP_DATA, setup);
    let (address, line) = handover.command_line;
    number(key::CMDLINE_ADDR, address);
    fw.add_u32(key::CMDLINE_SIZE, size(&line));
    fw.add_bytes(key::CMDLINE_DATA, line);
    if let Some((address, initrd)) = handover.initrd {
        fw.add_u32(key::INITRD_ADDR, address);
        fw.add_u32(key::INITRD_SIZE, size(&initrd));
        fw.add_bytes(key::INITRD_DATA, initrd);
    }
    let name = handover.option_rom;
    match find(plan, name).map(std::fs::read) {
        Some(Ok(rom)) => {
            fw.set_file(&format!("genroms/{name}"), rom)
                .map_err(|_| Failed::because(format!("cannot add fw_cfg file genroms/{name}")))?;
            devices.add(0, format!("/rom@genroms/{name}")).map_err(|error| Failed::because(error.0))?;
        }
        // Firmware of other kinds needs none.
        Some(Err(_)) | None => {
            eprintln!("Could not open option rom '{name}': No such file or directory");
        }
    }
    Ok(elf)
}

/// What `-boot` tells firmware, besides the order of drive letters ([`set_boot_order`]).
///
/// # Errors
/// The order cannot be kept, or something asks for what is not built.
pub(crate) fn add_boot_options(plan: &Plan, board: &Pc, devices: &BootOrder) -> Result<(), Failed> {
    let boot = &plan.boot;
    for order in [&boot.order, &boot.once].into_iter().flatten() {
        places(order).map_err(Failed::because)?;
    }
    let list = devices.file(boot.strict);
    let mut files =
        vec![("etc/boot-fail-wait", boot.reboot_timeout.unwrap_or(-1).to_le_bytes()[..4].to_vec())];
    if !list.is_empty() {
        files.push(("bootorder", list));
    }
    if let Some(time) = boot.splash_time {
        let Ok(time) = u16::try_from(time) else {
            return Err(Failed::because("splash-time is invalid,it should be a value between 0 and 65535"));
        };
        files.push(("etc/boot-menu-wait", time.to_le_bytes().to_vec()));
    }
    files.extend(boot.splash.as_deref().and_then(|name| splash(plan, name)));
    board.fw_cfg.add_u16(fwcfg::key::BOOT_MENU, boot.menu.unwrap_or(false).into());
    for (name, data) in files {
        board
            .fw_cfg
            .set_file(name, data)
            .map_err(|_| Failed::because(format!("cannot add fw_cfg file {name}")))?;
    }
    Ok(())
}

/// The picture that firmware shows: its name there, and its bytes. One that cannot be used is left out, and the user
/// told.
fn splash(plan: &Plan, name: &str) -> Option<(&'static str, Vec<u8>)> {
    let Some(path) = find(plan, name) else {
        report::error_report!("failed to find file '{name}'");
        return None;
    };
    let shown = path.display();
    let bytes = match std::fs::read(&path) {
        Ok(bytes) => bytes,
        Err(error) => {
            let reason = reason(&error);
            let what = if path.is_dir() { "Error reading" } else { "Failed to open" };
            report::error_report!("failed to read splash file '{shown}': {what} file “{shown}”: {reason}");
            return None;
        }
    };
    let kind = picture(&bytes);
    if kind.is_none() {
        report::error_report!("splash file '{shown}' format not recognized; must be JPEG or 24 bit BMP");
    }
    Some((kind?, bytes))
}

/// What firmware calls a picture of this kind.
fn picture(bytes: &[u8]) -> Option<&'static str> {
    // Bytes 28 and 29 of a BMP are its bits a pixel.
    match bytes {
        [0xff, 0xd8, ..] if bytes.len() >= 30 => Some("bootsplash.jpg"),
        [b'B', b'M', ..] if bytes.get(28..30) == Some(&[24, 0]) => Some("bootsplash.bmp"),
        _ => None,
    }
}

/// The places that drive letters have in the CMOS RAM: firmware's numbers of the kinds of drives.
fn places(letters: &str) -> Result<[u8; 3], String> {
    let mut places = [0; 3];
    for (index, letter) in letters.chars().enumerate() {
        let place = places.get_mut(index).ok_or("Too many boot devices for PC")?;
        *place = match letter {
            'a' | 'b' => 1,
            'c' => 2,
            'd' => 3,
            'n' => 4,
            other => return Err(format!("Invalid boot device for PC: '{other}'")),
        };
    }
    Ok(places)
}

/// Writes an order of drive letters, checked before, into the CMOS RAM.
pub(crate) fn set_boot_order(board: &Pc, letters: &str) {
    let [first, second, third] = places(letters).unwrap_or_default();
    let rtc = board.rtc();
    rtc.set_cmos(0x3d, second << 4 | first);
    rtc.set_cmos(0x38, third << 4 | rtc.cmos(0x38) & 0xf);
}

/// What `-debugcon` stands for.
pub(crate) fn debug_consoles(plan: &Plan) -> Vec<Item> {
    let console = |user: &cmdline::CharUse| Item {
        location: user.location.clone(),
        kind: "isa-debugcon".to_owned(),
        id: None,
        props: vec![
            ("iobase".to_owned(), PropValue::Text("0xe9".to_owned())),
            ("chardev".to_owned(), PropValue::Text(user.chardev.clone())),
        ],
        json: false,
    };
    plan.debugcons.iter().map(console).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pictures_are_known_by_their_first_bytes() {
        let with = |start: &[u8], depth: u8| {
            let mut bytes = start.to_vec();
            bytes.resize(40, 0);
            bytes[28] = depth;
            bytes
        };
        assert_eq!(picture(&with(&[0xff, 0xd8], 7)), Some("bootsplash.jpg"));
        assert_eq!(picture(&with(b"BM", 24)), Some("bootsplash.bmp"));
        for bytes in [with(b"BM", 32), with(b"PNG", 24), with(b"BM", 24)[..29].to_vec(), vec![0xff, 0xd8]] {
            assert_eq!(picture(&bytes), None);
        }
    }
}
