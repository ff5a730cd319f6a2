//! The words in which a processor says what it can do.

/// A register of the answer to CPUID, or half of a model-specific register (`Eax` the lower, `Edx` the upper).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[allow(missing_docs, reason = "the registers' own names")]
pub enum Half {
    Eax,
    Ebx,
    Ecx,
    Edx,
}

impl Half {
    /// All four, in the order of CPUID's answer.
    pub const ALL: [Self; 4] = [Self::Eax, Self::Ebx, Self::Ecx, Self::Edx];

    /// The register called `name` in lower case.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        ["eax", "ebx", "ecx", "edx"].iter().position(|n| *n == name).map(|at| Self::ALL[at])
    }
}

/// Where a word stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Place {
    /// CPUID's answer to EAX = leaf, ECX = subleaf.
    Cpuid(u32, u32, Half),
    /// A model-specific register.
    Msr(u32, Half),
}

/// A set of bits by place. Words without bits are not stored. A processor has some twenty words, a feature mostly one,
/// and choosing a model compares tens of thousands of them: they stand side by side, in order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Bits(Vec<(Place, u32)>);

impl Bits {
    fn find(&self, place: Place) -> Result<usize, usize> {
        self.0.binary_search_by_key(&place, |(place, _)| *place)
    }

    /// The word at `place`.
    #[must_use]
    pub fn get(&self, place: Place) -> u32 {
        self.find(place).map_or(0, |at| self.0[at].1)
    }

    /// Replaces the word at `place`.
    pub fn set(&mut self, place: Place, word: u32) {
        match (self.find(place), word) {
            (Ok(at), 0) => drop(self.0.remove(at)),
            (Ok(at), _) => self.0[at].1 = word,
            (Err(_), 0) => {}
            (Err(at), _) => self.0.insert(at, (place, word)),
        }
    }

    /// Sets all four words of an answer of CPUID.
    pub fn set_leaf(&mut self, leaf: u32, subleaf: u32, words: [u32; 4]) {
        for (half, word) in Half::ALL.into_iter().zip(words) {
            self.set(Place::Cpuid(leaf, subleaf, half), word);
        }
    }

    /// Whether there is no bit.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether all bits of `other` are in `self`.
    #[must_use]
    pub fn contains(&self, other: &Self) -> bool {
        other.0.iter().all(|(place, word)| self.get(*place) & word == *word)
    }

    /// Adds the bits of `other`.
    pub fn add(&mut self, other: &Self) {
        for (place, word) in &other.0 {
            self.set(*place, self.get(*place) | word);
        }
    }

    /// Takes away the bits of `other`.
    pub fn subtract(&mut self, other: &Self) {
        for (place, word) in &other.0 {
            self.set(*place, self.get(*place) & !word);
        }
    }

    /// Keeps the bits that `other` has too.
    pub fn intersect(&mut self, other: &Self) {
        self.0.retain_mut(|(place, word)| {
            *word &= other.get(*place);
            *word != 0
        });
    }
}
