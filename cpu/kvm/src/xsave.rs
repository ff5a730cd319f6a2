//! The x87 and vector registers in an XSAVE area of the standard format (SDM vol. 1, chapter 13.4).

use x86::X86State;

/// Components behind the legacy area: number, and bytes of it.
const YMM_HIGH: (u32, usize) = (2, 256);
const OPMASK: (u32, usize) = (5, 64);
const ZMM_HIGH: (u32, usize) = (6, 512);
const ZMM_UPPER: (u32, usize) = (7, 1024);
const PKRU: (u32, usize) = (9, 8);
/// Where XSTATE_BV is.
const HEADER: usize = 512;

/// Where the components are on this host; 0: it has no such component.
pub(crate) struct Layout([usize; 16]);

impl Layout {
    /// From leaf 0xD's EBX of a component.
    pub(crate) fn new(offset: impl Fn(u32) -> u32) -> Self {
        Self(std::array::from_fn(|n| if n < 2 { 0 } else { offset(n as u32) as usize }))
    }

    fn place<'a>(&self, area: &'a mut [u8], (number, size): (u32, usize)) -> Option<&'a mut [u8]> {
        let start = *self.0.get(number as usize)?;
        if start == 0 { None } else { area.get_mut(start..start + size) }
    }

    /// Writes the registers of `state`.
    pub(crate) fn store(&self, state: &X86State, area: &mut [u8]) {
        area.fill(0);
        let x87 = &state.x87;
        let mut put = |at: usize, bytes: &[u8]| area[at..at + bytes.len()].copy_from_slice(bytes);
        put(0, &x87.fcw.to_le_bytes());
        put(2, &x87.fsw.to_le_bytes());
        put(4, &[x87.ftw]);
        put(6, &x87.fop.to_le_bytes());
        put(8, &x87.fip.to_le_bytes());
        put(16, &x87.fdp.to_le_bytes());
        put(24, &state.mxcsr.to_le_bytes());
        for i in 0..8 {
            // The area holds ST(i).
            put(32 + 16 * i, &x87.regs[(x87.top() + i) & 7][..10]);
        }
        for i in 0..16 {
            put(160 + 16 * i, &state.zmm[i][..16]);
        }
        let mut present = 3u64;
        let mut fill = |component: (u32, usize), bytes: Vec<u8>| {
            if let Some(place) = self.place(area, component) {
                place.copy_from_slice(&bytes);
                present |= 1 << component.0;
            }
        };
        fill(YMM_HIGH, state.zmm[..16].iter().flat_map(|z| z[16..32].to_vec()).collect());
        fill(OPMASK, state.opmask.iter().flat_map(|k| k.to_le_bytes()).collect());
        fill(ZMM_HIGH, state.zmm[..16].iter().flat_map(|z| z[32..].to_vec()).collect());
        fill(ZMM_UPPER, state.zmm[16..].iter().flat_map(|z| z.to_vec()).collect());
        fill(PKRU, u64::from(state.pkru).to_le_bytes().to_vec());
        area[HEADER..HEADER + 8].copy_from_slice(&present.to_le_bytes());
    }

    /// Reads the registers into `state`. A component that is not marked present has its initial value.
    pub(crate) fn load(&self, area: &mut [u8], state: &mut X86State) {
        let initial = X86State::default();
        let word = |at: usize| u16::from_le_bytes([area[at], area[at + 1]]);
        let quad = |at: usize| (0..8).rev().fold(0u64, |v, i| v << 8 | u64::from(area[at + i]));
        let present = quad(HEADER);
        let has = |number: u32| present >> number & 1 != 0;
        if has(0) {
            let x87 = &mut state.x87;
            (x87.fcw, x87.fsw, x87.ftw, x87.fop) = (word(0), word(2), area[4], word(6));
            (x87.fip, x87.fdp) = (quad(8), quad(16));
            (x87.fcs, x87.fds) = (0, 0);
            let top = x87.top();
            for i in 0..8 {
                let mut register = [0; 16];
                register[..10].copy_from_slice(&area[32 + 16 * i..42 + 16 * i]);
                x87.regs[(top + i) & 7] = register;
            }
        } else {
            state.x87 = x86::X87::default();
        }
        state.mxcsr = u32::from(word(24)) | u32::from(word(26)) << 16;
        state.zmm = initial.zmm;
        state.opmask = initial.opmask;
        state.pkru = 0;
        if has(1) {
            for i in 0..16 {
                state.zmm[i][..16].copy_from_slice(&area[160 + 16 * i..176 + 16 * i]);
            }
        }
        let mut part = |component: (u32, usize)| {
            let found = if has(component.0) { self.place(area, component) } else { None };
            found.map(|bytes| bytes.to_vec())
        };
        if let Some(bytes) = part(YMM_HIGH) {
            for (z, half) in state.zmm.iter_mut().zip(bytes.chunks_exact(16)) {
                z[16..32].copy_from_slice(half);
            }
        }
        if let Some(bytes) = part(OPMASK) {
            for (k, raw) in state.opmask.iter_mut().zip(bytes.chunks_exact(8)) {
                *k = raw.iter().rev().fold(0, |v, &b| v << 8 | u64::from(b));
            }
        }
        if let Some(bytes) = part(ZMM_HIGH) {
            for (z, half) in state.zmm.iter_mut().zip(bytes.chunks_exact(32)) {
                z[32..].copy_from_slice(half);
            }
        }
        if let Some(bytes) = part(ZMM_UPPER) {
            for (z, raw) in state.zmm[16..].iter_mut().zip(bytes.chunks_exact(64)) {
                z.copy_from_slice(raw);
            }
        }
        if let Some(bytes) = part(PKRU) {
            state.pkru = bytes.iter().take(4).rev().fold(0, |v, &b| v << 8 | u32::from(b));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn registers_survive_the_area() {
        let layout = Layout::new(|n| {
            [0, 0, 576, 0, 0, 1088, 1152, 1664, 0, 2688].get(n as usize).copied().unwrap_or(0)
        });
        let mut state = X86State::default();
        for (i, byte) in state.zmm.as_flattened_mut().iter_mut().enumerate() {
            *byte = (i * 7) as u8;
        }
        for (i, k) in state.opmask.iter_mut().enumerate() {
            *k = i as u64 * 0x0101_0101_0101;
        }
        state.pkru = 0x5555_aaaa;
        state.mxcsr = 0x1fa0;
        state.x87.fsw = 5 << 11;
        for (i, register) in state.x87.regs.iter_mut().enumerate() {
            register[..10].fill(i as u8 + 1);
        }
        let mut area = vec![0xff; 4096];
        layout.store(&state, &mut area);
        assert_eq!(area[32], 6, "ST(0) is R5");
        let mut back = X86State::default();
        layout.load(&mut area, &mut back);
        assert_eq!(back, state);
        area[HEADER] = 0;
        area[HEADER + 1] = 0;
        layout.load(&mut area, &mut back);
        assert_eq!((back.x87.fcw, back.zmm, back.pkru), (0x37f, [[0; 64]; 32], 0));
    }
}
