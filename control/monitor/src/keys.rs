//! `sendkey`: names of keys and their scan codes (set 1, as an AT keyboard's controller gives them).

/// Keys by name; an extended key (0xe0 in front) has 0xe0 in the high byte.
const KEYS: &[(&str, u16)] = &[
    ("shift", 0x2a),
    ("shift_r", 0x36),
    ("alt", 0x38),
    ("alt_r", 0xe038),
    ("ctrl", 0x1d),
    ("ctrl_r", 0xe01d),
    ("menu", 0xe05d),
    ("esc", 0x01),
    ("1", 0x02),
    ("2", 0x03),
    ("3", 0x04),
    ("4", 0x05),
    ("5", 0x06),
    ("6", 0x07),
    ("7", 0x08),
    ("8", 0x09),
    ("9", 0x0a),
    ("0", 0x0b),
    ("minus", 0x0c),
    ("equal", 0x0d),
    ("backspace", 0x0e),
    ("tab", 0x0f),
    ("q", 0x10),
    ("w", 0x11),
    ("e", 0x12),
    ("r", 0x13),
    ("t", 0x14),
    ("y", 0x15),
    ("u", 0x16),
    ("i", 0x17),
    ("o", 0x18),
    ("p", 0x19),
    ("bracket_left", 0x1a),
    ("bracket_right", 0x1b),
    ("ret", 0x1c),
    ("a", 0x1e),
    ("s", 0x1f),
    ("d", 0x20),
    ("f", 0x21),
    ("g", 0x22),
    ("h", 0x23),
    ("j", 0x24),
    ("k", 0x25),
    ("l", 0x26),
    ("semicolon", 0x27),
    ("apostrophe", 0x28),
    ("grave_accent", 0x29),
    ("backslash", 0x2b),
    ("z", 0x2c),
    ("x", 0x2d),
    ("c", 0x2e),
    ("v", 0x2f),
    ("b", 0x30),
    ("n", 0x31),
    ("m", 0x32),
    ("comma", 0x33),
    ("dot", 0x34),
    ("slash", 0x35),
    ("asterisk", 0x37),
    ("spc", 0x39),
    ("caps_lock", 0x3a),
    ("f1", 0x3b),
    ("f2", 0x3c),
    ("f3", 0x3d),
    ("f4", 0x3e),
    ("f5", 0x3f),
    ("f6", 0x40),
    ("f7", 0x41),
    ("f8", 0x42),
    ("f9", 0x43),
    ("f10", 0x44),
    ("num_lock", 0x45),
    ("scroll_lock", 0x46),
    ("kp_divide", 0xe035),
    ("kp_multiply", 0x37),
    ("kp_subtract", 0x4a),
    ("kp_add", 0x4e),
    ("kp_enter", 0xe01c),
    ("kp_decimal", 0x53),
    ("sysrq", 0x54),
    ("kp_0", 0x52),
    ("kp_1", 0x4f),
    ("kp_2", 0x50),
    ("kp_3", 0x51),
    ("kp_4", 0x4b),
    ("kp_5", 0x4c),
    ("kp_6", 0x4d),
    ("kp_7", 0x47),
    ("kp_8", 0x48),
    ("kp_9", 0x49),
    ("less", 0x56),
    ("f11", 0x57),
    ("f12", 0x58),
    ("print", 0x54),
    ("home", 0xe047),
    ("pgup", 0xe049),
    ("pgdn", 0xe051),
    ("end", 0xe04f),
    ("left", 0xe04b),
    ("up", 0xe048),
    ("down", 0xe050),
    ("right", 0xe04d),
    ("insert", 0xe052),
    ("delete", 0xe053),
    ("meta_l", 0xe05b),
    ("meta_r", 0xe05c),
    ("compose", 0xe05d),
    ("power", 0xe05e),
    ("sleep", 0xe05f),
    ("wake", 0xe063),
    ("kp_equals", 0x59),
    ("kp_comma", 0x7e),
    ("ro", 0x73),
    ("yen", 0x7d),
    ("henkan", 0x79),
    ("muhenkan", 0x7b),
    ("hiragana", 0x77),
    ("katakana", 0x78),
];

/// The keys of `ctrl-alt-f1`; `<` is a spelling of the key beside the left shift.
pub(crate) fn split(text: &str) -> impl Iterator<Item = &str> {
    text.split('-').map(|name| if name == "<" { "less" } else { name })
}

/// The scan code of a key by name or as a number (`0x1e`).
pub(crate) fn code(name: &str) -> Option<u16> {
    if let Some(number) = name.strip_prefix("0x") {
        let code = u16::from_str_radix(number, 16).ok()?;
        // Bit 7 of a code stands for the extended keys.
        return (1..0x100).contains(&code).then_some(if code & 0x80 != 0 {
            0xe000 | code & 0x7f
        } else {
            code
        });
    }
    KEYS.iter().find(|(own, _)| *own == name).map(|(_, code)| *code)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_found_by_name_and_number() {
        let codes = |text| split(text).map(code).collect::<Vec<_>>();
        assert_eq!(codes("ctrl-alt-delete"), [Some(0x1d), Some(0x38), Some(0xe053)]);
        assert_eq!(codes("0x1e-0xd3-<-foo-0x"), [Some(0x1e), Some(0xe053), Some(0x56), None, None]);
    }
}
