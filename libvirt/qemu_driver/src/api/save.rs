//! Saved domains.

use crate::definition;
use crate::driver::QemuDriver;
use crate::error::{Result, check_flags, error, failed, internal, invalid};
use crate::files;
use crate::guest::Guest;
use crate::process::{Image, StartOptions};
use rpc::protocol::save::*;
use rpc::{ClientContext, Code};
use std::path::Path;
use std::sync::Arc;

/// `VIR_DOMAIN_SAVE_...`
mod flag {
    pub(super) const BYPASS_CACHE: u32 = 1;
    pub(super) const RUNNING: u32 = 2;
    pub(super) const PAUSED: u32 = 4;
    pub(super) const RESET_NVRAM: u32 = 8;
    /// Those of saving.
    pub(super) const SAVE: u32 = BYPASS_CACHE | RUNNING | PAUSED;
}

/// What a guest is to do when it goes on, if that is said.
fn wanted(flags: u32) -> Result<Option<bool>> {
    match flags & (flag::RUNNING | flag::PAUSED) {
        0 => Ok(None),
        flag::RUNNING => Ok(Some(true)),
        flag::PAUSED => Ok(Some(false)),
        _ => Err(error(Code::InvalidArg, "running and paused flags are mutually exclusive")),
    }
}

fn no_other_xml(xml: Option<&str>) -> Result<()> {
    match xml {
        Some(_) => Err(error(
            Code::ArgumentUnsupported,
            "another definition for a saved domain is not supported yet",
        )),
        None => Ok(()),
    }
}

impl QemuDriver {
    fn save(&self, dom: &rpc::Domain, to: &str, flags: u32, api: &'static str) -> Result<()> {
        let running = wanted(flags)?;
        let guest = self.guest(dom)?;
        let _job = guest.jobs.begin(api)?;
        self.core.save(&guest, Path::new(to), running)
    }

    /// Makes a domain of a saved state run again.
    fn restore(&self, from: &str, flags: u32, api: &'static str) -> Result<()> {
        let running = wanted(flags)?;
        let image = Image::open(Path::new(from), false)?;
        let parsed = domain_xml::parse(&image.xml).map_err(|error| crate::error::xml(&error))?;
        let complete = self.core.complete(parsed, false)?;
        let (uuid, name) = (complete.uuid, complete.definition.name().to_owned());
        let make = || Guest::new(uuid, name.clone(), None);
        let (guest, new) = self.core.table.get_or_insert(uuid, &name, make)?;
        let _job = guest.jobs.begin(api)?;
        if guest.lock().is_active() {
            return Err(invalid(format!("domain '{name}' is already active")));
        }
        let started =
            self.core.restore(&guest, image, complete.definition, &StartOptions::default(), running, None);
        if started.is_err() && new {
            self.core.table.remove(&guest, &name);
        }
        started
    }

    /// Starts a domain from its managed save, if it has one; whether it did.
    pub(super) fn start_saved(
        &self,
        guest: &Arc<Guest>,
        options: &StartOptions,
        discard: bool,
    ) -> Result<bool> {
        let name = guest.lock().name.clone();
        let path = self.core.paths.managed_save(&name);
        if !path.exists() {
            return Ok(false);
        }
        if discard {
            files::remove(&path).map_err(|error| {
                crate::error::system(&error, &format!("cannot remove managed save file {}", path.display()))
            })?;
            return Ok(false);
        }
        let image = match Image::open(&path, false) {
            Ok(image) => image,
            // What was not completed is of no use.
            Err(error) if error.message.as_deref().is_some_and(|text| text.contains("incomplete")) => {
                let _ = files::remove(&path);
                return Ok(false);
            }
            Err(error) => return Err(error),
        };
        let parsed = domain_xml::parse(&image.xml).map_err(|error| crate::error::xml(&error))?;
        let complete = self.core.complete(parsed, false)?;
        if complete.uuid != guest.uuid {
            return Err(failed(format!("cannot restore domain '{name}' from the state of another one")));
        }
        self.core.restore(guest, image, complete.definition, options, None, Some(&path))?;
        Ok(true)
    }

    fn managed_image(&self, dom: &rpc::Domain, write: bool) -> Result<Image> {
        let guest = self.guest(dom)?;
        let name = guest.lock().name.clone();
        let path = self.core.paths.managed_save(&name);
        if !path.exists() {
            return Err(invalid("domain does not have managed save image"));
        }
        Image::open(&path, write)
    }
}

/// The text of a saved definition that a client gets.
fn shown(image: &Image, flags: u32) -> Result<String> {
    const SECURE: u32 = 1;
    let parsed = domain_xml::parse(&image.xml).map_err(|error| crate::error::xml(&error))?;
    Ok(definition::format(&parsed, flags & SECURE != 0))
}

impl DomainSave for QemuDriver {
    fn domain_core_dump(&self, _: &ClientContext, args: DomainCoreDumpArgs) -> Result<()> {
        self.core_dump(&args.dom, &args.to, 0, args.flags, "virDomainCoreDump")
    }

