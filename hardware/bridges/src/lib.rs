//! Host bridges and the PCI functions of the south bridges: what makes a pc (440FX, PIIX) or a q35 (MCH, ICH9).
//!
//! Facts: Intel 82441FX (290549), 82371SB (290550), 82371AB (290562), G33/Q35 MCH (316966) and ICH9 (316972)
//! datasheets; identity, reset values and writable bits as QEMU's boards have them.
#![forbid(unsafe_code)]

mod ahci;
mod ich9;
mod ide;
mod pam;
mod pc_north;
mod piix;
mod q35_north;
mod smbus;

pub use ahci::Ich9Ahci;
pub use ich9::{Ich9Lpc, Ich9Smbus, LegacyPorts};
pub use ide::{Piix3Ide, no_drives};
pub use pam::Shadow;
pub use pc_north::I440fx;
pub use piix::{Piix3, Piix4Pm};
pub use q35_north::Mch;

use guestmem::Region;
use pci::Ids;

/// Shows `region`, which is in `space`, where it is wanted, or not at all.
fn place(space: &Region, region: &Region, wanted: Option<u64>) {
    if let Some(at) = wanted {
        space.move_to(region, at);
    }
    region.set_enabled(wanted.is_some());
}

/// The identity of a chip of Intel's, with the subsystem ids of virtual machines.
const fn intel(device: u16, revision: u8, class: u16, interface: u8) -> Ids {
    Ids { vendor: 0x8086, device, revision, class, interface, subsystem_vendor: 0x1af4, subsystem: 0x1100 }
}
