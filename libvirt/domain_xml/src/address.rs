//! Where a device sits: the element `<address>`, and what else all devices have.

use xml::{Element, Error, Hex, Node, Pack, Packer, Result, Unpacker, Writer, element};

use crate::words::OnOff;

/// Address on a PCI bus.
#[element]
#[derive(Copy, Eq, PartialOrd, Ord, Hash)]
pub struct PciAddress {
    #[attr(default)]
    pub domain: Hex<4>,
    #[attr(default)]
    pub bus: Hex<2>,
    #[attr(default)]
    pub slot: Hex<2>,
    #[attr(default)]
    pub function: Hex<1>,
    #[attr]
    pub multifunction: Option<OnOff>,
}

impl PciAddress {
    /// The address of a bus's slot, function 0.
    pub fn new(bus: u64, slot: u64, function: u64) -> Self {
        Self { bus: Hex(bus), slot: Hex(slot), function: Hex(function), ..Self::default() }
    }

    /// The same place, whatever is said of other functions.
    pub fn place(&self) -> (u64, u64, u64, u64) {
        (self.domain.0, self.bus.0, self.slot.0, self.function.0)
    }
}

/// Address of a disk on a controller.
#[element]
#[derive(Copy, Eq)]
pub struct DriveAddress {
    #[attr(default)]
    pub controller: u32,
    #[attr(default)]
    pub bus: u32,
    #[attr(default)]
    pub target: u32,
    #[attr(default)]
    pub unit: u32,
}

/// Address of a port of a virtio serial controller.
#[element]
#[derive(Copy, Eq)]
pub struct VirtioSerialAddress {
    #[attr(default)]
    pub controller: u32,
    #[attr(default)]
    pub bus: u32,
    #[attr(default)]
    pub port: u32,
}

/// Address of a smart card slot.
#[element]
#[derive(Copy, Eq)]
pub struct CcidAddress {
    #[attr(default)]
    pub controller: u32,
    #[attr(default)]
    pub slot: u32,
}

/// Address on a USB bus; the port may go through hubs.
#[element]
#[derive(Eq)]
pub struct UsbAddress {
    #[attr(default)]
    pub bus: u32,
    #[attr]
    pub port: Option<String>,
}

/// Address on an ISA bus.
#[element]
#[derive(Copy, Eq)]
pub struct IsaAddress {
    #[attr]
    pub iobase: Option<Hex<1>>,
    #[attr]
    pub irq: Option<Hex<1>>,
}

/// Place of a memory module.
#[element]
#[derive(Copy, Eq)]
pub struct DimmAddress {
    #[attr(default)]
    pub slot: u32,
    #[attr]
    pub base: Option<Hex<1>>,
}

/// Address on the bus of IBM's paravirtual machines.
#[element]
#[derive(Copy, Eq)]
pub struct SpaprAddress {
    #[attr]
    pub reg: Option<Hex<8>>,
}

/// An address without parts.
#[element]
#[derive(Copy, Eq)]
pub struct NoAddress {}

macro_rules! addresses {
    ($($variant:ident $word:literal $type:ty,)*) => {
        /// The address of a device in its guest.
        #[derive(Debug, Clone, PartialEq, Eq)]
        pub enum Address {
            $(#[doc = concat!("`type='", $word, "'`.")] $variant($type),)*
        }

        impl Element for Address {
            fn required() -> &'static [&'static str] {
                &["type"]
            }

            fn begin(&mut self, node: &Node<'_>) -> Result<()> {
                *self = match node.attribute("type") {
                    $(Some($word) => Self::$variant(Default::default()),)*
                    other => {
                        return Err(Error::xml(format!(
                            "Invalid value for attribute 'type' in element 'address': '{}'.",
                            other.unwrap_or_default()
                        )));
                    }
                };
                Ok(())
            }

            fn attribute(&mut self, name: &str, value: &str, element: &str) -> Result<bool> {
                if name == "type" {
                    return Ok(true);
                }
                match self { $(Self::$variant(inner) => inner.attribute(name, value, element),)* }
            }

            fn child(&mut self, name: &str, node: &Node<'_>) -> Result<bool> {
                match self { $(Self::$variant(inner) => inner.child(name, node),)* }
            }

            fn write_attributes(&self, writer: &mut Writer) {
                match self {
                    $(Self::$variant(inner) => {
                        writer.attribute("type", $word);
                        inner.write_attributes(writer);
                    })*
                }
            }

            fn write_content(&self, _: &mut Writer) {}
        }

        impl Address {
            /// The word of its type.
            pub fn word(&self) -> &'static str {
                match self { $(Self::$variant(_) => $word,)* }
            }
        }

        /// Which address it is, packed.
        enum Which { $($variant,)* }

        impl Pack for Address {
            fn pack(&self, to: &mut Packer) {
                match self {
                    $(Self::$variant(inner) => {
                        to.number(Which::$variant as u64);
                        inner.pack(to);
                    })*
                }
            }

            fn unpack(from: &mut Unpacker<'_>) -> Option<Self> {
                let which = from.number()?;
                $(if which == Which::$variant as u64 {
                    return Some(Self::$variant(Pack::unpack(from)?));
                })*
                None
            }
        }
    };
}

