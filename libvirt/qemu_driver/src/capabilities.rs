//! The XML of what host and emulators can do.

use crate::core::Core;
use crate::error::Result;
use cpu_map::{Cpu, Map, Policy, Usable};
use host::capabilities::SecurityModel;
use parking_lot::Mutex;
use qemu_caps::{MachineType, QemuCaps, VirtType};
pub use qemu_command::processor::{host_model, offered};
use qemu_domain::firmware::Available;
use std::path::Path;
use std::sync::{Arc, Weak};
use xml::Writer;

/// The targets whose emulators are looked for, with the bits of a word.
const TARGETS: &[(&str, u32)] = &[("i686", 32), ("x86_64", 64)];

impl Core {
    /// The capabilities of the host and of all emulators.
    ///
    /// # Errors
    /// An emulator cannot be asked.
    pub fn capabilities_xml(&self) -> Result<String> {
        let mut writer = Writer::default();
        writer.line("<capabilities>\n");
        let mut inner = Writer::indented(2);
        let owner = self
            .config
            .owner
            .unwrap_or_else(|| (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw()));
        let label = format!("+{}:+{}", owner.0, owner.1);
        let model = |name: &str, base_labels| SecurityModel {
            name: name.to_owned(),
            doi: "0".to_owned(),
            base_labels,
        };
        let mut models = vec![model("none", Vec::new())];
        if self.paths.privileged {
            models.push(model("dac", ["kvm", "qemu"].map(|kind| (kind.to_owned(), label.clone())).to_vec()));
        }
        let uuid = self.host_uuid.to_string();
        host::capabilities::write(&mut inner, Path::new("/"), &uuid, &models);
        inner.line("");
        // All are asked at once, because that takes its time.
        let found: Vec<_> = std::thread::scope(|scope| {
            let of = |arch: &'static str| {
                let emulator = self.emulator(arch)?;
                self.capabilities(&emulator).ok()
            };
            let asked: Vec<_> =
                TARGETS.iter().map(|(arch, bits)| (arch, bits, scope.spawn(move || of(arch)))).collect();
            asked.into_iter().map(|(arch, bits, caps)| (*arch, *bits, caps.join().ok().flatten())).collect()
        });
        for (arch, bits, caps) in found {
            // An emulator that does not work is as none: the others do.
            if let Some(caps) = caps {
                guest(&mut inner, &caps, arch, bits);
                inner.line("");
            }
        }
        writer.line(inner.finish().trim_end_matches('\n'));
        writer.line("\n</capabilities>");
        Ok(writer.finish())
    }
}

fn guest(writer: &mut Writer, caps: &QemuCaps, arch: &str, bits: u32) {
    let machines = |writer: &mut Writer, list: &[MachineType]| {
        for machine in list {
            let one = |writer: &mut Writer, name: &str, canonical: Option<&str>| {
                let attributes = |writer: &mut Writer| {
                    if let Some(canonical) = canonical {
                        writer.attribute("canonical", canonical);
                    }
                    writer.attribute("maxCpus", &machine.max_cpus.to_string());
                    if machine.deprecated {
                        writer.attribute("deprecated", "yes");
                    }
                };
                writer.with("machine", attributes, |writer| writer.text(name));
            };
            one(writer, &machine.name, None);
            if let Some(alias) = &machine.alias {
                one(writer, alias, Some(&machine.name));
            }
        }
    };
    let accelerator = caps.kvm.as_ref().or(caps.tcg.as_ref());
    writer.with(
        "guest",
        |_| (),
        |writer| {
            writer.text_element("os_type", "hvm");
            writer.with(
                "arch",
                |writer| writer.attribute("name", arch),
                |writer| {
                    writer.text_element("wordsize", &bits.to_string());
                    writer.text_element("emulator", &caps.binary.to_string_lossy());
                    machines(writer, accelerator.map(|it| it.machines.as_slice()).unwrap_or_default());
                    for virt in [VirtType::Qemu, VirtType::Kvm] {
                        if caps.accelerator(virt).is_some() {
                            attributes(writer, "domain", &[("type", virt.name())]);
                        }
                    }
                },
            );
            writer.with(
                "features",
                |_| (),
                |writer| {
                    if arch == "i686" {
                        writer.empty("pae");
                        writer.empty("nonpae");
                    }
                    attributes(writer, "acpi", &[("default", "on"), ("toggle", "yes")]);
                    attributes(writer, "apic", &[("default", "on"), ("toggle", "no")]);
                    writer.empty("cpuselection");
                    writer.empty("deviceboot");
                    attributes(writer, "disksnapshot", &[("default", "on"), ("toggle", "no")]);
                },
            );
        },
    );
}

