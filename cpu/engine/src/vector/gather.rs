//! Memory element by element: gathers, masked loads and stores.

use super::shape::{LEGACY, VEX128, VEX256, bytes, enter, lane, lanes, write};
use super::{Exec, Machine, Operands};
use iced_x86::Code;

/// The low 32 bytes of register `n`.
fn all<M: Machine>(m: &mut M, n: usize) -> [u8; 32] {
    let both = lanes(m, n).map(bytes);
    std::array::from_fn(|i| both[i / 16][i % 16])
}

/// A gather of `N` elements of `W` bytes by indices of `I` bytes. Elements are done from the lowest; before a fault
/// the destination has what was loaded and the mask is clear there, so that the instruction can go on later
/// (SDM vol. 2, VPGATHERDD).
fn gather<M: Machine, const N: usize, const W: usize, const I: usize>(
    m: &mut M,
    insn: &M::Insn,
) -> Result<(), M::Fault> {
    enter::<M, VEX128>(m)?;
    let (to, mask) = (insn.register(0) & 31, insn.register(2) & 31);
    let (index, scale) = insn.vector_index();
    let indices = all(m, index);
    let chosen: [bool; N] = {
        let mask = &m.x86().zmm[mask];
        std::array::from_fn(|i| mask[i * W + W - 1] >> 7 != 0)
    };
    // A fault shows the mask's elements as all ones or all zeros.
    for (i, on) in chosen.iter().enumerate() {
        m.x86().zmm[mask][i * W..][..W].fill(if *on { 0xff } else { 0 });
    }
    for (i, on) in chosen.iter().enumerate() {
        if *on {
            let mut wide = [if indices[i * I + I - 1] >> 7 != 0 { 0xff } else { 0 }; 8];
            wide[..I].copy_from_slice(&indices[i * I..][..I]);
            let value = m.load_gathered::<W>(insn, u64::from_le_bytes(wide).wrapping_mul(scale))?;
            let state = m.x86();
            state.zmm[to][i * W..][..W].copy_from_slice(&value);
            state.zmm[mask][i * W..][..W].fill(0);
        }
    }
    let state = m.x86();
    state.zmm[to][N * W..].fill(0);
    state.zmm[mask].fill(0);
    Ok(())
}

/// VMASKMOVPx, VPMASKMOVx from memory: elements of `W` bytes whose mask is off are zero and are not accessed.
fn masked_load<M: Machine, const E: u8, const W: usize>(m: &mut M, insn: &M::Insn) -> Result<(), M::Fault> {
    enter::<M, E>(m)?;
    let mask = all(m, insn.register(1));
    let mut value = [0; 32];
    for from in (0..if E == VEX256 { 32 } else { 16 }).step_by(W) {
        if mask[from + W - 1] >> 7 != 0 {
            value[from..from + W].copy_from_slice(&m.load_part::<W>(insn, from as u64)?);
        }
    }
    write::<M, E>(m, insn.register(0), super::shape::halves(value));
    Ok(())
}

/// VMASKMOVPx, VPMASKMOVx to memory: all or nothing.
fn masked_store<M: Machine, const E: u8, const W: usize>(m: &mut M, insn: &M::Insn) -> Result<(), M::Fault> {
    enter::<M, E>(m)?;
    let mask = all(m, insn.register(1));
    let value = all(m, insn.register(2));
    let chosen =
        || (0..if E == VEX256 { 32 } else { 16 }).step_by(W).filter(|from| mask[from + W - 1] >> 7 != 0);
    for from in chosen() {
        m.check_store_part(insn, from as u64, W)?;
    }
    for from in chosen() {
        m.store_part::<W>(insn, from as u64, std::array::from_fn(|i| value[from + i]))?;
    }
    Ok(())
}

