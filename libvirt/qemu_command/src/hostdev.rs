//! Devices of the host that are handed to the guest.

use crate::command::Builder;
use crate::{Error, Props, Result};
use domain_xml::Address;
use domain_xml::address::HasInfo as _;
use domain_xml::disk::DiskBus;
use domain_xml::hostdev::{HostOther, HostPci, Hostdev, HostdevAddress, HostdevMode, HostdevType};
use domain_xml::interface::{Interface, InterfaceType};
use domain_xml::source::Source;
use domain_xml::words::OnOff;

/// The parts of a PCI address of the host.
fn pci(address: &HostPci) -> String {
    format!(
        "{:04x}:{:02x}:{:02x}.{:x}",
        address.domain.map_or(0, |v| v.0),
        address.bus.map_or(0, |v| v.0),
        address.slot.map_or(0, |v| v.0),
        address.function.map_or(0, |v| v.0)
    )
}

fn other(device: &Hostdev) -> Option<&HostOther> {
    match device.source.as_ref()?.address.as_ref()? {
        HostdevAddress::Other { address, .. } => Some(address),
        HostdevAddress::Pci { .. } => None,
    }
}

impl Builder<'_> {
    pub(crate) fn host_devices(&mut self) -> Result<()> {
        for device in &self.devices().hostdev {
            if device.mode == HostdevMode::Subsystem {
                self.host_device(device)?;
            }
        }
        for (number, interface) in self.devices().interface.iter().enumerate() {
            if interface.kind == InterfaceType::Hostdev {
                let boot = self.boot.of_interface(number, interface);
                self.host_card(interface, boot)?;
            }
        }
        Ok(())
    }

    fn host_device(&mut self, device: &Hostdev) -> Result<()> {
        let alias = device.info.name();
        let boot = device.info.boot.as_ref().map_or(0, |b| b.order);
        let source = device.source.as_ref();
        match device.kind {
            HostdevType::Usb => {
                let at = other(device).filter(|at| at.bus.unwrap_or(0) != 0 || at.device.unwrap_or(0) != 0);
                let at =
                    at.ok_or_else(|| Error::internal("USB host device is missing bus/device information"))?;
                let (bus, number) = (at.bus.unwrap_or(0), at.device.unwrap_or(0));
                let props = if self.has("usb-host.hostdevice") {
                    Props::device("usb-host").put("hostdevice", format!("/dev/bus/usb/{bus:03}/{number:03}"))
                } else {
                    Props::device("usb-host").positive("hostbus", bus).positive("hostaddr", number)
                };
                let (reset, all) = match source.and_then(|s| s.guest_reset.as_deref()) {
                    Some("off") => (Some(false), None),
                    Some("uninitialized") => (Some(true), Some(false)),
                    Some("on") => (Some(true), Some(true)),
                    _ => (None, None),
                };
                let props = props
                    .put("id", alias)
                    .positive("bootindex", boot)
                    .some("guest-reset", reset)
                    .some("guest-resets-all", all);
                let props = self.place(props, &device.info)?;
                self.device(props)
            }
            HostdevType::Pci => {
                if matches!(device.info.address(), Some(Address::Unassigned(_))) {
                    return Ok(());
                }
                let Some(HostdevAddress::Pci { address, .. }) = source.and_then(|s| s.address.as_ref())
                else {
                    return Err(Error::xml("PCI host devices must have an address"));
                };
                if let Some(driver) = device.driver.as_ref().filter(|d| d.name != "vfio") {
                    return Err(Error::internal(format!("invalid PCI passthrough type '{}'", driver.name)));
                }
                let pair = device.teaming.as_ref().filter(|t| t.kind == "transient");
                let props = Props::device("vfio-pci")
                    .put("host", pci(address))
                    .put("id", alias)
                    .positive("bootindex", boot)
                    .some("failover_pair_id", pair.and_then(|t| t.persistent.clone()));
                let props = self.place(props, &device.info)?;
                let props = crate::network::rom(props, &device.info)?;
                self.device(props)
            }
            HostdevType::Mdev => self.mediated(device, boot),
            HostdevType::Scsi => self.scsi(device, boot),
            HostdevType::ScsiHost => {
                let fd = self.host.vhost_scsi()?;
                let form = device.model.as_deref().and_then(crate::virtio::form);
                let props = self
                    .virtio("vhost-scsi", form, &device.info, None)?
                    .put("wwpn", source.and_then(|s| s.wwpn.clone()).unwrap_or_default())
                    .put("vhostfd", fd)
                    .put("id", alias);
                let props = self.place(props, &device.info)?;
                self.device(props)
            }
            other => Err(Error::unsupported(format!("hostdev type '{other}' is not supported"))),
        }
    }

    fn mediated(&mut self, device: &Hostdev, boot: u32) -> Result<()> {
        let uuid = match device.source.as_ref().and_then(|s| s.address.as_ref()) {
            Some(HostdevAddress::Pci { address, .. }) => address.uuid.clone(),
            _ => None,
        };
        let uuid = uuid.ok_or_else(|| Error::xml("Missing 'uuid' attribute for element <address>"))?;
        let model = device.model.as_deref().unwrap_or("vfio-pci");
        let ramfb = device.ramfb == Some(OnOff::On);
        // Only the form that cannot be plugged has a frame buffer in memory.
        let driver = if model == "vfio-pci" && ramfb { "vfio-pci-nohotplug" } else { model };
        let props = Props::device(driver)
            .put("id", device.info.name())
            .put("sysfsdev", format!("/sys/bus/mdev/devices/{uuid}"))
            .word("display", device.display)
            .if_true("ramfb", ramfb)
            .positive("bootindex", boot);
        let props = self.place(props, &device.info)?;
        self.device(props)
    }

    fn scsi(&mut self, device: &Hostdev, boot: u32) -> Result<()> {
        let alias = device.info.name();
        let source = device.source.as_ref();
        let node = format!("libvirt-{}-backend", self.next_source);
        self.next_source += 1;
        let read_only = device.read_only;
        let storage = if let Some(source) = source.filter(|s| s.protocol.as_deref() == Some("iscsi")) {
            let secret = source.auth.as_ref().and_then(|auth| auth.secret.as_ref());
            let name = format!("{node}-secret0");
            if let Some(secret) = secret {
                self.secret_object(&name, secret)?;
            }
            let unit = Source {
                name: source.name.clone(),
                host: source.host.clone(),
                initiator: source.initiator.clone(),
                ..Source::default()
            };
            let user = source.auth.as_ref().map(|auth| auth.username.clone());
            let props = Props::default().put("driver", "iscsi");
            crate::block::iscsi(props, &unit, user, secret.map(|_| name))?
        } else {
            let adapter = source.and_then(|s| s.adapter.as_ref()).map_or("", |a| a.name.as_str());
            let at = other(device).ok_or_else(|| Error::xml("SCSI host devices must have an address"))?;
            let path = self.host.scsi_generic(
                adapter,
                at.bus.unwrap_or(0),
                at.target.unwrap_or(0),
                at.unit.unwrap_or(0),
            )?;
            Props::default().put("driver", "host_device").put("filename", path)
        };
        let storage = storage.put("node-name", node.clone()).put("read-only", read_only);
        self.option("-blockdev", storage.argument());
        let props =
            Props::device("scsi-generic").put("drive", node).put("id", alias).positive("bootindex", boot);
        let props = match device.info.address() {
            Some(Address::Drive(at)) => self.place_drive(props, DiskBus::Scsi, *at)?,
            _ => props,
        };
        self.device(props)
    }

    fn host_card(&mut self, interface: &Interface, boot: u32) -> Result<()> {
        let Some(HostdevAddress::Pci { address, .. }) =
            interface.source.as_ref().and_then(|s| s.device.as_ref())
        else {
            return Err(Error::xml("PCI host devices must have an address"));
        };
        let pair = interface.teaming.as_ref().filter(|t| t.kind == "transient");
        let props = Props::device("vfio-pci")
            .put("host", pci(address))
            .put("id", interface.info.name())
            .positive("bootindex", boot)
            .some("failover_pair_id", pair.and_then(|t| t.persistent.clone()));
        let props = self.place(props, &interface.info)?;
        let props = crate::network::rom(props, &interface.info)?;
        self.device(props)
    }
}
