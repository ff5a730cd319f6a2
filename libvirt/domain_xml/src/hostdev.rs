//! Devices of the host that are handed to the guest.

use xml::{Element, Hex, Internal, Node, Pack, Packer, Result, Unpacker, Writer, element, words};

use crate::address::BootInfo;
use crate::interface::Teaming;
use crate::source::{Auth, Host, Iqn, Named};
use crate::words::{OnOff, YesNo};

/// Kinds of devices.
#[words]
pub enum HostdevType {
    Usb,
    Pci,
    Scsi,
    #[word("scsi_host")]
    ScsiHost,
    Mdev,
    Storage,
    Misc,
    Net,
}

/// An address of a PCI device on the host.
#[element]
pub struct HostPci {
    #[attr]
    pub domain: Option<Hex<4>>,
    #[attr]
    pub bus: Option<Hex<2>>,
    #[attr]
    pub slot: Option<Hex<2>>,
    #[attr]
    pub function: Option<Hex<1>>,
    #[attr]
    pub uuid: Option<String>,
}

/// An address of another device on the host.
#[element]
pub struct HostOther {
    #[attr]
    pub bus: Option<u32>,
    #[attr]
    pub device: Option<u32>,
    #[attr]
    pub port: Option<String>,
    #[attr]
    pub target: Option<u32>,
    #[attr]
    pub unit: Option<u64>,
}

/// Where a device is on the host; numbers are written as the bus does.
#[derive(Debug, Clone, PartialEq)]
pub enum HostdevAddress {
    /// A PCI device, or a mediated device by its UUID.
    Pci {
        /// Whether the type is written.
        typed: bool,
        /// The parts.
        address: HostPci,
    },
    /// A USB or SCSI device.
    Other {
        /// What the type is, if it is written.
        kind: Option<String>,
        /// The parts.
        address: HostOther,
    },
}

impl Default for HostdevAddress {
    fn default() -> Self {
        Self::Pci { typed: false, address: HostPci::default() }
    }
}

impl Element for HostdevAddress {
    fn begin(&mut self, node: &Node<'_>) -> Result<()> {
        let kind = node.attribute("type");
        let pci = kind == Some("pci")
            || kind.is_none()
                && ["slot", "domain", "function", "uuid"].iter().any(|name| node.attribute(name).is_some());
        *self = if pci {
            Self::Pci { typed: kind.is_some(), address: HostPci::default() }
        } else {
            Self::Other { kind: kind.map(str::to_owned), address: HostOther::default() }
        };
        Ok(())
    }

    fn attribute(&mut self, name: &str, value: &str, element: &str) -> Result<bool> {
        if name == "type" {
            return Ok(true);
        }
        match self {
            Self::Pci { address, .. } => address.attribute(name, value, element),
            Self::Other { address, .. } => address.attribute(name, value, element),
        }
    }

    fn child(&mut self, _: &str, _: &Node<'_>) -> Result<bool> {
        Ok(false)
    }

    fn write_attributes(&self, writer: &mut Writer) {
        match self {
            Self::Pci { typed, address } => {
                if *typed {
                    writer.attribute("type", "pci");
                }
                address.write_attributes(writer);
            }
            Self::Other { kind, address } => {
                if let Some(kind) = kind {
                    writer.attribute("type", kind);
                }
                address.write_attributes(writer);
            }
        }
    }

    fn write_content(&self, _: &mut Writer) {}
}

impl Pack for HostdevAddress {
    fn pack(&self, to: &mut Packer) {
        match self {
            Self::Pci { typed, address } => {
                to.number(0);
                typed.pack(to);
                address.pack(to);
            }
            Self::Other { kind, address } => {
                to.number(1);
                kind.pack(to);
                address.pack(to);
            }
        }
    }

    fn unpack(from: &mut Unpacker<'_>) -> Option<Self> {
        match from.number()? {
            0 => Some(Self::Pci { typed: Pack::unpack(from)?, address: Pack::unpack(from)? }),
            1 => Some(Self::Other { kind: Pack::unpack(from)?, address: Pack::unpack(from)? }),
            _ => None,
        }
    }
}

/// An identification of a USB device.
#[element]
pub struct UsbId {
    #[attr]
    pub id: Hex<4>,
}

/// Where the device is on the host.
#[element]
pub struct HostdevSource {
    #[attr("startupPolicy")]
    pub startup_policy: Option<String>,
    #[attr("guestReset")]
    pub guest_reset: Option<String>,
    #[attr("writeFiltering")]
    pub write_filtering: Option<YesNo>,
    #[attr]
    pub protocol: Option<String>,
    #[attr]
    pub name: Option<String>,
    #[attr]
    pub wwpn: Option<String>,
    #[child]
    pub host: Vec<Host>,
    #[child]
    pub vendor: Option<UsbId>,
    #[child]
    pub product: Option<UsbId>,
    #[child]
    pub adapter: Option<Named>,
    #[child]
    pub address: Option<HostdevAddress>,
    /// What the driver notes of a running guest's image.
    #[child("privateData")]
    pub private: Internal,
    /// What is to be undone of a device when it is given back.
    #[child]
    pub origstates: Internal,
    #[child]
    pub auth: Option<Auth>,
    #[child]
    pub initiator: Option<Iqn>,
}

/// A device of the host.
#[element]
pub struct Hostdev {
    #[attr("mode", default)]
    pub mode: HostdevMode,
    #[attr("type")]
    pub kind: HostdevType,
    #[attr]
    pub managed: Option<YesNo>,
    #[attr]
    pub sgio: Option<String>,
    #[attr]
    pub rawio: Option<YesNo>,
    #[attr]
    pub model: Option<String>,
    #[attr]
    pub display: Option<OnOff>,
    #[attr]
    pub ramfb: Option<OnOff>,
    #[child]
    pub driver: Option<Named>,
    #[child]
    pub source: Option<HostdevSource>,
    #[child]
    pub teaming: Option<Teaming>,
    #[flag("readonly")]
    pub read_only: bool,
    #[flag]
    pub shareable: bool,
    #[flatten]
    pub info: BootInfo,
}

/// How a device is handed over.
#[words]
pub enum HostdevMode {
    Subsystem,
    Capabilities,
}
