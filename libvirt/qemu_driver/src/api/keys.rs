//! Keys by the numbers of clients.

use crate::error::{Result, error};
use rpc::Code;

/// Linux's numbers (input-event-codes.h) beyond those that are scan codes of set 1 themselves, and the scan codes with
/// bit 7 for the prefix 0xe0.
const LINUX: &[(u32, u32)] = &[
    (89, 0x73),
    (90, 0x78),
    (91, 0x77),
    (92, 0x79),
    (93, 0x70),
    (94, 0x7b),
    (95, 0x5c),
    (96, 0x9c),
    (97, 0x9d),
    (98, 0xb5),
    (99, 0x54),
    (100, 0xb8),
    (101, 0x5b),
    (102, 0xc7),
    (103, 0xc8),
    (104, 0xc9),
    (105, 0xcb),
    (106, 0xcd),
    (107, 0xcf),
    (108, 0xd0),
    (109, 0xd1),
    (110, 0xd2),
    (111, 0xd3),
    (113, 0xa0),
    (114, 0xae),
    (115, 0xb0),
    (116, 0xde),
    (117, 0x59),
    (118, 0xce),
    (119, 0xc6),
    (121, 0x7e),
    (122, 0x72),
    (123, 0x71),
    (124, 0x7d),
    (125, 0xdb),
    (126, 0xdc),
    (127, 0xdd),
    (142, 0xdf),
    (143, 0xe3),
];

/// The name of a code set that is known.
fn codeset_name(set: u32) -> &'static str {
    match set {
        0 => "linux",
        1 => "xt",
        2 => "atset1",
        6 => "xt_kbd",
        _ => "qnum",
    }
}

/// The emulator's numbers of keys that a client names in the code set `set` (`virKeycodeSet`).
///
/// # Errors
/// The set or a key is not known.
pub(super) fn to_qemu(set: u32, keys: &[u32]) -> Result<Vec<u32>> {
    const LINUX_SET: u32 = 0;
    const XT: u32 = 1;
    const ATSET1: u32 = 2;
    const XT_KBD: u32 = 6;
    const QNUM: u32 = 9;
    let one = |key: u32| match set {
        LINUX_SET if (1..=88).contains(&key) => Some(key),
        LINUX_SET => LINUX.iter().find(|(linux, _)| *linux == key).map(|(_, code)| *code),
        XT | ATSET1 if key & 0xff00 == 0xe000 => Some(key & 0x7f | 0x80),
        XT | ATSET1 | XT_KBD | QNUM if key < 0x100 => Some(key),
        _ => None,
    };
    if !matches!(set, LINUX_SET | XT | ATSET1 | XT_KBD | QNUM) {
        return Err(error(Code::ArgumentUnsupported, format!("codeset {set} is not supported yet")));
    }
    let unknown = |key: u32| {
        error(
            Code::InternalError,
            format!("cannot translate keycode {key} of {} codeset to qnum keycode", codeset_name(set)),
        )
    };
    keys.iter().map(|key| one(*key).ok_or_else(|| unknown(*key))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys() {
        assert_eq!(to_qemu(0, &[30, 103, 125]).expect("linux"), [30, 0xc8, 0xdb]);
        assert_eq!(to_qemu(1, &[0x1e, 0xe048]).expect("xt"), [0x1e, 0xc8]);
        assert_eq!(to_qemu(9, &[0xc8]).expect("qnum"), [0xc8]);
        assert!(to_qemu(0, &[0]).is_err() && to_qemu(0, &[999]).is_err() && to_qemu(7, &[4]).is_err());
    }
}
