//! What kind of PCI slot a device needs.

use domain_xml::Domain;
use domain_xml::audio::SoundModel;
use domain_xml::controller::{Controller, ControllerType};
use domain_xml::disk::{DiskBus, VirtioModel};
use domain_xml::hostdev::{Hostdev, HostdevType};
use domain_xml::input::InputBus;
use domain_xml::interface::{Interface, InterfaceType};
use domain_xml::memory::MemoryModel;
use domain_xml::misc::{BalloonModel, IommuModel, WatchdogModel};
use domain_xml::video::VideoType;

use crate::each::Sort;

/// What a slot takes, or a device needs: a set of bits.
pub type Connect = u16;

/// An ordinary PCI device.
pub const PCI: Connect = 1 << 1;
/// A PCI Express device.
pub const PCIE: Connect = 1 << 2;
/// A root port.
pub const ROOT_PORT: Connect = 1 << 3;
/// An upstream port of a switch.
pub const UPSTREAM: Connect = 1 << 4;
/// A downstream port of a switch.
pub const DOWNSTREAM: Connect = 1 << 5;
/// A bridge from the root complex to PCI.
pub const DMI: Connect = 1 << 6;
/// An expander of a PCI bus.
pub const PXB: Connect = 1 << 7;
/// An expander of a PCI Express bus.
pub const PXB_PCIE: Connect = 1 << 8;
/// A PCI bridge.
pub const BRIDGE: Connect = 1 << 9;
/// A bridge from PCI Express to PCI.
pub const PCIE_TO_PCI: Connect = 1 << 10;
/// All bits that say what sort of device it is.
pub const KINDS: Connect = 0x7fe;
/// Devices are put here without being told to.
pub const AUTO: Connect = 1 << 11;
/// Devices share slots, a function each.
pub const SHARED_SLOT: Connect = 1 << 12;
/// The device is part of the root complex.
pub const INTEGRATED: Connect = 1 << 13;

/// What devices that may be either are on this machine.
pub struct Rules {
    /// Devices that are PCI Express devices where they can be.
    pub express: Connect,
    /// Virtio devices.
    pub virtio: Connect,
}

impl Rules {
    /// The rules for a domain.
    pub fn new(domain: &Domain) -> Self {
        let root = domain.devices.controller.iter().any(|c| c.model() == "pcie-root");
        let express = if root { PCIE | AUTO } else { PCI | AUTO };
        Self { express, virtio: express }
    }

    fn model(&self, model: Option<VirtioModel>) -> Connect {
        if model == Some(VirtioModel::VirtioTransitional) { PCI | AUTO } else { self.virtio }
    }

    /// What a PCI controller of that model needs above it.
    pub fn pci_controller(model: &str) -> Connect {
        match model {
            "pci-bridge" => BRIDGE,
            "pci-expander-bus" => PXB,
            "pcie-expander-bus" => PXB_PCIE,
            "dmi-to-pci-bridge" => DMI,
            "pcie-to-pci-bridge" => PCIE_TO_PCI,
            "pcie-root-port" => ROOT_PORT | SHARED_SLOT,
            "pcie-switch-upstream-port" => UPSTREAM,
            "pcie-switch-downstream-port" => DOWNSTREAM,
            _ => 0,
        }
    }

    /// What a controller needs.
    pub fn controller(&self, controller: &Controller) -> Connect {
        let pci = PCI | AUTO;
        match (controller.kind, controller.model()) {
            (ControllerType::Pci, model) => Self::pci_controller(model),
            (ControllerType::Sata | ControllerType::Ide, _) => pci,
            (ControllerType::Usb, "nec-xhci" | "qemu-xhci") => self.express,
            (ControllerType::Usb, "none" | "qusb1" | "qusb2") => 0,
            (ControllerType::Usb, _) => pci,
            (ControllerType::Scsi, "" | "ncr53c90") => 0,
            (ControllerType::Scsi, "virtio-scsi" | "virtio-non-transitional") => self.virtio,
            (ControllerType::Scsi, _) => pci,
            (ControllerType::VirtioSerial, "virtio-transitional") => pci,
            (ControllerType::VirtioSerial, _) => self.virtio,
            _ => 0,
        }
    }

