//! Devices other than disks.

use domain_xml::address::Address;
use domain_xml::graphics::GraphicsType;
use domain_xml::hostdev::{HostdevMode, HostdevType};
use domain_xml::input::{InputBus, InputType};
use domain_xml::interface::InterfaceType;
use domain_xml::misc::IommuModel;
use domain_xml::video::VideoType;
use domain_xml::words::{on, yes};
use domain_xml::{Domain, Error, Result};

use crate::machine;

fn unsupported<T>(detail: impl Into<String>) -> Result<T> {
    Err(Error::unsupported(detail))
}

pub fn check(domain: &Domain) -> Result<()> {
    displays(domain)?;
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

fn displays(domain: &Domain) -> Result<()> {
    let displays = &domain.devices.graphics;
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
    for host in devices {
        if host.kind == HostdevType::ScsiHost && host.info.boot.is_some() {
            return unsupported("booting from assigned devices is not supported by vhost SCSI devices");
        }
    }
    Ok(())
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
