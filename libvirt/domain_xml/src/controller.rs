//! Controllers: what other devices are attached to.

use xml::{Hex, element, words};

use crate::address::VirtioOptions;
use crate::source::Named;
use crate::units::Kib;
use crate::words::OnOff;

/// Kinds of controllers.
#[words]
pub enum ControllerType {
    Ide,
    Fdc,
    Scsi,
    Sata,
    VirtioSerial,
    Ccid,
    Usb,
    Pci,
    Xenbus,
    Isa,
}

/// How a controller is driven.
#[element]
pub struct ControllerDriver {
    #[attr]
    pub queues: Option<u32>,
    #[attr]
    pub cmd_per_lun: Option<u32>,
    #[attr]
    pub max_sectors: Option<u32>,
    #[attr]
    pub ioeventfd: Option<OnOff>,
    #[attr]
    pub iothread: Option<u32>,
    #[flatten]
    pub virtio: VirtioOptions,
}

/// What a PCI controller shows to the guest.
#[element]
pub struct ControllerTarget {
    #[attr("chassisNr")]
    pub chassis_nr: Option<u32>,
    #[attr]
    pub chassis: Option<u32>,
    #[attr]
    pub port: Option<Hex<1>>,
    #[attr("busNr")]
    pub bus_nr: Option<u32>,
    #[attr]
    pub index: Option<u32>,
    #[attr]
    pub hotplug: Option<OnOff>,
    #[text]
    pub node: Option<u32>,
}

/// The first port of a companion controller at its master.
#[element]
pub struct Master {
    #[attr]
    pub startport: u32,
}

/// A controller. The words of `model` depend on its type.
#[element]
pub struct Controller {
    #[attr("type")]
    pub kind: ControllerType,
    #[attr]
    pub index: Option<u32>,
    #[attr]
    pub model: Option<String>,
    #[attr]
    pub ports: Option<u32>,
    #[attr]
    pub vectors: Option<u32>,
    #[child("model")]
    pub device: Option<Named>,
    #[child]
    pub target: Option<ControllerTarget>,
    #[child]
    pub driver: Option<ControllerDriver>,
    #[child]
    pub alias: Option<crate::address::Alias>,
    #[child]
    pub master: Option<Master>,
    #[child]
    pub acpi: Option<crate::address::AcpiIndex>,
    #[child]
    pub address: Option<crate::address::Address>,
    #[child]
    pub pcihole64: Option<Kib>,
}

impl Controller {
    /// A controller of that kind.
    pub fn new(kind: ControllerType, index: u32, model: Option<&str>) -> Self {
        Self { kind, index: Some(index), model: model.map(str::to_owned), ..Self::default() }
    }

    /// The index, zero if none is given.
    pub fn index(&self) -> u32 {
        self.index.unwrap_or(0)
    }

    /// The model as text; empty if none is given.
    pub fn model(&self) -> &str {
        self.model.as_deref().unwrap_or("")
    }
}

crate::address::has_info!(Controller);