fn attributes(writer: &mut Writer, name: &str, list: &[(&str, &str)]) {
    let write = |writer: &mut Writer| list.iter().for_each(|(key, value)| writer.attribute(key, value));
    writer.with(name, write, |_| ());
}

/// Whose capabilities for domains are asked for.
pub struct Wanted<'a> {
    /// The emulator's.
    pub caps: &'a QemuCaps,
    /// The machine.
    pub machine: &'a MachineType,
    /// How guests are executed.
    pub virt: VirtType,
    /// The architecture.
    pub arch: &'a str,
    /// The firmware for the machine.
    pub firmware: Available,
    /// What guests see of the host's processor.
    pub host_model: Option<Arc<Cpu>>,
}

fn supported(writer: &mut Writer, name: &str, is: bool, content: impl FnOnce(&mut Writer)) {
    let word = if is { "yes" } else { "no" };
    writer.with(
        name,
        |writer| writer.attribute("supported", word),
        |writer| {
            if is {
                content(writer);
            }
        },
    );
}

/// The values that are to be had.
fn choice(writer: &mut Writer, name: &str, values: &[(&str, bool)]) {
    writer.with(
        "enum",
        |writer| writer.attribute("name", name),
        |writer| {
            for (value, _) in values.iter().filter(|(_, is)| *is) {
                writer.text_element("value", value);
            }
        },
    );
}

/// The capabilities for domains of one kind.
pub fn domain(wanted: &Wanted<'_>) -> String {
    let has = |flag: &str| wanted.caps.has(flag);
    let x86 = matches!(wanted.arch, "x86_64" | "i686");
    let i440fx = wanted.machine.name == "pc" || wanted.machine.name.starts_with("pc-i440fx-");
    let mut writer = Writer::default();
    writer.with(
        "domainCapabilities",
        |_| (),
        |writer| {
            writer.text_element("path", &wanted.caps.binary.to_string_lossy());
            writer.text_element("domain", wanted.virt.name());
            writer.text_element("machine", &wanted.machine.name);
            writer.text_element("arch", wanted.arch);
            attributes(writer, "vcpu", &[("max", &wanted.machine.max_cpus.to_string())]);
            attributes(writer, "iothreads", &[("supported", if has("iothread") { "yes" } else { "no" })]);
            supported(writer, "os", true, |writer| {
                let firmware = &wanted.firmware;
                choice(writer, "firmware", &[("bios", firmware.bios), ("efi", firmware.efi)]);
                supported(writer, "loader", true, |writer| {
                    for file in &firmware.files {
                        writer.text_element("value", file);
                    }
                    choice(writer, "type", &[("rom", true), ("pflash", true)]);
                    choice(writer, "readonly", &[("yes", true), ("no", true)]);
                    choice(writer, "secure", &[("yes", firmware.secure), ("no", true)]);
                });
            });
            writer.with("cpu", |_| (), |writer| cpus(writer, wanted));
            supported(writer, "memoryBacking", true, |writer| {
                let memfd = has("memory-backend-memfd");
                choice(writer, "sourceType", &[("file", true), ("anonymous", true), ("memfd", memfd)]);
            });
            writer.with("devices", |_| (), |writer| devices(writer, &has, x86, i440fx));
            features(writer, wanted, &has);
        },
    );
    writer.finish()
}

