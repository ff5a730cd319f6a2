//! The machine, what executes it, its processors' number and its power management.

use crate::command::Builder;
use crate::props::escape;
use crate::{Error, Props, Result};
use domain_xml::DomainType;
use domain_xml::clock::TimerName;
use domain_xml::features::IoApicDriver;
use domain_xml::memory::MemoryModel;
use domain_xml::os::{Loader, LoaderType};
use domain_xml::source::{Protocol, Source, SourceType};
use domain_xml::words::{OnOff, YesNo, on};

/// `yes` and `no` as the emulator's options say it.
pub(crate) fn on_off(value: YesNo) -> &'static str {
    if value == YesNo::Yes { "on" } else { "off" }
}

impl Builder<'_> {
    /// The firmware's code and variables as block devices.
    pub(crate) fn firmware(&mut self) -> Result<()> {
        let os = &self.domain.os;
        let Some(loader) = os.loader.as_ref().filter(|l| is_flash(l)) else { return Ok(()) };
        if let Some(path) = &loader.path {
            let read_only = loader.read_only == Some(YesNo::Yes);
            self.flash(0, &crate::block::file_props(path), read_only);
        }
        if let Some(nvram) = &os.nvram {
            let props = match (&nvram.source, &nvram.path) {
                (Some(source), _) => self.flash_source(nvram.kind.unwrap_or_default(), source)?,
                (None, Some(path)) => crate::block::file_props(path),
                (None, None) => return Ok(()),
            };
            self.flash(1, &props, false);
        }
        if self.settings.fips && self.has("enable-fips") {
            self.flag("-enable-fips");
        }
        Ok(())
    }

    /// The storage of variables that are not in a file.
    fn flash_source(&mut self, kind: SourceType, source: &Source) -> Result<Props> {
        let Some(auth) = source.auth.as_ref().filter(|_| source.protocol == Some(Protocol::Iscsi)) else {
            return self.storage_props(kind, source, None);
        };
        let name = "libvirt-pflash1-storage-auth-secret0";
        if let Some(secret) = &auth.secret {
            self.secret_object(name, secret)?;
        }
        let props = Props::default().put("driver", "iscsi");
        crate::block::iscsi(props, source, Some(auth.username.clone()), Some(name.to_owned()))
    }

    fn flash(&mut self, number: u32, storage: &Props, read_only: bool) {
        let name = |part: &str| format!("libvirt-pflash{number}-{part}");
        let storage = storage
            .clone()
            .put("node-name", name("storage"))
            .put("auto-read-only", true)
            .put("discard", "unmap");
        self.option("-blockdev", storage.argument());
        let format = Props::default()
            .put("node-name", name("format"))
            .put("read-only", read_only)
            .put("driver", "raw")
            .put("file", name("storage"));
        self.option("-blockdev", format.argument());
    }

    /// `-machine`, `-accel`, and the size of the memory for system management.
    pub(crate) fn machine(&mut self) -> Result<()> {
        let domain = self.domain;
        let mut text = format!("{},usb=off", domain.machine());
        let features = domain.features.as_ref();
        let state = |state: Option<&domain_xml::features::State>| state.map(|s| s.state.unwrap_or(OnOff::On));
        if let Some(vmport) = state(features.and_then(|f| f.vmport.as_ref())) {
            text += &format!(",vmport={}", Self::switch_word(vmport));
        }
        if let Some(smm) = features.and_then(|f| f.smm.as_ref()) {
            text += &format!(",smm={}", smm.state.unwrap_or(OnOff::On));
        }
        if let Some(ioapic) = features.and_then(|f| f.ioapic.as_ref()) {
            text += match ioapic.driver {
                IoApicDriver::Qemu => ",kernel_irqchip=split",
                IoApicDriver::Kvm => ",kernel_irqchip=on",
            };
        }
        self.machine_memory(&mut text);
        if domain.launch_security.is_some() {
            text += if self.has("confidential-guest-support") {
                ",confidential-guest-support=lsec0"
            } else {
                ",memory-encryption=lsec0"
            };
        }
        let os = &domain.os;
        if let Some(loader) = os.loader.as_ref().filter(|l| is_flash(l)) {
            if loader.path.is_some() {
                text += ",pflash0=libvirt-pflash0-format";
            }
            if os.nvram.is_some() {
                text += ",pflash1=libvirt-pflash1-format";
            }
        }
        if crate::numa::has_hmat(domain) {
            text += ",hmat=on";
        }
        if os.bios.as_ref().is_some_and(|b| b.useserial == Some(YesNo::Yes)) {
            text += ",graphics=off";
        }
        let timer = |name| domain.clock.as_ref().and_then(|clock| clock.timer(name));
        if self.has("machine-hpet")
            && let Some(present) = timer(TimerName::Hpet).and_then(|t| t.present)
        {
            text += &format!(",hpet={}", on_off(present));
        }
        if self.lacks_acpi() && !self.has("no-acpi") {
            text += ",acpi=off";
        }
        self.option("-machine", text);
        self.accelerator()?;
        if let Some(tseg) = features.and_then(|f| f.smm.as_ref()).and_then(|smm| smm.tseg) {
            self.option("-global", format!("mch.extended-tseg-mbytes={}", tseg.0));
        }
        Ok(())
    }

    fn machine_memory(&self, text: &mut String) {
        let dump = self.domain.memory.dump_core;
        let dump = dump.unwrap_or(self.settings.dump_guest_core.into());
        *text += &format!(",dump-guest-core={dump}");
        if self.domain.memory_backing.as_ref().is_some_and(|b| b.nosharepages) {
            *text += ",mem-merge=off";
        }
        let modules = &self.devices().memory;
        if modules.iter().any(|m| m.model == MemoryModel::Nvdimm) {
            *text += ",nvdimm=on";
        }
        for (n, module) in modules.iter().filter(|m| m.model == MemoryModel::SgxEpc).enumerate() {
            use domain_xml::address::HasInfo as _;
            let (name, node) = (module.info.name(), module.node().unwrap_or(0));
            *text += &format!(",sgx-epc.{n}.memdev=mem{name},sgx-epc.{n}.node={node}");
        }
        if self.cells().is_empty()
            && let Some(id) = self.default_ram()
        {
            *text += &format!(",memory-backend={id}");
        }
    }

    fn accelerator(&mut self) -> Result<()> {
        let features = self.domain.features.as_ref();
        let text = match self.domain.kind {
            DomainType::Qemu => {
                let cache = features.and_then(|f| f.tcg.as_ref()).and_then(|tcg| tcg.tb_cache);
                cache.map_or_else(|| "tcg".to_owned(), |cache| format!("tcg,tb-size={}", cache.0 >> 10))
            }
            DomainType::Kvm => {
                let ring = features.and_then(|f| f.kvm.as_ref()).and_then(|kvm| kvm.dirty_ring.as_ref());
                match ring.filter(|ring| ring.state == OnOff::On).and_then(|ring| ring.size) {
                    Some(size) => format!("kvm,dirty-ring-size={size}"),
                    None => "kvm".to_owned(),
                }
            }
            other => {
                return Err(Error::unsupported(format!(
                    "Emulator '{}' does not support virt type '{other}'",
                    self.devices().emulator.as_deref().unwrap_or("")
                )));
            }
        };
        self.option("-accel", text);
        Ok(())
    }

    /// Firmware that is no flash, and whether flash is protected.
    pub(crate) fn loader(&mut self) {
        let Some(loader) = &self.domain.os.loader else { return };
        if is_flash(loader) {
            if loader.secure == Some(YesNo::Yes) {
                self.option("-global", "driver=cfi.pflash01,property=secure,value=on");
            }
        } else if let Some(path) = &loader.path {
            self.option("-bios", path.clone());
        }
    }

    /// `-smp`.
    pub(crate) fn processors(&mut self) -> Result<()> {
        let most = self.domain.vcpu.as_ref().map_or(1, |v| v.count);
        let states = self.domain.vcpus.iter().flat_map(|v| &v.vcpu);
        let mut now = self.domain.vcpu.as_ref().and_then(|v| v.current).unwrap_or(most);
        let (mut known, mut fixed) = (0, 0);
        for state in states {
            known += 1;
            fixed += u32::from(state.enabled == YesNo::Yes && state.hotpluggable != Some(YesNo::Yes));
        }
        if known > 0 {
            now = fixed;
        }
        let mut text = now.to_string();
        if now != most {
            text += &format!(",maxcpus={most}");
        }
        match self.domain.cpu.as_ref().and_then(|cpu| cpu.topology.as_ref()) {
            Some(topology) => {
                let dies = topology.dies.unwrap_or(1);
                if dies != 1 && !self.has("smp-dies") {
                    return Err(Error::unsupported("Only 1 die per socket is supported"));
                }
                text += &format!(",sockets={}", topology.sockets);
                if self.has("smp-dies") {
                    text += &format!(",dies={dies}");
                }
                text += &format!(",cores={},threads={}", topology.cores, topology.threads);
            }
            None => text += &format!(",sockets={most},cores=1,threads=1"),
        }
        self.option("-smp", text);
        Ok(())
    }

    /// Threads of their own for devices' work.
    pub(crate) fn threads(&mut self) {
        let pool = |props: Props, min: Option<i32>, max: Option<i32>| {
            let set = |n: Option<i32>| n.and_then(|n| u32::try_from(n).ok());
            props.some("thread-pool-min", set(min)).some("thread-pool-max", set(max))
        };
        let mut ids: Vec<(u32, Option<i32>, Option<i32>)> = Vec::new();
        for thread in self.domain.iothreadids.iter().flat_map(|ids| &ids.iothread) {
            ids.push((thread.id, thread.thread_pool_min, thread.thread_pool_max));
        }
        // Those without a number get the free ones.
        let mut next = 1;
        while (ids.len() as u32) < self.domain.iothreads.unwrap_or(0) {
            if !ids.iter().any(|(id, ..)| *id == next) {
                ids.push((next, None, None));
            }
            next += 1;
        }
        for (id, min, max) in ids {
            self.object(&pool(Props::object("iothread", format!("iothread{id}")), min, max));
        }
        if let Some(default) = &self.domain.defaultiothread {
            let props = Props::object("main-loop", "main-loop");
            self.object(&pool(props, default.thread_pool_min, default.thread_pool_max));
        }
    }

    /// What happens at shutdown and in sleep.
    pub(crate) fn power(&mut self) {
        self.flag("-no-shutdown");
        if self.lacks_acpi() && self.has("no-acpi") {
            self.flag("-no-acpi");
        }
        let Some(pm) = &self.domain.pm else { return };
        for (state, name) in [(&pm.suspend_to_mem, "s3"), (&pm.suspend_to_disk, "s4")] {
            if let Some(state) = state {
                let ours = self.is_q35() && self.has(&format!("ich9-disable-{name}"));
                let device = if ours { "ICH9-LPC" } else { "PIIX4_PM" };
                let off = u8::from(state.enabled == YesNo::No);
                self.option("-global", format!("{device}.disable_{name}={off}"));
            }
        }
    }

    fn lacks_acpi(&self) -> bool {
        !self.domain.features.as_ref().is_some_and(|f| f.acpi)
    }

    /// A device that tells where the guest's kernel has its data for dumps.
    pub(crate) fn core_info(&mut self) {
        let feature = self.domain.features.as_ref().and_then(|f| f.vmcoreinfo.as_ref());
        if feature.is_some_and(|f| on(f.state.or(Some(OnOff::On)))) {
            self.option("-device", Props::device("vmcoreinfo").argument());
        }
    }

    /// Memory that the host cannot read.
    pub(crate) fn launch_security(&mut self) -> Result<()> {
        let Some(security) = &self.domain.launch_security else { return Ok(()) };
        if security.kind != "sev" {
            return Err(Error::unsupported(format!(
                "launchSecurity type '{}' is not supported",
                security.kind
            )));
        }
        let file =
            |name: &str, there: bool| there.then(|| format!("{}/{name}.base64", self.settings.guest_folder));
        let props = Props::object("sev-guest", "lsec0")
            .put("cbitpos", security.cbitpos.unwrap_or(0))
            .put("reduced-phys-bits", security.reduced_phys_bits.unwrap_or(0))
            .put("policy", security.policy.map_or(0, |p| p.0))
            .some("dh-cert-file", file("dh_cert", security.dh_cert.is_some()))
            .some("session-file", file("session", security.session.is_some()))
            .answer("kernel-hashes", security.kernel_hashes);
        self.object(&props);
        Ok(())
    }

    /// Entries of the firmware's configuration that the domain gives.
    pub(crate) fn firmware_config(&mut self) {
        let domain = self.domain;
        for sysinfo in domain.sysinfo.iter().filter(|s| s.kind == "fwcfg") {
            for entry in &sysinfo.entry {
                let name = entry.name.as_deref().unwrap_or("");
                let value = match (&entry.value, &entry.file) {
                    (Some(value), _) => format!(",string={}", escape(value)),
                    (None, Some(file)) => format!(",file={}", escape(file)),
                    (None, None) => String::new(),
                };
                self.option("-fw_cfg", format!("name={name}{value}"));
            }
        }
    }
}

fn is_flash(loader: &Loader) -> bool {
    loader.kind == Some(LoaderType::Pflash)
}
