//! Firmware of guests that start: which, and the file of its variables.

use crate::core::Core;
use crate::error::{Result, error, failed, system, xml};
use domain_xml::Domain as Definition;
use domain_xml::os::LoaderType;
use domain_xml::source::SourceType;
use domain_xml::words::yes;
use qemu_domain::firmware::{self, Available};
use rpc::Code;
use std::fs::{File, OpenOptions};
use std::os::unix::fs::{OpenOptionsExt as _, fchown};
use std::path::Path;

/// The file of the variables, if it is one of this host.
pub fn variables(definition: &Definition) -> Option<&str> {
    let nvram = definition.os.nvram.as_ref()?;
    let path = match (&nvram.source, nvram.kind) {
        (None, _) => nvram.path.as_deref(),
        (Some(source), None | Some(SourceType::File)) => source.file.as_deref(),
        (Some(source), Some(SourceType::Block)) => source.dev.as_deref(),
        _ => None,
    };
    path.filter(|path| !path.is_empty())
}

impl Core {
    /// The file of the variables that a domain has or will have once it starts.
    pub fn variables_of(&self, definition: &Definition) -> Option<String> {
        if let Some(path) = variables(definition) {
            return Some(path.to_owned());
        }
        let efi = definition.os.firmware == Some(domain_xml::os::Firmware::Efi);
        efi.then(|| format!("{}/{}_VARS.fd", self.domain_settings().nvram, definition.name()))
    }

    /// The firmware that there is for a machine.
    pub fn firmware_for(&self, arch: &str, machine: &str) -> Available {
        let found = firmware::available(&firmware::read(&self.paths.firmware), arch, machine);
        let mut available = found.unwrap_or_else(|| Available {
            files: firmware::WELL_KNOWN.iter().map(|(code, _)| (*code).to_owned()).collect(),
            ..Available::default()
        });
        available.files.retain(|file| Path::new(file).exists());
        available
    }

    /// Chooses firmware for a guest that starts, and the template of its variables. `restored`: it goes on with the
    /// firmware that it has. `reset`: its variables begin anew.
    ///
    /// # Errors
    /// There is none as it is wanted.
    pub(super) fn choose_firmware(
        &self,
        definition: &mut Definition,
        restored: bool,
        reset: bool,
    ) -> Result<()> {
        if definition.os.firmware.is_some() {
            if restored {
                return Ok(());
            }
        } else {
            let flash = definition.os.loader.as_ref().is_some_and(|loader| {
                loader.kind == Some(LoaderType::Pflash) && yes(loader.read_only) && loader.path.is_some()
            });
            let nvram = definition.os.nvram.as_ref();
            if !flash || nvram.is_some_and(|nvram| nvram.template.is_some()) {
                return Ok(());
            }
            if nvram.is_some_and(|nvram| nvram.source.is_some()) && variables(definition).is_none() {
                let detail = "resetting of nvram is not supported with network backed nvram";
                return if reset { Err(error(Code::OperationUnsupported, detail)) } else { Ok(()) };
            }
            if !reset && variables(definition).is_some_and(|path| Path::new(path).exists()) {
                return Ok(());
            }
        }
        let descriptions = firmware::read(&self.paths.firmware);
        firmware::select(definition, &descriptions, &self.domain_settings().nvram)
            .map_err(|error| xml(&error))
    }

    /// Makes the file of the variables from its template, if it is not there or is to begin anew.
    ///
    /// # Errors
    /// It has no template, or cannot be made.
    pub(super) fn prepare_variables(&self, definition: &Definition, reset: bool) -> Result<()> {
        let Some(path) = variables(definition) else { return Ok(()) };
        let path = Path::new(path);
        if path.exists() && !reset {
            return Ok(());
        }
        let os = &definition.os;
        let loader = os.loader.as_ref().and_then(|loader| loader.path.as_deref()).unwrap_or_default();
        let own = os.nvram.as_ref().and_then(|nvram| nvram.template.as_deref());
        let known =
            firmware::WELL_KNOWN.iter().find(|(code, _)| *code == loader).map(|(_, template)| *template);
        let template = own
            .or(known)
            .ok_or_else(|| failed(format!("unable to find any master var store for loader: {loader}")))?;
        let mut from = File::open(template)
            .map_err(|error| system(&error, &format!("Failed to open file '{template}'")))?;
        let shown = path.display();
        let new = path.with_extension(format!("{}.new", std::process::id()));
        let _ = std::fs::remove_file(&new);
        let mut write = || {
            let mut to = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&new)?;
            std::io::copy(&mut from, &mut to)?;
            to.sync_data()?;
            if let Some((user, group)) = self.config.owner.filter(|_| self.paths.privileged) {
                fchown(&to, Some(user), Some(group))?;
            }
            std::fs::rename(&new, path)
        };
        write().map_err(|error| {
            let _ = std::fs::remove_file(&new);
            system(&error, &format!("Unable to write to file '{shown}'"))
        })
    }
}
