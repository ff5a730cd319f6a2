//! Packed integer and logical instructions: one host instruction a row.

use super::shape::{Fp, LEGACY, VEX128, VEX256, by_count, by_immediate, packed, unary, widen};
use super::{Exec, Machine};
use iced_x86::Code;

macro_rules! rows {
    (
        binary { $($b:ident $b_insn:literal $b1:ident $b2:ident $b3:ident;)* }
        shift { $($s:ident $s_insn:literal $s1:ident $s2:ident $s3:ident $s4:ident $s5:ident $s6:ident;)* }
        extend { $($x:ident $x_insn:literal $x_w:literal $x_w2:literal $x1:ident $x2:ident $x3:ident;)* }
        unary { $($u:ident $u_insn:literal $u1:ident $u2:ident $u3:ident;)* }
    ) => {
        /// Kernels by mnemonic.
        pub mod ops {
            use super::Fp;
            super::super::shape::host! {
                $($b $b_insn Fp::None;)* $($s $s_insn Fp::None;)* $($x $x_insn Fp::None;)* $($u $u_insn Fp::None;)*
                Phminposuw "phminposuw" Fp::None;
            }
        }

        pub(super) fn lookup<M: Machine>(code: Code) -> Option<Exec<M>> {
            Some(match code {
                $(Code::$b1 => packed::<M, ops::$b, LEGACY>,
                Code::$b2 => packed::<M, ops::$b, VEX128>,
                Code::$b3 => packed::<M, ops::$b, VEX256>,)*
                $(Code::$s1 => by_count::<M, ops::$s, LEGACY>,
                Code::$s2 => by_count::<M, ops::$s, VEX128>,
                Code::$s3 => by_count::<M, ops::$s, VEX256>,
                Code::$s4 => by_immediate::<M, ops::$s, LEGACY>,
                Code::$s5 => by_immediate::<M, ops::$s, VEX128>,
                Code::$s6 => by_immediate::<M, ops::$s, VEX256>,)*
                $(Code::$x1 => widen::<M, ops::$x, LEGACY, $x_w>,
                Code::$x2 => widen::<M, ops::$x, VEX128, $x_w>,
                Code::$x3 => widen::<M, ops::$x, VEX256, $x_w2>,)*
                $(Code::$u1 => unary::<M, ops::$u, LEGACY>,
                Code::$u2 => unary::<M, ops::$u, VEX128>,
                Code::$u3 => unary::<M, ops::$u, VEX256>,)*
                Code::Phminposuw_xmm_xmmm128 => unary::<M, ops::Phminposuw, LEGACY>,
                Code::VEX_Vphminposuw_xmm_xmmm128 => unary::<M, ops::Phminposuw, VEX128>,
                _ => return None,
            })
        }
    };
}

