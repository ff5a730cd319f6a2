//! Board, CPUs, accelerators, devices, objects.

use crate::parse::{Builder, Info, Raw, Stop, refuse};
use crate::{Accel, Global, Item, PropValue, TcgProperties};
use json::{Dict, Value};
use keyval::Opts;
use std::fmt::Write as _;

/// Whether `id` is well-formed: a letter, then letters, digits, `-`, `.`, `_`.
pub(crate) fn check_id(id: &str) -> Result<(), Stop> {
    let good = id.starts_with(|c: char| c.is_ascii_alphabetic())
        && id.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_'));
    if good {
        return Ok(());
    }
    refuse(
        "Parameter 'id' expects an identifier\n\
         Identifiers consist of letters, digits, '-', '.', '_', starting with a letter.",
    )
}

impl Builder<'_> {
    /// Remembers an id of a group; two of the same are an error.
    pub(crate) fn claim_id(&mut self, group: &'static str, id: &str) -> Result<(), Stop> {
        check_id(id)?;
        if self.ids.insert((group, id.to_owned())) {
            return Ok(());
        }
        refuse(format!("Duplicate ID '{id}' for {group}"))
    }

    pub(crate) fn finish_accels(&mut self) -> Result<(), Stop> {
        if !self.machine_accels.is_empty() {
            if !self.plan.accels.is_empty() {
                return refuse("The -accel and \"-machine accel=\" options are incompatible");
            }
            for name in std::mem::take(&mut self.machine_accels) {
                if matches!(name.as_str(), "tcg" | "kvm") {
                    self.plan.accels.push(Accel::named(&name));
                } else {
                    report::error_report!("invalid accelerator {name}");
                    self.plan.accel_failed = true;
                }
            }
            if self.plan.accels.is_empty() {
                return Err(Stop::Text(String::new(), 1));
            }
        }
        if self.plan.accels.is_empty() {
            self.plan.accels.push(Accel::named("tcg"));
        }
        Ok(())
    }
}

pub(crate) fn machine(builder: &mut Builder<'_>, raw: &Raw<'_>) -> Result<(), Stop> {
    let opts = Opts::parse(raw.value, Some("type"));
    if matches!(opts.get("type"), Some("help" | "?")) {
        builder.infos.push(Info::Machines);
        return Ok(());
    }
    if let Some(flag) = opts.flags.iter().find(|flag| *flag != "help" && *flag != "?") {
        return refuse(format!("Expected '=' after parameter '{flag}'"));
    }
    for (key, value) in opts.iter() {
        match key {
            "" => return refuse("Invalid parameter ''"),
            "type" => builder.machine_name = Some(value.to_owned()),
            "accel" => builder.machine_accels = value.split(':').map(str::to_owned).collect(),
            "kernel" => builder.plan.kernel = Some(value.to_owned()),
            "initrd" => builder.plan.initrd = Some(value.to_owned()),
            "append" => builder.plan.append = Some(value.to_owned()),
            "firmware" => builder.plan.bios = Some(value.to_owned()),
            "memory-backend" => builder.plan.machine.memory_backend = Some(value.to_owned()),
            "help" | "?" => {
                builder.infos.push(Info::MachineProps);
            }
            _ => builder.plan.machine.props.push((key.to_owned(), value.to_owned())),
        }
    }
    Ok(())
}

pub(crate) fn cpu(builder: &mut Builder<'_>, raw: &Raw<'_>) -> Result<(), Stop> {
    if matches!(raw.value, "help" | "?") {
        builder.infos.push(Info::Cpus);
    } else {
        builder.plan.cpu = Some(raw.value.to_owned());
    }
    Ok(())
}

