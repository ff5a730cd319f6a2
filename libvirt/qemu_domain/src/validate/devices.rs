//! Devices other than disks.

use domain_xml::address::Address;
use domain_xml::controller::ControllerType;
use domain_xml::graphics::GraphicsType;
use domain_xml::hostdev::{Hostdev, HostdevMode, HostdevType};
use domain_xml::input::{InputBus, InputType};
use domain_xml::interface::InterfaceType;
use domain_xml::misc::IommuModel;
use domain_xml::video::{Video, VideoType};
use domain_xml::words::{on, yes};
use domain_xml::{Domain, Error, Result};

use qemu_caps::QemuCaps;

use crate::{Settings, machine};

fn unsupported<T>(detail: impl Into<String>) -> Result<T> {
    Err(Error::unsupported(detail))
}

pub fn check(domain: &Domain, caps: &QemuCaps, settings: &Settings) -> Result<()> {
    displays(domain, settings)?;
    shared_memory(domain, caps)?;
    videos(domain)?;
    expanders(domain)?;
    host_devices(domain)?;
    iommu(domain)?;
    for filesystem in &domain.devices.filesystem {
        let virtiofs = filesystem.driver.as_ref().is_some_and(|own| own.kind.as_deref() == Some("virtiofs"));
        if virtiofs && filesystem.read_only {
            return unsupported("virtiofs does not yet support read-only mode");
        }
    }
    interfaces(domain)?;
    for video in &domain.devices.video {
        let acceleration = video.model.as_ref().and_then(|model| model.acceleration.as_ref());
        if acceleration.is_some_and(|acceleration| yes(acceleration.accel2d)) {
            return unsupported("qemu does not support the accel2d setting");
        }
        if video.kind() == VideoType::Ramfb && video.info.address.is_some() {
            return unsupported("address not supported for video type ramfb");
        }
    }
    for input in &domain.devices.input {
        let form = input.model.as_deref().is_some_and(|model| model != "virtio");
        // Only a device of the host has these forms.
        if input.bus == Some(InputBus::Virtio) && form && input.kind != InputType::Passthrough {
            return unsupported(format!(
                "virtio (non-)transitional models are not supported for input type={}",
                input.kind
            ));
        }
    }
    Ok(())
}

fn interfaces(domain: &Domain) -> Result<()> {
    for interface in &domain.devices.interface {
        let kind = interface.kind;
        if let Some(driver) = &interface.driver {
            let sizes = [("rx_queue_size", driver.rx_queue_size), ("tx_queue_size", driver.tx_queue_size)];
            if let Some((name, _)) =
                sizes.iter().find(|(_, size)| size.is_some_and(|size| !size.is_power_of_two()))
            {
                return unsupported(format!("{name} has to be a power of two"));
            }
        }
        if !interface.route.is_empty() {
            return unsupported(
                "Invalid attempt to set network interface guest-side IP route, not supported by QEMU",
            );
        }
        if !interface.ip.is_empty() && !matches!(kind, InterfaceType::User | InterfaceType::VhostUser) {
            return unsupported(format!(
                "Invalid attempt to set network interface guest-side IP address info, not supported for type={kind}"
            ));
        }
        let passt = interface.backend.as_ref().and_then(|backend| backend.kind.as_deref()) == Some("passt");
        let forwards = passt && kind == InterfaceType::User;
        if !forwards && !interface.port_forward.is_empty() {
            return unsupported(
                "The <portForward> element can only be used with <interface type='user'> and its 'passt' backend",
            );
        }
    }
    Ok(())
}

/// Shared memory of the oldest kind went away with QEMU 4.0.
fn shared_memory(domain: &Domain, caps: &QemuCaps) -> Result<()> {
    for memory in &domain.devices.shmem {
        let name = memory.name.as_str();
        if name.contains('/') {
            return Err(Error::xml("shmem name cannot include '/' character"));
        }
        if matches!(name, "." | "..") {
            return Err(Error::xml(format!("shmem name cannot be equal to '{name}'")));
        }
        let model = memory.model.as_ref().map_or("", |model| model.kind.as_str());
        if !caps.has(model) {
            return unsupported(format!("{model} device is not supported with this QEMU binary"));
        }
    }
    Ok(())
}

