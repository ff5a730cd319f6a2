//! Devices that every machine has, and what devices leave out.

use domain_xml::audio::{Audio, AudioType};
use domain_xml::controller::ControllerType;
use domain_xml::disk::VirtioModel;
use domain_xml::graphics::GraphicsType;
use domain_xml::input::{Input, InputBus, InputType};
use domain_xml::interface::{InterfaceModel, InterfaceType, Mac};
use domain_xml::misc::{
    AccessMode, Balloon, BalloonModel, Cid, PanicModel, RngModel, Shmem, ShmemModel, ShmemMsi, TpmModel,
    TpmType,
};
use domain_xml::units::Mib;
use domain_xml::video::{Video, VideoModel, VideoType};
use domain_xml::words::{OnOff, YesNo};
use domain_xml::{Domain, Error, Result};
use qemu_caps::QemuCaps;

use crate::controllers::{ensure, has};
use crate::{Context, Settings, machine, network};

/// The devices that the machine has without being asked.
pub fn implicit(domain: &mut Domain, context: &Context<'_>) -> Result<()> {
    let caps = context.caps;
    for kind in [InputType::Mouse, InputType::Keyboard] {
        let there = domain
            .devices
            .input
            .iter()
            .any(|input| input.kind == kind && input.bus.is_none_or(|bus| bus == InputBus::Ps2));
        if !there {
            let input = Input { kind, bus: Some(InputBus::Ps2), ..Input::default() };
            domain.devices.input.push(input);
        }
    }
    let q35 = machine::is_q35(domain);
    let usb = match domain.machine() {
        "isapc" => None,
        _ if q35 => ["qemu-xhci", "nec-xhci", "ich9-ehci1"]
            .into_iter()
            .zip(["qemu-xhci", "nec-usb-xhci", "ich9-usb-ehci1"])
            .find(|(_, flag)| caps.has(flag))
            .map(|(model, _)| Some(model)),
        _ => Some(None),
    };
    if let Some(model) = usb {
        ensure(domain, ControllerType::Usb, 0, model);
    }
    if q35 {
        ensure(domain, ControllerType::Sata, 0, None);
    }
    let root = if q35 { Some("pcie-root") } else { machine::is_i440fx(domain).then_some("pci-root") };
    if let Some(root) = root {
        let found =
            domain.devices.controller.iter().find(|c| c.kind == ControllerType::Pci && c.index() == 0);
        match found {
            Some(found) if found.model() != root => {
                return Err(Error::xml(format!(
                    "The PCI controller with index='0' must be model='{root}' for this machine type, but model='{}' was found instead",
                    found.model()
                )));
            }
            Some(_) => {}
            None => {
                ensure(domain, ControllerType::Pci, 0, Some(root));
            }
        }
    }
    if domain.devices.memballoon.is_none() {
        domain.devices.memballoon = Some(Balloon::default());
    }
    if domain.devices.audio.is_empty() {
        domain.devices.audio.extend(default_audio(domain, context.settings));
    }
    Ok(())
}

/// The back end of sound that the displays bring: the last one that has an opinion decides.
pub fn default_audio(domain: &Domain, settings: &Settings) -> Option<Audio> {
    let host = |allowed: bool| if allowed { settings.host_audio } else { Some(AudioType::None) };
    let displays = &domain.devices.graphics;
    let kind = if displays.is_empty() {
        host(settings.nographics_allow_host_audio)
    } else {
        let opinion = displays.iter().rev().find_map(|graphics| match graphics.kind {
            GraphicsType::Vnc => Some(host(settings.vnc_allow_host_audio)),
            GraphicsType::Spice => Some(Some(AudioType::Spice)),
            GraphicsType::Sdl => Some(host(true)),
            _ => None,
        });
        opinion.flatten()
    };
    kind.map(|kind| {
        let driver = settings.sdl_audio.clone().filter(|_| kind == AudioType::Sdl);
        Audio { id: 1, kind, driver, ..Audio::default() }
    })
}

/// A graphics card for a display without one.
pub fn implicit_video(domain: &mut Domain, caps: &QemuCaps) {
    if !domain.devices.graphics.is_empty() && domain.devices.video.is_empty() {
        domain.devices.video.push(Video::default());
    }
    // The one that firmware uses comes first.
    if let Some(place) = domain.devices.video.iter().position(Video::primary) {
        let primary = domain.devices.video.remove(place);
        domain.devices.video.insert(0, primary);
    }
    for video in &mut domain.devices.video {
        complete_video(video, caps);
    }
    if let Some(first) = domain.devices.video.first_mut() {
        if first.kind() == VideoType::None {
            first.model = Some(VideoModel { kind: VideoType::None, ..VideoModel::default() });
        } else if let Some(model) = &mut first.model {
            model.primary = Some(YesNo::Yes);
        }
    }
    for video in domain.devices.video.iter_mut().filter_map(|video| video.model.as_mut()) {
        if video.primary == Some(YesNo::No) {
            video.primary = None;
        }
    }
}

