//! Asking.

use crate::flags::{FLAGS, Source};
use crate::process::Process;
use crate::schema::Schema;
use crate::{
    Accelerator, CpuModel, CpuProperty, HostCpu, MachineType, PropertyValue, QemuCaps, Sev, Stamp, Usable,
};
use json::{Dict, Value, dict};
use qmp::Version;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

/// Why an emulator could not be asked.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// There is no such binary.
    #[error("Cannot check QEMU binary {}: No such file or directory", .0.display())]
    Missing(PathBuf),
    /// The binary is no program.
    #[error("QEMU binary {} is not executable: Permission denied", .0.display())]
    NotExecutable(PathBuf),
    /// No directory for the monitor's socket.
    #[error("Unable to create directory {}: {}", .0.display(), .1)]
    Directory(PathBuf, String),
    /// The binary does not run.
    #[error("Failed to start QEMU binary {} for probing: {}", .0.display(), .1)]
    Run(PathBuf, String),
    /// It answered, but refused something that must be there.
    #[error("Failed to probe QEMU binary with QMP: {0}")]
    Answer(String),
}

impl From<qmp::Error> for Error {
    fn from(error: qmp::Error) -> Self {
        Self::Answer(error.to_string())
    }
}

/// How emulators are run.
#[derive(Clone, Debug, Default)]
pub struct Settings {
    /// Where a run's directory (`qmp-*`) is made: the driver's library directory.
    pub directory: PathBuf,
    /// The user and group that run it; this process's own without.
    pub owner: Option<(u32, u32)>,
}

/// Runs `binary` and asks it everything: once, and once more without KVM if that can be used.
///
/// # Errors
/// The binary is not there, does not run, or is no QEMU.
pub fn probe(binary: &Path, settings: &Settings) -> Result<QemuCaps, Error> {
    let stamp = Stamp::now(binary).ok_or_else(|| Error::Missing(binary.to_owned()))?;
    let process = Process::start(binary, "kvm:tcg", settings)?;
    let answers = Answers { process: &process };
    let version = answers.ask("query-version")?;
    let version = Version::from_json(&version).ok_or_else(|| Error::Answer("no version".to_owned()))?;
    let target = answers.ask("query-target")?;
    let arch = match target.get("arch").and_then(Value::as_str) {
        Some("i386") => "i686",
        Some(arch) => arch,
        None => return Err(Error::Answer("no target".to_owned())),
    };
    let mut caps = QemuCaps {
        binary: binary.to_owned(),
        stamp,
        version: version.number(),
        package: version.package.clone(),
        arch: arch.to_owned(),
        ..QemuCaps::default()
    };
    let kvm = answers.kvm()?;
    let without_kvm = || {
        let process = Process::start(binary, "tcg", settings)?;
        Answers { process: &process }.accelerator("max")
    };
    // Each run takes a tenth of a second and more: with KVM, the one without it goes on beside.
    std::thread::scope(|scope| {
        let beside = kvm.then(|| scope.spawn(without_kvm));
        let facts = Facts::ask(&answers, &caps.arch, caps.version, kvm)?;
        caps.flags = facts.flags();
        if caps.has("sev-guest") {
            // Emulators have the type on all hosts, and refuse the question on those that cannot do it.
            caps.sev = answers.try_ask("query-sev-capabilities", Dict::default())?.as_ref().and_then(sev);
            if caps.sev.is_none() {
                caps.flags.remove("sev-guest");
            }
        }
        let accelerator = answers.accelerator(if kvm { "host" } else { "max" })?;
        let Some(beside) = beside else {
            caps.tcg = Some(accelerator);
            return Ok(caps);
        };
        caps.hyperv = answers.hyperv();
        caps.kvm = Some(accelerator);
        let tcg = beside.join().map_err(|_| Error::Answer("the run without KVM failed".to_owned()))?;
        // An emulator that was built without it fails, and that is no fault.
        if facts.tcg {
            caps.tcg = Some(tcg?);
        }
        Ok(caps)
    })
}

struct Answers<'a> {
    process: &'a Process,
}

