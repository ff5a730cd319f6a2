//! From a client's XML to a definition.

use crate::core::Core;
use crate::error::{Result, error, unsupported, xml};
use crate::uuid;
use domain_xml::os::Os;
use domain_xml::tune::Vcpu;
use domain_xml::{Domain as Definition, DomainType};
use qemu_caps::{QemuCaps, VirtType};
use rpc::{Code, Error, Origin, Uuid};
use std::path::Path;
use std::sync::Arc;

/// A definition that is complete, and what belongs to it.
pub struct Complete {
    /// The definition.
    pub definition: Definition,
    /// Its UUID.
    pub uuid: Uuid,
    /// What its emulator can do.
    pub caps: Arc<QemuCaps>,
}

/// How the guest's code is executed.
///
/// # Errors
/// The type is not QEMU's.
pub fn virt_type(definition: &Definition) -> Result<VirtType> {
    match definition.kind {
        DomainType::Qemu => Ok(VirtType::Qemu),
        DomainType::Kvm => Ok(VirtType::Kvm),
        _ => Err(unsupported(format!("unexpected domain type {}", type_word(definition)))),
    }
}

fn type_word(definition: &Definition) -> String {
    xml::Value::format(&definition.kind).into()
}

fn xml_error(detail: &str) -> Error {
    Error::new(Origin::Domain, Code::XmlError, detail)
}

impl Core {
    /// Reads the XML of a domain that is to be defined or created.
    ///
    /// # Errors
    /// The XML is wrong, or asks for what the emulator does not have.
    pub fn read_definition(&self, text: &str) -> Result<Complete> {
        let definition = domain_xml::parse(text).map_err(|error| xml(&error))?;
        self.complete(definition)
    }

    /// Adds what a definition leaves open.
    ///
    /// # Errors
    /// As [`Core::read_definition`].
    pub fn complete(&self, mut definition: Definition) -> Result<Complete> {
        check_name(&definition)?;
        let uuid = match &definition.uuid {
            Some(text) => {
                uuid::parse(text).ok_or_else(|| crate::error::internal("malformed uuid element"))?
            }
            None => uuid::generate().map_err(|error| crate::error::system(&error, "no random numbers"))?,
        };
        definition.uuid = Some(uuid.to_string());
        definition.id = None;
        let virt = virt_type(&definition)?;
        let caps = self.choose_machine(&mut definition, virt)?;
        if definition.memory.as_ref().is_none_or(|memory| memory.size.0 == 0) {
            return Err(xml_error(
                "Memory size must be specified via <memory> or in the <numa> configuration",
            ));
        }
        if definition
            .current_memory
            .is_none_or(|current| current.0 > definition.memory_kib() || current.0 == 0)
        {
            definition.current_memory = Some(domain_xml::units::Kib(definition.memory_kib()));
        }
        let vcpu = definition.vcpu.get_or_insert_with(|| Vcpu { count: 1, ..Vcpu::default() });
        vcpu.placement.get_or_insert(domain_xml::tune::Placement::Static);
        Ok(Complete { definition, uuid, caps })
    }

    fn choose_machine(&self, definition: &mut Definition, virt: VirtType) -> Result<Arc<QemuCaps>> {
        let devices = definition.devices.get_or_insert_default();
        let os = definition.os.get_or_insert_with(Os::default);
        let Some(kind) = &mut os.kind else {
            return Err(error_os("an os <type> must be specified"));
        };
        if kind.name != "hvm" {
            return Err(error_os(&kind.name));
        }
        let arch = kind.arch.get_or_insert_with(|| std::env::consts::ARCH.to_owned());
        let emulator = match &devices.emulator {
            Some(path) => path.clone(),
            None => {
                let found = self.emulator(arch).ok_or_else(|| {
                    unsupported(format!("Emulator '{}' for os type 'hvm' arch '{arch}' not found", "qemu"))
                })?;
                found.to_string_lossy().into_owned()
            }
        };
        let caps = self.capabilities(Path::new(&emulator))?;
        if caps.accelerator(virt).is_none() {
            let detail = format!("Emulator '{emulator}' does not support virt type '{}'", virt.name());
            return Err(unsupported(detail));
        }
        let machine = match &kind.machine {
            Some(name) => caps.machine(virt, name).ok_or_else(|| {
                unsupported(format!("Emulator '{emulator}' does not support machine type '{name}'"))
            })?,
            None => {
                caps.default_machine(virt).ok_or_else(|| unsupported("the emulator has no machine types"))?
            }
        };
        kind.machine = Some(machine.name.clone());
        devices.emulator = Some(emulator);
        Ok(caps)
    }
}

fn error_os(detail: &str) -> Error {
    Error::new(Origin::Domain, Code::OsType, detail)
}

fn check_name(definition: &Definition) -> Result<()> {
    let name = definition.name();
    if definition.name.is_none() {
        return Err(Error::plain(Origin::Domain, Code::NoName));
    }
    if name.is_empty() {
        return Err(xml_error("name  cannot be empty"));
    }
    if name.contains('/') {
        return Err(xml_error(&format!("name {name} cannot contain '/'")));
    }
    if name.contains('\n') || name == "." || name == ".." {
        return Err(error(Code::XmlError, format!("name '{name}' is not a file name")));
    }
    Ok(())
}

/// The text that a client gets: without secrets unless it asks for them.
pub fn format(definition: &Definition, secure: bool) -> String {
    if secure {
        return domain_xml::format(definition);
    }
    let mut shown = definition.clone();
    for graphics in shown.devices.iter_mut().flat_map(|devices| &mut devices.graphics) {
        graphics.passwd = None;
        graphics.passwd_valid_to = None;
    }
    domain_xml::format(&shown)
}