addresses! {
    Pci "pci" PciAddress,
    Drive "drive" DriveAddress,
    VirtioSerial "virtio-serial" VirtioSerialAddress,
    Ccid "ccid" CcidAddress,
    Usb "usb" UsbAddress,
    Isa "isa" IsaAddress,
    Dimm "dimm" DimmAddress,
    VirtioMmio "virtio-mmio" NoAddress,
    SpaprVio "spapr-vio" SpaprAddress,
    Unassigned "unassigned" NoAddress,
}

impl Default for Address {
    fn default() -> Self {
        Self::Unassigned(NoAddress::default())
    }
}

/// A name for the device.
#[element]
pub struct Alias {
    #[attr]
    pub name: String,
}

/// The device's index for ACPI, from which guests make names.
#[element]
pub struct AcpiIndex {
    #[attr]
    pub index: u32,
}

/// The device's place in the order of boot devices.
#[element]
pub struct Boot {
    #[attr]
    pub order: u32,
    #[attr]
    pub loadparm: Option<String>,
}

/// The option ROM.
#[element]
pub struct Rom {
    #[attr]
    pub enabled: Option<crate::words::YesNo>,
    #[attr]
    pub bar: Option<OnOff>,
    #[attr]
    pub file: Option<String>,
}

/// What all devices have.
#[element]
pub struct Info {
    #[child]
    pub alias: Option<Alias>,
    #[child]
    pub acpi: Option<AcpiIndex>,
    #[child]
    pub address: Option<Address>,
}

/// What devices have that a guest can boot from.
#[element]
pub struct BootInfo {
    #[child]
    pub boot: Option<Boot>,
    #[child]
    pub alias: Option<Alias>,
    #[child]
    pub rom: Option<Rom>,
    #[child]
    pub acpi: Option<AcpiIndex>,
    #[child]
    pub address: Option<Address>,
}

/// What is common to [`Info`] and [`BootInfo`].
pub trait HasInfo {
    /// The alias.
    fn alias(&self) -> &Option<Alias>;
    /// The alias, to be changed.
    fn alias_mut(&mut self) -> &mut Option<Alias>;
    /// The address.
    fn address(&self) -> &Option<Address>;
    /// The address, to be changed.
    fn address_mut(&mut self) -> &mut Option<Address>;
    /// The index for ACPI.
    fn acpi_index(&self) -> Option<u32>;

    /// The PCI address, if it is one.
    fn pci(&self) -> Option<PciAddress> {
        match self.address() {
            Some(Address::Pci(address)) => Some(*address),
            _ => None,
        }
    }

    /// The drive address, if it is one.
    fn drive(&self) -> Option<DriveAddress> {
        match self.address() {
            Some(Address::Drive(address)) => Some(*address),
            _ => None,
        }
    }

    /// The alias as text; empty if there is none.
    fn name(&self) -> &str {
        self.alias().as_ref().map_or("", |alias| &alias.name)
    }
}

macro_rules! has_info {
    ($($type:ty)*) => {$(
        impl $crate::address::HasInfo for $type {
            fn alias(&self) -> &Option<$crate::address::Alias> {
                &self.alias
            }
            fn alias_mut(&mut self) -> &mut Option<$crate::address::Alias> {
                &mut self.alias
            }
            fn address(&self) -> &Option<$crate::address::Address> {
                &self.address
            }
            fn address_mut(&mut self) -> &mut Option<$crate::address::Address> {
                &mut self.address
            }
            fn acpi_index(&self) -> Option<u32> {
                self.acpi.as_ref().map(|acpi| acpi.index)
            }
        }
    )*};
}
has_info!(Info BootInfo);
pub(crate) use has_info;

/// Options of virtio devices that stand in `<driver>`.
#[element]
#[derive(Copy, Eq)]
pub struct VirtioOptions {
    #[attr]
    pub iommu: Option<OnOff>,
    #[attr]
    pub ats: Option<OnOff>,
    #[attr]
    pub packed: Option<OnOff>,
    #[attr]
    pub page_per_vq: Option<OnOff>,
}

/// `<driver>` of virtio devices that have nothing else there.
#[element]
pub struct VirtioDriver {
    #[flatten]
    pub virtio: VirtioOptions,
}
