//! Exceptions in flight.

use std::num::NonZeroU32;
use x86::reg::vector;

/// An exception that an instruction raised; the instruction has had no effect (unless the manual says otherwise).
/// A page fault's address is already in CR2.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fault(NonZeroU32);

const PRESENT: u32 = 1 << 31;
const RESTART: u32 = 1 << 1;
const NONCANONICAL: u32 = 1 << 2;

impl Fault {
    /// Exception `vector` with `code` as its error code (ignored for vectors that have none).
    pub fn new(vector: u8, code: u16) -> Self {
        Self(NonZeroU32::MIN | PRESENT | u32::from(code) << 8 | u32::from(vector & 31) << 25)
    }

    /// #UD.
    pub fn ud() -> Self {
        Self::new(vector::UD, 0)
    }

    /// #GP with `code`.
    pub fn gp(code: u16) -> Self {
        Self::new(vector::GP, code)
    }

    /// #GP(0) for an address that is not canonical; [`Fault::on_stack`] tells it from others.
    pub(crate) fn noncanonical() -> Self {
        Self(NonZeroU32::MIN.saturating_add(NONCANONICAL) | Self::gp(0).0)
    }

    /// The same fault for an access through SS: #SS(0) where the address was not canonical.
    pub(crate) fn on_stack(self) -> Self {
        if self.0.get() & NONCANONICAL != 0 { Self::new(vector::SS, 0) } else { self }
    }

    /// #NM.
    pub fn nm() -> Self {
        Self::new(vector::NM, 0)
    }

    /// Whether it is for an address that is not canonical.
    pub(crate) fn is_not_canonical(self) -> bool {
        self.0.get() & NONCANONICAL != 0
    }

    /// Not an exception: the instruction stays where it is, and pending events are looked at before it goes on.
    pub(crate) fn restart() -> Self {
        Self(NonZeroU32::MIN | RESTART)
    }

    pub(crate) fn is_restart(self) -> bool {
        self.0.get() & PRESENT == 0
    }

    /// The exception's vector.
    pub fn vector(self) -> u8 {
        (self.0.get() >> 25 & 31) as u8
    }

    /// The error code to push, for vectors that have one.
    pub fn code(self) -> Option<u16> {
        matches!(
            self.vector(),
            vector::DF | vector::TS | vector::NP | vector::SS | vector::GP | vector::PF | vector::AC
        )
        .then_some((self.0.get() >> 8) as u16)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fault_keeps_its_vector_and_code() {
        for v in 0..32 {
            assert_eq!(Fault::new(v, 0xfffb).vector(), v);
            assert!(!Fault::new(v, 0).is_restart());
        }
        assert_eq!(Fault::new(14, 0x8005).code(), Some(0x8005));
        assert_eq!(Fault::ud().code(), None);
        assert!(Fault::restart().is_restart());
    }
}