pub(crate) fn accel(builder: &mut Builder<'_>, raw: &Raw<'_>) -> Result<(), Stop> {
    let opts = Opts::parse(raw.value, Some("accel"));
    let Some(name) = opts.get("accel") else {
        builder.infos.push(Info::Accels);
        return Ok(());
    };
    if matches!(name, "help" | "?") {
        builder.infos.push(Info::Accels);
        return Ok(());
    }
    if !matches!(name, "tcg" | "kvm") {
        // Told when it is tried: another may follow.
        let location = Some(raw.location.clone());
        builder.plan.accels.push(Accel { location, ..Accel::named(name) });
        return Ok(());
    }
    let mut kernel_irqchip = None;
    let mut tcg = TcgProperties::default();
    for (key, value) in opts.iter().filter(|(key, _)| *key != "accel") {
        match (name, key, value) {
            ("kvm", "kernel-irqchip", "on" | "off" | "split") => kernel_irqchip = Some(value.to_owned()),
            ("kvm", "kernel-irqchip", _) => {
                return refuse(format!("Parameter 'kernel-irqchip' does not accept value '{value}'"));
            }
            ("tcg", "tier", "1") => tcg.tier = Some(1),
            ("tcg", "tier", "2") => tcg.tier = Some(2),
            ("tcg", "tier", _) => return refuse(format!("Parameter 'tier' does not accept value '{value}'")),
            ("tcg", "thread", "multi") => tcg.single = false,
            ("tcg", "thread", "single") => tcg.single = true,
            ("tcg", "tb-size", _) => match value.parse::<u64>().map(u32::try_from) {
                Ok(Ok(size)) => tcg.tb_size = size.into(),
                Ok(Err(_)) => return refuse(format!("Parameter '{key}' expects uint32_t")),
                Err(_) => return refuse(format!("Parameter '{key}' expects uint64")),
            },
            ("tcg", "one-insn-per-tb", _) => tcg.one_insn_per_tb = on_off(key, value)?,
            // No page is ever both writable and executable.
            ("tcg", "split-wx", _) => {
                if !on_off(key, value)? {
                    return refuse(format!("'{key}={value}' is not supported by this build"));
                }
            }
            ("tcg", "x-tiny-tlb", _) => tcg.tiny_tlb = on_off(key, value)?,
            ("tcg", "x-lazy-flags", _) => tcg.lazy_flags = on_off(key, value)?,
            ("tcg", "x-lockstep", _) => tcg.lockstep = on_off(key, value)?,
            ("tcg", "x-threshold", _) => match value.parse() {
                Ok(count) => tcg.threshold = Some(count),
                Err(_) => return refuse(format!("Parameter '{key}' expects uint8")),
            },
            ("tcg", "x-lane-b", "on" | "off" | "always") => tcg.lane_b = Some(value.to_owned()),
            ("tcg", "x-lane-b", _) => {
                return refuse(format!("Parameter '{key}' does not accept value '{value}'"));
            }
            ("tcg", "x-without", _) => tcg.without = Some(value.to_owned()),
            ("tcg", "thread", _) => return refuse(format!("Invalid 'thread' setting {value}")),
            ("kvm", "kvm-shadow-mem" | "dirty-ring-size" | "eager-split-size" | "device" | "rapl", _)
            | ("kvm", "notify-vmexit" | "notify-window" | "rapl-helper-socket", _) => {
                return refuse(format!("'{key}' is not supported by this build"));
            }
            _ => return refuse(format!("Property '{name}-accel.{key}' not found")),
        }
    }
    let location = Some(raw.location.clone());
    builder.plan.accels.push(Accel { location, name: name.to_owned(), kernel_irqchip, tcg });
    Ok(())
}

fn on_off(key: &str, value: &str) -> Result<bool, Stop> {
    match value {
        "on" => Ok(true),
        "off" => Ok(false),
        _ => refuse(format!("Parameter '{key}' expects 'on' or 'off'")),
    }
}

pub(crate) fn enable_kvm(builder: &mut Builder<'_>, _raw: &Raw<'_>) -> Result<(), Stop> {
    builder.machine_accels = vec!["kvm".to_owned()];
    Ok(())
}

pub(crate) fn smp(builder: &mut Builder<'_>, raw: &Raw<'_>) -> Result<(), Stop> {
    let opts = Opts::parse(raw.value, Some("cpus"));
    if opts.wants_help() {
        let mut text = "smp-opts options:\n".to_owned();
        for key in ["cores", "cpus", "dies", "maxcpus", "sockets", "threads"] {
            let _ = writeln!(text, "  {key}=<num>");
        }
        return Err(Stop::Text(text, 0));
    }
    builder.smp.extend(opts.iter().map(|(key, value)| (key.to_owned(), value.to_owned())));
    Ok(())
}

