//! `-cpu`.

use crate::command::Builder;
use crate::machine::on_off;
use crate::{Error, Result};
use domain_xml::clock::TimerName;
use domain_xml::cpu::{Cpu, CpuCacheMode, CpuMode, FeaturePolicy, MaxPhysAddrMode};
use domain_xml::features::{Hyperv, HypervMode, HypervState};
use domain_xml::misc::PanicModel;
use domain_xml::words::{OnOff, YesNo};
use std::fmt::Write as _;

impl Builder<'_> {
    pub(crate) fn cpu(&mut self) -> Result<()> {
        let mut model = None;
        if let Some(cpu) = &self.domain.cpu {
            let named = cpu.model.as_ref().and_then(|m| m.name.as_deref());
            if named.is_some() || cpu.mode.is_some_and(|mode| mode != CpuMode::Custom) {
                model = Some(self.cpu_model(cpu)?);
            }
        }
        let arch = self.domain.os.kind.as_ref().and_then(|k| k.arch.as_deref());
        let narrow = arch == Some("i686");
        if model.is_none() && narrow && self.devices().emulator.as_ref().is_some_and(|e| e.contains("x86_64"))
        {
            model = Some("qemu32".to_owned());
        }
        let flags = self.cpu_flags();
        if !flags.is_empty() && model.is_none() {
            model = Some(if narrow { "qemu32" } else { "qemu64" }.to_owned());
        }
        if let Some(model) = model {
            self.option("-cpu", model + &flags);
        }
        Ok(())
    }

    fn cpu_model(&self, cpu: &Cpu) -> Result<String> {
        let mut text = match cpu.mode.unwrap_or_default() {
            mode @ (CpuMode::HostPassthrough | CpuMode::Maximum) => {
                let mut text = if mode == CpuMode::Maximum { "max" } else { "host" }.to_owned();
                if self.has("cpu.migratable")
                    && let Some(migratable) = cpu.migratable
                {
                    let _ = write!(text, ",migratable={migratable}");
                }
                text
            }
            CpuMode::HostModel => {
                return Err(Error::internal("unexpected host-model CPU for x86_64 architecture"));
            }
            CpuMode::Custom => cpu.model.as_ref().and_then(|m| m.name.clone()).unwrap_or_default(),
        };
        if let Some(vendor) = cpu.model.as_ref().and_then(|m| m.vendor_id.as_ref()) {
            let _ = write!(text, ",vendor={vendor}");
        }
        for feature in &cpu.feature {
            let state = match feature.policy.unwrap_or(FeaturePolicy::Require) {
                FeaturePolicy::Force | FeaturePolicy::Require => "on",
                FeaturePolicy::Disable | FeaturePolicy::Forbid => "off",
                FeaturePolicy::Optional => continue,
            };
            let _ = write!(text, ",{}={state}", cpu_map::qemu_name(&feature.name));
        }
        Ok(text)
    }

    fn cpu_flags(&self) -> String {
        let mut text = String::new();
        let domain = self.domain;
        for timer in domain.clock.iter().flat_map(|clock| &clock.timer) {
            match timer.name {
                TimerName::KvmClock => {
                    if let Some(present) = timer.present {
                        let _ = write!(text, ",kvmclock={}", on_off(present));
                    }
                }
                TimerName::HypervClock if timer.present == Some(YesNo::Yes) => text += ",hv-time=on",
                TimerName::Tsc => {
                    if let Some(frequency) = timer.frequency.filter(|f| *f > 0) {
                        let _ = write!(text, ",tsc-frequency={frequency}");
                    }
                }
                _ => {}
            }
        }
        let features = domain.features.as_ref();
        if let Some(eoi) = features.and_then(|f| f.apic.as_ref()).and_then(|apic| apic.eoi) {
            let _ = write!(text, ",kvm-pv-eoi={eoi}");
        }
        if let Some(state) = features.and_then(|f| f.pvspinlock.as_ref()) {
            let _ = write!(text, ",kvm-pv-unhalt={}", state.state.unwrap_or(OnOff::On));
        }
        if let Some(hyperv) = features.and_then(|f| f.hyperv.as_ref()) {
            hyperv_flags(&mut text, hyperv);
        }
        if self.devices().panic.iter().any(|p| p.model == Some(PanicModel::Hyperv)) {
            text += ",hv-crash";
        }
        if let Some(kvm) = features.and_then(|f| f.kvm.as_ref()) {
            let is = |state: &Option<HypervState>, wanted| state.as_ref().is_some_and(|s| s.state == wanted);
            for (state, wanted, flag) in [
                (&kvm.hidden, OnOff::On, ",kvm=off"),
                (&kvm.hint_dedicated, OnOff::On, ",kvm-hint-dedicated=on"),
                (&kvm.poll_control, OnOff::On, ",kvm-poll-control=on"),
                (&kvm.pv_ipi, OnOff::Off, ",kvm-pv-ipi=off"),
            ] {
                if is(state, wanted) {
                    text += flag;
                }
            }
        }
        if let Some(pmu) = features.and_then(|f| f.pmu.as_ref()) {
            let _ = write!(text, ",pmu={}", pmu.state.unwrap_or(OnOff::On));
        }
        if let Some(cpu) = &domain.cpu {
            self.cache_flags(&mut text, cpu);
            if let Some(address) = &cpu.maxphysaddr {
                match address.mode {
                    MaxPhysAddrMode::Passthrough => {
                        text += ",host-phys-bits=on";
                        if let Some(limit) = address.limit {
                            let _ = write!(text, ",host-phys-bits-limit={limit}");
                        }
                    }
                    MaxPhysAddrMode::Emulate => {
                        let _ = write!(text, ",phys-bits={}", address.bits.unwrap_or(0));
                    }
                }
            }
        }
        text
    }

    fn cache_flags(&self, text: &mut String, cpu: &Cpu) {
        let Some(cache) = &cpu.cache else { return };
        let (host_off, l3_off) = match cache.mode {
            CpuCacheMode::Emulate => {
                *text += ",l3-cache=on";
                (true, false)
            }
            CpuCacheMode::Passthrough => {
                *text += ",host-cache-info=on";
                (false, true)
            }
            CpuCacheMode::Disable => (true, true),
        };
        let as_host = matches!(cpu.mode, Some(CpuMode::HostPassthrough | CpuMode::Maximum));
        if host_off && as_host && self.has("cpu-cache") {
            *text += ",host-cache-info=off";
        }
        if l3_off && self.has("cpu-cache") {
            *text += ",l3-cache=off";
        }
    }
}

