//! The file of one emulator's capabilities, in libvirt's form.

use crate::{
    Accelerator, CpuModel, CpuProperty, HostCpu, MachineType, PropertyValue, QemuCaps, Sev, Usable, VirtType,
};
use roxmltree::{Document, Node};
use sha2::{Digest as _, Sha256};
use std::fmt::Write as _;
use std::path::Path;

/// The file's name: the hash of the binary's path.
pub fn cache_name(binary: &Path) -> String {
    let hash = Sha256::digest(binary.as_os_str().as_encoded_bytes());
    let mut name = String::with_capacity(68);
    for byte in hash {
        let _ = write!(name, "{byte:02x}");
    }
    name + ".xml"
}

fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '\'' => out.push_str("&apos;"),
            '"' => out.push_str("&quot;"),
            _ => out.push(c),
        }
    }
    out
}

/// An element of the top level, written at once.
struct Line<'a>(&'a mut String);

impl<'a> Line<'a> {
    fn new(out: &'a mut String, indent: usize, name: &str) -> Self {
        let _ = write!(out, "{:indent$}<{name}", "");
        Self(out)
    }

    fn with(self, name: &str, value: &str) -> Self {
        let _ = write!(self.0, " {name}='{}'", escape(value));
        self
    }

    fn with_yes(self, name: &str, value: bool) -> Self {
        if value { self.with(name, "yes") } else { self }
    }

    fn with_some(self, name: &str, value: Option<&str>) -> Self {
        match value {
            Some(value) => self.with(name, value),
            None => self,
        }
    }

    fn open(self) {
        self.0.push_str(">\n");
    }

    fn end(self) {
        self.0.push_str("/>\n");
    }
}

fn value(out: &mut String, name: &str, text: &str) {
    let _ = writeln!(out, "  <{name}>{}</{name}>", escape(text));
}

/// The file's text.
pub fn format(caps: &QemuCaps) -> String {
    let mut out = String::from("<qemuCaps>\n");
    value(&mut out, "emulator", &caps.binary.display().to_string());
    value(&mut out, "qemuctime", &caps.stamp.binary.to_string());
    value(&mut out, "qemumoddirmtime", &caps.stamp.modules.to_string());
    value(&mut out, "selfctime", &caps.stamp.program.to_string());
    value(&mut out, "selfvers", &caps.stamp.version.to_string());
    let known: Vec<_> = crate::flags::FLAGS.iter().map(|(word, _)| *word).collect();
    let unknown = caps.flags.iter().map(String::as_str).filter(|flag| !known.contains(flag));
    for flag in known.iter().copied().filter(|flag| caps.has(flag)).chain(unknown) {
        Line::new(&mut out, 2, "flag").with("name", flag).end();
    }
    value(&mut out, "version", &caps.version.to_string());
    value(&mut out, "kvmVersion", "0");
    value(&mut out, "microcodeVersion", &caps.stamp.microcode.to_string());
    value(&mut out, "hostCPUSignature", &caps.stamp.cpu);
    value(&mut out, "package", &caps.package);
    value(&mut out, "kernelVersion", &caps.stamp.kernel);
    value(&mut out, "arch", &caps.arch);
    for virt in [VirtType::Kvm, VirtType::Qemu] {
        if let Some(accelerator) = caps.accelerator(virt) {
            format_accelerator(&mut out, virt.accel(), accelerator);
        }
    }
    if let Some(sev) = &caps.sev {
        out.push_str("  <sev>\n");
        let mut item = |name: &str, text: &str| {
            let _ = writeln!(out, "    <{name}>{}</{name}>", escape(text));
        };
        item("cbitpos", &sev.cbitpos.to_string());
        item("reducedPhysBits", &sev.reduced_phys_bits.to_string());
        item("pdh", &sev.pdh);
        item("certChain", &sev.cert_chain);
        if let Some(id) = &sev.cpu0_id {
            item("cpu0Id", id);
        }
        out.push_str("  </sev>\n");
    }
    if let Some(words) = &caps.hyperv {
        out.push_str("  <hypervCapabilities supported='yes'>\n");
        for word in words {
            Line::new(&mut out, 4, "cap").with("name", word).end();
        }
        out.push_str("  </hypervCapabilities>\n");
    }
    out.push_str("</qemuCaps>\n");
    out
}