fn videos(domain: &Domain) -> Result<()> {
    let videos = &domain.devices.video;
    if videos.iter().skip(1).any(Video::primary) {
        return unsupported("Only one primary video device is supported");
    }
    if videos.len() > 1 && videos.iter().any(|video| video.kind() == VideoType::None) {
        return unsupported("a 'none' video type must be the only video device defined for the domain");
    }
    for video in videos {
        let Some(model) = &video.model else { continue };
        let user = video.driver.as_ref().is_some_and(|driver| driver.name.as_deref() == Some("vhostuser"));
        if user && model.kind != VideoType::Virtio {
            return unsupported("'vhostuser' driver is only supported with 'virtio' device");
        }
        if !user && model.acceleration.as_ref().is_some_and(|it| it.rendernode.is_some()) {
            return unsupported("unsupported rendernode accel attribute without 'vhostuser'");
        }
        if model.resolution.as_ref().is_some_and(|it| it.x == 0 || it.y == 0) {
            return unsupported("video resolution values must be greater than 0");
        }
        if model.kind != VideoType::Qxl {
            let own = [("ram", model.ram), ("vram64", model.vram64), ("vgamem", model.vgamem)];
            if let Some((name, _)) = own.iter().find(|(_, value)| value.is_some()) {
                return unsupported(format!("{name} attribute only supported for video type qxl"));
            }
        } else if model.vgamem.is_some_and(|size| size < 1024) {
            return unsupported("value for 'vgamem' must be at least 1 MiB (1024 KiB)");
        }
    }
    Ok(())
}

/// Bridges that belong to a node of the guest's memory.
fn expanders(domain: &Domain) -> Result<()> {
    let cells = domain.cpu.as_ref().and_then(|cpu| cpu.numa.as_ref()).map_or(0, |numa| numa.cell.len());
    for controller in domain.devices.controller.iter().filter(|it| it.kind == ControllerType::Pci) {
        let Some(node) = controller.target.as_ref().and_then(|target| target.node) else { continue };
        if node as usize >= cells {
            return Err(Error::xml(format!(
                "{} with index {} is configured for a NUMA node ({node}) not present in the domain's <cpu><numa> array ({cells})",
                controller.model(),
                controller.index()
            )));
        }
    }
    Ok(())
}

fn displays(domain: &Domain, settings: &Settings) -> Result<()> {
    let displays = &domain.devices.graphics;
    let spice = displays.iter().filter(|display| display.kind == GraphicsType::Spice);
    if !settings.spice_tls && spice.clone().any(|it| it.tls_port.is_some_and(|port| port > 0)) {
        return unsupported("spice TLS port set in XML configuration, but TLS is disabled in qemu.conf");
    }
    let has = |kind| displays.iter().any(|display| display.kind == kind);
    if !has(GraphicsType::EglHeadless) {
        return Ok(());
    }
    if displays.iter().any(|display| {
        display.kind == GraphicsType::Spice && display.gl.as_ref().is_some_and(|gl| yes(gl.enable))
    }) {
        return unsupported("multiple OpenGL displays are not supported by QEMU");
    }
    let others = displays.iter().any(|display| {
        !matches!(display.kind, GraphicsType::EglHeadless | GraphicsType::Vnc | GraphicsType::Spice)
    });
    if others {
        return unsupported(
            "graphics type 'egl-headless' is only supported with one of: 'vnc', 'spice' graphics types",
        );
    }
    Ok(())
}