fn text(value: &Value, key: &str) -> Option<String> {
    value.get(key).and_then(Value::as_str).map(str::to_owned)
}

fn flag(value: &Value, key: &str) -> bool {
    value.get(key).and_then(Value::as_bool).unwrap_or(false)
}

fn items(value: &Value) -> &[Value] {
    value.as_list().unwrap_or_default()
}

impl Answers<'_> {
    /// A command that must be there.
    fn ask(&self, command: &str) -> Result<Value, Error> {
        Ok(self.process.monitor.execute(command, Dict::default())?)
    }

    /// A command that may be missing or refuse; only a broken connection is an error.
    fn try_ask(&self, command: &str, arguments: Dict) -> Result<Option<Value>, Error> {
        match self.process.monitor.execute(command, arguments) {
            Ok(value) => Ok(Some(value)),
            Err(qmp::Error::Command { .. }) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    fn names(&self, command: &str, key: &str) -> Result<BTreeSet<String>, Error> {
        let reply = self.try_ask(command, Dict::default())?.unwrap_or(Value::Null);
        Ok(items(&reply).iter().filter_map(|item| text(item, key)).collect())
    }

    /// Whether it runs with KVM.
    fn kvm(&self) -> Result<bool, Error> {
        let kvm = self.try_ask("query-kvm", Dict::default())?;
        Ok(kvm.is_some_and(|kvm| flag(&kvm, "present") && flag(&kvm, "enabled")))
    }

    fn accelerator(&self, host_model: &str) -> Result<Accelerator, Error> {
        let cpus = self.try_ask("query-cpu-definitions", Dict::default())?.unwrap_or(Value::Null);
        let machines = self.ask("query-machines")?;
        let mut machines: Vec<_> = items(&machines).iter().filter_map(machine).collect();
        // The default first: it is what old clients take.
        machines.sort_by_key(|machine| !machine.default);
        Ok(Accelerator {
            machines,
            cpus: items(&cpus).iter().filter_map(cpu).collect(),
            host: self.host_cpu(host_model)?,
        })
    }

    fn expand(&self, kind: &str, model: &str, properties: Dict) -> Result<Option<Value>, Error> {
        let mut name = dict! { "name" => model };
        if !properties.is_empty() {
            name.insert("props", properties.into());
        }
        self.try_ask("query-cpu-model-expansion", dict! { "type" => kind, "model" => name })
    }

    fn host_cpu(&self, model: &str) -> Result<Option<HostCpu>, Error> {
        let Some(migratable) = self.expand("static", model, Dict::default())? else { return Ok(None) };
        let everything = self.expand("static", model, dict! { "migratable" => false })?;
        let properties = |reply: &Value| {
            reply.get("model").and_then(|model| model.get("props")?.as_dict().cloned()).unwrap_or_default()
        };
        let some = properties(&migratable);
        let all = everything.as_ref().map_or_else(|| some.clone(), properties);
        let base = migratable.get("model").and_then(|model| text(model, "name"));
        Ok(Some(HostCpu {
            model: base.unwrap_or_else(|| model.to_owned()),
            migratability: everything.is_some(),
            properties: all
                .iter()
                .filter_map(|(name, value)| property(name, value, some.get(name)))
                .collect(),
        }))
    }

    fn hyperv(&self) -> Option<Vec<String>> {
        let wanted = dict! { "migratable" => false, "hv-passthrough" => true };
        let reply = self.expand("full", "host", wanted).ok()??;
        let properties = reply.get("model")?.get("props")?.as_dict()?;
        let on = |name: &str| match properties.get(name) {
            Some(Value::Bool(value)) => *value,
            Some(Value::Int(value)) => *value != 0,
            Some(Value::Str(_)) => true,
            _ => false,
        };
        Some(HYPERV.iter().filter(|(_, name)| on(name)).map(|(word, _)| (*word).to_owned()).collect())
    }
}

/// libvirt's words for Hyper-V's enlightenments, and the properties of a CPU that they are.
const HYPERV: &[(&str, &str)] = &[
    ("relaxed", "hv-relaxed"),
    ("vapic", "hv-vapic"),
    ("spinlocks", "hv-spinlocks"),
    ("vpindex", "hv-vpindex"),
    ("runtime", "hv-runtime"),
    ("synic", "hv-synic"),
    ("stimer", "hv-stimer"),
    ("reset", "hv-reset"),
    ("vendor_id", "hv-vendor-id"),
    ("frequencies", "hv-frequencies"),
    ("reenlightenment", "hv-reenlightenment"),
    ("tlbflush", "hv-tlbflush"),
    ("ipi", "hv-ipi"),
    ("evmcs", "hv-evmcs"),
    ("avic", "hv-avic"),
];

fn sev(reply: &Value) -> Option<Sev> {
    let number = |key: &str| u32::try_from(reply.get(key)?.as_u64()?).ok();
    Some(Sev {
        cbitpos: number("cbitpos")?,
        reduced_phys_bits: number("reduced-phys-bits")?,
        pdh: text(reply, "pdh")?,
        cert_chain: text(reply, "cert-chain")?,
        cpu0_id: text(reply, "cpu0-id"),
    })
}

fn property(name: &str, value: &Value, migratable: Option<&Value>) -> Option<CpuProperty> {
    let (value, migratable) = match value {
        // What stays on when only migratable features are taken is one.
        Value::Bool(value) => {
            (PropertyValue::Bool(*value), value.then(|| migratable == Some(&Value::Bool(true))))
        }
        Value::Int(value) => (PropertyValue::Number(*value), None),
        Value::Str(value) => (PropertyValue::Text(value.clone()), None),
        _ => return None,
    };
    Some(CpuProperty { name: name.to_owned(), value, migratable })
}

fn machine(item: &Value) -> Option<MachineType> {
    let name = text(item, "name").filter(|name| name != "none")?;
    Some(MachineType {
        name,
        alias: text(item, "alias"),
        max_cpus: item
            .get("cpu-max")
            .and_then(Value::as_u64)
            .and_then(|max| max.try_into().ok())
            .unwrap_or(0),
        hotplug_cpus: flag(item, "hotpluggable-cpus"),
        default: flag(item, "is-default"),
        default_cpu: text(item, "default-cpu-type"),
        numa_mem: flag(item, "numa-mem-supported"),
        default_ram_id: text(item, "default-ram-id"),
        deprecated: flag(item, "deprecated"),
    })
}

fn cpu(item: &Value) -> Option<CpuModel> {
    let blockers = item.get("unavailable-features").map(items);
    let mut blockers: Option<Vec<_>> =
        blockers.map(|names| names.iter().filter_map(Value::as_str).map(str::to_owned).collect());
    // The type itself stands for "not on this host at all".
    let type_name = text(item, "typename");
    let usable = match &blockers {
        None => Usable::Unknown,
        Some(names) if names.is_empty() => Usable::Yes,
        Some(_) => Usable::No,
    };
    if let (Some(names), Some(type_name)) = (&mut blockers, &type_name) {
        names.retain(|name| name != type_name);
    }
    Some(CpuModel {
        name: text(item, "name")?,
        type_name,
        usable,
        blockers: blockers.unwrap_or_default(),
        deprecated: flag(item, "deprecated"),
    })
}

/// The answers from which the flags follow.
struct Facts {
    version: u64,
    pc: bool,
    kvm: bool,
    tcg: bool,
    commands: BTreeSet<String>,
    schema: Value,
    types: BTreeSet<String>,
    /// Type, property and its default value.
    properties: BTreeMap<(&'static str, String), Value>,
    objects: BTreeSet<(&'static str, String)>,
    options: BTreeSet<(String, String)>,
    migration: BTreeSet<String>,
    tpm_models: BTreeSet<String>,
    tpm_types: BTreeSet<String>,
}

impl Facts {
    fn ask(answers: &Answers<'_>, arch: &str, version: u64, kvm: bool) -> Result<Self, Error> {
        let schema = answers.try_ask("query-qmp-schema", Dict::default())?.unwrap_or(Value::Null);
        let commands = answers.names("query-commands", "name")?;
        let types = answers.names("qom-list-types", "name")?;
        let mut properties = BTreeMap::new();
        let mut objects = BTreeSet::new();
        let (mut devices_asked, mut objects_asked) = (BTreeSet::new(), BTreeSet::new());
        for (_, source) in FLAGS {
            match *source {
                Source::Property(kind, _) | Source::OffByDefault(kind, _)
                    if types.contains(kind) && devices_asked.insert(kind) =>
                {
                    let reply = answers.try_ask("device-list-properties", dict! { "typename" => kind })?;
                    for item in items(&reply.unwrap_or(Value::Null)) {
                        if let Some(name) = text(item, "name") {
                            let default = item.get("default-value").cloned().unwrap_or(Value::Null);
                            properties.insert((kind, name), default);
                        }
                    }
                }
                Source::Object(kind, _) if types.contains(kind) && objects_asked.insert(kind) => {
                    let reply = answers.try_ask("qom-list-properties", dict! { "typename" => kind })?;
                    let reply = reply.unwrap_or(Value::Null);
                    objects.extend(items(&reply).iter().filter_map(|item| Some((kind, text(item, "name")?))));
                }
                _ => {}
            }
        }
        let reply = answers.try_ask("query-command-line-options", Dict::default())?.unwrap_or(Value::Null);
        let mut options = BTreeSet::new();
        for item in items(&reply) {
            let Some(option) = text(item, "option") else { continue };
            for parameter in item.get("parameters").map(items).unwrap_or_default() {
                options.extend(text(parameter, "name").map(|name| (option.clone(), name)));
            }
        }
        let migration = answers.names("query-migrate-capabilities", "capability")?;
        let list = |reply: Option<Value>| -> BTreeSet<String> {
            let reply = reply.unwrap_or(Value::Null);
            items(&reply).iter().filter_map(Value::as_str).map(str::to_owned).collect()
        };
        Ok(Self {
            version,
            pc: matches!(arch, "x86_64" | "i686"),
            kvm,
            tcg: types.contains("tcg-accel"),
            commands,
            schema,
            properties,
            objects,
            options,
            migration,
            tpm_models: list(answers.try_ask("query-tpm-models", Dict::default())?),
            tpm_types: list(answers.try_ask("query-tpm-types", Dict::default())?),
            types,
        })
    }

    fn flags(&self) -> BTreeSet<String> {
        let schema = Schema::new(&self.schema);
        let mut found: BTreeSet<String> = FLAGS
            .iter()
            .filter(|(_, source)| self.holds(*source, &schema))
            .map(|(word, _)| (*word).to_owned())
            .collect();
        for (word, source) in FLAGS {
            if let Source::Both(one, other) = source
                && found.contains(*one)
                && found.contains(*other)
            {
                found.insert((*word).to_owned());
            }
        }
        found
    }

    fn holds(&self, source: Source, schema: &Schema<'_>) -> bool {
        match source {
            Source::Command(name) => self.commands.contains(name),
            Source::Schema(path) => schema.has(path),
            Source::Type(name) => self.types.contains(name),
            Source::EitherType(one, other) => self.types.contains(one) || self.types.contains(other),
            Source::Property(kind, name) => self.properties.contains_key(&(kind, name.to_owned())),
            Source::OffByDefault(kind, name) => {
                self.properties.get(&(kind, name.to_owned())) == Some(&Value::Bool(false))
            }
            Source::Object(kind, name) => self.objects.contains(&(kind, name.to_owned())),
            Source::Option(option, name) => self.options.contains(&(option.to_owned(), name.to_owned())),
            Source::Migration(name) => self.migration.contains(name),
            Source::TpmModel(name) => self.tpm_models.contains(name),
            Source::TpmType(name) => self.tpm_types.contains(name),
            Source::Pc => self.pc,
            Source::Kvm => self.kvm,
            Source::Since(version) => self.version >= version,
            Source::Tcg => self.tcg,
            Source::Both(..) => false,
        }
    }
}