fn devices(writer: &mut Writer, has: &dyn Fn(&str) -> bool, x86: bool, i440fx: bool) {
    let transitional = has("virtio-pci-non-transitional");
    let models =
        [("virtio", true), ("virtio-transitional", transitional), ("virtio-non-transitional", transitional)];
    supported(writer, "disk", true, |writer| {
        choice(writer, "diskDevice", &[("disk", true), ("cdrom", true), ("floppy", true), ("lun", true)]);
        let buses = [
            ("ide", i440fx),
            ("fdc", x86),
            ("scsi", true),
            ("virtio", true),
            ("usb", has("usb-storage")),
            ("sata", has("ich9-ahci")),
        ];
        choice(writer, "bus", &buses);
        choice(writer, "model", &models);
    });
    supported(writer, "graphics", true, |writer| {
        let kinds = [
            ("sdl", has("sdl")),
            ("vnc", has("vnc")),
            ("spice", has("spice")),
            ("egl-headless", has("egl-headless")),
            ("dbus", has("display-dbus")),
        ];
        choice(writer, "type", &kinds);
    });
    supported(writer, "video", true, |writer| {
        let kinds = [
            ("vga", has("VGA")),
            ("cirrus", has("cirrus-vga")),
            ("vmvga", has("vmware-svga")),
            ("qxl", has("qxl")),
            ("virtio", has("virtio-gpu")),
            ("none", true),
            ("bochs", has("bochs-display")),
            ("ramfb", has("ramfb")),
        ];
        choice(writer, "modelType", &kinds);
    });
    supported(writer, "hostdev", true, |writer| {
        choice(writer, "mode", &[("subsystem", true)]);
        let policies = ["default", "mandatory", "requisite", "optional"].map(|policy| (policy, true));
        choice(writer, "startupPolicy", &policies);
        choice(writer, "subsysType", &[("usb", true), ("pci", true), ("scsi", true)]);
        choice(writer, "capsType", &[]);
        choice(writer, "pciBackend", &[]);
    });
    supported(writer, "rng", has("virtio-rng"), |writer| {
        choice(writer, "model", &models);
        let back = [("random", has("rng-random")), ("egd", has("rng-egd")), ("builtin", has("rng-builtin"))];
        choice(writer, "backendModel", &back);
    });
    supported(writer, "filesystem", true, |writer| {
        choice(writer, "driverType", &[("path", true), ("handle", true), ("virtiofs", has("vhost-user-fs"))]);
    });
    supported(writer, "tpm", has("tpm-passthrough") || has("tpm-emulator"), |writer| {
        choice(writer, "model", &[("tpm-tis", has("tpm-tis")), ("tpm-crb", has("tpm-crb"))]);
        // The emulated one needs a program that is looked for at start.
        let emulator = has("tpm-emulator") && has_swtpm();
        let back = [("passthrough", has("tpm-passthrough")), ("emulator", emulator), ("external", emulator)];
        choice(writer, "backendModel", &back);
        if emulator {
            choice(writer, "backendVersion", &[("1.2", true), ("2.0", true)]);
        }
    });
    supported(writer, "redirdev", has("usb-redir") && has("spice"), |writer| {
        choice(writer, "bus", &[("usb", true)]);
    });
    supported(writer, "channel", true, |writer| {
        let kinds = [("pty", true), ("unix", true), ("spicevmc", has("spice"))];
        choice(writer, "type", &kinds);
    });
}

/// Whether the programs that emulate a security module are installed.
pub fn has_swtpm() -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let installed =
        |name: &str| std::env::split_paths(&path).any(|it| crate::core::is_executable(&it.join(name)));
    ["swtpm", "swtpm_setup", "swtpm_ioctl"].into_iter().all(installed)
}

fn features(writer: &mut Writer, wanted: &Wanted<'_>, has: &dyn Fn(&str) -> bool) {
    let yes_no = |is: bool| if is { "yes" } else { "no" };
    writer.with(
        "features",
        |_| (),
        |writer| {
            let list = [
                ("gic", false),
                ("vmcoreinfo", has("vmcoreinfo")),
                ("genid", has("vmgenid")),
                ("backingStoreInput", true),
                ("backup", has("incremental-backup")),
            ];
            for (name, is) in list {
                attributes(writer, name, &[("supported", yes_no(is))]);
            }
            supported(writer, "sev", wanted.caps.sev.is_some(), |writer| {
                let Some(sev) = &wanted.caps.sev else { return };
                let most = host::sev_guests();
                writer.text_element("cbitpos", &sev.cbitpos.to_string());
                writer.text_element("reducedPhysBits", &sev.reduced_phys_bits.to_string());
                writer.text_element("maxGuests", &most.plain.to_string());
                writer.text_element("maxESGuests", &most.encrypted_state.to_string());
                if let Some(id) = &sev.cpu0_id {
                    writer.text_element("cpu0Id", id);
                }
            });
            attributes(writer, "sgx", &[("supported", "no")]);
            if let Some(words) = &wanted.caps.hyperv {
                supported(writer, "hyperv", true, |writer| {
                    let words: Vec<_> = words.iter().map(|word| (word.as_str(), true)).collect();
                    choice(writer, "features", &words);
                });
            }
        },
    );
}

