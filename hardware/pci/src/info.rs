//! `info pci`.

use crate::bus::PciBus;
use crate::config::regs;
use crate::function::{BarKind, PciFunction};
use std::fmt::Write as _;

/// The name of a class, where `info pci` has one (PCI Code and ID Assignment Specification).
pub fn class_name(class: u16) -> Option<&'static str> {
    Some(match class {
        0x0100 => "SCSI controller",
        0x0101 => "IDE controller",
        0x0106 => "SATA controller",
        0x0200 => "Ethernet controller",
        0x0300 => "VGA controller",
        0x0600 => "Host bridge",
        0x0601 => "ISA bridge",
        0x0604 => "PCI bridge",
        0x0680 => "Bridge",
        0x0c05 => "SMBus",
        _ => return None,
    })
}

impl PciBus {
    /// The text of `info pci`.
    pub fn describe(&self) -> String {
        let mut out = String::new();
        for function in self.functions() {
            function.describe_into(&mut out);
        }
        out
    }
}

impl PciFunction {
    fn describe_into(&self, out: &mut String) {
        let at = self.devfn();
        let class = (self.config(regs::REVISION, 4) >> 16) as u16;
        let class = class_name(class).map_or_else(|| format!("Class {class:04}"), str::to_owned);
        let (vendor, device) = (self.config(regs::VENDOR, 2), self.config(regs::DEVICE, 2));
        let (sub_vendor, sub) = (self.config(regs::SUBSYSTEM, 2), self.config(regs::SUBSYSTEM + 2, 2));
        let _ = writeln!(out, "  Bus  0, device {:3}, function {}:", at.device(), at.function());
        let _ = writeln!(out, "    {class}: PCI device {vendor:04x}:{device:04x}");
        let _ = writeln!(out, "      PCI subsystem {sub_vendor:04x}:{sub:04x}");
        let pin = self.config(regs::INTERRUPT_PIN, 1) as u8;
        if pin != 0 {
            let line = self.config(regs::INTERRUPT_LINE, 1);
            let _ = writeln!(out, "      IRQ {line}, pin {}", char::from(b'A' + (pin - 1) % 4));
        }
        for (index, bar) in self.bars.iter().enumerate() {
            let Some(bar) = bar else { continue };
            let at = self.bar_address(index as u8).unwrap_or(u64::MAX);
            let last = at.wrapping_add(bar.size - 1);
            let _ = match bar.kind {
                BarKind::Io => writeln!(out, "      BAR{index}: I/O at 0x{at:04x} [0x{last:04x}]."),
                BarKind::Memory32 { prefetchable } | BarKind::Memory64 { prefetchable } => {
                    let bits = if matches!(bar.kind, BarKind::Memory64 { .. }) { 64 } else { 32 };
                    let prefetch = if prefetchable { " prefetchable" } else { "" };
                    writeln!(
                        out,
                        "      BAR{index}: {bits} bit{prefetch} memory at 0x{at:08x} [0x{last:08x}]."
                    )
                }
            };
        }
        let _ = writeln!(out, "      id \"{}\"", self.id());
    }

    /// The lines that `info qtree` shows below a PCI device's properties.
    pub fn qtree_lines(&self) -> Vec<String> {
        let class = (self.config(regs::REVISION, 4) >> 16) as u16;
        let name = class_name(class).map_or_else(|| format!("Class {class:04x}"), str::to_owned);
        let mut lines = vec![format!(
            "class {name}, addr 00:{}, pci id {:04x}:{:04x} (sub {:04x}:{:04x})",
            self.devfn(),
            self.config(regs::VENDOR, 2),
            self.config(regs::DEVICE, 2),
            self.config(regs::SUBSYSTEM, 2),
            self.config(regs::SUBSYSTEM + 2, 2)
        )];
        for (index, bar) in self.bars.iter().enumerate() {
            let Some(bar) = bar else { continue };
            let at = self.bar_address(index as u8).unwrap_or(u64::MAX);
            let kind = if bar.kind == BarKind::Io { "i/o" } else { "mem" };
            lines.push(format!("bar {index}: {kind} at {at:#x} [{:#x}]", at.wrapping_add(bar.size - 1)));
        }
        lines
    }
}
