//! What several processors have in common.

use crate::{Bits, Cpu, CpuError, Map, Offered, Result, Vendor};

impl Map {
    /// The best processor that all of `cpus` can run; with `features`, only these; with `migratable`, only features
    /// that guests can keep when they move.
    ///
    /// # Errors
    /// There is none, a description has no model, or nobody knows a name.
    pub fn baseline(
        &self,
        cpus: &[Cpu],
        offered: Option<&[Offered]>,
        features: Option<&[String]>,
        migratable: bool,
    ) -> Result<Cpu> {
        let Some(first) = cpus.first() else {
            return Err(CpuError::Argument("no CPUs given".to_owned()));
        };
        let mut names: Vec<&str> = Vec::new();
        for (index, cpu) in cpus.iter().enumerate() {
            let Some(model) = cpu.model.as_deref() else {
                return Err(CpuError::Argument(format!("no CPU model specified at index {index}")));
            };
            if !names.contains(&model) {
                names.push(model);
            }
        }
        let mut common = self.bits_of(first)?;
        let mut vendor = first.vendor.as_deref().map(|name| self.known_vendor(name)).transpose()?;
        for cpu in &cpus[1..] {
            let bits = self.bits_of(cpu)?;
            let named = cpu.model.as_deref().and_then(|m| self.model(m)).and_then(|m| m.vendor);
            if let (Some(said), Some(named)) = (&cpu.vendor, named)
                && said != named.name
            {
                return Err(CpuError::Failed(format!(
                    "CPU vendor {} of model {} differs from vendor {said}",
                    named.name,
                    cpu.model.as_deref().unwrap_or_default()
                )));
            }
            if let Some(name) = cpu.vendor.as_deref().or(named.map(|v| v.name)) {
                match vendor {
                    None => vendor = Some(self.known_vendor(name)?),
                    Some(vendor) if vendor.name != name => {
                        return Err(CpuError::Failed("CPU vendors do not match".to_owned()));
                    }
                    Some(_) => {}
                }
            }
            common.intersect(&bits);
        }
        if let Some(features) = features {
            let mut allowed = Bits::default();
            for feature in features.iter().filter_map(|name| self.feature(name)) {
                allowed.add(&feature.bits);
            }
            common.intersect(&allowed);
        }
        if common.is_empty() {
            return Err(CpuError::Failed("CPUs are incompatible".to_owned()));
        }
        if let Some(vendor) = vendor {
            common.add(&Vendor::id_bits(vendor.id));
        }
        let wanted = Cpu { fallback: true, ..Cpu::default() };
        let mut cpu = self.decode(&wanted, &common, offered, &names)?;
        if migratable {
            cpu.features.retain(|f| self.feature(&f.name).is_some_and(|f| f.migratable));
        }
        if names.len() == 1 && cpu.model.as_deref() == Some(names[0]) {
            cpu.fallback = false;
        }
        if cpus.iter().any(|cpu| cpu.vendor.is_none()) {
            cpu.vendor = None;
        }
        Ok(cpu)
    }

    fn known_vendor(&self, name: &str) -> Result<&'static Vendor> {
        self.vendor(name).ok_or_else(|| CpuError::Failed(format!("Unknown CPU vendor {name}")))
    }
}