pub(crate) fn global(builder: &mut Builder<'_>, raw: &Raw<'_>) -> Result<(), Stop> {
    let location = raw.location.clone();
    if let Some((path, value)) = raw.value.split_once('=')
        && let Some((driver, property)) = path.split_once('.')
    {
        let (driver, property, value) = (driver.to_owned(), property.to_owned(), value.to_owned());
        builder.plan.globals.push(Global { location, driver, property, value });
        return Ok(());
    }
    let opts = Opts::parse(raw.value, None);
    crate::misc::warn_short_form(&opts);
    opts.check(&["driver", "property", "value"])?;
    let get = |key: &str| opts.get(key).map(str::to_owned);
    let (Some(driver), Some(property), Some(value)) = (get("driver"), get("property"), get("value")) else {
        return refuse("options 'driver', 'property', and 'value' are required");
    };
    builder.plan.globals.push(Global { location, driver, property, value });
    Ok(())
}

/// A JSON object as an item: takes the type and the id out, keeps the rest.
fn json_item(raw: &Raw<'_>, mut dict: Dict, type_key: &str) -> Result<Item, Stop> {
    let Some(Value::Str(kind)) = dict.remove(type_key) else {
        return refuse(format!("Parameter '{type_key}' is missing"));
    };
    let id = match dict.remove("id") {
        None => None,
        Some(Value::Str(text)) => Some(text),
        Some(_) => return refuse("Invalid parameter type for 'id', expected: string"),
    };
    let props = dict.iter().map(|(key, value)| (key.to_owned(), PropValue::Json(value.clone()))).collect();
    Ok(Item { location: raw.location.clone(), kind, id, props, json: true })
}

fn text_item(raw: &Raw<'_>, opts: &Opts, type_key: &str) -> Result<Item, Stop> {
    let Some(kind) = opts.get(type_key) else { return refuse(format!("Parameter '{type_key}' is missing")) };
    let props = opts
        .iter()
        .filter(|(key, _)| *key != type_key && *key != "id")
        .map(|(key, value)| (key.to_owned(), PropValue::Text(value.to_owned())))
        .collect();
    let id = opts.get("id").map(str::to_owned);
    Ok(Item { location: raw.location.clone(), kind: kind.to_owned(), id, props, json: false })
}

/// Whether the text is meant as JSON.
pub(crate) fn as_json(text: &str) -> Result<Option<Dict>, Stop> {
    if !text.starts_with('{') {
        return Ok(None);
    }
    match json::parse(text.as_bytes()) {
        Ok(Value::Dict(dict)) => Ok(Some(dict)),
        Ok(_) => refuse("JSON parse error, expecting value"),
        Err(error) => refuse(error.to_string()),
    }
}

/// Display adapters: naming one means that the board adds none.
const VGAS: &[&str] =
    &["VGA", "secondary-vga", "cirrus-vga", "vmware-svga", "qxl-vga", "virtio-vga", "ati-vga", "isa-vga"];

pub(crate) fn device(builder: &mut Builder<'_>, raw: &Raw<'_>) -> Result<(), Stop> {
    let item = match as_json(raw.value)? {
        Some(dict) => json_item(raw, dict, "driver")?,
        None => {
            let opts = Opts::parse(raw.value, Some("driver"));
            match opts.get("driver") {
                Some("help" | "?") => {
                    builder.infos.push(Info::Devices);
                    return Ok(());
                }
                Some(driver) if opts.iter().any(|(key, _)| key == "help" || key == "?") => {
                    builder.infos.push(Info::Device(driver.to_owned()));
                    return Ok(());
                }
                _ => {
                    crate::misc::warn_short_form(&opts);
                    text_item(raw, &opts, "driver")?
                }
            }
        }
    };
    // Ids from JSON are compared when the devices are made.
    if let Some(id) = item.id.as_ref().filter(|_| !item.json) {
        builder.claim_id("device", id)?;
    }
    if VGAS.contains(&item.kind.as_str()) {
        builder.plan.no_vga = true;
    }
    builder.plan.devices.push(item);
    Ok(())
}