/// What shared memory leaves out, and what does not fit its model.
fn shared_memory(memory: &mut Shmem) -> Result<()> {
    /// In MiB.
    const SIZE: u64 = 4;
    let model = memory.model.get_or_insert_with(ShmemModel::default);
    if model.kind.is_empty() {
        model.kind = "ivshmem".to_owned();
    }
    if memory.msi.is_some() && memory.server.is_none() {
        return Err(Error::xml("msi option is only supported with a server"));
    }
    let (model, doorbell) = (model.kind.clone(), model.kind == "ivshmem-doorbell");
    memory.size = memory.size.filter(|size| size.0 != 0);
    if model == "ivshmem" {
        memory.role = None;
    }
    if !doorbell {
        memory.size.get_or_insert(Mib(SIZE));
    }
    if model == "ivshmem" {
        return Ok(());
    }
    let fault = match (&memory.server, doorbell) {
        (None, true) => Some("is supported only with server option enabled"),
        (Some(_), false) => Some("doesn't support the 'server' element"),
        (Some(_), true) if memory.size.is_some() => Some("does not support size setting"),
        _ => None,
    };
    if let Some(fault) = fault {
        return Err(Error::unsupported(format!("shmem model '{model}' {fault}")));
    }
    if doorbell {
        memory.msi.get_or_insert_with(ShmemMsi::default).ioeventfd.get_or_insert(OnOff::On);
    }
    Ok(())
}

/// Rows as they are written: what fits all devices is left out.
fn redirection_filter(domain: &mut Domain) -> Result<()> {
    let Some(filter) = &mut domain.devices.redirfilter else { return Ok(()) };
    for row in &mut filter.usbdev {
        row.class = row.class.filter(|number| number.0 >= 0);
        if let Some(class) = row.class.filter(|class| class.0 > 0xff) {
            return Err(Error::internal(format!("Invalid USB Class code {:#x}", class.0)));
        }
        row.vendor = row.vendor.filter(|number| number.0 >= 0);
        row.product = row.product.filter(|number| number.0 >= 0);
        row.version = match row.version.take().filter(|version| version != "-1") {
            None => None,
            Some(version) => {
                let parts = version.split_once('.').and_then(|(major, minor)| {
                    let (number, digits) = (minor.parse::<u32>().ok()?, minor.len());
                    // One digit stands for tenths.
                    let minor = if digits == 1 { number * 10 } else { number };
                    Some((major.parse::<u32>().ok()?, minor)).filter(|(a, _)| *a < 100 && number < 100)
                });
                let (major, minor) =
                    parts.ok_or_else(|| Error::xml(format!("Cannot parse USB device version {version}")))?;
                Some(format!("{major}.{minor:02}"))
            }
        };
    }
    domain.devices.redirfilter = domain.devices.redirfilter.take().filter(|filter| !filter.usbdev.is_empty());
    Ok(())
}

fn complete_video(video: &mut Video, caps: &QemuCaps) {
    let model = video.model.get_or_insert_with(VideoModel::default);
    if model.kind == VideoType::Default {
        model.kind = if caps.has("cirrus-vga") { VideoType::Cirrus } else { VideoType::Vga };
    }
    let megabytes = match model.kind {
        VideoType::Vga | VideoType::Cirrus | VideoType::Vmvga | VideoType::Bochs => 16,
        VideoType::Qxl => 64,
        _ => 0,
    };
    let nonzero = |value: Option<u32>| value.filter(|value| *value != 0);
    let default = Some(megabytes * 1024).filter(|size| *size > 0);
    let round = |value: Option<u32>| value.map(|value| value.checked_next_power_of_two().unwrap_or(value));
    model.vram = round(nonzero(model.vram).or(default));
    if model.kind == VideoType::Qxl {
        model.ram = nonzero(model.ram).or(default);
        model.vgamem = nonzero(model.vgamem).or(Some(16 * 1024));
    }
    model.ram = round(nonzero(model.ram));
    model.vram64 = nonzero(model.vram64);
    if model.kind != VideoType::None {
        model.heads = nonzero(model.heads).or(Some(1));
    }
}

