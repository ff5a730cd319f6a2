//! The board as one processor sees it.

use accel::CpuIo;
use chipset::i8042::A20Gate;
use chipset::lapic::LocalApic;
use chipset::misc::FerrLatch;
use clock::Clock;
use guestmem::AddressSpace;
use std::sync::Arc;

/// Ports, memory-mapped registers and the interrupt controllers of one processor.
pub struct PcCpu {
    pub(crate) apic: Arc<LocalApic>,
    pub(crate) memory: AddressSpace,
    pub(crate) ports: AddressSpace,
    pub(crate) a20: Arc<A20Gate>,
    pub(crate) ferr: Arc<FerrLatch>,
    pub(crate) clock: Clock,
}

impl PcCpu {
    /// The processor's local APIC.
    pub fn apic(&self) -> &Arc<LocalApic> {
        &self.apic
    }

    /// The offset in the APIC's page, when `address` lies there and the APIC decodes it.
    fn in_apic(&self, address: u64) -> Option<u64> {
        self.apic.covers(address).then_some(address & 0xfff)
    }
}

impl CpuIo for PcCpu {
    fn mmio_read(&self, address: u64, size: u8) -> u64 {
        match self.in_apic(address) {
            Some(offset) => self.apic.mmio_read(offset, size),
            None => self.memory.read_int(address, size),
        }
    }

    fn mmio_write(&self, address: u64, size: u8, value: u64) {
        match self.in_apic(address) {
            Some(offset) => self.apic.mmio_write(offset, size, value),
            None => self.memory.write_int(address, size, value),
        }
    }

    fn port_read(&self, port: u16, size: u8) -> u32 {
        self.ports.read_int(port.into(), size) as u32
    }

    fn port_write(&self, port: u16, size: u8, value: u32) {
        self.ports.write_int(port.into(), size, value.into());
    }

    fn acknowledge_interrupt(&self) -> Option<u8> {
        self.apic.acknowledge()
    }

    fn apic_base(&self) -> u64 {
        self.apic.base()
    }

    fn set_apic_base(&self, value: u64) -> bool {
        self.apic.set_base(value)
    }

    fn apic_msr_read(&self, msr: u32) -> Option<u64> {
        self.apic.msr_read(msr)
    }

    fn apic_msr_write(&self, msr: u32, value: u64) -> bool {
        self.apic.msr_write(msr, value)
    }

    fn set_tsc_deadline(&self, deadline: u64, now: u64, hz: u64) -> bool {
        self.apic.set_tsc_deadline(deadline, now, hz)
    }

    fn tpr(&self) -> u8 {
        self.apic.tpr()
    }

    fn set_tpr(&self, value: u8) {
        self.apic.set_tpr(value);
    }

    fn poll_timers(&self) {
        self.clock.poll();
    }

    fn fpu_error(&self) {
        self.ferr.raise();
    }

    fn a20_mask(&self) -> u64 {
        self.a20.mask()
    }
}
