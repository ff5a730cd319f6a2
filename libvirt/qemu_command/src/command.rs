//! The command line as a whole.

use crate::props::escape;
use crate::{Host, Props, Result, Settings};
use domain_xml::words::OnOff;
use domain_xml::{Devices, Domain};
use qemu_caps::{QemuCaps, VirtType};

/// A program with its arguments and what is added to its environment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Command {
    /// Variables that are set, besides those that each program of ours has.
    pub env: Vec<(String, String)>,
    /// The emulator.
    pub program: String,
    /// Its arguments.
    pub args: Vec<String>,
}

/// A command line under construction.
pub(crate) struct Builder<'a> {
    pub(crate) domain: &'a Domain,
    pub(crate) caps: &'a QemuCaps,
    pub(crate) settings: &'a Settings,
    pub(crate) host: &'a mut dyn Host,
    pub(crate) command: Command,
    /// Sets of descriptors so far.
    pub(crate) sets: u32,
    /// The sets of descriptors that disks use, by the numbers of their sources.
    pub(crate) disk_sets: std::collections::HashMap<u32, u32>,
    /// The number of the next source that has none of its own.
    pub(crate) next_source: u32,
    /// Where the guest boots from by kind of device, as long as no device of the kind has been there.
    pub(crate) boot: crate::prepare::BootOrder,
}

/// The command line that starts `domain`.
///
/// # Errors
/// The emulator cannot do what the domain wants, or the host cannot open what it needs.
pub fn build(
    domain: &Domain,
    caps: &QemuCaps,
    settings: &Settings,
    host: &mut dyn Host,
    incoming: Option<&str>,
) -> Result<Command> {
    let mut builder = Builder {
        domain,
        caps,
        settings,
        host,
        command: Command::default(),
        sets: 0,
        disk_sets: std::collections::HashMap::new(),
        next_source: 1,
        boot: crate::prepare::BootOrder::of(domain),
    };
    builder.all(incoming)?;
    Ok(builder.command)
}

impl<'a> Builder<'a> {
    fn all(&mut self, incoming: Option<&str>) -> Result<()> {
        self.start()?;
        self.firmware()?;
        self.machine()?;
        self.cpu()?;
        self.loader();
        self.memory()?;
        self.processors()?;
        self.threads();
        self.numa()?;
        self.option("-uuid", self.domain.uuid.clone().unwrap_or_default());
        self.smbios()?;
        if self.devices().graphics.is_empty() {
            self.option("-display", "none");
        }
        self.flag("-no-user-config");
        self.flag("-nodefaults");
        self.monitor()?;
        self.clock()?;
        self.power();
        self.boot_options();
        self.iommu()?;
        self.controllers()?;
        self.memory_devices()?;
        self.hubs()?;
        self.card_readers()?;
        self.disks()?;
        self.filesystems()?;
        self.interfaces()?;
        self.smartcards()?;
        self.serial_ports()?;
        self.parallel_ports()?;
        self.channels()?;
        self.consoles()?;
        self.security_modules()?;
        self.inputs()?;
        self.audio_backends()?;
        self.displays()?;
        self.videos()?;
        self.sound_cards()?;
        self.watchdog()?;
        self.redirected()?;
        self.host_devices()?;
        if let Some(incoming) = incoming {
            self.option("-incoming", incoming);
        }
        self.balloon()?;
        self.random()?;
        self.core_info();
        self.launch_security()?;
        self.passthrough();
        self.sandbox();
        self.panics();
        self.shared_memory()?;
        self.vsock()?;
        if self.settings.log_timestamp {
            self.option("-msg", "timestamp=on");
        }
        Ok(())
    }

