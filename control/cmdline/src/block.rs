//! Drives and block nodes.

use crate::parse::{Builder, Raw, Stop, refuse};
use crate::{Blockdev, Drive};
use block::{DriveOptions, Interface, Node};
use keyval::Opts;

impl From<block::BlockError> for Stop {
    fn from(error: block::BlockError) -> Self {
        Self::Refused(error.0)
    }
}

pub(crate) fn drive(builder: &mut Builder<'_>, raw: &Raw<'_>) -> Result<(), Stop> {
    let opts = Opts::parse(raw.value, None);
    crate::misc::warn_short_form(&opts);
    if matches!(opts.get("format"), Some("help" | "?")) {
        return Err(Stop::Text(
            "Supported formats: file raw\nSupported formats (read-only):\n".to_owned(),
            0,
        ));
    }
    let id = opts.get("id").map(str::to_owned);
    if let Some(id) = &id {
        builder.claim_id("drive", id)?;
    }
    let pairs: Vec<_> = opts.iter().collect();
    let options = DriveOptions::parse(&pairs)?;
    if let Interface::Unbuilt(name) = options.interface {
        if let Some(file) = &options.image.file
            && let Err(error) = std::fs::File::open(file)
        {
            return refuse(format!("Could not open '{file}': {}", crate::misc::reason(&error)));
        }
        // Boards of this kind have no controller for these.
        return refuse(if ["scsi", "mtd", "sd", "xen"].contains(&name) {
            format!("machine type does not support if={name},bus=0,unit={}", options.index.unwrap_or(0))
        } else {
            format!("'if={name}' is not supported by this build")
        });
    }
    if options.image.file.is_none() && options.interface == Interface::Virtio {
        return refuse("Device needs media, but drive is empty");
    }
    // Places of an interface are numbered; `bus` and `unit` say the same where a bus holds one drive.
    let taken =
        |index: u64| builder.plan.drives.iter().any(|d| place(&d.options) == (options.interface, index));
    let index = options.index.or(options.bus);
    let index = match index {
        Some(index) if taken(index) => {
            let bus = options.bus.unwrap_or(0);
            let unit = options.index.unwrap_or(0);
            return refuse(format!("drive with bus={bus}, unit={unit} (index={index}) exists"));
        }
        Some(index) => index,
        None => (0..).find(|index| !taken(*index)).unwrap_or(0),
    };
    let id = match id {
        Some(id) => id,
        None => {
            let kind = if options.interface == Interface::Virtio { "virtio" } else { "none" };
            let media = if options.cdrom { "-cd" } else { "" };
            let id = format!("{kind}{media}{index}");
            builder.claim_id("drive", &id)?;
            id
        }
    };
    let options = DriveOptions { index: Some(index), bus: None, ..options };
    builder.plan.drives.push(Drive { location: raw.location.clone(), id, options });
    Ok(())
}

/// What is wrong with the image of an option that takes one, whether or not the option is built.
pub(crate) fn check_image(option: &str, file: &str) -> Result<(), Stop> {
    let board_has_none = match option {
        "hda" | "hdb" | "hdc" | "hdd" | "cdrom" | "fda" | "fdb" | "pflash" => None,
        "sd" => Some("sd"),
        "mtdblock" => Some("mtd"),
        _ => return Ok(()),
    };
    if let Err(error) = std::fs::File::open(file) {
        return refuse(format!("Could not open '{file}': {}", crate::misc::reason(&error)));
    }
    match board_has_none {
        Some(name) => refuse(format!("machine type does not support if={name},bus=0,unit=0")),
        None => Ok(()),
    }
}

fn place(options: &DriveOptions) -> (Interface, u64) {
    (options.interface, options.index.unwrap_or(0))
}

pub(crate) fn blockdev(builder: &mut Builder<'_>, raw: &Raw<'_>) -> Result<(), Stop> {
    if matches!(raw.value, "help" | "?") {
        return refuse("Help is not available for this option");
    }
    let dict = keyval::dict(raw.value, Some("driver"))?;
    let node = Node::parse(&dict, !raw.value.starts_with('{'))?;
    let name = node.name.clone().unwrap_or_default();
    builder.plan.blockdevs.push(Blockdev { location: raw.location.clone(), name, node });
    Ok(())
}
