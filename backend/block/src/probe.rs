//! Guessing an image's format by its first bytes.

/// The format whose signature `start` (the first sector) has; `raw` when it has none.
pub(crate) fn format_of(start: &[u8]) -> &'static str {
    const SIGNATURES: &[(&[u8], &str)] = &[
        (b"QFI\xfb", "qcow2"),
        (b"QED\0", "qed"),
        (b"KDMV", "vmdk"),
        (b"COWD", "vmdk"),
        (b"# Disk DescriptorFile", "vmdk"),
        (b"vhdxfile", "vhdx"),
        (b"conectix", "vpc"),
        (b"LUKS\xba\xbe", "luks"),
        (b"WithoutFreeSpace", "parallels"),
        (b"WithouFreSpacExt", "parallels"),
        (b"Bochs Virtual HD Image", "bochs"),
    ];
    if start.get(0x40..0x44) == Some(&[0x7f, 0x10, 0xda, 0xbe]) {
        return "vdi";
    }
    SIGNATURES.iter().find(|(magic, _)| start.starts_with(magic)).map_or("raw", |(_, name)| name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signatures_are_known_and_anything_else_is_raw() {
        assert_eq!(format_of(b"QFI\xfb\0\0\0\x03"), "qcow2");
        let mut vdi = [0; 512];
        vdi[0x40..0x44].copy_from_slice(&[0x7f, 0x10, 0xda, 0xbe]);
        assert_eq!(format_of(&vdi), "vdi");
        assert_eq!(format_of(&[0; 512]), "raw");
        assert_eq!(format_of(b""), "raw");
    }
}
