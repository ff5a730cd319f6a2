//! Saved domains.

use crate::api::params;
use crate::definition::Form;
use crate::driver::QemuDriver;
use crate::error::{Result, check_flags, error, failed, invalid};
use crate::files;
use crate::guest::Guest;
use crate::process::{Compression, Image, SaveOptions, StartOptions};
use domain_xml::Domain as Definition;
use rpc::protocol::save::*;
use rpc::{ClientContext, Code, TypedParam, TypedValue};
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

fn parse(text: &str) -> Result<Definition> {
    domain_xml::parse(text).map_err(|error| crate::error::xml(&error))
}

/// Parameters of saving and restoring.
struct Params<'a> {
    file: Option<&'a str>,
    xml: Option<&'a str>,
}

impl<'a> Params<'a> {
    fn of(given: &'a [TypedParam]) -> Result<Self> {
        params::check(given, &[("file", "string"), ("dxml", "string")])?;
        let text = |name: &str| {
            given.iter().find(|param| param.field == name).and_then(|param| match &param.value {
                TypedValue::Text(text) => Some(text.as_str()),
                _ => None,
            })
        };
        Ok(Self { file: text("file"), xml: text("dxml") })
    }
}

impl QemuDriver {
    fn save_options(&self, running: Option<bool>, flags: u32, xml: Option<&str>) -> Result<SaveOptions> {
        let compression = Compression::configured(&self.core.config.save_image_format, "save")?;
        let bypass_cache = flags & flag::BYPASS_CACHE != 0;
        Ok(SaveOptions { running, bypass_cache, compression, definition: self.other(xml)? })
    }

    /// The definition that a client wants to be kept with a saved state.
    fn other(&self, xml: Option<&str>) -> Result<Option<Definition>> {
        xml.map(|xml| Ok(self.core.complete(parse(xml)?, false)?.definition)).transpose()
    }

    fn save(
        &self,
        dom: &rpc::Domain,
        to: &str,
        xml: Option<&str>,
        flags: u32,
        api: &'static str,
    ) -> Result<()> {
        let running = wanted(flags)?;
        let guest = self.guest(dom)?;
        let _job = guest.jobs.begin(api)?;
        let options = self.save_options(running, flags, xml)?;
        self.core.save(&guest, Path::new(to), &options)
    }

    /// Makes a domain of a saved state run again.
    fn restore(&self, from: &str, xml: Option<&str>, flags: u32, api: &'static str) -> Result<()> {
        let running = wanted(flags)?;
        let image = Image::open(Path::new(from), false)?;
        let mut complete = self.core.complete(parse(&image.xml)?, false)?;
        if let Some(other) = self.other(xml)? {
            self.core.check_abi(&complete.definition, &other, false)?;
            complete.definition = other;
        }
        let name = complete.definition.name();
        let changed = self.core.hook_restore(name, xml.unwrap_or(&image.xml))?;
        let changed_by_hook = changed.is_some();
        if let Some(changed) = changed {
            self.core.check_abi(&complete.definition, &changed, false)?;
            complete.definition = changed;
        }
        let options = StartOptions {
            changed_by_hook,
            reset_nvram: flags & flag::RESET_NVRAM != 0,
            bypass_cache: flags & flag::BYPASS_CACHE != 0,
            ..StartOptions::default()
        };
        let (uuid, name) = (complete.uuid, complete.definition.name().to_owned());
        let make = || Guest::new(uuid, name.clone());
        let (guest, new) = self.core.table.get_or_insert(uuid, &name, make)?;
        let _job = guest.jobs.begin(api)?;
        if guest.lock().is_active() {
            return Err(invalid(format!("domain '{name}' is already active")));
        }
        let started = self.core.restore(&guest, image, complete.definition, &options, running, None);
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
        let parsed = parse(&image.xml)?;
        let complete = self.core.complete(parsed, false)?;
        if complete.uuid != guest.uuid {
            return Err(failed(format!("cannot restore domain '{name}' from the state of another one")));
        }
        let mut definition = complete.definition;
        let changed = self.core.hook_restore(&name, &image.xml)?;
        let options = StartOptions { changed_by_hook: changed.is_some(), ..options.clone() };
        if let Some(changed) = changed {
            self.core.check_abi(&definition, &changed, false)?;
            definition = changed;
        }
        self.core.restore(guest, image, definition, &options, None, Some(&path))?;
        Ok(true)
    }

    /// The text of a saved definition that a client gets.
    fn shown(&self, image: &Image, flags: u32) -> Result<String> {
        const SECURE: u32 = 1;
        let complete = self.core.complete(parse(&image.xml)?, false)?;
        let form = Form { secure: flags & SECURE != 0, inactive: true, migratable: false };
        Ok(self.core.format(&complete.definition, form))
    }

