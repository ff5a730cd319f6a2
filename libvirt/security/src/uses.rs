//! What of the host a domain uses: files, nodes, host devices, in the order in which libvirt labels them.

use std::path::Path;

use confinement::dac::{Channel, Image, Label, Owner};
use confinement::{Error, Result};
use domain_xml::Domain;
use domain_xml::chardev::{CharMode, CharSource, CharType};
use domain_xml::disk::{Disk, DiskDevice};
use domain_xml::hostdev::{Hostdev, HostdevAddress, HostdevMode, HostdevType};
use domain_xml::input::InputType;
use domain_xml::memory::MemoryModel;
use domain_xml::misc::{RngModel, TpmType};
use domain_xml::os::LoaderType;
use domain_xml::source::{BackingStore, Source, SourceLabel, SourceType};
use domain_xml::tune::SecLabel;
use domain_xml::words::YesNo;

const DAC: &str = "dac";
const VFIO: &str = "/dev/vfio/vfio";
const DEVICE_MAPPER: &str = "/dev/mapper/control";

/// One thing that a domain uses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Use {
    /// A disk's images, the top first; the parent's label stands for those without.
    Images {
        /// The layers.
        chain: Vec<Image>,
        /// The disk's own label.
        label: Option<Label>,
    },
    /// A file of this guest only.
    File(String),
    /// A node that guests share, such as `/dev/sev`.
    SharedNode(String),
    /// The node of a host device.
    HostDevice {
        /// Its path.
        path: String,
        /// It may belong to several devices (a VFIO group).
        group: bool,
    },
    /// A character device's other end.
    Channel {
        /// What it is.
        channel: Channel,
        /// Its label.
        label: Option<Label>,
        /// Who owned it is kept.
        remember: bool,
    },
    /// A node or file that is needed, and stays as it is.
    Node {
        /// Its path.
        path: String,
        /// It is only read.
        read_only: bool,
    },
}

fn relabel(value: Option<YesNo>) -> bool {
    value != Some(YesNo::No)
}

/// The label of a device, if it has one for the driver `dac`.
fn source_label(labels: &[SourceLabel]) -> Result<Option<Label>> {
    let found = labels.iter().find(|label| label.model.as_deref().is_none_or(|model| model == DAC));
    found
        .map(|label| {
            let owner = label.label.as_deref().map(Owner::parse).transpose()?;
            Ok(Label { relabel: relabel(label.relabel), owner })
        })
        .transpose()
}

/// The domain's label of the driver `dac`; [`Owner`] from its image label, or else the label.
pub fn domain_label(domain: &Domain) -> Result<Option<Label>> {
    let Some(label) = of_model(domain, DAC) else { return Ok(None) };
    let text = label.imagelabel.as_deref().or(label.label.as_deref());
    let owner = text.map(Owner::parse).transpose()?;
    let none = label.kind.as_deref() == Some("none");
    Ok(Some(Label { relabel: label.relabel.map_or(!none, |value| value == YesNo::Yes), owner }))
}

/// The domain's label of a driver.
pub fn of_model<'a>(domain: &'a Domain, model: &str) -> Option<&'a SecLabel> {
    domain.seclabel.iter().find(|label| label.model.as_deref() == Some(model))
}

/// The path of a source that is a file or node of this host.
fn local_path(kind: SourceType, source: &Source) -> Option<String> {
    // Descriptors that a client passed are open already.
    if source.fdgroup.is_some() {
        return None;
    }
    match kind {
        SourceType::File => source.file.clone(),
        SourceType::Block => source.dev.clone(),
        SourceType::Dir => source.dir.clone(),
        _ => None,
    }
}

fn add_chain(store: Option<&BackingStore>, chain: &mut Vec<Image>) -> Result<()> {
    let mut next = store;
    while let Some(store) = next {
        let Some(source) = &store.source else { break };
        chain.push(Image {
            path: local_path(store.kind.unwrap_or_default(), source),
            read_only: true,
            shared: false,
            label: source_label(&source.seclabel)?,
        });
        next = store.backing_store.as_deref();
    }
    Ok(())
}

/// Whether a helper that the daemon starts handles the disk's persistent reservations.
#[must_use]
pub fn has_managed_reservations(disk: &Disk) -> bool {
    let source = disk.source.as_ref();
    let reservations = source.and_then(|source| source.reservations.as_ref());
    reservations.is_some_and(|reservations| reservations.managed == YesNo::Yes)
}

/// A disk's images.
pub fn of_disk(disk: &Disk) -> Result<Option<Use>> {
    let Some(source) = &disk.source else { return Ok(None) };
    let label = source_label(&source.seclabel)?;
    let read_only = disk.read_only || matches!(disk.device, DiskDevice::Cdrom);
    let top = Image {
        path: local_path(disk.kind, source),
        read_only,
        shared: disk.shareable,
        label: label.clone(),
    };
    let mut chain = vec![top];
    add_chain(disk.backing_store.as_deref(), &mut chain)?;
    Ok(Some(Use::Images { chain, label }))
}

