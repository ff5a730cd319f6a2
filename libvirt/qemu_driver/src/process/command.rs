//! The emulator's command line for guests of the simplest kind.

use crate::core::Core;
use crate::definition;
use crate::error::{Result, internal, unsupported};
use domain_xml::Domain as Definition;
use domain_xml::address::Alias;
use domain_xml::chardev::CharType;
use domain_xml::disk::DiskBus;
use domain_xml::graphics::GraphicsType;
use domain_xml::misc::BalloonModel;
use json::{Value, dict};
use std::os::fd::OwnedFd;
use std::path::Path;

/// The first number of a descriptor that is passed.
const FIRST_DESCRIPTOR: i32 = 20;

/// What a command line depends on.
pub struct Context<'a> {
    /// The guest's directory.
    pub directory: &'a Path,
    /// It goes on from a saved state.
    pub restore: bool,
}

/// What is to be started.
pub struct Plan {
    /// The emulator.
    pub binary: String,
    /// Its arguments.
    pub arguments: Vec<String>,
    /// Descriptors, and the numbers at which it finds them.
    pub passed: Vec<(OwnedFd, i32)>,
    /// Files that must be there.
    pub files: Vec<String>,
    /// Ports that were taken for it.
    pub ports: Vec<u16>,
    monitor: usize,
}

impl Plan {
    /// The emulator finds its monitor's socket listening.
    pub fn pass_monitor(&mut self, socket: OwnedFd) {
        let number = FIRST_DESCRIPTOR + self.passed.len() as i32;
        self.arguments[self.monitor] = format!("socket,id=charmonitor,fd={number},server=on,wait=off");
        self.passed.push((socket, number));
    }
}

/// The command line; the definition is completed by what is chosen here.
///
/// # Errors
/// The guest has something that cannot be had.
pub fn plan(core: &Core, domain: &mut Definition, context: &Context<'_>) -> Result<Plan> {
    let binary = domain.devices.emulator.clone().ok_or_else(|| internal("no emulator"))?;
    let virt = definition::virt_type(domain)?;
    let mut arguments: Vec<String> = Vec::new();
    let mut add = |option: &str, value: String| arguments.extend([option.to_owned(), value]);
    add("-name", format!("guest={},debug-threads=on", domain.name().replace(',', ",,")));
    let key = context.directory.join("master-key.aes").to_string_lossy().into_owned();
    let secret = dict! { "qom-type" => "secret", "id" => "masterKey0", "format" => "raw", "file" => key };
    add("-object", Value::from(secret).to_string());
    add("-machine", format!("{},usb=off,dump-guest-core=off", domain.machine()));
    add("-accel", if virt == qemu_caps::VirtType::Kvm { "kvm" } else { "tcg" }.to_owned());
    add("-m", domain.memory_kib().div_ceil(1024).to_string());
    let vcpus = domain.vcpu.as_ref().map_or(1, |vcpu| vcpu.count);
    add("-smp", format!("{vcpus},sockets={vcpus},cores=1,threads=1"));
    add("-uuid", domain.uuid.clone().unwrap_or_default());
    arguments
        .extend(["-S", "-no-user-config", "-nodefaults", "-no-shutdown", "-chardev", ""].map(str::to_owned));
    let monitor = arguments.len() - 1;
    let mut add = |option: &str, value: String| arguments.extend([option.to_owned(), value]);
    add("-mon", "chardev=charmonitor,id=monitor,mode=control".to_owned());
    let mut plan = Plan {
        binary,
        arguments: Vec::new(),
        passed: Vec::new(),
        files: Vec::new(),
        ports: Vec::new(),
        monitor,
    };
    let devices = &mut domain.devices;
    for (at, disk) in devices.disk.iter_mut().enumerate() {
        let Some(source) = &mut disk.source else { continue };
        let path =
            source.file.clone().ok_or_else(|| unsupported("only disks in files can be started yet"))?;
        if disk.target.as_ref().and_then(|target| target.bus) != Some(DiskBus::Virtio) {
            return Err(unsupported("only virtio disks can be started yet"));
        }
        let index = at + 1;
        source.index = Some(index as u32);
        let alias = format!("virtio-disk{at}");
        let storage = dict! {
            "driver" => "file", "filename" => path.as_str(), "node-name" => format!("libvirt-{index}-storage"),
            "auto-read-only" => true, "discard" => "unmap",
        };
        let format = dict! {
            "node-name" => format!("libvirt-{index}-format"), "read-only" => disk.read_only, "driver" => "raw",
            "file" => format!("libvirt-{index}-storage"),
        };
        let device = dict! { "driver" => "virtio-blk-pci", "drive" => format!("libvirt-{index}-format"), "id" => alias.as_str() };
        add("-blockdev", Value::from(storage).to_string());
        add("-blockdev", Value::from(format).to_string());
        add("-device", Value::from(device).to_string());
        disk.info.alias = Some(Alias { name: alias });
        plan.files.push(path);
    }
    for (at, serial) in devices.serial.iter_mut().enumerate() {
        if serial.source.kind != Some(CharType::Pty) {
            return Err(unsupported("only serial ports at pseudo terminals can be started yet"));
        }
        add("-chardev", format!("pty,id=charserial{at}"));
        let device = dict! { "driver" => "isa-serial", "chardev" => format!("charserial{at}"), "id" => format!("serial{at}") };
        add("-device", Value::from(device).to_string());
        serial.info.alias = Some(Alias { name: format!("serial{at}") });
    }
    for graphics in &mut devices.graphics {
        if graphics.kind != GraphicsType::Vnc {
            return Err(unsupported("only VNC can be started yet"));
        }
        let port = core
            .ports
            .acquire(core.config.display_ports)
            .ok_or_else(|| internal("Unable to find an unused port in range 'VNC' (5900-65535)"))?;
        graphics.port = Some(port.into());
        plan.ports.push(port);
        add("-vnc", format!("{}:{}", core.config.vnc_listen, port - 5900));
    }
    if devices.graphics.is_empty() {
        add("-display", "none".to_owned());
    }
    if devices.memballoon.as_ref().is_some_and(|balloon| balloon.model != BalloonModel::None) {
        add(
            "-device",
            Value::from(dict! { "driver" => "virtio-balloon-pci", "id" => "balloon0" }).to_string(),
        );
    }
    if context.restore {
        add("-incoming", "defer".to_owned());
    }
    add("-msg", "timestamp=on".to_owned());
    plan.arguments = arguments;
    Ok(plan)
}
