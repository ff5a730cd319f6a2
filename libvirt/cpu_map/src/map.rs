//! The tables of features and models.

use crate::{Bits, Cpu, CpuError, Feature, Half, Kind, Place, Policy, Result};
use std::collections::HashMap;
use std::ops::RangeInclusive;
use std::sync::LazyLock;

const FEATURES: &str = include_str!("../data/features.tsv");
const MODELS: &str = include_str!("../data/models.tsv");

/// A maker of processors.
#[derive(Debug, PartialEq, Eq)]
pub struct Vendor {
    /// libvirt's name.
    pub name: &'static str,
    /// What CPUID leaf 0 says in EBX, EDX, ECX.
    pub id: &'static [u8; 12],
}

/// All makers known.
static VENDORS: [Vendor; 3] = [
    Vendor { name: "Intel", id: b"GenuineIntel" },
    Vendor { name: "AMD", id: b"AuthenticAMD" },
    Vendor { name: "Hygon", id: b"HygonGenuine" },
];

impl Vendor {
    /// The bits of an identification of 12 characters.
    pub(crate) fn id_bits(id: &[u8; 12]) -> Bits {
        let word = |at: usize| u32::from_le_bytes([id[at], id[at + 1], id[at + 2], id[at + 3]]);
        let mut bits = Bits::default();
        bits.set_leaf(0, 0, [0, word(0), word(8), word(4)]);
        bits
    }

    fn bits(&self) -> Bits {
        Self::id_bits(self.id)
    }
}

/// A feature with its bits.
#[derive(Debug)]
pub struct Named {
    /// libvirt's name.
    pub name: &'static str,
    /// One bit or a few.
    pub bits: Bits,
    /// Whether a guest that has it can be moved to another host.
    pub migratable: bool,
    /// Other names that QEMU has for it.
    pub aliases: Vec<&'static str>,
}

/// Family, model and steppings that CPUID leaf 1 says in EAX.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Signature {
    /// With the extended family added.
    pub family: u32,
    /// With the extended model above it.
    pub model: u32,
    /// `None`: any.
    pub steppings: Option<RangeInclusive<u32>>,
}

impl Signature {
    /// Whether the processor that says `eax` has it.
    fn matches(&self, eax: u32) -> bool {
        let (family, model, stepping) = split_signature(eax);
        self.family == family
            && self.model == model
            && self.steppings.as_ref().is_none_or(|range| range.contains(&stepping))
    }
}

/// Family, model and stepping of leaf 1's EAX.
pub(crate) fn split_signature(eax: u32) -> (u32, u32, u32) {
    ((eax >> 20 & 0xff) + (eax >> 8 & 0xf), (eax >> 12 & 0xf0) + (eax >> 4 & 0xf), eax & 0xf)
}

/// Leaf 1's EAX of a family, model and stepping.
fn join_signature(family: u32, model: u32, stepping: u32) -> u32 {
    let (extended, family) = if family > 0xf { (family - 0xf, 0xf) } else { (0, family) };
    extended << 20 | (model >> 4) << 16 | family << 8 | (model & 0xf) << 4 | stepping & 0xf
}

/// A named model.
#[derive(Debug)]
pub struct Model {
    /// Its name.
    pub name: &'static str,
    /// Its maker, if it has one.
    pub vendor: Option<&'static Vendor>,
    /// Whether a host's processor may be described by it.
    pub for_host: bool,
    /// Whether a guest's processor may be described by it.
    pub for_guest: bool,
    /// The real processors that it is named after.
    pub signatures: Vec<Signature>,
    /// The bits of its features.
    pub bits: Bits,
    /// Features that it once had; guests say explicitly that they lack them.
    pub removed: Vec<&'static str>,
}

impl Model {
    /// Whether the processor whose leaf 1 says `eax` is one of those that the model is named after.
    pub(crate) fn fits(&self, eax: u32) -> bool {
        self.signatures.iter().any(|signature| signature.matches(eax))
    }
}

/// Features and models by name.
#[derive(Debug)]
pub struct Map {
    features: Vec<Named>,
    models: Vec<Model>,
    by_name: HashMap<&'static str, usize>,
    by_alias: HashMap<&'static str, usize>,
}

static MAP: LazyLock<Map> = LazyLock::new(|| Map::from_tables(FEATURES, MODELS).expect("data/*.tsv"));

