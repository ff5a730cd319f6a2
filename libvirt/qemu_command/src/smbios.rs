//! What the guest is told about its system, and its generation.

use crate::command::Builder;
use crate::props::escape;
use crate::{Error, Props, Result};
use domain_xml::os::{SmbiosMode, SysinfoTable};

/// A table's number and its entries: libvirt's name, the option's.
type Table = (u8, &'static [(&'static str, &'static str)]);

const BIOS: Table =
    (0, &[("vendor", "vendor"), ("version", "version"), ("date", "date"), ("release", "release")]);
const SYSTEM: Table = (
    1,
    &[
        ("manufacturer", "manufacturer"),
        ("product", "product"),
        ("version", "version"),
        ("serial", "serial"),
        ("uuid", "uuid"),
        ("sku", "sku"),
        ("family", "family"),
    ],
);
const BOARD: Table = (
    2,
    &[
        ("manufacturer", "manufacturer"),
        ("product", "product"),
        ("version", "version"),
        ("serial", "serial"),
        ("asset", "asset"),
        ("location", "location"),
    ],
);
const CHASSIS: Table = (
    3,
    &[
        ("manufacturer", "manufacturer"),
        ("version", "version"),
        ("serial", "serial"),
        ("asset", "asset"),
        ("sku", "sku"),
    ],
);

impl Builder<'_> {
    pub(crate) fn smbios(&mut self) -> Result<()> {
        let domain = self.domain;
        let mode = domain.os.smbios.as_ref().map_or(SmbiosMode::None, |s| s.mode);
        match mode {
            SmbiosMode::None | SmbiosMode::Emulate => {}
            SmbiosMode::Host => return Err(Error::unsupported("Host SMBIOS information is not available")),
            SmbiosMode::Sysinfo => {
                let source = domain.sysinfo.iter().find(|s| s.kind == "smbios").ok_or_else(|| {
                    Error::xml(format!("Domain '{}' sysinfo are not available", domain.name()))
                })?;
                self.table(source.bios.as_ref(), BIOS);
                self.table(source.system.as_ref(), SYSTEM);
                if source.base_board.len() > 1 {
                    return Err(Error::unsupported(
                        "qemu does not support more than one entry to Type 2 in SMBIOS table",
                    ));
                }
                self.table(source.base_board.first(), BOARD);
                self.table(source.chassis.as_ref(), CHASSIS);
                if let Some(strings) = &source.oem_strings {
                    let values = strings.entry.iter().filter_map(|e| e.value.as_ref());
                    let text: String = values.map(|value| format!(",value={}", escape(value))).collect();
                    self.option("-smbios", format!("type=11{text}"));
                }
            }
        }
        self.firmware_config();
        if let Some(id) = domain.genid.as_ref() {
            let props = Props::device("vmgenid").some("guid", id.uuid.clone()).put("id", "vmgenid0");
            self.device(props)?;
        }
        Ok(())
    }

    fn table(&mut self, table: Option<&SysinfoTable>, (number, entries): Table) {
        let Some(table) = table else { return };
        let mut text = format!("type={number}");
        for (name, option) in entries {
            let entry = table.entry.iter().find(|e| e.name.as_deref() == Some(name));
            if let Some(value) = entry.and_then(|e| e.value.as_ref()) {
                text += &format!(",{option}={}", escape(value));
            }
        }
        self.option("-smbios", text);
    }
}
