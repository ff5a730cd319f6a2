//! CPUID features by name: one bit each of a CPUID word (or of a feature MSR).

use crate::cpuid::Leaf;
use std::sync::OnceLock;

/// How many words [`FeatureSet`] has.
const WORDS: usize = 29;

/// Other spellings of a feature: (spelling, name in the table).
const ALIASES: &[(&str, &str)] = &[
    ("sse3", "pni"),
    ("pclmuldq", "pclmulqdq"),
    ("sse4-1", "sse4.1"),
    ("sse4-2", "sse4.2"),
    ("xd", "nx"),
    ("i64", "lm"),
    ("ffxsr", "fxsr-opt"),
];

/// One word of 32 feature bits.
#[derive(Debug)]
pub struct Word {
    /// Its place: `leaf.register` or `leaf.subleaf.register` (hexadecimal), or `MSR.number`.
    pub key: &'static str,
    /// The names of the bits; empty where a bit has none.
    pub names: [&'static str; 32],
}

impl Word {
    /// The place as QEMU's messages write it: `CPUID.07H:EBX`, `MSR(10AH)`.
    pub fn place(&self) -> String {
        let mut parts = self.key.split('.');
        let first = parts.next().unwrap_or_default();
        let last = parts.next_back().unwrap_or_default();
        if first == "MSR" { format!("MSR({last}H)") } else { format!("CPUID.{first:0>2}H:{last}") }
    }
}

/// One feature: a bit of a word.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Feature {
    word: u8,
    bit: u8,
}

/// All words, in the order in which QEMU reports them.
pub fn words() -> &'static [Word] {
    static TABLE: OnceLock<Vec<Word>> = OnceLock::new();
    TABLE.get_or_init(|| {
        let lines = include_str!("names.txt").lines().filter(|line| !line.starts_with('#'));
        lines
            .map(|line| {
                let mut parts = line.split(' ');
                let mut word = Word { key: parts.next().unwrap_or_default(), names: [""; 32] };
                for (bit, name) in parts.filter_map(|part| part.split_once(':')) {
                    if let Some(slot) = bit.parse::<usize>().ok().and_then(|bit| word.names.get_mut(bit)) {
                        *slot = name;
                    }
                }
                word
            })
            .collect()
    })
}

impl Feature {
    /// The feature called `name`; `_` may stand for `-`, and QEMU's second spellings are known.
    pub fn find(name: &str) -> Option<Self> {
        let dashed = name.replace('_', "-");
        let name =
            ALIASES.iter().find(|(alias, _)| *alias == dashed).map_or(dashed.as_str(), |(_, name)| name);
        let name = if name.is_empty() { return None } else { name };
        words().iter().enumerate().find_map(|(word, entry)| {
            let bit = entry.names.iter().position(|known| *known == name)?;
            Some(Self { word: word as u8, bit: bit as u8 })
        })
    }

    /// The name in the table.
    pub fn name(self) -> &'static str {
        words()[usize::from(self.word)].names[usize::from(self.bit)]
    }

    /// As QEMU's warnings write it: `CPUID.01H:EDX.vme [bit 1]`.
    pub fn describe(self) -> String {
        format!("{}.{} [bit {}]", words()[usize::from(self.word)].place(), self.name(), self.bit)
    }
}

/// A set of features.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FeatureSet([u32; WORDS]);

impl FeatureSet {
    /// The set of the features named in `names`, separated by blanks. `None` when one is unknown.
    pub fn from_names(names: &str) -> Option<Self> {
        let mut set = Self::default();
        for name in names.split_whitespace() {
            set.insert(Feature::find(name)?);
        }
        Some(set)
    }

    /// The named features that CPUID shows; `read` is called with leaf and subleaf. Those of MSRs stay out.
    pub fn from_cpuid(read: impl Fn(u32, u32) -> Leaf) -> Self {
        let hex = |text: &str| u32::from_str_radix(text, 16).ok();
        Self(std::array::from_fn(|index| {
            let word = &words()[index];
            let mut parts = word.key.split('.');
            let (Some(function), Some(register)) = (parts.next().and_then(hex), parts.next_back()) else {
                return 0;
            };
            let leaf = read(function, parts.next().and_then(hex).unwrap_or(0));
            let bits = match register {
                "EAX" => leaf.eax,
                "EBX" => leaf.ebx,
                "ECX" => leaf.ecx,
                _ => leaf.edx,
            };
            let named =
                (0..32).filter(|&bit| !word.names[bit].is_empty()).fold(0, |mask, bit| mask | 1 << bit);
            bits & named
        }))
    }