/// A character device's other end.
pub fn of_channel(source: &CharSource, remember: bool, by_logd: bool) -> Result<Option<Use>> {
    let kind = source.kind();
    let (end, listen) = match source.end(CharMode::Bind) {
        Some(end) => (Some(end), true),
        None => (source.ends.first(), false),
    };
    let Some(end) = end else { return Ok(None) };
    let Some(path) = end.path.clone() else { return Ok(None) };
    let channel = match kind {
        CharType::Dev => Channel::File { path, file_by_logd: false },
        CharType::File => Channel::File { path, file_by_logd: by_logd },
        CharType::Pipe => Channel::Pipe(path),
        CharType::Unix => Channel::Socket { path, listen },
        _ => return Ok(None),
    };
    Ok(Some(Use::Channel { channel, label: source_label(&end.seclabel)?, remember }))
}

/// The name of the group that a device is assigned in, by the link to it.
fn vfio_group(link: &Path) -> Result<String> {
    let target = std::fs::read_link(link).map_err(|error| Error {
        code: confinement::Code::SystemError,
        message: format!("Unable to resolve device {} iommu_group symlink: {error}", link.display()),
    })?;
    let name = target.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    Ok(format!("/dev/vfio/{name}"))
}

/// The nodes of a host device.
pub fn of_host_device(device: &Hostdev) -> Result<Vec<Use>> {
    let mut uses = Vec::new();
    if device.mode != HostdevMode::Subsystem {
        return Ok(uses);
    }
    let source = device.source.as_ref();
    let address = source.and_then(|source| source.address.as_ref());
    match (device.kind, address) {
        (HostdevType::Usb, Some(HostdevAddress::Other { address, .. })) => {
            if let (Some(bus), Some(number)) = (address.bus, address.device) {
                let path = format!("/dev/bus/usb/{bus:03}/{number:03}");
                uses.push(Use::HostDevice { path, group: false });
            }
        }
        (HostdevType::Pci, Some(HostdevAddress::Pci { address, .. })) => {
            let number = |value: Option<u64>| value.unwrap_or(0);
            let place = format!(
                "/sys/bus/pci/devices/{:04x}:{:02x}:{:02x}.{:x}/iommu_group",
                number(address.domain.map(|value| value.0)),
                number(address.bus.map(|value| value.0)),
                number(address.slot.map(|value| value.0)),
                number(address.function.map(|value| value.0)),
            );
            uses.push(Use::HostDevice { path: vfio_group(Path::new(&place))?, group: true });
            uses.push(Use::Node { path: VFIO.into(), read_only: false });
        }
        (HostdevType::Mdev, Some(HostdevAddress::Pci { address, .. })) => {
            if let Some(uuid) = &address.uuid {
                let place = format!("/sys/bus/mdev/devices/{uuid}/iommu_group");
                uses.push(Use::HostDevice { path: vfio_group(Path::new(&place))?, group: false });
                uses.push(Use::Node { path: VFIO.into(), read_only: false });
            }
        }
        (HostdevType::Scsi, Some(HostdevAddress::Other { address, .. })) => {
            let adapter = source.and_then(|source| source.adapter.as_ref());
            let host = adapter.and_then(|adapter| adapter.name.strip_prefix("scsi_host"));
            if let Some(host) = host {
                let part = |value: Option<u32>| value.unwrap_or(0);
                let (bus, target) = (part(address.bus), part(address.target));
                let place = format!(
                    "/sys/bus/scsi/devices/{host}:{bus}:{target}:{}/scsi_generic",
                    address.unit.unwrap_or(0)
                );
                if let Some(Ok(entry)) = std::fs::read_dir(place).ok().and_then(|mut found| found.next()) {
                    let path = format!("/dev/{}", entry.file_name().to_string_lossy());
                    uses.push(Use::HostDevice { path, group: false });
                }
            }
        }
        (HostdevType::ScsiHost, _) => {
            uses.push(Use::HostDevice { path: "/dev/vhost-scsi".into(), group: false });
        }
        _ => {}
    }
    Ok(uses)
}

