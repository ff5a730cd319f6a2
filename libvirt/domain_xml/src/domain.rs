//! The domain as a whole.

use xml::{Tree, element, words};

use crate::audio::{Audio, Sound};
use crate::chardev::{CharDevice, RedirDevice, RedirFilter, Smartcard};
use crate::clock::{Clock, EventAction, Pm};
use crate::controller::Controller;
use crate::cpu::Cpu;
use crate::disk::Disk;
use crate::features::Features;
use crate::graphics::Graphics;
use crate::hostdev::Hostdev;
use crate::input::Input;
use crate::interface::Interface;
use crate::memory::{MaxMemory, Memory, MemoryBacking, MemorySize};
use crate::misc::{Balloon, Filesystem, Hub, Iommu, Lease, Panic, Rng, Shmem, Tpm, Vsock, Watchdog};
use crate::os::{Os, Sysinfo};
use crate::qemu::{Capabilities, CommandLine, Deprecation, Override};
use crate::tune::{
    BlkioTune, CpuTune, DefaultIoThread, IdMap, IoThreadIds, LaunchSecurity, MemTune, NumaTune, Perf,
    Resource, SecLabel, Vcpu, Vcpus,
};
use crate::units::Kib;
use crate::video::Video;

/// What runs the guest's code.
#[words]
pub enum DomainType {
    Qemu,
    Kvm,
    Hvf,
    Xen,
    Kqemu,
    Lxc,
    Uml,
    Openvz,
    Test,
    Vmware,
    Hyperv,
    Vbox,
    Phyp,
    Parallels,
    Bhyve,
    Vz,
}

/// All devices.
#[element]
pub struct Devices {
    #[text]
    pub emulator: Option<String>,
    #[child]
    pub disk: Vec<Disk>,
    #[child]
    pub controller: Vec<Controller>,
    #[child]
    pub lease: Vec<Lease>,
    #[child]
    pub filesystem: Vec<Filesystem>,
    #[child]
    pub interface: Vec<Interface>,
    #[child]
    pub smartcard: Vec<Smartcard>,
    #[child]
    pub serial: Vec<CharDevice>,
    #[child]
    pub parallel: Vec<CharDevice>,
    #[child]
    pub console: Vec<CharDevice>,
    #[child]
    pub channel: Vec<CharDevice>,
    #[child]
    pub input: Vec<Input>,
    #[child]
    pub tpm: Vec<Tpm>,
    #[child]
    pub graphics: Vec<Graphics>,
    #[child]
    pub sound: Vec<Sound>,
    #[child]
    pub audio: Vec<Audio>,
    #[child]
    pub video: Vec<Video>,
    #[child]
    pub hostdev: Vec<Hostdev>,
    #[child]
    pub redirdev: Vec<RedirDevice>,
    #[child]
    pub redirfilter: Option<RedirFilter>,
    #[child]
    pub hub: Vec<Hub>,
    #[child]
    pub watchdog: Option<Watchdog>,
    #[child]
    pub memballoon: Option<Balloon>,
    #[child]
    pub rng: Vec<Rng>,
    #[child]
    pub panic: Vec<Panic>,
    #[child]
    pub shmem: Vec<Shmem>,
    #[child]
    pub memory: Vec<Memory>,
    #[child]
    pub iommu: Option<Iommu>,
    #[child]
    pub vsock: Option<Vsock>,
}

/// A UUID for the guest's generation counter; chosen anew when none is given.
#[element]
pub struct GenId {
    #[content]
    pub uuid: Option<String>,
}

/// A domain.
#[element]
pub struct Domain {
    #[attr("type")]
    pub kind: DomainType,
    #[attr]
    pub id: Option<i32>,
    #[attr("xmlns:qemu")]
    pub xmlns_qemu: Option<String>,
    #[text]
    pub name: Option<String>,
    #[text]
    pub uuid: Option<String>,
    #[child]
    pub genid: Option<GenId>,
    #[text]
    pub title: Option<String>,
    #[text]
    pub description: Option<String>,
    #[verbatim]
    pub metadata: Option<Tree>,
    #[child("maxMemory")]
    pub max_memory: Option<MaxMemory>,
    #[child]
    pub memory: MemorySize,
    #[child("currentMemory")]
    pub current_memory: Option<Kib>,
    #[child]
    pub blkiotune: Option<BlkioTune>,
    #[child]
    pub memtune: Option<MemTune>,
    #[child("memoryBacking")]
    pub memory_backing: Option<MemoryBacking>,
    #[child]
    pub vcpu: Option<Vcpu>,
    #[child]
    pub vcpus: Option<Vcpus>,
    #[text]
    pub iothreads: Option<u32>,
    #[child]
    pub iothreadids: Option<IoThreadIds>,
    #[child]
    pub defaultiothread: Option<DefaultIoThread>,
    #[child]
    pub cputune: Option<CpuTune>,
    #[child]
    pub numatune: Option<NumaTune>,
    #[child]
    pub resource: Option<Resource>,
    #[child]
    pub sysinfo: Vec<Sysinfo>,
    #[text]
    pub bootloader: Option<String>,
    #[child]
    pub os: Os,
    #[child]
    pub idmap: Option<IdMap>,
    #[child]
    pub features: Option<Features>,
    #[child]
    pub cpu: Option<Cpu>,
    #[child]
    pub clock: Option<Clock>,
    #[text]
    pub on_poweroff: Option<EventAction>,
    #[text]
    pub on_reboot: Option<EventAction>,
    #[text]
    pub on_crash: Option<EventAction>,
    #[text]
    pub on_lockfailure: Option<String>,
    #[child]
    pub pm: Option<Pm>,
    #[child]
    pub perf: Option<Perf>,
    #[child]
    pub devices: Devices,
    #[child]
    pub seclabel: Vec<SecLabel>,
    #[child("launchSecurity")]
    pub launch_security: Option<LaunchSecurity>,
    #[child("qemu:commandline")]
    pub commandline: Option<CommandLine>,
    #[child("qemu:capabilities")]
    pub capabilities: Option<Capabilities>,
    #[child("qemu:override")]
    pub overrides: Option<Override>,
    #[child("qemu:deprecation")]
    pub deprecation: Option<Deprecation>,
}

/// The name space of `qemu:` elements.
pub const QEMU_NAMESPACE: &str = "http://libvirt.org/schemas/domain/qemu/1.0";

impl Domain {
    /// Declares the name spaces of what is there.
    pub fn note_namespaces(&mut self) {
        let used = self.commandline.is_some()
            || self.capabilities.is_some()
            || self.deprecation.is_some()
            || self.overrides.is_some();
        self.xmlns_qemu = used.then(|| QEMU_NAMESPACE.to_owned());
    }

    /// The name; empty if there is none.
    pub fn name(&self) -> &str {
        self.name.as_deref().unwrap_or("")
    }

    /// The machine's name; empty if there is none.
    pub fn machine(&self) -> &str {
        self.os.kind.as_ref().and_then(|kind| kind.machine.as_deref()).unwrap_or("")
    }

    /// Memory at start in KiB.
    pub fn memory_kib(&self) -> u64 {
        self.memory.size.0
    }
}
