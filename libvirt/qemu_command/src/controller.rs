//! Controllers, hubs and address translation.

use crate::command::Builder;
use crate::{Error, Props, Result};
use domain_xml::address::HasInfo as _;
use domain_xml::controller::{Controller, ControllerType};
use domain_xml::misc::IommuModel;

/// The order in which controllers stand; card readers come after hubs, which they may be attached to.
const ORDER: [ControllerType; 6] = [
    ControllerType::Pci,
    ControllerType::Usb,
    ControllerType::Scsi,
    ControllerType::Ide,
    ControllerType::Sata,
    ControllerType::VirtioSerial,
];

/// libvirt's model of a USB controller, the emulator's device, and the capability that tells of it.
const USB: [(&str, &str, &str); 12] = [
    ("piix3-uhci", "piix3-usb-uhci", "piix3-usb-uhci"),
    ("piix4-uhci", "piix4-usb-uhci", "piix4-usb-uhci"),
    ("ehci", "usb-ehci", "usb-ehci"),
    ("ich9-ehci1", "ich9-usb-ehci1", "ich9-usb-ehci1"),
    ("ich9-uhci1", "ich9-usb-uhci1", "ich9-usb-ehci1"),
    ("ich9-uhci2", "ich9-usb-uhci2", "ich9-usb-ehci1"),
    ("ich9-uhci3", "ich9-usb-uhci3", "ich9-usb-ehci1"),
    ("vt82c686b-uhci", "vt82c686b-usb-uhci", "vt82c686b-usb-uhci"),
    ("pci-ohci", "pci-ohci", "pci-ohci"),
    ("nec-xhci", "nec-usb-xhci", "nec-usb-xhci"),
    ("qemu-xhci", "qemu-xhci", "qemu-xhci"),
    ("none", "", ""),
];