/// All that the domain uses. `by_logd`: the log daemon opens the files of character devices.
pub fn of(domain: &Domain, by_logd: bool) -> Result<Vec<Use>> {
    let mut uses = Vec::new();
    let devices = &domain.devices;
    for disk in &devices.disk {
        if disk.kind != SourceType::Dir {
            uses.extend(of_disk(disk)?);
        }
    }
    if devices.disk.iter().any(has_managed_reservations) && Path::new(DEVICE_MAPPER).exists() {
        // The helper for reservations looks through multipath devices.
        uses.push(Use::Node { path: DEVICE_MAPPER.into(), read_only: false });
    }
    for graphics in &devices.graphics {
        let node = graphics.gl.as_ref().and_then(|gl| gl.rendernode.clone());
        uses.extend(node.map(Use::SharedNode));
    }
    for input in &devices.input {
        let source = input.source.as_ref();
        let path = match input.kind {
            InputType::Passthrough => source.and_then(|source| source.evdev.clone()),
            InputType::Evdev => source.and_then(|source| source.dev.clone()),
            _ => None,
        };
        uses.extend(path.map(Use::File));
    }
    for device in &devices.hostdev {
        uses.extend(of_host_device(device)?);
    }
    for memory in &devices.memory {
        match memory.model {
            MemoryModel::Nvdimm | MemoryModel::VirtioPmem => {
                let path = memory.source.as_ref().and_then(|source| source.path.clone());
                uses.extend(path.map(Use::File));
            }
            MemoryModel::SgxEpc => {
                uses.extend(["/dev/sgx_vepc", "/dev/sgx_provision"].map(|path| Use::SharedNode(path.into())));
            }
            _ => {}
        }
    }
    for device in
        devices.serial.iter().chain(&devices.parallel).chain(&devices.channel).chain(&devices.console)
    {
        // A console that stands for the first serial port has that one's source.
        let twin = device.target.as_ref().is_some_and(|target| target.kind.as_deref() == Some("serial"))
            && devices.serial.first().is_some_and(|serial| serial.source == device.source)
            && devices.console.first().is_some_and(|console| std::ptr::eq(console, device));
        if !twin {
            uses.extend(of_channel(&device.source, true, by_logd)?);
        }
    }
    for tpm in &devices.tpm {
        let Some(backend) = &tpm.backend else { continue };
        if let (TpmType::Passthrough, Some(device)) = (backend.kind, &backend.device) {
            let channel = Channel::File { path: device.path.clone(), file_by_logd: false };
            uses.push(Use::Channel { channel, label: None, remember: false });
        }
    }
    for rng in &devices.rng {
        let Some(backend) = &rng.backend else { continue };
        if let (RngModel::Random, Some(path)) = (backend.model, &backend.path) {
            uses.push(Use::Node { path: path.clone(), read_only: false });
        }
    }
    if domain.launch_security.as_ref().is_some_and(|security| security.kind == "sev") {
        uses.push(Use::SharedNode("/dev/sev".into()));
    }
    for sysinfo in &domain.sysinfo {
        uses.extend(sysinfo.entry.iter().filter_map(|entry| entry.file.clone()).map(Use::File));
    }
    if let Some(loader) = &domain.os.loader
        && let Some(path) = &loader.path
    {
        let read_only = loader.read_only == Some(YesNo::Yes) || loader.kind != Some(LoaderType::Pflash);
        uses.push(Use::Node { path: path.clone(), read_only });
    }
    if let Some(nvram) = &domain.os.nvram {
        let kind = nvram.kind.unwrap_or(SourceType::File);
        let from_source = nvram.source.as_ref().and_then(|source| local_path(kind, source));
        if let Some(path) = from_source.or_else(|| nvram.path.clone()).filter(|path| !path.is_empty()) {
            let chain = vec![Image { path: Some(path), ..Image::default() }];
            uses.push(Use::Images { chain, label: None });
        }
    }
    let os = &domain.os;
    let tables = os.acpi.iter().flat_map(|acpi| &acpi.table).map(|table| &table.path);
    uses.extend(
        [&os.kernel, &os.initrd, &os.dtb].into_iter().flatten().chain(tables).cloned().map(Use::File),
    );
    Ok(uses)
}

impl Use {
    /// The paths, with whether they are only read.
    pub fn paths(&self) -> Vec<(String, bool)> {
        match self {
            Self::Images { chain, .. } => {
                let layer = |(depth, image): (usize, &Image)| {
                    Some((image.path.clone()?, depth > 0 || image.read_only))
                };
                chain.iter().enumerate().filter_map(layer).collect()
            }
            Self::File(path) | Self::SharedNode(path) | Self::HostDevice { path, .. } => {
                vec![(path.clone(), false)]
            }
            Self::Node { path, read_only } => vec![(path.clone(), *read_only)],
            Self::Channel { channel, .. } => match channel {
                Channel::File { path, .. } | Channel::Socket { path, listen: false } => {
                    vec![(path.clone(), false)]
                }
                Channel::Pipe(path) => vec![(format!("{path}.in"), false), (format!("{path}.out"), false)],
                Channel::Socket { .. } | Channel::Other => Vec::new(),
            },
        }
    }
}