/// MASKMOVDQU: bytes to DS:rDI.
fn masked_bytes<M: Machine, const E: u8>(m: &mut M, insn: &M::Insn) -> Result<(), M::Fault> {
    enter::<M, E>(m)?;
    let (value, mask) = (bytes(lane(m, insn.register(1), 0)), bytes(lane(m, insn.register(2), 0)));
    let chosen = || (0..16).filter(|i| mask[*i] >> 7 != 0);
    for i in chosen() {
        m.check_store_part(insn, i as u64, 1)?;
    }
    for i in chosen() {
        m.store_part(insn, i as u64, [value[i]])?;
    }
    Ok(())
}

pub(super) fn lookup<M: Machine>(code: Code) -> Option<Exec<M>> {
    Some(match code {
        Code::VEX_Vpgatherdd_xmm_vm32x_xmm | Code::VEX_Vgatherdps_xmm_vm32x_xmm => gather::<M, 4, 4, 4>,
        Code::VEX_Vpgatherdd_ymm_vm32y_ymm | Code::VEX_Vgatherdps_ymm_vm32y_ymm => gather::<M, 8, 4, 4>,
        Code::VEX_Vpgatherdq_xmm_vm32x_xmm | Code::VEX_Vgatherdpd_xmm_vm32x_xmm => gather::<M, 2, 8, 4>,
        Code::VEX_Vpgatherdq_ymm_vm32x_ymm | Code::VEX_Vgatherdpd_ymm_vm32x_ymm => gather::<M, 4, 8, 4>,
        Code::VEX_Vpgatherqd_xmm_vm64x_xmm | Code::VEX_Vgatherqps_xmm_vm64x_xmm => gather::<M, 2, 4, 8>,
        Code::VEX_Vpgatherqd_xmm_vm64y_xmm | Code::VEX_Vgatherqps_xmm_vm64y_xmm => gather::<M, 4, 4, 8>,
        Code::VEX_Vpgatherqq_xmm_vm64x_xmm | Code::VEX_Vgatherqpd_xmm_vm64x_xmm => gather::<M, 2, 8, 8>,
        Code::VEX_Vpgatherqq_ymm_vm64y_ymm | Code::VEX_Vgatherqpd_ymm_vm64y_ymm => gather::<M, 4, 8, 8>,
        Code::VEX_Vmaskmovps_xmm_xmm_m128 | Code::VEX_Vpmaskmovd_xmm_xmm_m128 => masked_load::<M, VEX128, 4>,
        Code::VEX_Vmaskmovps_ymm_ymm_m256 | Code::VEX_Vpmaskmovd_ymm_ymm_m256 => masked_load::<M, VEX256, 4>,
        Code::VEX_Vmaskmovpd_xmm_xmm_m128 | Code::VEX_Vpmaskmovq_xmm_xmm_m128 => masked_load::<M, VEX128, 8>,
        Code::VEX_Vmaskmovpd_ymm_ymm_m256 | Code::VEX_Vpmaskmovq_ymm_ymm_m256 => masked_load::<M, VEX256, 8>,
        Code::VEX_Vmaskmovps_m128_xmm_xmm | Code::VEX_Vpmaskmovd_m128_xmm_xmm => masked_store::<M, VEX128, 4>,
        Code::VEX_Vmaskmovps_m256_ymm_ymm | Code::VEX_Vpmaskmovd_m256_ymm_ymm => masked_store::<M, VEX256, 4>,
        Code::VEX_Vmaskmovpd_m128_xmm_xmm | Code::VEX_Vpmaskmovq_m128_xmm_xmm => masked_store::<M, VEX128, 8>,
        Code::VEX_Vmaskmovpd_m256_ymm_ymm | Code::VEX_Vpmaskmovq_m256_ymm_ymm => masked_store::<M, VEX256, 8>,
        Code::Maskmovdqu_rDI_xmm_xmm => masked_bytes::<M, LEGACY>,
        Code::VEX_Vmaskmovdqu_rDI_xmm_xmm => masked_bytes::<M, VEX128>,
        _ => return None,
    })
}