fn hyperv_flags(text: &mut String, hyperv: &Hyperv) {
    if hyperv.mode == HypervMode::Passthrough {
        *text += ",hv-passthrough=on";
    }
    let mut flag = |name: &str, state: &Option<HypervState>| {
        if state.as_ref().is_some_and(|s| s.state == OnOff::On) {
            let _ = write!(text, ",hv-{name}=on");
        }
    };
    flag("relaxed", &hyperv.relaxed);
    flag("vapic", &hyperv.vapic);
    if let Some(spinlocks) = hyperv.spinlocks.as_ref().filter(|s| s.state == OnOff::On) {
        let _ = write!(text, ",hv-spinlocks={:#x}", spinlocks.retries.unwrap_or(0));
    }
    let mut flag = |name: &str, state: &Option<HypervState>| {
        if state.as_ref().is_some_and(|s| s.state == OnOff::On) {
            let _ = write!(text, ",hv-{name}=on");
        }
    };
    flag("vpindex", &hyperv.vpindex);
    flag("runtime", &hyperv.runtime);
    flag("synic", &hyperv.synic);
    if let Some(stimer) = hyperv.stimer.as_ref().filter(|s| s.state == OnOff::On) {
        *text += ",hv-stimer=on";
        if stimer.direct.as_ref().is_some_and(|d| d.state == OnOff::On) {
            *text += ",hv-stimer-direct=on";
        }
    }
    if hyperv.reset.as_ref().is_some_and(|s| s.state == OnOff::On) {
        *text += ",hv-reset=on";
    }
    if let Some(vendor) = hyperv.vendor_id.as_ref().filter(|v| v.state == OnOff::On) {
        let _ = write!(text, ",hv-vendor-id={}", vendor.value.as_deref().unwrap_or(""));
    }
    for (name, state) in [
        ("frequencies", &hyperv.frequencies),
        ("reenlightenment", &hyperv.reenlightenment),
        ("tlbflush", &hyperv.tlbflush),
        ("ipi", &hyperv.ipi),
        ("evmcs", &hyperv.evmcs),
        ("avic", &hyperv.avic),
    ] {
        if state.as_ref().is_some_and(|s| s.state == OnOff::On) {
            let _ = write!(text, ",hv-{name}=on");
        }
    }
}