rows! {
    binary {
        Punpcklbw "punpcklbw" Punpcklbw_xmm_xmmm128 VEX_Vpunpcklbw_xmm_xmm_xmmm128 VEX_Vpunpcklbw_ymm_ymm_ymmm256;
        Punpcklwd "punpcklwd" Punpcklwd_xmm_xmmm128 VEX_Vpunpcklwd_xmm_xmm_xmmm128 VEX_Vpunpcklwd_ymm_ymm_ymmm256;
        Punpckldq "punpckldq" Punpckldq_xmm_xmmm128 VEX_Vpunpckldq_xmm_xmm_xmmm128 VEX_Vpunpckldq_ymm_ymm_ymmm256;
        Packsswb "packsswb" Packsswb_xmm_xmmm128 VEX_Vpacksswb_xmm_xmm_xmmm128 VEX_Vpacksswb_ymm_ymm_ymmm256;
        Pcmpgtb "pcmpgtb" Pcmpgtb_xmm_xmmm128 VEX_Vpcmpgtb_xmm_xmm_xmmm128 VEX_Vpcmpgtb_ymm_ymm_ymmm256;
        Pcmpgtw "pcmpgtw" Pcmpgtw_xmm_xmmm128 VEX_Vpcmpgtw_xmm_xmm_xmmm128 VEX_Vpcmpgtw_ymm_ymm_ymmm256;
        Pcmpgtd "pcmpgtd" Pcmpgtd_xmm_xmmm128 VEX_Vpcmpgtd_xmm_xmm_xmmm128 VEX_Vpcmpgtd_ymm_ymm_ymmm256;
        Packuswb "packuswb" Packuswb_xmm_xmmm128 VEX_Vpackuswb_xmm_xmm_xmmm128 VEX_Vpackuswb_ymm_ymm_ymmm256;
        Punpckhbw "punpckhbw" Punpckhbw_xmm_xmmm128 VEX_Vpunpckhbw_xmm_xmm_xmmm128 VEX_Vpunpckhbw_ymm_ymm_ymmm256;
        Punpckhwd "punpckhwd" Punpckhwd_xmm_xmmm128 VEX_Vpunpckhwd_xmm_xmm_xmmm128 VEX_Vpunpckhwd_ymm_ymm_ymmm256;
        Punpckhdq "punpckhdq" Punpckhdq_xmm_xmmm128 VEX_Vpunpckhdq_xmm_xmm_xmmm128 VEX_Vpunpckhdq_ymm_ymm_ymmm256;
        Packssdw "packssdw" Packssdw_xmm_xmmm128 VEX_Vpackssdw_xmm_xmm_xmmm128 VEX_Vpackssdw_ymm_ymm_ymmm256;
        Punpcklqdq "punpcklqdq" Punpcklqdq_xmm_xmmm128 VEX_Vpunpcklqdq_xmm_xmm_xmmm128 VEX_Vpunpcklqdq_ymm_ymm_ymmm256;
        Punpckhqdq "punpckhqdq" Punpckhqdq_xmm_xmmm128 VEX_Vpunpckhqdq_xmm_xmm_xmmm128 VEX_Vpunpckhqdq_ymm_ymm_ymmm256;
        Pcmpeqb "pcmpeqb" Pcmpeqb_xmm_xmmm128 VEX_Vpcmpeqb_xmm_xmm_xmmm128 VEX_Vpcmpeqb_ymm_ymm_ymmm256;
        Pcmpeqw "pcmpeqw" Pcmpeqw_xmm_xmmm128 VEX_Vpcmpeqw_xmm_xmm_xmmm128 VEX_Vpcmpeqw_ymm_ymm_ymmm256;
        Pcmpeqd "pcmpeqd" Pcmpeqd_xmm_xmmm128 VEX_Vpcmpeqd_xmm_xmm_xmmm128 VEX_Vpcmpeqd_ymm_ymm_ymmm256;
        Paddq "paddq" Paddq_xmm_xmmm128 VEX_Vpaddq_xmm_xmm_xmmm128 VEX_Vpaddq_ymm_ymm_ymmm256;
        Pmullw "pmullw" Pmullw_xmm_xmmm128 VEX_Vpmullw_xmm_xmm_xmmm128 VEX_Vpmullw_ymm_ymm_ymmm256;
        Psubusb "psubusb" Psubusb_xmm_xmmm128 VEX_Vpsubusb_xmm_xmm_xmmm128 VEX_Vpsubusb_ymm_ymm_ymmm256;
        Psubusw "psubusw" Psubusw_xmm_xmmm128 VEX_Vpsubusw_xmm_xmm_xmmm128 VEX_Vpsubusw_ymm_ymm_ymmm256;
        Pminub "pminub" Pminub_xmm_xmmm128 VEX_Vpminub_xmm_xmm_xmmm128 VEX_Vpminub_ymm_ymm_ymmm256;
        Pand "pand" Pand_xmm_xmmm128 VEX_Vpand_xmm_xmm_xmmm128 VEX_Vpand_ymm_ymm_ymmm256;
        Paddusb "paddusb" Paddusb_xmm_xmmm128 VEX_Vpaddusb_xmm_xmm_xmmm128 VEX_Vpaddusb_ymm_ymm_ymmm256;
        Paddusw "paddusw" Paddusw_xmm_xmmm128 VEX_Vpaddusw_xmm_xmm_xmmm128 VEX_Vpaddusw_ymm_ymm_ymmm256;
        Pmaxub "pmaxub" Pmaxub_xmm_xmmm128 VEX_Vpmaxub_xmm_xmm_xmmm128 VEX_Vpmaxub_ymm_ymm_ymmm256;
        Pandn "pandn" Pandn_xmm_xmmm128 VEX_Vpandn_xmm_xmm_xmmm128 VEX_Vpandn_ymm_ymm_ymmm256;
        Pavgb "pavgb" Pavgb_xmm_xmmm128 VEX_Vpavgb_xmm_xmm_xmmm128 VEX_Vpavgb_ymm_ymm_ymmm256;
        Pavgw "pavgw" Pavgw_xmm_xmmm128 VEX_Vpavgw_xmm_xmm_xmmm128 VEX_Vpavgw_ymm_ymm_ymmm256;
        Pmulhuw "pmulhuw" Pmulhuw_xmm_xmmm128 VEX_Vpmulhuw_xmm_xmm_xmmm128 VEX_Vpmulhuw_ymm_ymm_ymmm256;
        Pmulhw "pmulhw" Pmulhw_xmm_xmmm128 VEX_Vpmulhw_xmm_xmm_xmmm128 VEX_Vpmulhw_ymm_ymm_ymmm256;
        Psubsb "psubsb" Psubsb_xmm_xmmm128 VEX_Vpsubsb_xmm_xmm_xmmm128 VEX_Vpsubsb_ymm_ymm_ymmm256;
        Psubsw "psubsw" Psubsw_xmm_xmmm128 VEX_Vpsubsw_xmm_xmm_xmmm128 VEX_Vpsubsw_ymm_ymm_ymmm256;
        Pminsw "pminsw" Pminsw_xmm_xmmm128 VEX_Vpminsw_xmm_xmm_xmmm128 VEX_Vpminsw_ymm_ymm_ymmm256;
        Por "por" Por_xmm_xmmm128 VEX_Vpor_xmm_xmm_xmmm128 VEX_Vpor_ymm_ymm_ymmm256;
        Paddsb "paddsb" Paddsb_xmm_xmmm128 VEX_Vpaddsb_xmm_xmm_xmmm128 VEX_Vpaddsb_ymm_ymm_ymmm256;
        Paddsw "paddsw" Paddsw_xmm_xmmm128 VEX_Vpaddsw_xmm_xmm_xmmm128 VEX_Vpaddsw_ymm_ymm_ymmm256;
        Pmaxsw "pmaxsw" Pmaxsw_xmm_xmmm128 VEX_Vpmaxsw_xmm_xmm_xmmm128 VEX_Vpmaxsw_ymm_ymm_ymmm256;
        Pxor "pxor" Pxor_xmm_xmmm128 VEX_Vpxor_xmm_xmm_xmmm128 VEX_Vpxor_ymm_ymm_ymmm256;
        Pmuludq "pmuludq" Pmuludq_xmm_xmmm128 VEX_Vpmuludq_xmm_xmm_xmmm128 VEX_Vpmuludq_ymm_ymm_ymmm256;
        Pmaddwd "pmaddwd" Pmaddwd_xmm_xmmm128 VEX_Vpmaddwd_xmm_xmm_xmmm128 VEX_Vpmaddwd_ymm_ymm_ymmm256;
        Psadbw "psadbw" Psadbw_xmm_xmmm128 VEX_Vpsadbw_xmm_xmm_xmmm128 VEX_Vpsadbw_ymm_ymm_ymmm256;
        Psubb "psubb" Psubb_xmm_xmmm128 VEX_Vpsubb_xmm_xmm_xmmm128 VEX_Vpsubb_ymm_ymm_ymmm256;
        Psubw "psubw" Psubw_xmm_xmmm128 VEX_Vpsubw_xmm_xmm_xmmm128 VEX_Vpsubw_ymm_ymm_ymmm256;
        Psubd "psubd" Psubd_xmm_xmmm128 VEX_Vpsubd_xmm_xmm_xmmm128 VEX_Vpsubd_ymm_ymm_ymmm256;
        Psubq "psubq" Psubq_xmm_xmmm128 VEX_Vpsubq_xmm_xmm_xmmm128 VEX_Vpsubq_ymm_ymm_ymmm256;
        Paddb "paddb" Paddb_xmm_xmmm128 VEX_Vpaddb_xmm_xmm_xmmm128 VEX_Vpaddb_ymm_ymm_ymmm256;
        Paddw "paddw" Paddw_xmm_xmmm128 VEX_Vpaddw_xmm_xmm_xmmm128 VEX_Vpaddw_ymm_ymm_ymmm256;
        Paddd "paddd" Paddd_xmm_xmmm128 VEX_Vpaddd_xmm_xmm_xmmm128 VEX_Vpaddd_ymm_ymm_ymmm256;
        Pshufb "pshufb" Pshufb_xmm_xmmm128 VEX_Vpshufb_xmm_xmm_xmmm128 VEX_Vpshufb_ymm_ymm_ymmm256;
        Phaddw "phaddw" Phaddw_xmm_xmmm128 VEX_Vphaddw_xmm_xmm_xmmm128 VEX_Vphaddw_ymm_ymm_ymmm256;
        Phaddd "phaddd" Phaddd_xmm_xmmm128 VEX_Vphaddd_xmm_xmm_xmmm128 VEX_Vphaddd_ymm_ymm_ymmm256;
        Phaddsw "phaddsw" Phaddsw_xmm_xmmm128 VEX_Vphaddsw_xmm_xmm_xmmm128 VEX_Vphaddsw_ymm_ymm_ymmm256;
        Pmaddubsw "pmaddubsw" Pmaddubsw_xmm_xmmm128 VEX_Vpmaddubsw_xmm_xmm_xmmm128 VEX_Vpmaddubsw_ymm_ymm_ymmm256;
        Phsubw "phsubw" Phsubw_xmm_xmmm128 VEX_Vphsubw_xmm_xmm_xmmm128 VEX_Vphsubw_ymm_ymm_ymmm256;
        Phsubd "phsubd" Phsubd_xmm_xmmm128 VEX_Vphsubd_xmm_xmm_xmmm128 VEX_Vphsubd_ymm_ymm_ymmm256;
        Phsubsw "phsubsw" Phsubsw_xmm_xmmm128 VEX_Vphsubsw_xmm_xmm_xmmm128 VEX_Vphsubsw_ymm_ymm_ymmm256;
        Psignb "psignb" Psignb_xmm_xmmm128 VEX_Vpsignb_xmm_xmm_xmmm128 VEX_Vpsignb_ymm_ymm_ymmm256;
        Psignw "psignw" Psignw_xmm_xmmm128 VEX_Vpsignw_xmm_xmm_xmmm128 VEX_Vpsignw_ymm_ymm_ymmm256;
        Psignd "psignd" Psignd_xmm_xmmm128 VEX_Vpsignd_xmm_xmm_xmmm128 VEX_Vpsignd_ymm_ymm_ymmm256;
        Pmulhrsw "pmulhrsw" Pmulhrsw_xmm_xmmm128 VEX_Vpmulhrsw_xmm_xmm_xmmm128 VEX_Vpmulhrsw_ymm_ymm_ymmm256;
        Pmuldq "pmuldq" Pmuldq_xmm_xmmm128 VEX_Vpmuldq_xmm_xmm_xmmm128 VEX_Vpmuldq_ymm_ymm_ymmm256;
        Pcmpeqq "pcmpeqq" Pcmpeqq_xmm_xmmm128 VEX_Vpcmpeqq_xmm_xmm_xmmm128 VEX_Vpcmpeqq_ymm_ymm_ymmm256;
        Packusdw "packusdw" Packusdw_xmm_xmmm128 VEX_Vpackusdw_xmm_xmm_xmmm128 VEX_Vpackusdw_ymm_ymm_ymmm256;
        Pcmpgtq "pcmpgtq" Pcmpgtq_xmm_xmmm128 VEX_Vpcmpgtq_xmm_xmm_xmmm128 VEX_Vpcmpgtq_ymm_ymm_ymmm256;
        Pminsb "pminsb" Pminsb_xmm_xmmm128 VEX_Vpminsb_xmm_xmm_xmmm128 VEX_Vpminsb_ymm_ymm_ymmm256;
        Pminsd "pminsd" Pminsd_xmm_xmmm128 VEX_Vpminsd_xmm_xmm_xmmm128 VEX_Vpminsd_ymm_ymm_ymmm256;
        Pminuw "pminuw" Pminuw_xmm_xmmm128 VEX_Vpminuw_xmm_xmm_xmmm128 VEX_Vpminuw_ymm_ymm_ymmm256;
        Pminud "pminud" Pminud_xmm_xmmm128 VEX_Vpminud_xmm_xmm_xmmm128 VEX_Vpminud_ymm_ymm_ymmm256;
        Pmaxsb "pmaxsb" Pmaxsb_xmm_xmmm128 VEX_Vpmaxsb_xmm_xmm_xmmm128 VEX_Vpmaxsb_ymm_ymm_ymmm256;
        Pmaxsd "pmaxsd" Pmaxsd_xmm_xmmm128 VEX_Vpmaxsd_xmm_xmm_xmmm128 VEX_Vpmaxsd_ymm_ymm_ymmm256;
        Pmaxuw "pmaxuw" Pmaxuw_xmm_xmmm128 VEX_Vpmaxuw_xmm_xmm_xmmm128 VEX_Vpmaxuw_ymm_ymm_ymmm256;
        Pmaxud "pmaxud" Pmaxud_xmm_xmmm128 VEX_Vpmaxud_xmm_xmm_xmmm128 VEX_Vpmaxud_ymm_ymm_ymmm256;
        Pmulld "pmulld" Pmulld_xmm_xmmm128 VEX_Vpmulld_xmm_xmm_xmmm128 VEX_Vpmulld_ymm_ymm_ymmm256;
        Andps "andps" Andps_xmm_xmmm128 VEX_Vandps_xmm_xmm_xmmm128 VEX_Vandps_ymm_ymm_ymmm256;
        Andpd "andpd" Andpd_xmm_xmmm128 VEX_Vandpd_xmm_xmm_xmmm128 VEX_Vandpd_ymm_ymm_ymmm256;
        Andnps "andnps" Andnps_xmm_xmmm128 VEX_Vandnps_xmm_xmm_xmmm128 VEX_Vandnps_ymm_ymm_ymmm256;
        Andnpd "andnpd" Andnpd_xmm_xmmm128 VEX_Vandnpd_xmm_xmm_xmmm128 VEX_Vandnpd_ymm_ymm_ymmm256;
        Orps "orps" Orps_xmm_xmmm128 VEX_Vorps_xmm_xmm_xmmm128 VEX_Vorps_ymm_ymm_ymmm256;
        Orpd "orpd" Orpd_xmm_xmmm128 VEX_Vorpd_xmm_xmm_xmmm128 VEX_Vorpd_ymm_ymm_ymmm256;
        Xorps "xorps" Xorps_xmm_xmmm128 VEX_Vxorps_xmm_xmm_xmmm128 VEX_Vxorps_ymm_ymm_ymmm256;
        Xorpd "xorpd" Xorpd_xmm_xmmm128 VEX_Vxorpd_xmm_xmm_xmmm128 VEX_Vxorpd_ymm_ymm_ymmm256;
        Unpcklps "unpcklps" Unpcklps_xmm_xmmm128 VEX_Vunpcklps_xmm_xmm_xmmm128 VEX_Vunpcklps_ymm_ymm_ymmm256;
        Unpcklpd "unpcklpd" Unpcklpd_xmm_xmmm128 VEX_Vunpcklpd_xmm_xmm_xmmm128 VEX_Vunpcklpd_ymm_ymm_ymmm256;
        Unpckhps "unpckhps" Unpckhps_xmm_xmmm128 VEX_Vunpckhps_xmm_xmm_xmmm128 VEX_Vunpckhps_ymm_ymm_ymmm256;
        Unpckhpd "unpckhpd" Unpckhpd_xmm_xmmm128 VEX_Vunpckhpd_xmm_xmm_xmmm128 VEX_Vunpckhpd_ymm_ymm_ymmm256;
    }
    shift {
        Psrlw "psrlw" Psrlw_xmm_xmmm128 VEX_Vpsrlw_xmm_xmm_xmmm128 VEX_Vpsrlw_ymm_ymm_xmmm128 Psrlw_xmm_imm8 VEX_Vpsrlw_xmm_xmm_imm8 VEX_Vpsrlw_ymm_ymm_imm8;
        Psraw "psraw" Psraw_xmm_xmmm128 VEX_Vpsraw_xmm_xmm_xmmm128 VEX_Vpsraw_ymm_ymm_xmmm128 Psraw_xmm_imm8 VEX_Vpsraw_xmm_xmm_imm8 VEX_Vpsraw_ymm_ymm_imm8;
        Psllw "psllw" Psllw_xmm_xmmm128 VEX_Vpsllw_xmm_xmm_xmmm128 VEX_Vpsllw_ymm_ymm_xmmm128 Psllw_xmm_imm8 VEX_Vpsllw_xmm_xmm_imm8 VEX_Vpsllw_ymm_ymm_imm8;
        Psrld "psrld" Psrld_xmm_xmmm128 VEX_Vpsrld_xmm_xmm_xmmm128 VEX_Vpsrld_ymm_ymm_xmmm128 Psrld_xmm_imm8 VEX_Vpsrld_xmm_xmm_imm8 VEX_Vpsrld_ymm_ymm_imm8;
        Psrad "psrad" Psrad_xmm_xmmm128 VEX_Vpsrad_xmm_xmm_xmmm128 VEX_Vpsrad_ymm_ymm_xmmm128 Psrad_xmm_imm8 VEX_Vpsrad_xmm_xmm_imm8 VEX_Vpsrad_ymm_ymm_imm8;
        Pslld "pslld" Pslld_xmm_xmmm128 VEX_Vpslld_xmm_xmm_xmmm128 VEX_Vpslld_ymm_ymm_xmmm128 Pslld_xmm_imm8 VEX_Vpslld_xmm_xmm_imm8 VEX_Vpslld_ymm_ymm_imm8;
        Psrlq "psrlq" Psrlq_xmm_xmmm128 VEX_Vpsrlq_xmm_xmm_xmmm128 VEX_Vpsrlq_ymm_ymm_xmmm128 Psrlq_xmm_imm8 VEX_Vpsrlq_xmm_xmm_imm8 VEX_Vpsrlq_ymm_ymm_imm8;
        Psllq "psllq" Psllq_xmm_xmmm128 VEX_Vpsllq_xmm_xmm_xmmm128 VEX_Vpsllq_ymm_ymm_xmmm128 Psllq_xmm_imm8 VEX_Vpsllq_xmm_xmm_imm8 VEX_Vpsllq_ymm_ymm_imm8;
    }
    extend {
        Pmovsxbw "pmovsxbw" 8 16 Pmovsxbw_xmm_xmmm64 VEX_Vpmovsxbw_xmm_xmmm64 VEX_Vpmovsxbw_ymm_xmmm128;
        Pmovzxbw "pmovzxbw" 8 16 Pmovzxbw_xmm_xmmm64 VEX_Vpmovzxbw_xmm_xmmm64 VEX_Vpmovzxbw_ymm_xmmm128;
        Pmovsxbd "pmovsxbd" 4 8 Pmovsxbd_xmm_xmmm32 VEX_Vpmovsxbd_xmm_xmmm32 VEX_Vpmovsxbd_ymm_xmmm64;
        Pmovzxbd "pmovzxbd" 4 8 Pmovzxbd_xmm_xmmm32 VEX_Vpmovzxbd_xmm_xmmm32 VEX_Vpmovzxbd_ymm_xmmm64;
        Pmovsxbq "pmovsxbq" 2 4 Pmovsxbq_xmm_xmmm16 VEX_Vpmovsxbq_xmm_xmmm16 VEX_Vpmovsxbq_ymm_xmmm32;
        Pmovzxbq "pmovzxbq" 2 4 Pmovzxbq_xmm_xmmm16 VEX_Vpmovzxbq_xmm_xmmm16 VEX_Vpmovzxbq_ymm_xmmm32;
        Pmovsxwd "pmovsxwd" 8 16 Pmovsxwd_xmm_xmmm64 VEX_Vpmovsxwd_xmm_xmmm64 VEX_Vpmovsxwd_ymm_xmmm128;
        Pmovzxwd "pmovzxwd" 8 16 Pmovzxwd_xmm_xmmm64 VEX_Vpmovzxwd_xmm_xmmm64 VEX_Vpmovzxwd_ymm_xmmm128;
        Pmovsxwq "pmovsxwq" 4 8 Pmovsxwq_xmm_xmmm32 VEX_Vpmovsxwq_xmm_xmmm32 VEX_Vpmovsxwq_ymm_xmmm64;
        Pmovzxwq "pmovzxwq" 4 8 Pmovzxwq_xmm_xmmm32 VEX_Vpmovzxwq_xmm_xmmm32 VEX_Vpmovzxwq_ymm_xmmm64;
        Pmovsxdq "pmovsxdq" 8 16 Pmovsxdq_xmm_xmmm64 VEX_Vpmovsxdq_xmm_xmmm64 VEX_Vpmovsxdq_ymm_xmmm128;
        Pmovzxdq "pmovzxdq" 8 16 Pmovzxdq_xmm_xmmm64 VEX_Vpmovzxdq_xmm_xmmm64 VEX_Vpmovzxdq_ymm_xmmm128;
    }
    unary {
        Pabsb "pabsb" Pabsb_xmm_xmmm128 VEX_Vpabsb_xmm_xmmm128 VEX_Vpabsb_ymm_ymmm256;
        Pabsw "pabsw" Pabsw_xmm_xmmm128 VEX_Vpabsw_xmm_xmmm128 VEX_Vpabsw_ymm_ymmm256;
        Pabsd "pabsd" Pabsd_xmm_xmmm128 VEX_Vpabsd_xmm_xmmm128 VEX_Vpabsd_ymm_ymmm256;
    }
}
