//! Smaller devices.

use crate::command::Builder;
use crate::props::escape;
use crate::{Error, Props, Result};
use domain_xml::Address;
use domain_xml::address::HasInfo as _;
use domain_xml::misc::{
    AccessMode, BalloonModel, Filesystem, PanicModel, RngModel, Tpm, TpmType, WatchdogAction, WatchdogModel,
};
use domain_xml::words::yes;

/// How often a limit of randomness starts anew, in milliseconds.
const RNG_PERIOD: u32 = 1000;

impl Builder<'_> {
    pub(crate) fn watchdog(&mut self) -> Result<()> {
        let Some(watchdog) = &self.devices().watchdog else { return Ok(()) };
        if matches!(watchdog.model, WatchdogModel::Diag288) {
            return Err(Error::unsupported("watchdog model 'diag288' is not supported"));
        }
        if watchdog.model != WatchdogModel::Itco {
            let props = Props::device(watchdog.model.as_str()).put("id", watchdog.info.name());
            let props = self.place(props, &watchdog.info)?;
            self.device(props)?;
        }
        // The dump is made by us once the emulator has paused the guest.
        let action = match watchdog.action {
            WatchdogAction::Dump => WatchdogAction::Pause,
            action => action,
        };
        self.option("-watchdog-action", action.as_str());
        Ok(())
    }

    pub(crate) fn balloon(&mut self) -> Result<()> {
        let Some(balloon) = &self.devices().memballoon else { return Ok(()) };
        if balloon.model == BalloonModel::None {
            return Ok(());
        }
        let form = crate::virtio::form(balloon.model.as_str());
        let props = self
            .virtio("virtio-balloon", form, &balloon.info, crate::virtio::options(&balloon.driver))?
            .put("id", balloon.info.name())
            .switch("deflate-on-oom", balloon.autodeflate)
            .switch("free-page-reporting", balloon.free_page_reporting);
        let props = self.place(props, &balloon.info)?;
        self.device(props)
    }

    pub(crate) fn random(&mut self) -> Result<()> {
        for rng in &self.devices().rng {
            let alias = rng.info.name();
            let name = format!("obj{alias}");
            let backend = rng.backend.as_ref().ok_or_else(|| Error::xml("missing RNG device backend"))?;
            let object = match backend.model {
                RngModel::Random => Props::object("rng-random", name.clone())
                    .put("filename", backend.path.as_deref().map(str::trim).unwrap_or("")),
                RngModel::Egd => {
                    self.chardev(&backend.source, alias, &format!("char{alias}"))?;
                    Props::object("rng-egd", name.clone()).put("chardev", format!("char{alias}"))
                }
                RngModel::Builtin => Props::object("rng-builtin", name.clone()),
            };
            self.object(&object);
            let rate = rng.rate.as_ref().filter(|r| r.bytes > 0);
            let period = rate.map_or(0, |r| r.period.filter(|p| *p > 0).unwrap_or(RNG_PERIOD));
            let props = self
                .virtio("virtio-rng", Some(rng.model), &rng.info, crate::virtio::options(&rng.driver))?
                .put("rng", name)
                .put("id", alias)
                .positive("max-bytes", rate.map_or(0, |r| r.bytes))
                .positive("period", period);
            let props = self.place(props, &rng.info)?;
            self.device(props)?;
        }
        Ok(())
    }

    pub(crate) fn security_modules(&mut self) -> Result<()> {
        for tpm in &self.devices().tpm {
            self.security_module(tpm)?;
        }
        Ok(())
    }

    fn security_module(&mut self, tpm: &Tpm) -> Result<()> {
        let alias = tpm.info.name();
        let backend = tpm.backend.as_ref().ok_or_else(|| Error::xml("missing TPM device backend"))?;
        let text = match backend.kind {
            TpmType::Passthrough => {
                let path = backend.device.as_ref().map_or("/dev/tpm0", |d| d.path.as_str());
                let cancel = self.host.tpm_cancel(path)?;
                let device = self.host.open(path, true)?;
                let cancel = self.host.open(&cancel, true)?;
                let device = self.descriptor_set(&[(device, format!("{alias}-tpm"))]);
                let cancel = self.descriptor_set(&[(cancel, format!("{alias}-cancel"))]);
                format!("passthrough,id=tpm-{alias},path={device},cancel-path={cancel}")
            }
            TpmType::Emulator => {
                let path = self.host.tpm_socket(alias)?;
                self.option("-chardev", format!("socket,id=chrtpm,path={}", escape(&path)));
                format!("emulator,id=tpm-{alias},chardev=chrtpm")
            }
            TpmType::External => {
                let path = backend.source.as_ref().and_then(|s| s.path.as_deref()).unwrap_or("");
                self.option("-chardev", format!("socket,id=chrtpm,path={}", escape(path)));
                format!("emulator,id=tpm-{alias},chardev=chrtpm")
            }
        };
        self.option("-tpmdev", text);
        let model = tpm.model.unwrap_or_default();
        let props = Props::device(model.as_str()).put("tpmdev", format!("tpm-{alias}")).put("id", alias);
        let props = self.place(props, &tpm.info)?;
        self.device(props)
    }

    pub(crate) fn filesystems(&mut self) -> Result<()> {
        for filesystem in &self.devices().filesystem {
            let kind = filesystem.driver.as_ref().and_then(|d| d.kind.as_deref()).unwrap_or("path");
            match kind {
                "path" | "handle" => self.plan9(filesystem, kind)?,
                "virtiofs" => self.virtiofs(filesystem)?,
                other => {
                    return Err(Error::unsupported(format!(
                        "Filesystem driver type '{other}' not supported"
                    )));
                }
            }
        }
        Ok(())
    }

    fn plan9(&mut self, filesystem: &Filesystem, kind: &str) -> Result<()> {
        let alias = filesystem.info.name();
        let mut text = if kind == "handle" { "handle" } else { "local" }.to_owned();
        if kind == "path" {
            text += match filesystem.accessmode.unwrap_or_default() {
                AccessMode::Mapped => ",security_model=mapped",
                AccessMode::Passthrough => ",security_model=passthrough",
                AccessMode::Squash => ",security_model=none",
            };
            if let Some(multi) = &filesystem.multidevs {
                text += &format!(",multidevs={multi}");
            }
            for (name, mode) in [("fmode", &filesystem.fmode), ("dmode", &filesystem.dmode)] {
                if let Some(mode) = mode {
                    text += &format!(",{name}={mode:0>4}");
                }
            }
        }
        if filesystem.driver.as_ref().and_then(|d| d.wrpolicy.as_deref()) == Some("immediate") {
            text += ",writeout=immediate";
        }
        let path = filesystem.source.as_ref().and_then(|s| s.dir.as_deref()).unwrap_or("");
        text += &format!(",id=fsdev-{alias},path={}", escape(path));
        if filesystem.read_only {
            text += ",readonly";
        }
        self.option("-fsdev", text);
        let options = filesystem.driver.as_ref().map(|d| d.virtio);
        let props = self
            .virtio("virtio-9p", filesystem.model, &filesystem.info, options)?
            .put("id", alias)
            .put("fsdev", format!("fsdev-{alias}"))
            .put("mount_tag", filesystem.target.as_ref().map_or("", |t| t.dir.as_str()));
        let props = self.place(props, &filesystem.info)?;
        self.device(props)
    }

    fn virtiofs(&mut self, filesystem: &Filesystem) -> Result<()> {
        let alias = filesystem.info.name();
        let own = filesystem.source.as_ref().and_then(|s| s.socket.clone());
        let path = own.unwrap_or_else(|| format!("{}/{alias}-fs.sock", self.settings.guest_folder));
        let name = format!("chr-vu-{alias}");
        self.option("-chardev", format!("socket,id={name},path={}", escape(&path)));
        let driver = filesystem.driver.as_ref();
        let props = self
            .virtio("vhost-user-fs", filesystem.model, &filesystem.info, driver.map(|d| d.virtio))?
            .put("id", alias)
            .put("chardev", name)
            .positive("queue-size", driver.and_then(|d| d.queue).unwrap_or(0))
            .put("tag", filesystem.target.as_ref().map_or("", |t| t.dir.as_str()))
            .positive("bootindex", filesystem.info.boot.as_ref().map_or(0, |b| b.order));
        let props = self.place(props, &filesystem.info)?;
        self.device(props)
    }

    pub(crate) fn shared_memory(&mut self) -> Result<()> {
        for shmem in &self.devices().shmem {
            let alias = shmem.info.name();
            let model = shmem.model.as_ref().map_or("ivshmem", |m| m.kind.as_str());
            let size = shmem.size.map_or(0, |s| s.0 << 20);
            if size != 0 && !size.is_power_of_two() {
                return Err(Error::xml("shmem size must be a power of two"));
            }
            if !matches!(shmem.info.address(), Some(Address::Pci(_))) {
                return Err(Error::unsupported(
                    "only 'pci' addresses are supported for the shared memory device",
                ));
            }
            let msi = shmem.msi.as_ref();
            let server = shmem.server.as_ref();
            let mut props = Props::device(model).put("id", alias);
            match model {
                "ivshmem-plain" => {
                    let memory = Props::object("memory-backend-file", format!("shmmem-{alias}"))
                        .put("mem-path", format!("/dev/shm/{}", shmem.name))
                        .put("size", size)
                        .put("share", true);
                    self.object(&memory);
                    let master = shmem.role.as_deref().map(|r| if r == "master" { "on" } else { "off" });
                    props = props.put("memdev", format!("shmmem-{alias}")).some("master", master);
                }
                "ivshmem-doorbell" => props = props.put("chardev", format!("char{alias}")),
                other => {
                    return Err(Error::unsupported(format!(
                        "shmem model '{other}' is not supported by this QEMU binary"
                    )));
                }
            }
            let props = props
                .positive("vectors", msi.and_then(|m| m.vectors).unwrap_or(0))
                .switch("ioeventfd", msi.and_then(|m| m.ioeventfd));
            let props = self.place(props, &shmem.info)?;
            self.device(props)?;
            if let Some(server) = server {
                let own = || format!("/var/lib/libvirt/shmem-{}-sock", shmem.name);
                let path = server.path.clone().unwrap_or_else(own);
                self.option("-chardev", format!("socket,id=char{alias},path={}", escape(&path)));
            }
        }
        Ok(())
    }

    pub(crate) fn vsock(&mut self) -> Result<()> {
        let Some(vsock) = &self.devices().vsock else { return Ok(()) };
        let alias = vsock.info.name();
        let (fd, found) = self.host.vhost_vsock(alias)?;
        let cid = vsock.cid.as_ref();
        let cid = cid.filter(|c| !yes(c.auto)).and_then(|c| c.address).unwrap_or(found);
        let props = self
            .virtio("vhost-vsock", vsock.model, &vsock.info, None)?
            .put("id", alias)
            .put("guest-cid", cid)
            .put("vhostfd", fd);
        let props = self.place(props, &vsock.info)?;
        self.device(props)
    }

    pub(crate) fn panics(&mut self) {
        for panic in &self.devices().panic {
            if panic.model.is_none_or(|m| m == PanicModel::Isa) {
                let mut props = Props::device("pvpanic");
                if let Some(Address::Isa(at)) = panic.info.address() {
                    props = props.put("ioport", at.iobase.map_or(0, |port| port.0));
                }
                self.option("-device", props.argument());
            }
        }
    }
}