/// The host's processors that guests see, as long as an emulator's capabilities stay: the best description of one is
/// sought among all models.
#[derive(Default)]
pub(crate) struct HostModels(Mutex<Vec<HostModel>>);

/// Of an emulator's capabilities, for one kind of guests.
type HostModel = (Weak<QemuCaps>, VirtType, Option<Arc<Cpu>>);

impl HostModels {
    /// What [`host_model`] says of everything.
    pub(crate) fn get(&self, caps: &Arc<QemuCaps>, virt: VirtType) -> Option<Arc<Cpu>> {
        let mut known = self.0.lock();
        known.retain(|(caps, ..)| caps.strong_count() > 0);
        let same = |(of, with, _): &&_| Weak::as_ptr(of) == Arc::as_ptr(caps) && *with == virt;
        if let Some((.., model)) = known.iter().find(same) {
            return model.clone();
        }
        let model = caps.accelerator(virt).and_then(|it| host_model(it, true)).map(Arc::new);
        known.push((Arc::downgrade(caps), virt, model.clone()));
        model
    }
}

fn cpus(writer: &mut Writer, wanted: &Wanted<'_>) {
    let Some(accelerator) = wanted.caps.accelerator(wanted.virt) else { return };
    let mode = |writer: &mut Writer, name: &str, is: bool, content: &dyn Fn(&mut Writer)| {
        let word = if is { "yes" } else { "no" };
        let attributes = |writer: &mut Writer| {
            writer.attribute("name", name);
            writer.attribute("supported", word);
        };
        writer.with("mode", attributes, |writer| {
            if is {
                content(writer);
            }
        });
    };
    let migratable = [("on", wanted.caps.has("cpu.migratable")), ("off", true)];
    let kvm = wanted.virt == VirtType::Kvm;
    mode(writer, "host-passthrough", kvm, &|writer| choice(writer, "hostPassthroughMigratable", &migratable));
    let maximum = wanted.caps.has("cpu-max");
    mode(writer, "maximum", maximum, &|writer| choice(writer, "maximumMigratable", &migratable));
    let model = wanted.host_model.as_deref();
    mode(writer, "host-model", model.is_some(), &|writer| {
        let Some(cpu) = model else { return };
        writer.with(
            "model",
            |writer| writer.attribute("fallback", "forbid"),
            |writer| writer.text(cpu.model.as_deref().unwrap_or_default()),
        );
        if let Some(vendor) = &cpu.vendor {
            writer.text_element("vendor", vendor);
        }
        for feature in &cpu.features {
            let policy = if feature.policy == Some(Policy::Disable) { "disable" } else { "require" };
            attributes(writer, "feature", &[("policy", policy), ("name", &feature.name)]);
        }
    });
    mode(writer, "custom", true, &|writer| {
        for cpu in offered(accelerator) {
            let usable = match cpu.usable {
                Usable::Yes => "yes",
                Usable::No => "no",
                Usable::Unknown => "unknown",
            };
            let vendor = Map::get().model(&cpu.name).and_then(|model| model.vendor);
            let attributes = |writer: &mut Writer| {
                writer.attribute("usable", usable);
                if cpu.deprecated {
                    writer.attribute("deprecated", "yes");
                }
                writer.attribute("vendor", vendor.map_or("unknown", |vendor| vendor.name));
            };
            writer.with("model", attributes, |writer| writer.text(&cpu.name));
        }
    });
}