fn format_accelerator(out: &mut String, kind: &str, accelerator: &Accelerator) {
    if let Some(host) = &accelerator.host {
        Line::new(out, 2, "hostCPU")
            .with("type", kind)
            .with("model", &host.model)
            .with("migratability", if host.migratability { "yes" } else { "no" })
            .open();
        for property in &host.properties {
            let (kind, value) = match &property.value {
                PropertyValue::Bool(value) => ("boolean", value.to_string()),
                PropertyValue::Number(value) => ("number", value.to_string()),
                PropertyValue::Text(value) => ("string", value.clone()),
            };
            let migratable = property.migratable.map(|yes| if yes { "yes" } else { "no" });
            Line::new(out, 4, "property")
                .with("name", &property.name)
                .with("type", kind)
                .with("value", &value)
                .with_some("migratable", migratable)
                .end();
        }
        out.push_str("  </hostCPU>\n");
    }
    for cpu in &accelerator.cpus {
        let line = Line::new(out, 2, "cpu")
            .with("type", kind)
            .with("name", &cpu.name)
            .with_some("typename", cpu.type_name.as_deref())
            .with("usable", cpu.usable.name())
            .with_yes("deprecated", cpu.deprecated);
        if cpu.blockers.is_empty() {
            line.end();
            continue;
        }
        line.open();
        for blocker in &cpu.blockers {
            Line::new(out, 4, "blocker").with("name", blocker).end();
        }
        out.push_str("  </cpu>\n");
    }
    for machine in &accelerator.machines {
        Line::new(out, 2, "machine")
            .with("type", kind)
            .with("name", &machine.name)
            .with_some("alias", machine.alias.as_deref())
            .with_yes("hotplugCpus", machine.hotplug_cpus)
            .with("maxCpus", &machine.max_cpus.to_string())
            .with_yes("default", machine.default)
            .with_some("defaultCPU", machine.default_cpu.as_deref())
            .with_some("numaMemSupported", machine.numa_mem.then_some("yes"))
            .with_some("defaultRAMid", machine.default_ram_id.as_deref())
            .with_yes("deprecated", machine.deprecated)
            .end();
    }
}

/// Reads a file of ours or of libvirt's; what it has beyond is left out.
///
/// # Errors
/// It is not such a file.
pub fn parse(text: &str) -> Result<QemuCaps, String> {
    let document = Document::parse(text).map_err(|error| error.to_string())?;
    let root = document.root_element();
    if root.tag_name().name() != "qemuCaps" {
        return Err(format!("unexpected root element <{}>", root.tag_name().name()));
    }
    let mut caps = QemuCaps::default();
    for node in root.children().filter(Node::is_element) {
        let text = node.text().unwrap_or_default();
        match node.tag_name().name() {
            "emulator" => caps.binary = text.into(),
            "qemuctime" => caps.stamp.binary = number(text)?,
            "qemumoddirmtime" => caps.stamp.modules = number(text)?,
            "selfctime" => caps.stamp.program = number(text)?,
            "selfvers" => caps.stamp.version = number(text)?,
            "flag" => drop(caps.flags.insert(attribute(node, "name")?)),
            "version" => caps.version = number(text)?,
            "microcodeVersion" => caps.stamp.microcode = number(text)?,
            "hostCPUSignature" => text.clone_into(&mut caps.stamp.cpu),
            "package" => text.clone_into(&mut caps.package),
            "kernelVersion" => text.clone_into(&mut caps.stamp.kernel),
            "arch" => text.clone_into(&mut caps.arch),
            "hostCPU" => accelerator(&mut caps, node)?.host = Some(host(node)?),
            "cpu" => accelerator(&mut caps, node)?.cpus.push(cpu(node)?),
            "machine" => accelerator(&mut caps, node)?.machines.push(machine(node)?),
            "sev" => caps.sev = Some(sev(node)?),
            "hypervCapabilities" => {
                let words = node.children().filter(Node::is_element).map(|cap| attribute(cap, "name"));
                caps.hyperv = Some(words.collect::<Result<_, _>>()?);
            }
            _ => {}
        }
    }
    Ok(caps)
}