fn rows(table: &'static str) -> impl Iterator<Item = Vec<&'static str>> {
    table.lines().filter(|line| !line.starts_with('#')).map(|line| line.split('\t').collect())
}

fn words(cell: &'static str) -> impl Iterator<Item = &'static str> {
    cell.split(' ').filter(|word| !matches!(*word, "-" | ""))
}

/// Reads `leaf.subleaf.register:bits` or `msr.index.half:bits`.
fn place(text: &str) -> Option<(Place, u32)> {
    let number = |digits: &str| u32::from_str_radix(digits, 16).ok();
    let (at, bits) = text.split_once(':')?;
    let mut parts = at.split('.');
    let (first, second, half) = (parts.next()?, number(parts.next()?)?, Half::named(parts.next()?)?);
    let place =
        if first == "msr" { Place::Msr(second, half) } else { Place::Cpuid(number(first)?, second, half) };
    Some((place, number(bits)?))
}

/// Reads `family.model` or `family.model.first-last`.
fn signature(text: &str) -> Option<Signature> {
    let mut parts = text.split('.');
    let (family, model) = (parts.next()?.parse().ok()?, parts.next()?.parse().ok()?);
    let steppings = match parts.next() {
        None => None,
        Some(range) => {
            let (first, last) = range.split_once('-').unwrap_or((range, range));
            Some(first.parse().ok()?..=last.parse().ok()?)
        }
    };
    Some(Signature { family, model, steppings })
}

impl Map {
    /// The tables that are built in.
    #[must_use]
    pub fn get() -> &'static Self {
        &MAP
    }

    fn from_tables(features: &'static str, models: &'static str) -> Option<Self> {
        let mut map = Self {
            features: Vec::new(),
            models: Vec::new(),
            by_name: HashMap::new(),
            by_alias: HashMap::new(),
        };
        for row in rows(features) {
            let [name, places, migratable, aliases] = row[..] else { return None };
            let mut bits = Bits::default();
            for text in words(places) {
                let (place, word) = place(text)?;
                bits.set(place, word);
            }
            map.by_name.insert(name, map.features.len());
            let aliases: Vec<_> = words(aliases).collect();
            for alias in &aliases {
                map.by_alias.entry(alias).or_insert(map.features.len());
            }
            map.features.push(Named { name, bits, migratable: migratable != "no", aliases });
        }
        for row in rows(models) {
            let [name, vendor, uses, signatures, features, removed] = row[..] else { return None };
            let mut bits = Bits::default();
            for feature in words(features) {
                bits.add(&map.feature(feature)?.bits);
            }
            map.models.push(Model {
                name,
                vendor: VENDORS.iter().find(|v| v.name == vendor),
                for_host: uses.split(',').any(|u| u == "host"),
                for_guest: uses.split(',').any(|u| u == "guest"),
                signatures: words(signatures).map(signature).collect::<Option<_>>()?,
                bits,
                removed: words(removed).collect(),
            });
        }
        Some(map)
    }

    /// All features, in the order in which they are listed.
    #[must_use]
    pub fn features(&self) -> &[Named] {
        &self.features
    }

    /// All models, oldest first.
    #[must_use]
    pub fn models(&self) -> &[Model] {
        &self.models
    }

    /// A feature by libvirt's name.
    #[must_use]
    pub fn feature(&self, name: &str) -> Option<&Named> {
        self.by_name.get(name).map(|at| &self.features[*at])
    }

    /// A feature by any name that QEMU has for it.
    #[must_use]
    pub fn feature_of_qemu(&self, name: &str) -> Option<&Named> {
        self.by_alias.get(name).map(|at| &self.features[*at]).or_else(|| self.feature(name))
    }

    /// A model by name.
    #[must_use]
    pub fn model(&self, name: &str) -> Option<&Model> {
        self.models.iter().find(|m| m.name == name)
    }

    /// A maker by libvirt's name.
    #[must_use]
    pub fn vendor(&self, name: &str) -> Option<&'static Vendor> {
        VENDORS.iter().find(|v| v.name == name)
    }

    /// The maker that the bits name.
    pub(crate) fn vendor_in(&self, bits: &Bits) -> Option<&'static Vendor> {
        VENDORS.iter().find(|v| bits.contains(&v.bits()))
    }

    /// Whether the bits have a feature.
    ///
    /// # Errors
    /// Nobody knows the name.
    pub fn has(&self, bits: &Bits, name: &str) -> Result<bool> {
        let feature =
            self.feature(name).ok_or_else(|| CpuError::Internal(format!("unknown CPU feature {name}")))?;
        Ok(bits.contains(&feature.bits))
    }

    /// The bits of the model's and the added features of one policy; `None` means what results from all policies.
    pub(crate) fn policy_bits(&self, cpu: &Cpu, policy: Option<Policy>) -> Result<Bits> {
        let mut bits = Bits::default();
        let whole = matches!(policy, None | Some(Policy::Require));
        if cpu.kind == Kind::Host && !whole {
            return Ok(bits);
        }
        if let Some(name) = &cpu.model
            && whole
        {
            bits = self.known_model(name)?.bits.clone();
        }
        for Feature { name, policy: wanted } in &cpu.features {
            let wanted = wanted.unwrap_or(Policy::Require);
            let taken = match policy {
                None => wanted != Policy::Optional,
                Some(policy) => policy == wanted,
            };
            if !taken {
                continue;
            }
            let feature = self
                .feature(name)
                .ok_or_else(|| CpuError::Internal(format!("Unknown CPU feature {name}")))?;
            match (policy, wanted) {
                (None, Policy::Disable | Policy::Forbid) => bits.subtract(&feature.bits),
                _ => bits.add(&feature.bits),
            }
        }
        Ok(bits)
    }

    /// The bits that a described processor has.
    ///
    /// # Errors
    /// Nobody knows its model or a feature.
    pub fn bits_of(&self, cpu: &Cpu) -> Result<Bits> {
        self.policy_bits(cpu, None)
    }

    pub(crate) fn known_model(&self, name: &str) -> Result<&Model> {
        self.model(name).ok_or_else(|| CpuError::Internal(format!("Unknown CPU model {name}")))
    }

    /// The bits of QEMU's answer to `query-cpu-model-expansion`: properties that are on, the maker, the signature.
    #[must_use]
    pub fn bits_of_qemu<'a>(
        &self,
        on: impl IntoIterator<Item = &'a str>,
        vendor: Option<&str>,
        signature: (u32, u32, u32),
    ) -> Bits {
        let mut bits = Bits::default();
        for name in on {
            if let Some(feature) = self.feature_of_qemu(name) {
                bits.add(&feature.bits);
            }
        }
        if let Some(id) = vendor.and_then(|v| <&[u8; 12]>::try_from(v.as_bytes()).ok()) {
            bits.add(&Vendor::id_bits(id));
        }
        self.add_signature(&mut bits, signature);
        bits
    }

    fn add_signature(&self, bits: &mut Bits, (family, model, stepping): (u32, u32, u32)) {
        bits.set(Place::Cpuid(1, 0, Half::Eax), join_signature(family, model, stepping));
    }

    /// The bits of a description with the identity of its model: maker and first signature.
    pub(crate) fn identified_bits(&self, cpu: &Cpu) -> Result<Bits> {
        let mut bits = self.bits_of(cpu)?;
        if let Some(model) = cpu.model.as_deref().and_then(|name| self.model(name)) {
            if let Some(vendor) = model.vendor {
                bits.add(&vendor.bits());
            }
            if let Some(first) = model.signatures.first() {
                let stepping = first.steppings.as_ref().map_or(0, |range| *range.start());
                self.add_signature(&mut bits, (first.family, first.model, stepping));
            }
        }
        Ok(bits)
    }
}

/// libvirt's name of a feature and QEMU's, where they differ and both mean the same on its command line.
const QEMU_NAMES: [(&str, &str); 11] = [
    ("cmp_legacy", "cmp-legacy"),
    ("ds_cpl", "ds-cpl"),
    ("fxsr_opt", "fxsr-opt"),
    ("kvm_pv_eoi", "kvm-pv-eoi"),
    ("kvm_pv_unhalt", "kvm-pv-unhalt"),
    ("lahf_lm", "lahf-lm"),
    ("nodeid_msr", "nodeid-msr"),
    ("pclmuldq", "pclmulqdq"),
    ("perfctr_core", "perfctr-core"),
    ("perfctr_nb", "perfctr-nb"),
    ("tsc_adjust", "tsc-adjust"),
];

/// What QEMU's command line calls a feature.
#[must_use]
pub fn qemu_name(name: &str) -> &str {
    QEMU_NAMES.iter().find(|(ours, _)| *ours == name).map_or(name, |(_, theirs)| theirs)
}