/// Completes the devices that are there.
pub fn complete(domain: &mut Domain, context: &mut Context<'_>) -> Result<()> {
    let caps = context.caps;
    for input in &mut domain.devices.input {
        if input.bus.is_none() && input.kind != InputType::Evdev {
            input.bus = Some(match input.kind {
                InputType::Mouse | InputType::Keyboard => InputBus::Ps2,
                InputType::Passthrough => InputBus::Virtio,
                _ => InputBus::Usb,
            });
        }
        if input.bus == Some(InputBus::Ps2) && input.kind == InputType::Tablet {
            return Err(Error::internal("ps2 bus does not support tablet input device"));
        }
    }
    for interface in &mut domain.devices.interface {
        network::complete(interface);
        if interface.kind == InterfaceType::Ethernet {
            // It says nothing, if it is empty.
            interface.source = interface.source.take().filter(|source| *source != Default::default());
        }
        if interface.mac.is_none() {
            let [a, b, c] = context.generate.mac();
            let address = format!("52:54:00:{a:02x}:{b:02x}:{c:02x}");
            interface.mac = Some(Mac { address, ..Mac::default() });
        }
        if let Some(mac) = &mut interface.mac {
            mac.address = mac.address.to_ascii_lowercase();
        }
        if let Some(port) = &mut interface.virtualport {
            // Which of its names a switch goes by depends on its kind, which a network may yet say.
            let kind = port.kind.as_deref();
            let (switch, instance) = (kind == Some("openvswitch"), kind == Some("802.1Qbg"));
            let parameters = port.parameters.get_or_insert_default();
            if (instance || kind.is_none()) && parameters.instanceid.is_none() {
                parameters.instanceid = Some(context.generate.uuid());
            }
            if (switch || kind.is_none()) && parameters.interfaceid.is_none() {
                parameters.interfaceid = Some(context.generate.uuid());
            }
            if *parameters == Default::default() {
                port.parameters = None;
            }
        }
        if let (InterfaceType::Direct, Some(source)) = (interface.kind, &mut interface.source) {
            source.mode.get_or_insert_with(|| "vepa".to_owned());
        }
        if interface.model.is_none() && interface.kind != InterfaceType::Hostdev {
            let kind = if interface.kind == InterfaceType::Vdpa {
                "virtio"
            } else if caps.has("rtl8139") || !caps.has("e1000") && !caps.has("virtio-net") {
                "rtl8139"
            } else if caps.has("e1000") {
                "e1000"
            } else {
                "virtio"
            };
            interface.model = Some(InterfaceModel { kind: kind.to_owned() });
        }
    }
    for memory in &mut domain.devices.shmem {
        shared_memory(memory)?;
    }
    redirection_filter(domain)?;
    for panic in &mut domain.devices.panic {
        panic.model.get_or_insert(PanicModel::Isa);
    }
    for tpm in &mut domain.devices.tpm {
        let model = *tpm.model.get_or_insert(TpmModel::TpmTis);
        if let Some(backend) = &mut tpm.backend
            && backend.kind == TpmType::Emulator
            && backend.version.as_deref().is_none_or(|version| version == "default")
        {
            let version = if model == TpmModel::TpmCrb { "2.0" } else { "1.2" };
            backend.version = Some(version.to_owned());
        }
    }
    for filesystem in &mut domain.devices.filesystem {
        for mode in [&mut filesystem.fmode, &mut filesystem.dmode] {
            if let Some(number) = mode.as_ref().and_then(|mode| u32::from_str_radix(mode, 8).ok()) {
                *mode = Some(format!("{number:04o}"));
            }
        }
        let socket = filesystem.source.as_ref().is_some_and(|source| source.socket.is_some());
        if !socket {
            filesystem.accessmode.get_or_insert(AccessMode::Passthrough);
        }
    }
    for rng in &mut domain.devices.rng {
        if let Some(backend) = &mut rng.backend
            && backend.model == RngModel::Random
        {
            backend.path.get_or_insert_with(|| "/dev/random".to_owned());
        }
    }
    if let Some(vsock) = &mut domain.devices.vsock {
        vsock.model.get_or_insert(VirtioModel::Virtio);
        let cid = vsock.cid.get_or_insert_with(Cid::default);
        cid.auto.get_or_insert(YesNo::from(cid.address.is_none_or(|address| address == 0)));
    }
    if let Some(balloon) = &mut domain.devices.memballoon
        && balloon.model == BalloonModel::None
    {
        balloon.info = Default::default();
    }
    for host in &mut domain.devices.hostdev {
        host.managed.get_or_insert(YesNo::No);
        if let Some(source) = &mut host.source
            && source.protocol.as_deref() == Some("iscsi")
            && let Some(name) = &mut source.name
            && !name.contains('/')
        {
            name.push_str("/0");
        }
        if host.kind == domain_xml::hostdev::HostdevType::Mdev
            && host.model.as_deref() == Some("vfio-pci")
            && host.display.is_none()
            && caps.has("vfio-pci.display")
        {
            host.display = Some(domain_xml::words::OnOff::Off);
        }
    }
    let usb_missing = !has(domain, ControllerType::Usb, 0)
        && domain.devices.input.iter().any(|input| input.bus == Some(InputBus::Usb));
    if usb_missing && domain.machine() == "isapc" {
        return Err(Error::unsupported(
            "USB is disabled for this domain, but USB devices are present in the domain XML",
        ));
    }
    Ok(())
}
