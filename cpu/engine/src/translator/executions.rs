//! How often the interpreter has begun a block, by where it is and at which linear address.
//!
//! A program that is started again is at another linear address mostly, so that its translations do not serve, and most
//! of its code runs too seldom to be worth new ones.

/// Entries: some hundred thousand blocks are executed within a few seconds.
const ENTRIES: usize = 1 << 17;

/// A table of saturating counters, of which those that collide drive each other out.
#[derive(Default)]
pub(super) struct Executions {
    /// Bits 7:0 the count, bit 8 whether there may be a translation, bits 15:9 of the hash.
    words: Box<[u16]>,
}

const KNOWN: u16 = 1 << 8;
const TAG_SHIFT: u32 = 9;

/// The index and the tag.
fn place(host: u64, linear: u64) -> (usize, u16) {
    let hash =
        (host ^ (linear >> 12).wrapping_mul(0xff51_afd7_ed55_8ccd)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    ((hash >> 32) as usize % ENTRIES, (hash >> 57) as u16)
}

impl Executions {
    pub(super) fn new() -> Self {
        Self { words: vec![0; ENTRIES].into() }
    }

    /// The entry's index, and what it holds, if it is for this place, else nothing but the tag.
    #[inline]
    fn word(&self, host: u64, linear: u64) -> (usize, u16) {
        let (at, tag) = place(host, linear);
        let word = self.words[at];
        (at, if word >> TAG_SHIFT == tag { word } else { tag << TAG_SHIFT })
    }

    /// Executions so far.
    pub(super) fn count(&self, host: u64, linear: u64) -> u8 {
        self.word(host, linear).1 as u8
    }

    /// Counts one more; gives how many there were then.
    pub(super) fn add(&mut self, host: u64, linear: u64) -> u8 {
        let (at, word) = self.word(host, linear);
        let count = (word as u8).saturating_add(1);
        self.words[at] = word & !0xff | u16::from(count);
        count
    }

    /// Counts one more, and tells that it did, where there is no translation and there are fewer than `threshold` then.
    #[inline]
    pub(super) fn add_if_cold(&mut self, host: u64, linear: u64, threshold: u8) -> bool {
        let (at, word) = self.word(host, linear);
        let cold = word & KNOWN == 0 && (word as u8).saturating_add(1) < threshold;
        if cold {
            self.words[at] = word + 1;
        }
        cold
    }

    /// Begins again.
    pub(super) fn reset(&mut self, host: u64, linear: u64) {
        let (at, word) = self.word(host, linear);
        self.words[at] = word & !0xff;
    }

    /// There is a translation now.
    pub(super) fn note_translation(&mut self, host: u64, linear: u64) {
        let (at, word) = self.word(host, linear);
        self.words[at] = word | KNOWN;
    }

    /// Begins again everywhere.
    pub(super) fn forget(&mut self) {
        self.words.fill(0);
    }

    /// There are no translations any more.
    pub(super) fn forget_translations(&mut self) {
        self.words.iter_mut().for_each(|word| *word &= !KNOWN);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_address_has_a_count_of_its_own() {
        let mut executions = Executions::new();
        for n in 1..10 {
            assert!(executions.add_if_cold(0x7000, 0x40_0000, 10));
            assert_eq!(executions.count(0x7000, 0x40_0000), n);
        }
        assert!(!executions.add_if_cold(0x7000, 0x40_0000, 10), "the threshold");
        assert_eq!(executions.add(0x7000, 0x40_0000), 10);
        assert_eq!(executions.count(0x7000, 0x50_0000), 0);
        executions.reset(0x7000, 0x40_0000);
        executions.note_translation(0x7000, 0x40_0000);
        assert_eq!(executions.count(0x7000, 0x40_0000), 0);
        assert!(!executions.add_if_cold(0x7000, 0x40_0000, 10), "there is a translation");
        executions.forget_translations();
        assert!(executions.add_if_cold(0x7000, 0x40_0000, 10));
        executions.forget();
        assert_eq!(executions.count(0x7000, 0x40_0000), 0);
        for _ in 0..300 {
            executions.add(0x7000, 0x40_0000);
        }
        assert_eq!(executions.count(0x7000, 0x40_0000), u8::MAX);
    }

    #[test]
    fn places_that_collide_drive_each_other_out() {
        let mut executions = Executions::new();
        let (at, tag) = place(0x1000, 0x1000);
        let other =
            (2..).find(|n| place(n << 12, 0x1000).0 == at && place(n << 12, 0x1000).1 != tag).expect("one");
        executions.add(0x1000, 0x1000);
        executions.add(other << 12, 0x1000);
        assert_eq!((executions.count(0x1000, 0x1000), executions.count(other << 12, 0x1000)), (0, 1));
    }
}