    fn managed_save(
        &self,
        guest: &Arc<Guest>,
        xml: Option<&str>,
        flags: u32,
        api: &'static str,
    ) -> Result<()> {
        let running = wanted(flags)?;
        let _job = guest.jobs.begin(api)?;
        let name = {
            let inner = guest.lock();
            if !inner.is_active() {
                return Err(crate::error::not_running());
            }
            if !inner.is_persistent() {
                return Err(invalid("cannot do managed save for transient domain"));
            }
            inner.name.clone()
        };
        let options = self.save_options(running, flags, xml)?;
        self.core.save(guest, &self.core.paths.managed_save(&name), &options)
    }

    /// Puts another definition into a saved state.
    fn redefine(&self, image: &Image, xml: &str, running: Option<bool>) -> Result<()> {
        if image.xml == xml && running.is_none_or(|running| running == image.was_running) {
            return Ok(());
        }
        let old = self.core.complete(parse(&image.xml)?, false)?.definition;
        let new = self.core.complete(parse(xml)?, false)?.definition;
        self.core.check_abi(&old, &new, false)?;
        image.replace(&self.core.format(&new, Form::SAVED), running)
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
        self.save(&args.dom, &args.to, None, 0, "virDomainSave")
    }

    fn domain_save_flags(&self, _: &ClientContext, args: DomainSaveFlagsArgs) -> Result<()> {
        check_flags(args.flags, flag::SAVE, "qemuDomainSaveFlags")?;
        self.save(&args.dom, &args.to, args.dxml.as_deref(), args.flags, "virDomainSaveFlags")
    }

    fn domain_restore(&self, _: &ClientContext, args: DomainRestoreArgs) -> Result<()> {
        self.restore(&args.from, None, 0, "virDomainRestore")
    }

    fn domain_restore_flags(&self, _: &ClientContext, args: DomainRestoreFlagsArgs) -> Result<()> {
        check_flags(args.flags, flag::SAVE | flag::RESET_NVRAM, "qemuDomainRestoreInternal")?;
        self.restore(&args.from, args.dxml.as_deref(), args.flags, "virDomainRestoreFlags")
    }

    fn domain_managed_save(&self, _: &ClientContext, args: DomainManagedSaveArgs) -> Result<()> {
        check_flags(args.flags, flag::SAVE, "qemuDomainManagedSave")?;
        self.managed_save(&self.guest(&args.dom)?, None, args.flags, "virDomainManagedSave")
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
        std::fs::remove_file(&path).map_err(|error| {
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
        Ok(DomainManagedSaveGetXmlDescRet { xml: self.shown(&image, args.flags)? })
    }

    fn domain_save_image_get_xml_desc(
        &self,
        _: &ClientContext,
        args: DomainSaveImageGetXmlDescArgs,
    ) -> Result<DomainSaveImageGetXmlDescRet> {
        check_flags(args.flags, 1, "qemuDomainSaveImageGetXMLDesc")?;
        let image = Image::open(Path::new(&args.file), false)?;
        Ok(DomainSaveImageGetXmlDescRet { xml: self.shown(&image, args.flags)? })
    }

    fn domain_save_image_define_xml(
        &self,
        _: &ClientContext,
        args: DomainSaveImageDefineXmlArgs,
    ) -> Result<()> {
        check_flags(args.flags, flag::RUNNING | flag::PAUSED, "qemuDomainSaveImageDefineXML")?;
        let running = wanted(args.flags)?;
        let image = Image::open(Path::new(&args.file), true)?;
        self.redefine(&image, &args.dxml, running)
    }

    fn domain_managed_save_define_xml(
        &self,
        _: &ClientContext,
        args: DomainManagedSaveDefineXmlArgs,
    ) -> Result<()> {
        let image = self.managed_image(&args.dom, true)?;
        check_flags(args.flags, flag::RUNNING | flag::PAUSED, "qemuDomainSaveImageDefineXML")?;
        let running = wanted(args.flags)?;
        self.redefine(&image, args.dxml.as_deref().unwrap_or_default(), running)
    }

    fn domain_save_params(&self, _: &ClientContext, args: DomainSaveParamsArgs) -> Result<()> {
        check_flags(args.flags, flag::SAVE, "qemuDomainSaveParams")?;
        let Params { file, xml } = Params::of(&args.params)?;
        let Some(to) = file else {
            return self.managed_save(&self.guest(&args.dom)?, xml, args.flags, "virDomainSaveParams");
        };
        self.save(&args.dom, to, xml, args.flags, "virDomainSaveParams")
    }

    fn domain_restore_params(&self, _: &ClientContext, args: DomainRestoreParamsArgs) -> Result<()> {
        let Params { file, xml } = Params::of(&args.params)?;
        let from = file.ok_or_else(|| error(Code::InvalidArg, "missing path to restore from"))?;
        check_flags(args.flags, flag::SAVE | flag::RESET_NVRAM, "qemuDomainRestoreInternal")?;
        self.restore(from, xml, args.flags, "virDomainRestoreParams")
    }
}