impl Builder<'_> {
    pub(crate) fn iommu(&mut self) -> Result<()> {
        let Some(iommu) = &self.devices().iommu else { return self.pci_holes() };
        match iommu.model {
            IommuModel::Intel => {
                let driver = iommu.driver.as_ref();
                let props = Props::device("intel-iommu")
                    .put("id", iommu.info.name())
                    .word("intremap", driver.and_then(|d| d.intremap))
                    .switch("caching-mode", driver.and_then(|d| d.caching_mode))
                    .word("eim", driver.and_then(|d| d.eim))
                    .switch("device-iotlb", driver.and_then(|d| d.iotlb))
                    .positive("aw-bits", driver.and_then(|d| d.aw_bits).unwrap_or(0));
                self.device(props)?;
            }
            IommuModel::Virtio => {
                let props = Props::device("virtio-iommu").put("id", iommu.info.name());
                let props = self.place(props, &iommu.info)?;
                self.device(props)?;
            }
            IommuModel::Smmuv3 => {
                return Err(Error::unsupported(
                    "IOMMU device: 'smmuv3' is only supported with ARM Virt machines",
                ));
            }
        }
        self.pci_holes()
    }

    fn pci_holes(&mut self) -> Result<()> {
        for controller in &self.devices().controller {
            if let Some(size) = controller.pcihole64 {
                let bridge = match controller.model() {
                    "pci-root" => "i440FX-pcihost",
                    "pcie-root" => "q35-pcihost",
                    _ => {
                        return Err(Error::internal(
                            "64-bit PCI hole setting is only for root PCI controllers",
                        ));
                    }
                };
                self.option("-global", format!("{bridge}.pci-hole64-size={}K", size.0));
            }
        }
        Ok(())
    }

    pub(crate) fn controllers(&mut self) -> Result<()> {
        for kind in ORDER {
            self.controllers_of(kind)?;
        }
        let usb: Vec<&Controller> =
            self.devices().controller.iter().filter(|c| c.kind == ControllerType::Usb).collect();
        if usb.is_empty() && !self.is_q35() || usb.iter().all(|c| c.model().is_empty()) && !usb.is_empty() {
            self.flag("-usb");
        }
        Ok(())
    }

    pub(crate) fn card_readers(&mut self) -> Result<()> {
        self.controllers_of(ControllerType::Ccid)
    }

    fn controllers_of(&mut self, kind: ControllerType) -> Result<()> {
        for controller in self.devices().controller.iter().filter(|c| c.kind == kind) {
            if controller.kind == ControllerType::Pci
                && controller.model() == "pci-root"
                && controller.index() == 0
                && let Some(hotplug) = controller.target.as_ref().and_then(|t| t.hotplug)
            {
                self.option("-global", format!("PIIX4_PM.acpi-root-pci-hotplug={hotplug}"));
            }
            if self.on_board(controller)
                || controller.kind == ControllerType::Usb && controller.model().is_empty()
            {
                continue;
            }
            let props = self.controller_props(controller)?;
            let props = self.place(props, controller)?;
            self.device(props)?;
        }
        Ok(())
    }

    /// Whether the machine has the controller anyway, or there is to be none.
    fn on_board(&self, controller: &Controller) -> bool {
        match controller.kind {
            ControllerType::Pci => matches!(controller.model(), "pci-root" | "pcie-root"),
            ControllerType::Sata => controller.index() == 0 && self.is_q35(),
            ControllerType::Ide => controller.index() == 0 && self.has_ide(),
            ControllerType::Usb => controller.model() == "none",
            _ => false,
        }
    }

    pub(crate) fn controller_props(&self, controller: &Controller) -> Result<Props> {
        let id = controller.name();
        match controller.kind {
            ControllerType::Pci => self.pci_controller(controller),
            ControllerType::Usb => self.usb_controller(controller),
            ControllerType::Scsi => self.scsi_controller(controller),
            ControllerType::Sata => Ok(Props::device("ahci").put("id", id)),
            ControllerType::Ccid => Ok(Props::device("usb-ccid").put("id", id)),
            ControllerType::VirtioSerial => {
                let options = controller.driver.as_ref().map(|d| d.virtio);
                let form = crate::virtio::form(controller.model());
                Ok(self
                    .virtio("virtio-serial", form, controller, options)?
                    .put("id", id)
                    .some("max_ports", controller.ports)
                    .some("vectors", controller.vectors))
            }
            other => Err(Error::unsupported(format!("Unsupported controller type: {other}"))),
        }
    }

    fn pci_controller(&self, controller: &Controller) -> Result<Props> {
        let device = controller
            .device
            .as_ref()
            .map(|d| d.name.as_str())
            .ok_or_else(|| Error::internal("Unknown virDomainControllerPCIModelName value: 0"))?;
        let target = controller.target.as_ref();
        let props = Props::device(device);
        let id = controller.name();
        Ok(match controller.model() {
            "pci-bridge" => {
                props.put("chassis_nr", target.and_then(|t| t.chassis_nr).unwrap_or(0)).put("id", id)
            }
            "pci-expander-bus" | "pcie-expander-bus" => props
                .put("bus_nr", target.and_then(|t| t.bus_nr).unwrap_or(0))
                .put("id", id)
                .some("numa_node", target.and_then(|t| t.node)),
            "pcie-root-port" | "pcie-switch-downstream-port" => props
                .put("port", target.and_then(|t| t.port).map_or(0, |p| p.0))
                .put("chassis", target.and_then(|t| t.chassis).unwrap_or(0))
                .put("id", id)
                .switch("hotplug", target.and_then(|t| t.hotplug)),
            "dmi-to-pci-bridge" | "pcie-switch-upstream-port" | "pcie-to-pci-bridge" => props.put("id", id),
            other => return Err(Error::internal(format!("Unexpected PCI controller model {other}"))),
        })
    }

    fn usb_controller(&self, controller: &Controller) -> Result<Props> {
        let model = controller.model();
        let (_, device, flag) = USB
            .into_iter()
            .find(|(name, ..)| *name == model)
            .ok_or_else(|| Error::unsupported("no model provided for USB controller"))?;
        if !self.has(flag) {
            return Err(Error::unsupported(format!(
                "USB controller model '{model}' not supported in this QEMU binary"
            )));
        }
        if controller.ports.is_some() && !matches!(model, "nec-xhci" | "qemu-xhci") {
            return Err(Error::unsupported(format!(
                "usb controller type '{model}' doesn't support 'ports' with this QEMU binary"
            )));
        }
        let props = Props::device(device).some("p2", controller.ports).some("p3", controller.ports);
        let Some(master) = &controller.master else { return Ok(props.put("id", controller.name())) };
        let leader =
            self.devices().controller.iter().find(|c| {
                c.kind == ControllerType::Usb && c.index() == controller.index() && c.master.is_none()
            });
        let leader = leader.ok_or_else(|| Error::internal("masterbus not found"))?;
        Ok(props.put("masterbus", format!("{}.0", leader.name())).put("firstport", master.startport))
    }

    fn scsi_controller(&self, controller: &Controller) -> Result<Props> {
        let id = controller.name();
        let device = match controller.model() {
            model @ ("virtio-scsi" | "virtio-transitional" | "virtio-non-transitional") => {
                let driver = controller.driver.as_ref();
                let form = crate::virtio::form(model);
                return Ok(self
                    .virtio("virtio-scsi", form, controller, driver.map(|d| d.virtio))?
                    .some("iothread", driver.and_then(|d| d.iothread).map(|n| format!("iothread{n}")))
                    .put("id", id)
                    .positive("num_queues", driver.and_then(|d| d.queues).unwrap_or(0))
                    .positive("cmd_per_lun", driver.and_then(|d| d.cmd_per_lun).unwrap_or(0))
                    .positive("max_sectors", driver.and_then(|d| d.max_sectors).unwrap_or(0))
                    .switch("ioeventfd", driver.and_then(|d| d.ioeventfd)));
            }
            "lsilogic" => "lsi",
            "lsisas1068" => "mptsas1068",
            "lsisas1078" => "megasas",
            "vmpvscsi" => "pvscsi",
            "am53c974" => "am53c974",
            "dc390" => "dc-390",
            "ibmvscsi" => "spapr-vscsi",
            other => return Err(Error::unsupported(format!("Unsupported controller model: {other}"))),
        };
        Ok(Props::device(device).put("id", id))
    }

    pub(crate) fn hubs(&mut self) -> Result<()> {
        for hub in &self.devices().hub {
            let props = Props::device("usb-hub").put("id", hub.info.name());
            let props = self.place(props, &hub.info)?;
            self.device(props)?;
        }
        Ok(())
    }
}