    /// The emulator, its environment, the name, the master key.
    fn start(&mut self) -> Result<()> {
        let folder = &self.settings.guest_folder;
        self.command.program = self.devices().emulator.clone().unwrap_or_default();
        if self.settings.privileged {
            for (name, place) in [
                ("HOME", ""),
                ("XDG_DATA_HOME", "/.local/share"),
                ("XDG_CACHE_HOME", "/.cache"),
                ("XDG_CONFIG_HOME", "/.config"),
            ] {
                self.env(name, format!("{folder}{place}"));
            }
        } else {
            self.env("XDG_CACHE_HOME", format!("{folder}/.cache"));
        }
        let name = self.domain.name();
        let process =
            if self.settings.set_process_name { format!(",process=qemu:{name}") } else { String::new() };
        self.option("-name", format!("guest={}{process},debug-threads=on", escape(name)));
        self.deprecation();
        self.flag("-S");
        let key = Props::object("secret", "masterKey0")
            .put("format", "raw")
            .put("file", format!("{folder}/master-key.aes"));
        self.object(&key);
        self.managed_reservations();
        Ok(())
    }

    fn deprecation(&mut self) {
        let own = self.domain.deprecation.as_ref().map(|d| d.behavior.as_str());
        let input = match own.unwrap_or(&self.settings.deprecation) {
            "omit" => None,
            "reject" => Some("reject"),
            "crash" => Some("crash"),
            _ => return,
        };
        if self.has("compat-deprecated") {
            let props = Props::default().put("deprecated-output", "hide").some("deprecated-input", input);
            self.option("-compat", props.argument());
        }
    }

    /// Helper for persistent reservations that the daemon runs for the guest.
    fn managed_reservations(&mut self) {
        let managed = self.devices().disk.iter().any(|disk| {
            let reservations = disk.source.as_ref().and_then(|s| s.reservations.as_ref());
            reservations.is_some_and(|r| r.managed == domain_xml::words::YesNo::Yes)
        });
        if managed {
            let path = format!("{}/pr-helper0.sock", self.settings.guest_folder);
            self.object(&Props::object("pr-manager-helper", "pr-helper0").put("path", path));
        }
    }

    fn monitor(&mut self) -> Result<()> {
        let path = format!("{}/monitor.sock", self.settings.guest_folder);
        let place = self.listening("monitor", &path)?;
        self.option("-chardev", format!("socket,id=charmonitor,{place},server=on,wait=off"));
        self.option("-mon", "chardev=charmonitor,id=monitor,mode=control");
        Ok(())
    }

    /// Where a socket listens, as a part of its option.
    pub(crate) fn listening(&mut self, alias: &str, path: &str) -> Result<String> {
        let fd = self.host.listen(alias, path)?;
        Ok(fd.map_or_else(|| format!("path={}", escape(path)), |fd| format!("fd={fd}")))
    }

    fn boot_options(&mut self) {
        let os = &self.domain.os;
        let mut options = String::new();
        if let Some(menu) = &os.bootmenu {
            let on = menu.enable == domain_xml::words::YesNo::Yes;
            options += if on { "menu=on," } else { "menu=off," };
        }
        if let Some(timeout) = os.bios.as_ref().and_then(|b| b.reboot_timeout) {
            options += &format!("reboot-timeout={timeout},");
        }
        if let Some(timeout) = os.bootmenu.as_ref().and_then(|m| m.timeout)
            && os.bootmenu.as_ref().is_some_and(|m| m.enable == domain_xml::words::YesNo::Yes)
        {
            options += &format!("splash-time={timeout},");
        }
        self.option("-boot", options + "strict=on");
        let words = [("-kernel", &os.kernel), ("-initrd", &os.initrd), ("-append", &os.cmdline)];
        for (name, value) in words {
            if let Some(value) = value {
                self.option(name, value.clone());
            }
        }
        if let Some(dtb) = &os.dtb {
            self.option("-dtb", dtb.clone());
        }
        for table in os.acpi.iter().flat_map(|acpi| &acpi.table) {
            self.option("-acpitable", format!("sig=SLIC,file={}", escape(&table.path)));
        }
    }