    /// Puts one in.
    pub fn insert(&mut self, feature: Feature) {
        self.0[usize::from(feature.word)] |= 1 << feature.bit;
    }

    /// Takes one out.
    pub fn remove(&mut self, feature: Feature) {
        self.0[usize::from(feature.word)] &= !(1 << feature.bit);
    }

    /// Whether it is in.
    pub fn contains(&self, feature: Feature) -> bool {
        self.0[usize::from(feature.word)] >> feature.bit & 1 != 0
    }

    /// Whether the feature called `name` is in; false for an unknown name.
    pub fn has(&self, name: &str) -> bool {
        Feature::find(name).is_some_and(|feature| self.contains(feature))
    }

    /// The bits of the word with this key (see [`Word::key`]); 0 for an unknown one.
    pub fn word(&self, key: &str) -> u32 {
        words().iter().position(|word| word.key == key).map_or(0, |index| self.0[index])
    }

    /// What is in both.
    #[must_use]
    pub fn and(&self, other: &Self) -> Self {
        Self(std::array::from_fn(|index| self.0[index] & other.0[index]))
    }

    /// What is in `self` only.
    #[must_use]
    pub fn minus(&self, other: &Self) -> Self {
        Self(std::array::from_fn(|index| self.0[index] & !other.0[index]))
    }

    /// What is in either.
    #[must_use]
    pub fn or(&self, other: &Self) -> Self {
        Self(std::array::from_fn(|index| self.0[index] | other.0[index]))
    }

    /// The features in the set, in table order.
    pub fn iter(&self) -> impl Iterator<Item = Feature> + '_ {
        let all = (0..WORDS as u8).flat_map(|word| (0..32).map(move |bit| Feature { word, bit }));
        all.filter(|feature| self.contains(*feature))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn table_is_whole() {
        assert_eq!(words().len(), WORDS);
        assert!(words().iter().all(|word| word.names.iter().any(|name| !name.is_empty())));
        for (alias, _) in ALIASES {
            assert!(Feature::find(alias).is_some(), "{alias}");
        }
    }

    #[test]
    fn cpuid_is_read_by_leaf_and_register() {
        let set = FeatureSet::from_cpuid(|function, index| match (function, index) {
            (1, 0) => Leaf { edx: 1, ecx: 1 << 28, ..Leaf::default() },
            (7, 0) => Leaf { ebx: 1 << 5, ..Leaf::default() },
            // Bit 20 has no name.
            (0xd, 1) => Leaf { eax: 1 << 3 | 1 << 20, ..Leaf::default() },
            _ => Leaf::default(),
        });
        assert_eq!(set, FeatureSet::from_names("fpu avx avx2 xsaves").unwrap());
    }

    #[test]
    fn names_and_messages() {
        assert_eq!(Feature::find("vme").unwrap().describe(), "CPUID.01H:EDX.vme [bit 1]");
        assert_eq!(Feature::find("sse4_1"), Feature::find("sse4.1"));
        assert_eq!(Feature::find("lahf_lm").unwrap().describe(), "CPUID.80000001H:ECX.lahf-lm [bit 0]");
        assert_eq!(Feature::find("xsaves").unwrap().describe(), "CPUID.0DH:EAX.xsaves [bit 3]");
        assert_eq!(Feature::find("rdctl-no").unwrap().describe(), "MSR(10AH).rdctl-no [bit 0]");
        assert_eq!(Feature::find("nonsense"), None);
        let set = FeatureSet::from_names("fpu avx").unwrap();
        assert_eq!((set.word("1.EDX"), set.word("1.ECX"), set.iter().count()), (1, 1 << 28, 2));
    }
}
