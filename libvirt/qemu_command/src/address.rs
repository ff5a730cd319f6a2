//! Where a device sits, as its properties say it.

use crate::command::Builder;
use crate::{Error, Props, Result};
use domain_xml::address::HasInfo;
use domain_xml::controller::{Controller, ControllerType};
use domain_xml::disk::DiskBus;
use domain_xml::qemu::Property;
use domain_xml::{Address, DriveAddress};

impl Builder<'_> {
    /// Adds the address of a device.
    pub(crate) fn place(&self, props: Props, info: &impl HasInfo) -> Result<Props> {
        match info.address() {
            None => Ok(props),
            Some(Address::Pci(address)) => {
                let bus = self.pci_bus(address.bus.0)?;
                let slot = match address.function.0 {
                    0 => format!("{:#x}", address.slot.0),
                    function => format!("{:#x}.{function:#x}", address.slot.0),
                };
                Ok(props
                    .put("bus", bus)
                    .switch("multifunction", address.multifunction)
                    .put("addr", slot)
                    .positive("acpi-index", info.acpi_index().unwrap_or(0)))
            }
            Some(Address::Usb(address)) => {
                let bus = self.controller_alias(ControllerType::Usb, address.bus)?;
                Ok(props.put("bus", format!("{bus}.0")).some("port", address.port.clone()))
            }
            Some(Address::Isa(address)) => Ok(props
                .put("iobase", address.iobase.map_or(0, |port| port.0))
                .positive("irq", address.irq.map_or(0, |irq| irq.0))),
            Some(Address::Dimm(address)) => {
                Ok(props.put("slot", address.slot).positive("addr", address.base.map_or(0, |base| base.0)))
            }
            Some(Address::VirtioSerial(address)) => {
                let bus = self.controller_alias(ControllerType::VirtioSerial, address.controller)?;
                Ok(props.put("bus", format!("{bus}.{}", address.bus)).put("nr", address.port))
            }
            Some(Address::Drive(_) | Address::Ccid(_) | Address::VirtioMmio(_) | Address::Unassigned(_)) => {
                Ok(props)
            }
            Some(Address::SpaprVio(address)) => Ok(props.positive("reg", address.reg.map_or(0, |reg| reg.0))),
        }
    }

    /// Adds the address of a disk or of a SCSI device.
    pub(crate) fn place_drive(&self, props: Props, bus: DiskBus, at: DriveAddress) -> Result<Props> {
        match bus {
            DiskBus::Ide => {
                let name = if self.has_ide() {
                    "ide".to_owned()
                } else {
                    self.controller_alias(ControllerType::Ide, at.controller)?
                };
                Ok(props.put("bus", format!("{name}.{}", at.bus)).put("unit", at.unit))
            }
            DiskBus::Sata => {
                let name = if self.is_q35() && at.controller == 0 {
                    "ide".to_owned()
                } else {
                    self.controller_alias(ControllerType::Sata, at.controller)?
                };
                Ok(props.put("bus", format!("{name}.{}", at.unit)))
            }
            DiskBus::Fdc => Ok(props.put("unit", at.unit)),
            DiskBus::Scsi => {
                let controller = self.controller(ControllerType::Scsi, at.controller).ok_or_else(|| {
                    Error::internal(format!("unable to find a SCSI controller for idx={}", at.controller))
                })?;
                let name = controller.name();
                Ok(match controller.model() {
                    "lsilogic" | "ncr53c90" | "dc390" | "am53c974" => {
                        props.put("bus", format!("{name}.{}", at.bus)).put("scsi-id", at.unit)
                    }
                    _ => props
                        .put("bus", format!("{name}.0"))
                        .put("channel", at.bus)
                        .put("scsi-id", at.target)
                        .put("lun", at.unit),
                })
            }
            other => Err(Error::internal(format!("address type drive is not supported for bus '{other}'"))),
        }
    }

    /// The controller of that kind and index.
    pub(crate) fn controller(&self, kind: ControllerType, index: u32) -> Option<&Controller> {
        self.devices().controller.iter().find(|c| c.kind == kind && c.index() == index)
    }

    /// The alias of the controller of that kind and index.
    pub(crate) fn controller_alias(&self, kind: ControllerType, index: u32) -> Result<String> {
        self.controller(kind, index).map(|c| c.name().to_owned()).ok_or_else(|| {
            Error::internal(format!(
                "could not find {kind} controller with index {index} required for device"
            ))
        })
    }

    /// The name of a PCI bus. The boards' own buses have names of their own, whatever their controllers are called.
    fn pci_bus(&self, index: u64) -> Result<String> {
        let controller = u32::try_from(index).ok().and_then(|i| self.controller(ControllerType::Pci, i));
        let controller = controller.ok_or_else(|| {
            Error::internal(format!("Could not find PCI controller with index '{index}' required for device"))
        })?;
        Ok(match (controller.name(), controller.model()) {
            (name, "pci-root") if name.starts_with("ua-") => "pci.0".to_owned(),
            (name, "pcie-root") if name.starts_with("ua-") => "pcie.0".to_owned(),
            (name, _) => name.to_owned(),
        })
    }
}

/// The value that a domain gives a property of a device; `None`: the property is left out.
pub(crate) fn override_value(property: &Property) -> Result<Option<json::Value>> {
    let text = property.value.as_deref().unwrap_or("");
    let wrong = || {
        Error::xml(format!(
            "invalid value '{text}' of '{}' override property '{}'",
            property.kind, property.name
        ))
    };
    Ok(Some(match property.kind.as_str() {
        "string" => text.into(),
        "signed" => text.parse::<i64>().map_err(|_| wrong())?.into(),
        "unsigned" => text.parse::<u64>().map_err(|_| wrong())?.into(),
        "bool" => match text {
            "true" | "yes" => true.into(),
            "false" | "no" => false.into(),
            _ => return Err(wrong()),
        },
        "remove" => return Ok(None),
        _ => return Err(wrong()),
    }))
}