    fn interface(&self, interface: &Interface) -> Connect {
        match interface.model() {
            _ if interface.kind == InterfaceType::Hostdev => self.express,
            "usb-net" => 0,
            "virtio" | "virtio-non-transitional" => self.virtio,
            "e1000e" => self.express,
            known if KNOWN_NICS.contains(&known) => PCI | AUTO,
            _ => self.express,
        }
    }

    fn hostdev(&self, host: &Hostdev) -> Connect {
        match host.kind {
            HostdevType::Mdev => self.express,
            HostdevType::ScsiHost => match host.model.as_deref() {
                Some("virtio-transitional") => PCI | AUTO,
                _ => self.virtio,
            },
            HostdevType::Pci => self.express,
            _ => 0,
        }
    }

    /// What the device of that sort and number needs.
    pub fn device(&self, domain: &Domain, sort: Sort, index: usize) -> Connect {
        let devices = &domain.devices;
        let pci = PCI | AUTO;
        match sort {
            Sort::Controller => self.controller(&devices.controller[index]),
            Sort::Filesystem => self.model(devices.filesystem[index].model),
            Sort::Interface => self.interface(&devices.interface[index]),
            Sort::Sound => match devices.sound[index].model {
                SoundModel::Es1370 | SoundModel::Ac97 | SoundModel::Ich6 | SoundModel::Ich9 => pci,
                _ => 0,
            },
            Sort::Disk if devices.disk[index].bus() == Some(DiskBus::Virtio) => {
                self.model(devices.disk[index].model)
            }
            Sort::Hostdev => self.hostdev(&devices.hostdev[index]),
            Sort::Balloon => match devices.memballoon.as_ref().map(|balloon| balloon.model) {
                Some(BalloonModel::VirtioTransitional) => pci,
                Some(BalloonModel::Virtio | BalloonModel::VirtioNonTransitional) => self.virtio,
                _ => 0,
            },
            Sort::Rng => self.model(Some(devices.rng[index].model)),
            Sort::Watchdog => match devices.watchdog.as_ref().map(|watchdog| watchdog.model) {
                Some(WatchdogModel::I6300esb) => pci,
                _ => 0,
            },
            Sort::Video => match devices.video[index].kind() {
                VideoType::Virtio => self.virtio,
                VideoType::Bochs => self.express,
                VideoType::Default | VideoType::Gop | VideoType::None | VideoType::Ramfb => 0,
                _ => pci,
            },
            Sort::Shmem => pci,
            Sort::Input if devices.input[index].bus == Some(InputBus::Virtio) => {
                match devices.input[index].model.as_deref() {
                    Some("virtio-transitional") => pci,
                    _ => self.virtio,
                }
            }
            Sort::Serial => {
                let target = devices.serial[index].target.as_ref();
                if target.is_some_and(|target| target.kind.as_deref() == Some("pci-serial")) {
                    pci
                } else {
                    0
                }
            }
            Sort::Iommu if devices.iommu.as_ref().is_some_and(|iommu| iommu.model == IommuModel::Virtio) => {
                self.virtio | INTEGRATED
            }
            Sort::Vsock => self.model(devices.vsock.as_ref().and_then(|vsock| vsock.model)),
            Sort::Memory => match devices.memory[index].model {
                MemoryModel::VirtioPmem | MemoryModel::VirtioMem => self.virtio,
                _ => 0,
            },
            _ => 0,
        }
    }
}

/// Cards that are known to be ordinary PCI devices; unknown ones may be anything.
const KNOWN_NICS: &[&str] = &[
    "",
    "netfront",
    "rtl8139",
    "e1000",
    "igb",
    "virtio-transitional",
    "vmxnet",
    "vmxnet2",
    "vmxnet3",
    "Am79C970A",
    "Am79C973",
    "82540EM",
    "82545EM",
    "82543GC",
    "lan9118",
    "smc91c111",
    "vlance",
    "spapr-vlan",
];