    /// What the domain passes as it stands.
    fn passthrough(&mut self) {
        let Some(extra) = &self.domain.commandline else { return };
        self.command.args.extend(extra.arg.iter().map(|arg| arg.value.clone()));
        for env in &extra.env {
            self.env(&env.name, env.value.clone().unwrap_or_default());
        }
    }

    fn sandbox(&mut self) {
        let value = if self.settings.sandbox {
            "on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny"
        } else {
            "off"
        };
        self.option("-sandbox", value);
    }

    /// The domain's devices.
    pub(crate) fn devices(&self) -> &'a Devices {
        &self.domain.devices
    }

    /// Whether the emulator has a capability, as far as the domain does not say otherwise.
    pub(crate) fn has(&self, flag: &str) -> bool {
        let named = |list: &[domain_xml::qemu::Capability]| list.iter().any(|c| c.capability == flag);
        match &self.domain.capabilities {
            Some(own) if named(&own.del) => false,
            Some(own) if named(&own.add) => true,
            _ => self.caps.has(flag),
        }
    }

    /// By what the domain is executed.
    pub(crate) fn virt(&self) -> VirtType {
        match self.domain.kind {
            domain_xml::DomainType::Kvm => VirtType::Kvm,
            _ => VirtType::Qemu,
        }
    }

    /// Whether the machine is a q35.
    pub(crate) fn is_q35(&self) -> bool {
        let machine = self.domain.machine();
        machine == "q35" || machine.starts_with("pc-q35")
    }

    /// Whether the machine has an IDE controller of its own.
    pub(crate) fn has_ide(&self) -> bool {
        let machine = self.domain.machine();
        machine == "pc"
            || machine.starts_with("pc-i440fx")
            || machine.starts_with("pc-0.")
            || machine.starts_with("pc-1.")
    }

    /// Sets an environment variable.
    pub(crate) fn env(&mut self, name: &str, value: impl Into<String>) {
        let value = value.into();
        match self.command.env.iter_mut().find(|(n, _)| n == name) {
            Some(slot) => slot.1 = value,
            None => self.command.env.push((name.to_owned(), value)),
        }
    }

    /// Adds an argument.
    pub(crate) fn flag(&mut self, name: &str) {
        self.command.args.push(name.to_owned());
    }

    /// Adds an option with its value.
    pub(crate) fn option(&mut self, name: &str, value: impl Into<String>) {
        self.command.args.extend([name.to_owned(), value.into()]);
    }

    /// Adds an `-object`.
    pub(crate) fn object(&mut self, props: &Props) {
        self.option("-object", props.argument());
    }

    /// Adds a `-device`, with what the domain overrides of it.
    pub(crate) fn device(&mut self, mut props: Props) -> Result<()> {
        let id = props.text("id").to_owned();
        let overrides = self.domain.overrides.iter().flat_map(|o| &o.device);
        for device in overrides.filter(|d| d.alias == id && !id.is_empty()) {
            for property in device.frontend.iter().flat_map(|f| &f.property) {
                props.remove(&property.name);
                if let Some(value) = crate::address::override_value(property)? {
                    props = props.put(&property.name, value);
                }
            }
        }
        self.option("-device", props.argument());
        Ok(())
    }

    /// Adds a set with descriptors; its name.
    pub(crate) fn descriptor_set(&mut self, descriptors: &[(String, String)]) -> String {
        self.sets += 1;
        self.numbered_set(self.sets - 1, descriptors)
    }

    /// Adds a set whose number was taken before; its name.
    pub(crate) fn numbered_set(&mut self, set: u32, descriptors: &[(String, String)]) -> String {
        for (fd, opaque) in descriptors {
            self.option("-add-fd", format!("set={set},fd={fd},opaque={opaque}"));
        }
        format!("/dev/fdset/{set}")
    }

    /// The machine's setting of a feature as `on` or `off`.
    pub(crate) fn switch_word(value: OnOff) -> &'static str {
        value.as_str()
    }
}