    fn domain_core_dump_with_format(
        &self,
        _: &ClientContext,
        args: DomainCoreDumpWithFormatArgs,
    ) -> Result<()> {
        self.core_dump(&args.dom, &args.to, args.dumpformat, args.flags, "virDomainCoreDumpWithFormat")
    }

    fn domain_save(&self, _: &ClientContext, args: DomainSaveArgs) -> Result<()> {
        self.save(&args.dom, &args.to, 0, "virDomainSave")
    }

    fn domain_save_flags(&self, _: &ClientContext, args: DomainSaveFlagsArgs) -> Result<()> {
        check_flags(args.flags, flag::SAVE, "qemuDomainSaveFlags")?;
        no_other_xml(args.dxml.as_deref())?;
        self.save(&args.dom, &args.to, args.flags, "virDomainSaveFlags")
    }

    fn domain_restore(&self, _: &ClientContext, args: DomainRestoreArgs) -> Result<()> {
        self.restore(&args.from, 0, "virDomainRestore")
    }

    fn domain_restore_flags(&self, _: &ClientContext, args: DomainRestoreFlagsArgs) -> Result<()> {
        check_flags(args.flags, flag::SAVE | flag::RESET_NVRAM, "qemuDomainRestoreFlags")?;
        no_other_xml(args.dxml.as_deref())?;
        if args.flags & flag::RESET_NVRAM != 0 {
            return Err(error(
                Code::ArgumentUnsupported,
                "resetting firmware variables is not supported yet",
            ));
        }
        self.restore(&args.from, args.flags, "virDomainRestoreFlags")
    }

    fn domain_managed_save(&self, _: &ClientContext, args: DomainManagedSaveArgs) -> Result<()> {
        check_flags(args.flags, flag::SAVE, "qemuDomainManagedSave")?;
        let running = wanted(args.flags)?;
        let guest = self.guest(&args.dom)?;
        let _job = guest.jobs.begin("virDomainManagedSave")?;
        let name = {
            let inner = guest.lock();
            if !inner.is_active() {
                return Err(crate::error::not_running());
            }
            if inner.config.is_none() {
                return Err(invalid("cannot do managed save for transient domain"));
            }
            inner.name.clone()
        };
        self.core.save(&guest, &self.core.paths.managed_save(&name), running)
    }

    fn domain_has_managed_save_image(
        &self,
        _: &ClientContext,
        args: DomainHasManagedSaveImageArgs,
    ) -> Result<DomainHasManagedSaveImageRet> {
        check_flags(args.flags, 0, "qemuDomainHasManagedSaveImage")?;
        let has = self.has_managed_save(&*self.guest(&args.dom)?);
        Ok(DomainHasManagedSaveImageRet { result: has.into() })
    }

    fn domain_managed_save_remove(&self, _: &ClientContext, args: DomainManagedSaveRemoveArgs) -> Result<()> {
        check_flags(args.flags, 0, "qemuDomainManagedSaveRemove")?;
        let guest = self.guest(&args.dom)?;
        let _job = guest.jobs.begin("virDomainManagedSaveRemove")?;
        let name = guest.lock().name.clone();
        let path = self.core.paths.managed_save(&name);
        files::remove(&path).map_err(|error| {
            crate::error::system(&error, &format!("Failed to remove managed save file '{}'", path.display()))
        })
    }

    fn domain_managed_save_get_xml_desc(
        &self,
        _: &ClientContext,
        args: DomainManagedSaveGetXmlDescArgs,
    ) -> Result<DomainManagedSaveGetXmlDescRet> {
        check_flags(args.flags, 1, "qemuDomainManagedSaveGetXMLDesc")?;
        let image = self.managed_image(&args.dom, false)?;
        Ok(DomainManagedSaveGetXmlDescRet { xml: shown(&image, args.flags)? })
    }

    fn domain_save_image_get_xml_desc(
        &self,
        _: &ClientContext,
        args: DomainSaveImageGetXmlDescArgs,
    ) -> Result<DomainSaveImageGetXmlDescRet> {
        check_flags(args.flags, 1, "qemuDomainSaveImageGetXMLDesc")?;
        let image = Image::open(Path::new(&args.file), false)?;
        Ok(DomainSaveImageGetXmlDescRet { xml: shown(&image, args.flags)? })
    }

    fn domain_save_image_define_xml(
        &self,
        _: &ClientContext,
        args: DomainSaveImageDefineXmlArgs,
    ) -> Result<()> {
        check_flags(args.flags, flag::RUNNING | flag::PAUSED, "qemuDomainSaveImageDefineXML")?;
        if wanted(args.flags)?.is_some() {
            return Err(error(
                Code::ArgumentUnsupported,
                "changing the state of a saved domain is not supported yet",
            ));
        }
        let image = Image::open(Path::new(&args.file), true)?;
        let old = domain_xml::parse(&image.xml).map_err(|error| crate::error::xml(&error))?;
        let new = domain_xml::parse(&args.dxml).map_err(|error| crate::error::xml(&error))?;
        let complete = self.core.complete(new, false)?;
        if complete.definition.uuid != old.uuid || complete.definition.name != old.name {
            return Err(internal("the definition is of another domain"));
        }
        image.replace_xml(&domain_xml::format(&complete.definition))
    }
}