fn number<T: std::str::FromStr>(text: &str) -> Result<T, String> {
    text.parse().map_err(|_| format!("malformed number '{text}'"))
}

fn attribute(node: Node<'_, '_>, name: &str) -> Result<String, String> {
    let missing = || format!("missing attribute '{name}' of <{}>", node.tag_name().name());
    node.attribute(name).map(str::to_owned).ok_or_else(missing)
}

fn accelerator<'a>(caps: &'a mut QemuCaps, node: Node<'_, '_>) -> Result<&'a mut Accelerator, String> {
    match attribute(node, "type")?.as_str() {
        "kvm" => Ok(caps.kvm.get_or_insert_default()),
        "tcg" => Ok(caps.tcg.get_or_insert_default()),
        other => Err(format!("unexpected accelerator '{other}'")),
    }
}

fn sev(node: Node<'_, '_>) -> Result<Sev, String> {
    let optional = |name: &str| {
        let mut children = node.children().filter(Node::is_element);
        let child = children.find(|child| child.tag_name().name() == name)?;
        Some(child.text().unwrap_or_default().to_owned())
    };
    let text = |name: &str| optional(name).ok_or_else(|| format!("missing element <{name}> of <sev>"));
    Ok(Sev {
        cbitpos: number(&text("cbitpos")?)?,
        reduced_phys_bits: number(&text("reducedPhysBits")?)?,
        pdh: text("pdh")?,
        cert_chain: text("certChain")?,
        cpu0_id: optional("cpu0Id"),
    })
}

fn is_yes(node: Node<'_, '_>, name: &str) -> bool {
    node.attribute(name) == Some("yes")
}

fn host(node: Node<'_, '_>) -> Result<HostCpu, String> {
    let property = |item: Node<'_, '_>| {
        let text = attribute(item, "value")?;
        let value = match item.attribute("type") {
            Some("boolean") => PropertyValue::Bool(text == "true"),
            Some("number") => PropertyValue::Number(number(&text)?),
            _ => PropertyValue::Text(text),
        };
        let migratable = item.attribute("migratable").map(|word| word == "yes");
        Ok(CpuProperty { name: attribute(item, "name")?, value, migratable })
    };
    Ok(HostCpu {
        model: attribute(node, "model")?,
        migratability: is_yes(node, "migratability"),
        properties: node.children().filter(Node::is_element).map(property).collect::<Result<_, String>>()?,
    })
}

fn cpu(node: Node<'_, '_>) -> Result<CpuModel, String> {
    let blockers = node.children().filter(Node::is_element).map(|item| attribute(item, "name"));
    Ok(CpuModel {
        name: attribute(node, "name")?,
        type_name: node.attribute("typename").map(str::to_owned),
        usable: match node.attribute("usable") {
            Some("yes") => Usable::Yes,
            Some("no") => Usable::No,
            _ => Usable::Unknown,
        },
        blockers: blockers.collect::<Result<_, _>>()?,
        deprecated: is_yes(node, "deprecated"),
    })
}

fn machine(node: Node<'_, '_>) -> Result<MachineType, String> {
    let optional = |name| node.attribute(name).map(str::to_owned);
    Ok(MachineType {
        name: attribute(node, "name")?,
        alias: optional("alias"),
        max_cpus: number(node.attribute("maxCpus").unwrap_or("0"))?,
        hotplug_cpus: is_yes(node, "hotplugCpus"),
        default: is_yes(node, "default"),
        default_cpu: optional("defaultCPU"),
        numa_mem: is_yes(node, "numaMemSupported"),
        default_ram_id: optional("defaultRAMid"),
        deprecated: is_yes(node, "deprecated"),
    })
}
