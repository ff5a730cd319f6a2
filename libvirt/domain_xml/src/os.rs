//! What the guest boots.

use xml::{element, words};

use crate::source::{Source, SourceType};
use crate::words::YesNo;

/// The kind of guest.
#[element]
pub struct OsType {
    #[attr]
    pub arch: Option<String>,
    #[attr]
    pub machine: Option<String>,
    #[content]
    pub name: String,
}

/// A wish about firmware.
#[element]
pub struct FirmwareFeature {
    #[attr]
    pub enabled: YesNo,
    #[attr]
    pub name: String,
}

/// Wishes about firmware.
#[element]
pub struct FirmwareFeatures {
    #[child]
    pub feature: Vec<FirmwareFeature>,
}

/// How firmware is mapped.
#[words]
pub enum LoaderType {
    Rom,
    Pflash,
    None,
}

/// The firmware's code.
#[element]
pub struct Loader {
    #[attr("readonly")]
    pub read_only: Option<YesNo>,
    #[attr]
    pub secure: Option<YesNo>,
    #[attr("type")]
    pub kind: Option<LoaderType>,
    #[attr]
    pub stateless: Option<YesNo>,
    #[content]
    pub path: Option<String>,
}

/// The firmware's variables.
#[element]
pub struct Nvram {
    #[attr]
    pub template: Option<String>,
    #[attr("type")]
    pub kind: Option<SourceType>,
    #[content]
    pub path: Option<String>,
    #[child]
    pub source: Option<Source>,
}

/// A table of ACPI.
#[element]
pub struct AcpiTable {
    #[attr("type")]
    pub kind: String,
    #[content]
    pub path: String,
}

/// Tables of ACPI.
#[element]
pub struct AcpiTables {
    #[child]
    pub table: Vec<AcpiTable>,
}

/// Kinds of boot devices.
#[words]
pub enum BootDevice {
    Fd,
    Hd,
    Cdrom,
    Network,
}

/// A kind of boot device.
#[element]
pub struct OsBoot {
    #[attr]
    pub dev: BootDevice,
}

/// Whether the user is asked.
#[element]
pub struct BootMenu {
    #[attr]
    pub enable: YesNo,
    #[attr]
    pub timeout: Option<u32>,
}

/// Settings of firmware.
#[element]
pub struct Bios {
    #[attr]
    pub useserial: Option<YesNo>,
    #[attr("rebootTimeout")]
    pub reboot_timeout: Option<i32>,
}

/// Where tables about the system come from.
#[element]
pub struct Smbios {
    #[attr]
    pub mode: SmbiosMode,
}

/// Where tables about the system come from.
#[words]
pub enum SmbiosMode {
    None,
    Emulate,
    Host,
    Sysinfo,
}

/// What firmware is wanted.
#[words]
pub enum Firmware {
    Bios,
    Efi,
}

/// What the guest boots.
#[element]
pub struct Os {
    #[attr]
    pub firmware: Option<Firmware>,
    #[child("type")]
    pub kind: Option<OsType>,
    #[child("firmware")]
    pub features: Option<FirmwareFeatures>,
    #[child]
    pub loader: Option<Loader>,
    #[child]
    pub nvram: Option<Nvram>,
    #[text]
    pub kernel: Option<String>,
    #[text]
    pub initrd: Option<String>,
    #[text]
    pub cmdline: Option<String>,
    #[text]
    pub dtb: Option<String>,
    #[child]
    pub acpi: Option<AcpiTables>,
    #[child]
    pub boot: Vec<OsBoot>,
    #[child]
    pub bootmenu: Option<BootMenu>,
    #[child]
    pub bios: Option<Bios>,
    #[child]
    pub smbios: Option<Smbios>,
}

/// An entry of a table about the system.
#[element]
pub struct SysinfoEntry {
    #[attr]
    pub name: Option<String>,
    #[attr]
    pub file: Option<String>,
    #[content]
    pub value: Option<String>,
}

/// A table about the system.
#[element]
pub struct SysinfoTable {
    #[child]
    pub entry: Vec<SysinfoEntry>,
}

/// What the guest is told about its system.
#[element]
pub struct Sysinfo {
    #[attr("type")]
    pub kind: String,
    #[child]
    pub bios: Option<SysinfoTable>,
    #[child]
    pub system: Option<SysinfoTable>,
    #[child("baseBoard")]
    pub base_board: Vec<SysinfoTable>,
    #[child]
    pub chassis: Option<SysinfoTable>,
    #[child("oemStrings")]
    pub oem_strings: Option<SysinfoTable>,
    #[child]
    pub entry: Vec<SysinfoEntry>,
}
