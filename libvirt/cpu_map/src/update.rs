//! What becomes of a guest's description: before it starts, when it runs, and for a hypervisor that lacks its model.

use crate::{Bits, Check, Cpu, CpuError, Kind, Map, Match, Mode, Offered, Policy, Result};

impl Map {
    /// Settles what depends on the host: `host-model`, `minimum`, optional features, features that models once had.
    ///
    /// # Errors
    /// The host is needed and not known; nobody knows a name.
    pub fn update(&self, guest: &mut Cpu, host: Option<&Cpu>) -> Result<()> {
        let relative = match guest.mode {
            Mode::HostPassthrough | Mode::Maximum => return Ok(()),
            Mode::HostModel => true,
            Mode::Custom => {
                guest.matching == Match::Minimum
                    || guest.features.iter().any(|f| f.policy == Some(Policy::Optional))
            }
        };
        if relative {
            let host = host.ok_or_else(|| CpuError::Unsupported("unknown host CPU model".to_owned()))?;
            let bits = self.bits_of(host)?;
            for feature in guest.features.iter_mut().filter(|f| f.policy == Some(Policy::Optional)) {
                let has = self.has(&bits, &feature.name)?;
                feature.policy = Some(if has { Policy::Require } else { Policy::Disable });
            }
            if guest.mode == Mode::HostModel || guest.matching == Match::Minimum {
                self.take_host_model(guest, host);
            }
        }
        let model = self.known_model(guest.model.as_deref().unwrap_or_default())?;
        self.disable_removed(guest, model);
        Ok(())
    }

    fn take_host_model(&self, guest: &mut Cpu, host: &Cpu) {
        let mut updated = host.clone();
        updated.vendor_id = guest.vendor_id.clone().or(updated.vendor_id);
        for feature in &mut updated.features {
            feature.policy = feature.policy.or(Some(Policy::Require));
        }
        for feature in &guest.features {
            updated.set_feature(&feature.name, feature.policy);
        }
        // A guest that names a model keeps its own maker.
        if guest.mode == Mode::Custom {
            updated.vendor.clone_from(&guest.vendor);
        }
        guest.take_model(updated);
        guest.mode = Mode::Custom;
        guest.matching = Match::Exact;
    }

    /// Takes into a running guest's description what the hypervisor switched on and off.
    ///
    /// # Errors
    /// Something differs although the description asks for a full check; nobody knows a name.
    pub fn update_live(&self, cpu: &mut Cpu, enabled: &Bits, disabled: &Bits) -> Result<()> {
        let passthrough = matches!(cpu.mode, Mode::HostPassthrough | Mode::Maximum);
        let expected = self.bits_of(cpu)?;
        let lacking = self.policy_bits(cpu, Some(Policy::Disable))?;
        let (mut extra, mut missing) = (Vec::new(), Vec::new());
        for feature in self.features() {
            let required = expected.contains(&feature.bits);
            let unwanted = !required && (!passthrough || lacking.contains(&feature.bits));
            if unwanted && enabled.contains(&feature.bits) {
                extra.push(feature.name);
            }
            if disabled.contains(&feature.bits) || required && !enabled.contains(&feature.bits) {
                missing.push(feature.name);
            }
        }
        if cpu.check == Check::Full {
            let lists: Vec<String> = [("extra", &extra), ("missing", &missing)]
                .into_iter()
                .filter(|(_, names)| !names.is_empty())
                .map(|(kind, names)| format!("{kind} features: {}", names.join(",")))
                .collect();
            if !lists.is_empty() {
                return Err(CpuError::Failed(format!(
                    "guest CPU doesn't match specification: {}",
                    lists.join(", ")
                )));
            }
            if !disabled.is_empty() {
                return Err(CpuError::Failed("guest CPU doesn't match specification".to_owned()));
            }
        }
        for name in extra {
            cpu.set_feature(name, Some(Policy::Require));
        }
        for name in missing {
            cpu.set_feature(name, Some(Policy::Disable));
        }
        if let Some(model) = cpu.model.as_deref().and_then(|name| self.model(name)) {
            self.disable_removed(cpu, model);
        }
        Ok(())
    }

    /// Replaces a model that the hypervisor does not offer by the nearest one that it does.
    ///
    /// # Errors
    /// It must not be replaced, no offered model fits, or nobody knows a name.
    pub fn translate(&self, cpu: &mut Cpu, offered: Option<&[Offered]>) -> Result<()> {
        let name = cpu.model.clone().unwrap_or_default();
        if cpu.mode != Mode::Custom || offered.is_none_or(|models| models.iter().any(|m| m.name == name)) {
            return Ok(());
        }
        if !cpu.fallback {
            return Err(CpuError::Unsupported(format!("CPU model {name} is not supported by hypervisor")));
        }
        let bits = self.identified_bits(cpu)?;
        let wanted = Cpu { features: Vec::new(), vendor: None, ..cpu.clone() };
        let mut translated = self.decode(&wanted, &bits, offered, &[])?;
        for feature in &cpu.features {
            translated.set_feature(&feature.name, feature.policy);
        }
        translated.vendor = cpu.vendor.take();
        *cpu = translated;
        Ok(())
    }

    /// Names the model's features too, and sorts all by name.
    ///
    /// # Errors
    /// Nobody knows the model.
    pub fn expand(&self, cpu: &mut Cpu) -> Result<()> {
        let name = cpu.model.clone().unwrap_or_default();
        let model =
            self.model(&name).ok_or_else(|| CpuError::Internal(format!("unknown CPU model {name}")))?;
        let host = cpu.kind == Kind::Host;
        let added = std::mem::take(&mut cpu.features);
        for feature in self.name_bits(&mut model.bits.clone()) {
            cpu.set_feature(feature.name, (!host).then_some(Policy::Require));
        }
        for feature in added {
            if host || matches!(feature.policy, Some(Policy::Require | Policy::Disable)) {
                cpu.set_feature(&feature.name, feature.policy);
            }
        }
        if !host {
            self.disable_removed(cpu, model);
        }
        cpu.features.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(())
    }

    /// Drops the features that keep a guest from moving to another host.
    #[must_use]
    pub fn migratable(&self, cpu: &Cpu) -> Cpu {
        let mut copy = cpu.clone();
        copy.features.retain(|f| self.feature(&f.name).is_none_or(|f| f.migratable));
        copy
    }
}
