//! AVX-512 in translated code: mask registers, ZMM16 to ZMM31 and the upper halves of the others are loaded when a
//! block first needs them, so that code which does not use them enters and leaves with YMM0 to YMM15.

use super::Jit;
use super::asm::CC_E;
use super::emit::{ColdPath, Emitter};
use x86::X86State;

impl Jit {
    /// The state block may have something in the upper halves of ZMM0 to ZMM15 from now on.
    pub(crate) fn note_wide(&mut self) {
        self.wide = 1;
    }

    /// Before code is entered: whether all of the registers have to be loaded.
    pub(super) fn refresh_wide(&mut self, state: &X86State) {
        if self.wide != 0 {
            let used = |z: &[u8; 64]| z[32..].iter().fold(0, |all, byte| all | byte) != 0;
            self.wide = state.zmm[..16].iter().any(used).into();
        }
    }
}

impl Emitter<'_> {
    /// Makes sure that the host's registers of AVX-512 are the guest's. T1 is lost.
    pub(super) fn need_wide(&mut self, live: u32) {
        if std::mem::replace(&mut self.wide, true) {
            return;
        }
        self.give_up_rflags(live);
        let (from, back) = (self.a.label(), self.a.label());
        self.a.cmp32_mem(self.slots.wide, 0);
        self.a.jcc(CC_E, from);
        self.a.bind(back);
        self.push_cold(from, Some(back), ColdPath::LoadWide);
    }
}
