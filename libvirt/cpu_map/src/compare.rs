//! Whether one processor can do what another one can.

use crate::{Bits, Cpu, Kind, Map, Match, Policy, Result};

/// What [`Map::compare`] found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Comparison {
    /// The host cannot do it; why, if there is more to say.
    Incompatible(Option<String>),
    /// The host can do just that.
    Identical,
    /// The host can do more.
    Superset,
}

impl Map {
    /// Whether `host` can do what `cpu` asks for. A host that is not known can do nothing.
    ///
    /// # Errors
    /// Nobody knows a model or a feature.
    pub fn compare(&self, host: Option<&Cpu>, cpu: &Cpu) -> Result<Comparison> {
        let Some(host) = host.filter(|h| h.model.is_some()) else {
            return Ok(Comparison::Incompatible(Some("unknown host CPU".to_owned())));
        };
        if let Some(arch) = cpu.arch.as_deref()
            && !matches!(arch, "x86_64" | "i686")
        {
            let text = format!("CPU arch {arch} does not match host arch");
            return Ok(Comparison::Incompatible(Some(text)));
        }
        if let Some(vendor) = &cpu.vendor
            && host.vendor.as_ref() != Some(vendor)
        {
            let text = format!("host CPU vendor does not match required CPU vendor {vendor}");
            return Ok(Comparison::Incompatible(Some(text)));
        }
        let host_bits = self.bits_of(host)?;
        let of = |policy| self.policy_bits(cpu, Some(policy));
        let (forced, mut required) = (of(Policy::Force)?, of(Policy::Require)?);
        let (optional, disabled, mut forbidden) =
            (of(Policy::Optional)?, of(Policy::Disable)?, of(Policy::Forbid)?);
        forbidden.intersect(&host_bits);
        if !forbidden.is_empty() {
            return Ok(self.refused("Host CPU provides forbidden features", forbidden));
        }
        // What the model has counts only as far as the features leave it alone.
        for bits in [&forced, &optional, &disabled] {
            required.subtract(bits);
        }
        if !host_bits.contains(&required) {
            required.subtract(&host_bits);
            return Ok(self.refused("Host CPU does not provide required features", required));
        }
        let mut more = host_bits;
        for bits in [&optional, &required, &disabled, &forced] {
            more.subtract(bits);
        }
        Ok(if more.is_empty() {
            Comparison::Identical
        } else if cpu.kind == Kind::Guest && cpu.matching == Match::Strict {
            self.refused("Host CPU does not strictly match guest CPU: Extra features", more)
        } else {
            Comparison::Superset
        })
    }

    fn refused(&self, why: &str, mut bits: Bits) -> Comparison {
        let names: Vec<_> = self.name_bits(&mut bits).iter().map(|f| f.name).collect();
        Comparison::Incompatible(Some(format!("{why}: {}", names.join(", "))))
    }
}
