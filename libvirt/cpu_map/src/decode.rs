//! From bits to names.

use crate::map::split_signature;
use crate::{Bits, Cpu, CpuError, Feature, Half, Kind, Map, Model, Named, Place, Policy, Result, Vendor};

/// Whether a hypervisor can run a model on this host.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Usable {
    /// It does not say.
    #[default]
    Unknown,
    /// It can.
    Yes,
    /// It cannot.
    No,
}

/// A model that a hypervisor offers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Offered {
    /// Its name.
    pub name: String,
    /// Whether this host can run it.
    pub usable: Usable,
    /// libvirt's names of the features that keep it from running.
    pub blockers: Vec<String>,
    /// Whether the hypervisor advises against it.
    pub deprecated: bool,
}

/// A description that competes for being the best.
struct Candidate<'a> {
    model: &'a Model,
    cpu: Cpu,
}

/// What the description's features cost, and of that what the ones taken away do.
///
/// A feature taken away costs 2, each further one more than the one before, but libvirt counts only the first half of
/// them so (rounded up) and the others like features that are added; the choice of models depends on it.
fn cost(cpu: &Cpu) -> (usize, usize) {
    let disabled = cpu.features.iter().filter(|f| f.policy == Some(Policy::Disable)).count();
    let counted = disabled.div_ceil(2);
    let penalty = counted * (counted + 3) / 2;
    (cpu.features.len() - counted + penalty, penalty)
}

impl Map {
    /// The model and features that describe `bits` best, for a processor like `wanted` (its kind and fallback count).
    ///
    /// `offered`: only these models; `preferred`: names to be used if they fit well.
    ///
    /// # Errors
    /// No model fits, or the only preferred one is not offered.
    pub fn decode(
        &self,
        wanted: &Cpu,
        bits: &Bits,
        offered: Option<&[Offered]>,
        preferred: &[&str],
    ) -> Result<Cpu> {
        let mut bits = bits.clone();
        let vendor = self.vendor_in(&bits);
        if let Some(vendor) = vendor {
            bits.subtract(&Vendor::id_bits(vendor.id));
        }
        // Reserved bits of the signature do not count.
        let signature = bits.get(Place::Cpuid(1, 0, Half::Eax)) & 0x0fff_3fff;
        self.drop_broken_tsx(&mut bits, vendor, signature);

        let mut best: Option<Candidate<'_>> = None;
        for model in self.models().iter().rev() {
            let offer = match offered {
                None => None,
                Some(offered) => match offered.iter().find(|o| o.name == model.name) {
                    Some(offer) => Some(offer),
                    None if preferred == [model.name] && !wanted.fallback => {
                        return Err(CpuError::Unsupported(format!(
                            "CPU model {} is not supported by hypervisor",
                            model.name
                        )));
                    }
                    None => continue,
                },
            };
            if let (Some(real), Some(named)) = (vendor, model.vendor)
                && real != named
            {
                continue;
            }
            if !(if wanted.kind == Kind::Host { model.for_host } else { model.for_guest }) {
                continue;
            }
            let Some(cpu) = self.describe(&bits, model, offer, wanted.kind) else { continue };
            if preferred == [model.name] {
                best = Some(Candidate { model, cpu });
                break;
            }
            let candidate = Candidate { model, cpu };
            let liked = preferred.contains(&model.name);
            if best.as_ref().is_none_or(|current| better(current, &candidate, signature, liked)) {
                best = Some(candidate);
            }
        }
        let found = best
            .ok_or_else(|| CpuError::Internal("Cannot find suitable CPU model for given data".to_owned()))?;
        let mut cpu = wanted.clone();
        cpu.model = found.cpu.model;
        cpu.features = found.cpu.features;
        if let Some(vendor) = vendor {
            cpu.vendor = Some(vendor.name.to_owned());
        }
        Ok(cpu)
    }

    /// `bits` as a model with features added and taken away. A host's model has nothing taken away: `None` then.
    fn describe(&self, bits: &Bits, model: &Model, offer: Option<&Offered>, kind: Kind) -> Option<Cpu> {
        let mut added = bits.clone();
        added.subtract(&model.bits);
        let mut missing = model.bits.clone();
        missing.subtract(bits);
        // The hypervisor's model of this name may have more than ours: what it lacks here must be taken away by name.
        for blocker in offer.iter().flat_map(|o| &o.blockers) {
            if let Some(feature) = self.feature(blocker)
                && !added.contains(&feature.bits)
            {
                missing.add(&feature.bits);
            }
        }
        let mut cpu = Cpu { kind, model: Some(model.name.to_owned()), ..Cpu::default() };
        let missing = self.name_bits(&mut missing);
        if kind == Kind::Host && !missing.is_empty() {
            return None;
        }
        let added = self.name_bits(&mut added);
        if kind == Kind::Host {
            cpu.features.extend(added.iter().map(|f| Feature { name: f.name.to_owned(), policy: None }));
            return Some(cpu);
        }
        for (features, policy) in [(added, Policy::Require), (missing, Policy::Disable)] {
            cpu.features
                .extend(features.iter().map(|f| Feature { name: f.name.to_owned(), policy: Some(policy) }));
        }
        self.disable_removed(&mut cpu, model);
        Some(cpu)
    }

    /// The features that are whole in `bits`, whose bits are taken away.
    pub(crate) fn name_bits(&self, bits: &mut Bits) -> Vec<&Named> {
        let mut found = Vec::new();
        for feature in self.features() {
            if bits.is_empty() {
                break;
            }
            if bits.contains(&feature.bits) {
                bits.subtract(&feature.bits);
                found.push(feature);
            }
        }
        found
    }

    /// Says explicitly that a guest lacks what the model once had.
    pub(crate) fn disable_removed(&self, cpu: &mut Cpu, model: &Model) {
        for name in &model.removed {
            cpu.set_feature_if_missing(name, Policy::Disable);
        }
    }

    /// Early Haswells say that they have transactional memory; microcode has switched it off.
    fn drop_broken_tsx(&self, bits: &mut Bits, vendor: Option<&Vendor>, signature: u32) {
        let (family, model, stepping) = split_signature(signature);
        let broken =
            matches!((family, model), (6, 60 | 69 | 70)) || (family, model) == (6, 63) && stepping < 4;
        if broken && vendor.is_some_and(|v| v.name == "Intel") {
            for feature in ["hle", "rtm"].iter().filter_map(|name| self.feature(name)) {
                bits.subtract(&feature.bits);
            }
        }
    }
}

/// Whether the candidate describes the processor with this signature better than the current best.
fn better(current: &Candidate<'_>, candidate: &Candidate<'_>, signature: u32, liked: bool) -> bool {
    if signature != 0 {
        match (current.model.fits(signature), candidate.model.fits(signature)) {
            (true, false) => return false,
            (false, true) => return true,
            _ => {}
        }
    }
    let ((now, now_disabled), (new, new_disabled)) = (cost(&current.cpu), cost(&candidate.cpu));
    new < now || (new == now || liked) && new_disabled < now_disabled
}
