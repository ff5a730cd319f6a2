//! Features of the machine.

use xml::{element, words};

use crate::units::{Kib, MibLong};
use crate::words::OnOff;

/// A feature that is on or off.
#[element]
pub struct State {
    #[attr]
    pub state: Option<OnOff>,
}

/// A feature whose state may be left out.
#[element]
pub struct HypervState {
    #[attr]
    pub state: OnOff,
}

/// The local interrupt controllers.
#[element]
pub struct Apic {
    #[attr]
    pub eoi: Option<OnOff>,
}

/// Spin locks of Windows.
#[element]
pub struct Spinlocks {
    #[attr]
    pub state: OnOff,
    #[attr]
    pub retries: Option<u32>,
}

/// Timers of Windows.
#[element]
pub struct Stimer {
    #[attr]
    pub state: OnOff,
    #[child]
    pub direct: Option<HypervState>,
}

/// The name that Windows is told.
#[element]
pub struct VendorId {
    #[attr]
    pub state: OnOff,
    #[attr]
    pub value: Option<String>,
}

/// How features for Windows are chosen.
#[words]
pub enum HypervMode {
    Custom,
    Passthrough,
}

/// Features for Windows.
#[element]
pub struct Hyperv {
    #[attr(default)]
    pub mode: HypervMode,
    #[child]
    pub relaxed: Option<HypervState>,
    #[child]
    pub vapic: Option<HypervState>,
    #[child]
    pub spinlocks: Option<Spinlocks>,
    #[child]
    pub vpindex: Option<HypervState>,
    #[child]
    pub runtime: Option<HypervState>,
    #[child]
    pub synic: Option<HypervState>,
    #[child]
    pub stimer: Option<Stimer>,
    #[child]
    pub reset: Option<HypervState>,
    #[child]
    pub vendor_id: Option<VendorId>,
    #[child]
    pub frequencies: Option<HypervState>,
    #[child]
    pub reenlightenment: Option<HypervState>,
    #[child]
    pub tlbflush: Option<HypervState>,
    #[child]
    pub ipi: Option<HypervState>,
    #[child]
    pub evmcs: Option<HypervState>,
    #[child]
    pub avic: Option<HypervState>,
    #[flatten]
    pub split: xml::Split,
}

/// The ring of pages that the guest wrote.
#[element]
pub struct DirtyRing {
    #[attr]
    pub state: OnOff,
    #[attr]
    pub size: Option<u32>,
}

/// Features of the kernel's hypervisor.
#[element]
pub struct Kvm {
    #[child]
    pub hidden: Option<HypervState>,
    #[child("hint-dedicated")]
    pub hint_dedicated: Option<HypervState>,
    #[child("poll-control")]
    pub poll_control: Option<HypervState>,
    #[child("pv-ipi")]
    pub pv_ipi: Option<HypervState>,
    #[child("dirty-ring")]
    pub dirty_ring: Option<DirtyRing>,
}

/// System management mode.
#[element]
pub struct Smm {
    #[attr]
    pub state: Option<OnOff>,
    #[child]
    pub tseg: Option<MibLong>,
}

/// Who implements the interrupt controller of the board.
#[element]
pub struct IoApic {
    #[attr]
    pub driver: IoApicDriver,
}

/// Who implements the interrupt controller of the board.
#[words]
pub enum IoApicDriver {
    Qemu,
    Kvm,
}

/// What happens at unknown registers.
#[element]
pub struct Msrs {
    #[attr]
    pub unknown: MsrPolicy,
}

/// What happens at unknown registers.
#[words]
pub enum MsrPolicy {
    Ignore,
    Fault,
}

/// Settings of the emulator's own engine.
#[element]
pub struct Tcg {
    #[child("tb-cache")]
    pub tb_cache: Option<Kib>,
}

/// Features of the machine.
#[element]
pub struct Features {
    #[flag]
    pub acpi: bool,
    #[child]
    pub apic: Option<Apic>,
    #[flag]
    pub pae: bool,
    #[child]
    pub hap: Option<State>,
    #[flag]
    pub viridian: bool,
    #[flag]
    pub privnet: bool,
    #[child]
    pub hyperv: Option<Hyperv>,
    #[child]
    pub kvm: Option<Kvm>,
    #[child]
    pub pvspinlock: Option<State>,
    #[child]
    pub pmu: Option<State>,
    #[child]
    pub vmport: Option<State>,
    #[child]
    pub smm: Option<Smm>,
    #[child]
    pub ioapic: Option<IoApic>,
    #[child]
    pub vmcoreinfo: Option<State>,
    #[child]
    pub msrs: Option<Msrs>,
    #[child]
    pub tcg: Option<Tcg>,
}

impl Features {
    /// Switches that are named without a state are on.
    pub fn fill_states(&mut self) {
        let plain =
            [&mut self.hap, &mut self.pvspinlock, &mut self.pmu, &mut self.vmport, &mut self.vmcoreinfo];
        for switch in plain.into_iter().flatten() {
            switch.state.get_or_insert(OnOff::On);
        }
        if let Some(smm) = &mut self.smm {
            smm.state.get_or_insert(OnOff::On);
        }
    }
}
