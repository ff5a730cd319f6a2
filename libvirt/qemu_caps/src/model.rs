//! What is known about an emulator.

use std::collections::BTreeSet;
use std::path::PathBuf;

/// By what an emulator executes guests.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum VirtType {
    /// The host's KVM: `<domain type='kvm'>`.
    Kvm,
    /// Its own engine (TCG): `<domain type='qemu'>`.
    Qemu,
}

impl VirtType {
    /// The word of domain XML.
    pub fn name(self) -> &'static str {
        match self {
            Self::Kvm => "kvm",
            Self::Qemu => "qemu",
        }
    }

    /// The word of the cache's file, which is the accelerator's.
    pub(crate) fn accel(self) -> &'static str {
        match self {
            Self::Kvm => "kvm",
            Self::Qemu => "tcg",
        }
    }
}

/// A machine type.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MachineType {
    /// `pc-i440fx-7.2`
    pub name: String,
    /// `pc`
    pub alias: Option<String>,
    /// Most vCPUs.
    pub max_cpus: u32,
    /// Whether vCPUs can be plugged.
    pub hotplug_cpus: bool,
    /// Whether it is the emulator's default.
    pub default: bool,
    /// The QOM type of the default CPU.
    pub default_cpu: Option<String>,
    /// Whether `-numa node,mem=` is taken.
    pub numa_mem: bool,
    /// The id of the default memory back end.
    pub default_ram_id: Option<String>,
    /// Whether it is going to disappear.
    pub deprecated: bool,
}

/// Whether a CPU model can be used on this host.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Usable {
    /// Yes.
    Yes,
    /// No; the blockers say why.
    No,
    /// The emulator does not tell.
    #[default]
    Unknown,
}

impl Usable {
    /// libvirt's word.
    pub fn name(self) -> &'static str {
        match self {
            Self::Yes => "yes",
            Self::No => "no",
            Self::Unknown => "unknown",
        }
    }
}

/// A CPU model.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CpuModel {
    /// `qemu64`
    pub name: String,
    /// `qemu64-x86_64-cpu`
    pub type_name: Option<String>,
    /// Whether it can be used here.
    pub usable: Usable,
    /// The features that the host lacks for it.
    pub blockers: Vec<String>,
    /// Whether it is going to disappear.
    pub deprecated: bool,
}

/// The value of a CPU's property.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PropertyValue {
    /// A feature that is on or off.
    Bool(bool),
    /// A number (`level`, `phys-bits`).
    Number(i64),
    /// A text (`vendor`, `model-id`).
    Text(String),
}

/// One property of the host's CPU as the emulator would give it to a guest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CpuProperty {
    /// The emulator's name (`sse4-1`).
    pub name: String,
    /// Its value when non-migratable features are taken too.
    pub value: PropertyValue,
    /// Whether a guest with it can migrate; unknown for what is no feature.
    pub migratable: Option<bool>,
}

/// What `-cpu host` (or, without KVM, `-cpu max`) is here.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HostCpu {
    /// The model that the properties are relative to (`base`).
    pub model: String,
    /// Whether the emulator tells migratable features from others.
    pub migratability: bool,
    /// All properties.
    pub properties: Vec<CpuProperty>,
}

/// What depends on [`VirtType`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Accelerator {
    /// Machine types: the default, then the others in the order of the emulator.
    pub machines: Vec<MachineType>,
    /// CPU models, in the emulator's order.
    pub cpus: Vec<CpuModel>,
    /// The host's CPU.
    pub host: Option<HostCpu>,
}

/// By what a cached answer is known to be still true.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Stamp {
    /// The binary's change time, seconds since 1970.
    pub binary: i64,
    /// The modification time of the directory with the emulator's modules; 0 without one.
    pub modules: i64,
    /// The change time of this program.
    pub program: i64,
    /// This program's version as libvirt counts (10,000,000 = 10.0.0).
    pub version: u64,
    /// The host CPU's microcode.
    pub microcode: u64,
    /// Vendor, model name, family, model and stepping of the host's CPU.
    pub cpu: String,
    /// The host kernel's release and version.
    pub kernel: String,
}

/// AMD's Secure Encrypted Virtualization as the host has it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sev {
    /// The bit of an address that says whether the page is encrypted.
    pub cbitpos: u32,
    /// By how many bits physical addresses are shorter.
    pub reduced_phys_bits: u32,
    /// The platform's Diffie-Hellman key, in base 64.
    pub pdh: String,
    /// The platform's certificates, in base 64.
    pub cert_chain: String,
    /// The first socket's identity, in base 64.
    pub cpu0_id: Option<String>,
}

/// An emulator.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct QemuCaps {
    /// Its path.
    pub binary: PathBuf,
    /// When this was true.
    pub stamp: Stamp,
    /// libvirt's words for what it can do.
    pub flags: BTreeSet<String>,
    /// `major * 1,000,000 + minor * 1,000 + micro`
    pub version: u64,
    /// The distribution's version.
    pub package: String,
    /// The target as libvirt calls it: `x86_64`, `i686`.
    pub arch: String,
    /// With KVM, if the host has it.
    pub kvm: Option<Accelerator>,
    /// With its own engine, if it has one.
    pub tcg: Option<Accelerator>,
    /// Encryption of guests, if the host has it.
    pub sev: Option<Sev>,
    /// The Hyper-V enlightenments of KVM guests; none when the emulator could not be asked.
    pub hyperv: Option<Vec<String>>,
}

impl QemuCaps {
    /// Whether it has the capability of that name (`piix3-usb-uhci`).
    pub fn has(&self, flag: &str) -> bool {
        self.flags.contains(flag)
    }

    /// The capabilities for status files, in libvirt's order: those that every libvirt since 9.0 knows.
    pub fn lasting_flags(&self) -> impl Iterator<Item = &'static str> {
        let known = crate::flags::FLAGS.iter().map(|(flag, _)| *flag);
        known.take_while(|flag| *flag != crate::flags::FIRST_LATER).filter(|flag| self.has(flag))
    }

    /// What depends on how guests are executed.
    pub fn accelerator(&self, virt: VirtType) -> Option<&Accelerator> {
        match virt {
            VirtType::Kvm => self.kvm.as_ref(),
            VirtType::Qemu => self.tcg.as_ref(),
        }
    }

    /// The machine type of that name or alias.
    pub fn machine(&self, virt: VirtType, name: &str) -> Option<&MachineType> {
        let machines = &self.accelerator(virt)?.machines;
        machines
            .iter()
            .find(|machine| machine.name == name)
            .or_else(|| machines.iter().find(|machine| machine.alias.as_deref() == Some(name)))
    }

    /// The machine type that a domain without one gets.
    pub fn default_machine(&self, virt: VirtType) -> Option<&MachineType> {
        let machines = &self.accelerator(virt)?.machines;
        machines.iter().find(|machine| machine.default).or(machines.first())
    }

    /// How domains are executed that do not say.
    pub fn default_virt(&self) -> VirtType {
        if self.kvm.is_some() { VirtType::Kvm } else { VirtType::Qemu }
    }
}