fn host_devices(domain: &Domain) -> Result<()> {
    let devices = domain.devices.hostdev.iter().filter(|host| host.mode == HostdevMode::Subsystem);
    if devices.clone().filter(|host| host.kind == HostdevType::Mdev && on(host.ramfb)).count() > 1 {
        return unsupported("Only one vgpu device can have 'ramfb' enabled");
    }
    let all: Vec<&Hostdev> = devices.clone().collect();
    for (index, host) in all.iter().enumerate() {
        if all[..index].iter().any(|other| same(other, host)) {
            return Err(Error::xml("Hostdev already exists in the domain configuration"));
        }
    }
    for host in devices {
        if host.kind == HostdevType::Mdev {
            if on(host.display) && domain.devices.graphics.is_empty() {
                return unsupported(
                    "graphics device is needed for attribute value 'display=on' in <hostdev>",
                );
            }
            let model = host.model.as_deref().unwrap_or_default();
            match &host.info.address {
                Some(address) if model == "vfio-pci" && !matches!(address, Address::Pci(_)) => {
                    return Err(Error::xml(format!(
                        "Unsupported address type '{}' with mediated device model '{model}'",
                        address.word()
                    )));
                }
                _ => {}
            }
        }
        let fault = match (host.kind, &host.info.address) {
            (HostdevType::Pci, Some(address))
                if !matches!(address, Address::Pci(_) | Address::Unassigned(_)) =>
            {
                return Err(Error::internal("PCI host devices must use 'pci' or 'unassigned' address type"));
            }
            (HostdevType::Scsi, Some(address)) if !matches!(address, Address::Drive(_)) => {
                Some("SCSI host device must use 'drive' address type")
            }
            (HostdevType::ScsiHost, Some(address)) if !matches!(address, Address::Pci(_)) => {
                Some("SCSI_host host device must use 'pci' or 'ccw' address type")
            }
            (HostdevType::Usb, Some(address)) if !matches!(address, Address::Usb(_)) => {
                Some("USB host device must use 'usb' address type")
            }
            _ => None,
        };
        if let Some(fault) = fault {
            return unsupported(fault);
        }
        if host.sgio.as_deref() == Some("unfiltered") {
            return unsupported("unfiltered sgio is no longer supported");
        }
        if let Some(teaming) = &host.teaming {
            if teaming.kind != "transient" {
                return unsupported("teaming hostdev devices must have type='transient'");
            }
            if teaming.persistent.is_none() {
                return unsupported("missing required persistent attribute in hostdev teaming element");
            }
            if host.kind != HostdevType::Pci {
                return unsupported("teaming is only supported for pci hostdev devices");
            }
        }
        if host.kind == HostdevType::ScsiHost && host.info.boot.is_some() {
            return unsupported("booting from assigned devices is not supported by vhost SCSI devices");
        }
    }
    Ok(())
}

/// Whether two are one device of the host.
fn same(one: &Hostdev, other: &Hostdev) -> bool {
    let (Some(a), Some(b)) = (&one.source, &other.source) else { return false };
    one.kind == other.kind
        && match one.kind {
            HostdevType::Usb => match (&a.address, &b.address) {
                (Some(first), Some(second)) => first == second,
                _ => a.vendor.is_some() && (&a.vendor, &a.product) == (&b.vendor, &b.product),
            },
            HostdevType::Scsi if a.protocol.is_some() => (&a.name, &a.host) == (&b.name, &b.host),
            HostdevType::Scsi => (&a.adapter, &a.address) == (&b.adapter, &b.address),
            HostdevType::ScsiHost => a.wwpn == b.wwpn,
            _ => a.address.is_some() && a.address == b.address,
        }
}

fn iommu(domain: &Domain) -> Result<()> {
    let Some(iommu) = &domain.devices.iommu else { return Ok(()) };
    match iommu.model {
        IommuModel::Intel if !machine::is_q35(domain) => {
            unsupported("IOMMU device: 'intel' is only supported with Q35 machines")
        }
        IommuModel::Virtio => {
            if !machine::is_q35(domain) {
                return unsupported(
                    "IOMMU device: 'virtio' is only supported with Q35 and ARM Virt machines",
                );
            }
            if !matches!(iommu.info.address, Some(Address::Pci(_))) {
                return unsupported("IOMMU device: 'virtio' needs a PCI address");
            }
            if !domain.features.as_ref().is_some_and(|features| features.acpi) {
                return unsupported("IOMMU device: 'virtio' requires ACPI");
            }
            Ok(())
        }
        _ => Ok(()),
    }
}
