//! One processor: events, guest mode, and what guest mode is left for.

use crate::kick::Kick;
use crate::xsave::Layout;
use crate::{cpuid, reason, regs};
use accel::{CpuIo, Exit, Vcpu, VcpuSetup};
use irq::{CpuSignals, Event};
use kvm_bindings::{
    CpuId, KVM_EXIT_DEBUG, KVM_EXIT_FAIL_ENTRY, KVM_EXIT_HLT, KVM_EXIT_INTERNAL_ERROR, KVM_EXIT_INTR,
    KVM_EXIT_IO, KVM_EXIT_IO_OUT, KVM_EXIT_IRQ_WINDOW_OPEN, KVM_EXIT_MMIO, KVM_EXIT_SET_TPR,
    KVM_EXIT_SHUTDOWN, KVM_EXIT_UNKNOWN, Msrs, kvm_interrupt, kvm_run, kvm_xcrs, kvm_xsave,
};
use kvm_ioctls::VcpuFd;
use std::arch::x86_64::_rdtsc;
use std::os::fd::AsRawFd;
use std::ptr::NonNull;
use std::sync::Arc;
use x86::{Activity, Segment, X86State};

/// `KVM_INTERRUPT`: _IOW(0xae, 0x86, struct kvm_interrupt).
const KVM_INTERRUPT: libc::c_ulong = 0x4004_ae86;
/// An internal error because an instruction could not be emulated.
const EMULATION: u32 = 1;

/// A processor.
pub(crate) struct KvmVcpu {
    fd: VcpuFd,
    state: X86State,
    /// Whether `state` holds what KVM has.
    current: bool,
    activity: Activity,
    /// An access to ports or registers was answered, and KVM has not taken the answer yet.
    unfinished: bool,
    /// KVM refused the registers.
    failed: bool,
    /// Whether the guest takes interrupts, as of the last stay in guest mode.
    enabled: bool,
    signature: u32,
    xsave: Layout,
    has_xcr0: bool,
    signals: Arc<CpuSignals>,
    io: Arc<dyn CpuIo>,
    kick: Arc<Kick>,
}

/// What became of a stay in guest mode.
enum After {
    Continue,
    Leave(Exit),
}

impl KvmVcpu {
    pub(crate) fn new(mut fd: VcpuFd, setup: VcpuSetup, supported: &CpuId) -> Result<Self, String> {
        let model = setup.model.for_apic_id(setup.apic_id);
        let entries = CpuId::from_entries(&cpuid::guest(&model, supported))
            .map_err(|_| "too many CPUID entries".to_owned())?;
        fd.set_cpuid2(&entries).map_err(|error| format!("KVM_SET_CPUID2: {}", reason(error)))?;
        let components = model.read(0xd, 0);
        let components = u64::from(components.edx) << 32 | u64::from(components.eax);
        let xsave = Layout::new(|n| {
            let place = cpuid::find(supported, 0xd, n).map_or(0, |leaf| leaf.ebx);
            if components >> n & 1 != 0 { place } else { 0 }
        });
        let flag = NonNull::from(&mut fd.get_kvm_run().immediate_exit);
        let kick = Kick::new(flag);
        let remote = kick.clone();
        setup.signals.set_kick(Box::new(move || remote.fire()));
        let version = model.read(1, 0);
        let mut vcpu = Self {
            fd,
            state: X86State::default(),
            current: true,
            activity: Activity::Running,
            unfinished: false,
            failed: false,
            enabled: false,
            signature: version.eax,
            xsave,
            has_xcr0: version.ecx & 1 << 26 != 0,
            signals: setup.signals,
            io: setup.io,
            kick,
        };
        let mut state = X86State::default();
        state.gpr[2] = version.eax.into();
        if setup.index != 0 {
            state.activity = Activity::WaitForSipi;
        }
        vcpu.set_state(&state);
        if vcpu.failed { Err("kvm does not take the processor's registers".to_owned()) } else { Ok(vcpu) }
    }

    /// Reads everything from KVM.
    fn pull(&mut self) -> Result<(), kvm_ioctls::Error> {
        let state = &mut self.state;
        regs::general_back(&self.fd.get_regs()?, state);
        regs::system_back(&self.fd.get_sregs()?, state);
        regs::debug_back(&self.fd.get_debug_regs()?, state);
        regs::events_back(&self.fd.get_vcpu_events()?, state);
        let area = self.fd.get_xsave()?;
        let mut bytes: Vec<u8> = area.region.iter().flat_map(|word| word.to_le_bytes()).collect();
        self.xsave.load(&mut bytes, state);
        if self.has_xcr0 {
            state.xcr0 = self.fd.get_xcrs()?.xcrs.first().map_or(1, |xcr| xcr.value);
        }
        let fd = &self.fd;
        regs::for_each_msr(state, |index, value| {
            if let Some(found) = read_msr(fd, index) {
                *value = found;
            }
        });
        state.tsc_offset = read_msr(fd, regs::MSR_TSC).unwrap_or(0).wrapping_sub(host_tsc());
        state.activity = self.activity;
        Ok(())
    }

    /// Writes `self.state` to KVM.
    fn push(&mut self) -> Result<(), kvm_ioctls::Error> {
        let state = &mut self.state;
        self.fd.set_sregs(&regs::system(state, self.io.tpr().into(), self.io.apic_base()))?;
        self.fd.set_regs(&regs::general(state))?;
        self.fd.set_debug_regs(&regs::debug(state))?;
        self.fd.set_vcpu_events(&regs::events(state))?;
        if self.has_xcr0 {
            let mut xcrs = kvm_xcrs { nr_xcrs: 1, ..kvm_xcrs::default() };
            xcrs.xcrs[0].value = state.xcr0;
            self.fd.set_xcrs(&xcrs)?;
        }
        let mut bytes = [0; 4096];
        self.xsave.store(state, &mut bytes);
        let mut area = kvm_xsave::default();
        for (word, raw) in area.region.iter_mut().zip(bytes.chunks_exact(4)) {
            *word = raw.iter().rev().fold(0, |v, &b| v << 8 | u32::from(b));
        }
        // SAFETY: no dynamically enabled component was asked for, so that the structure is as long as KVM reads.
        unsafe { self.fd.set_xsave(&area)? };
        let fd = &self.fd;
        // Some of them a host may lack; a guest that is shown no such MSR does not miss it.
        regs::for_each_msr(state, |index, value| write_msr(fd, index, *value));
        write_msr(fd, regs::MSR_TSC, host_tsc().wrapping_add(state.tsc_offset));
        Ok(())
    }

    fn load(&mut self, state: &X86State) {
        self.state = state.clone();
        self.activity = state.activity;
        self.current = true;
        self.unfinished = false;
        let run = self.fd.get_kvm_run();
        run.ready_for_interrupt_injection = 0;
        self.enabled = false;
        if let Err(error) = self.push() {
            report::error_report!("kvm_arch_put_registers: {}", reason(error));
            self.failed = true;
        }
    }

    /// The INIT signal (SDM vol. 3, table 10-1).
    fn init(&mut self) {
        let old = self.state().clone();
        let mut new = X86State {
            cr0: 0x10 | old.cr0 & 0x6000_0000,
            activity: if self.io.apic_base() & 0x100 == 0 {
                Activity::WaitForSipi
            } else {
                Activity::Running
            },
            seg: X86State::default().seg,
            ..old.clone()
        };
        let reset = X86State::default();
        new.gpr = reset.gpr;
        new.gpr[2] = self.signature.into();
        (new.rip, new.rflags, new.ldtr, new.tr) = (reset.rip, reset.rflags, reset.ldtr, reset.tr);
        (new.gdtr, new.idtr, new.dr, new.cpl) = (reset.gdtr, reset.idtr, reset.dr, 0);
        (new.cr2, new.cr3, new.cr4, new.efer) = (0, 0, 0, 0);
        (new.interrupt_shadow, new.nmi_blocked) = (false, false);
        self.load(&new);
    }

    fn start_up(&mut self) {
        let mut state = self.state().clone();
        state.seg[1] = Segment::real_mode(u16::from(self.signals.sipi_vector()) << 8, true);
        state.rip = 0;
        state.activity = Activity::Running;
        self.load(&state);
    }

    /// Has KVM take the answer to the last access, so that the registers are those after the instruction.
    fn finish(&mut self) -> Option<Exit> {
        while self.unfinished {
            self.unfinished = false;
            self.kick.demand();
            if let After::Leave(exit) = self.enter() {
                return Some(exit);
            }
        }
        None
    }

    /// What the mailbox holds; `Some` leaves `run`.
    fn events(&mut self) -> Option<Exit> {
        if self.signals.is_raised(Event::Exit) {
            return Some(self.finish().unwrap_or(Exit::Interrupted));
        }
        // The memory slots have changed already, and A20 is not masked.
        self.signals.take(Event::MapChanged);
        self.signals.take(Event::Accel);
        if self.signals.is_raised(Event::Init) {
            if let Some(exit) = self.finish() {
                return Some(exit);
            }
            self.signals.take(Event::Init);
            self.init();
        }
        match self.activity {
            Activity::WaitForSipi => {
                if !self.signals.take(Event::Sipi) {
                    return Some(Exit::Halted);
                }
                self.start_up();
            }
            Activity::Shutdown => return Some(Exit::Shutdown),
            Activity::Running | Activity::Halted => {
                self.signals.take(Event::Sipi);
            }
        }
        if self.signals.take(Event::Nmi) {
            self.activity = Activity::Running;
            if let Err(error) = self.fd.nmi() {
                report::error_report!("KVM: injection failed, NMI lost ({})", reason(error));
            }
        }
        self.inject();
        (self.activity == Activity::Halted).then_some(Exit::Halted)
    }

    /// Hands the guest an interrupt if it can take one, else asks to be told when it can.
    fn inject(&mut self) {
        let wanted = |vcpu: &Self| vcpu.signals.is_raised(Event::Intr);
        let open = self.fd.get_kvm_run().ready_for_interrupt_injection != 0;
        if wanted(self) && self.enabled {
            if !open {
                self.activity = Activity::Running;
            } else if let Some(vector) = self.io.acknowledge_interrupt() {
                self.activity = Activity::Running;
                let interrupt = kvm_interrupt { irq: vector.into() };
                // SAFETY: the structure is what this ioctl reads.
                let result = unsafe { libc::ioctl(self.fd.as_raw_fd(), KVM_INTERRUPT as _, &interrupt) };
                if result < 0 {
                    let error = std::io::Error::last_os_error();
                    report::error_report!("KVM: injection failed, interrupt lost ({error})");
                }
                self.fd.get_kvm_run().ready_for_interrupt_injection = 0;
            }
        }
        let more = wanted(self);
        self.fd.get_kvm_run().request_interrupt_window = more.into();
    }

    /// Runs guest code until it needs something, and does that.
    fn enter(&mut self) -> After {
        let (tpr, apic_base) = (self.io.tpr(), self.io.apic_base());
        let run = self.fd.get_kvm_run();
        run.cr8 = tpr.into();
        run.apic_base = apic_base;
        self.current = false;
        let result = self.fd.run().map(|_| ());
        let run = self.fd.get_kvm_run();
        let (new_tpr, new_base) = ((run.cr8 & 15) as u8, run.apic_base);
        self.enabled = run.if_flag != 0;
        if new_tpr != tpr {
            self.io.set_tpr(new_tpr);
        }
        if new_base != apic_base {
            self.io.set_apic_base(new_base);
        }
        match result {
            Ok(()) => self.leave(),
            Err(error) if [libc::EINTR, libc::EAGAIN].contains(&error.errno()) => After::Continue,
            Err(error) => {
                eprintln!("error: kvm run failed {}", reason(error));
                After::Leave(self.fail())
            }
        }
    }

    fn fail(&mut self) -> Exit {
        let state = self.state();
        eprintln!(
            "RIP={:016x} RFL={:08x} CS ={:04x} {:016x} CR0={:08x} CR3={:016x} CR4={:08x} EFER={:016x}",
            state.rip,
            state.rflags,
            state.seg[1].selector,
            state.seg[1].base,
            state.cr0,
            state.cr3,
            state.cr4,
            state.efer
        );
        Exit::Failed
    }

    fn leave(&mut self) -> After {
        let io = self.io.clone();
        let run = self.fd.get_kvm_run();
        match run.exit_reason {
            KVM_EXIT_IO => {
                self.unfinished = true;
                port_access(&*io, run);
            }
            KVM_EXIT_MMIO => {
                self.unfinished = true;
                register_access(&*io, run);
            }
            KVM_EXIT_HLT => self.activity = Activity::Halted,
            KVM_EXIT_IRQ_WINDOW_OPEN | KVM_EXIT_SET_TPR | KVM_EXIT_INTR => {}
            KVM_EXIT_SHUTDOWN => {
                self.activity = Activity::Shutdown;
                return After::Leave(Exit::Shutdown);
            }
            KVM_EXIT_DEBUG => return After::Leave(Exit::Debug),
            KVM_EXIT_FAIL_ENTRY => {
                // SAFETY: the exit reason says that this member is the one.
                let why = unsafe { run.__bindgen_anon_1.fail_entry.hardware_entry_failure_reason };
                eprintln!("KVM: entry failed, hardware error 0x{why:x}");
                return After::Leave(self.fail());
            }
            KVM_EXIT_INTERNAL_ERROR => {
                // SAFETY: as above.
                let error = unsafe { run.__bindgen_anon_1.internal.suberror };
                eprintln!("KVM internal error. Suberror: {error}");
                if error == EMULATION {
                    eprintln!("emulation failure");
                }
                return After::Leave(self.fail());
            }
            KVM_EXIT_UNKNOWN => {
                // SAFETY: as above.
                let why = unsafe { run.__bindgen_anon_1.hw.hardware_exit_reason };
                eprintln!("KVM: unknown exit, hardware reason {why:x}");
                return After::Leave(self.fail());
            }
            other => {
                eprintln!("KVM: unknown exit reason {other}");
                return After::Leave(self.fail());
            }
        }
        After::Continue
    }

    fn run_loop(&mut self) -> Exit {
        if self.failed {
            return Exit::Failed;
        }
        loop {
            // What is posted from here on ends the next stay in guest mode; what was posted before is seen now.
            self.kick.reset();
            if let Some(exit) = self.events() {
                return exit;
            }
            if self.failed {
                return Exit::Failed;
            }
            self.unfinished = false;
            if let After::Leave(exit) = self.enter() {
                return exit;
            }
            self.io.poll_timers();
        }
    }
}

/// IN or OUT, possibly many by one string instruction.
fn port_access(io: &dyn CpuIo, run: &mut kvm_run) {
    // SAFETY: the exit reason says that this member is the one.
    let access = unsafe { run.__bindgen_anon_1.io };
    let size = usize::from(access.size.clamp(1, 4));
    let len = size * access.count as usize;
    let start = std::ptr::from_mut(run).cast::<u8>();
    // SAFETY: KVM says that the data lies there, in the mapping that `run` begins; nobody else looks at it now.
    let data = unsafe { std::slice::from_raw_parts_mut(start.add(access.data_offset as usize), len) };
    for element in data.chunks_exact_mut(size) {
        let mut bytes = [0; 4];
        if u32::from(access.direction) == KVM_EXIT_IO_OUT {
            bytes[..size].copy_from_slice(element);
            io.port_write(access.port, size as u8, u32::from_le_bytes(bytes));
        } else {
            bytes = io.port_read(access.port, size as u8).to_le_bytes();
            element.copy_from_slice(&bytes[..size]);
        }
    }
}

/// An access to memory that has no slot.
fn register_access(io: &dyn CpuIo, run: &mut kvm_run) {
    // SAFETY: the exit reason says that this member is the one.
    let access = unsafe { &mut run.__bindgen_anon_1.mmio };
    let len = (access.len as usize).min(8);
    // An access over the end of a page comes in parts of any length.
    let step = if len.is_power_of_two() { len } else { 1 };
    for (at, part) in (access.phys_addr..).step_by(step).zip(access.data[..len].chunks_exact_mut(step)) {
        let mut bytes = [0; 8];
        if access.is_write != 0 {
            bytes[..step].copy_from_slice(part);
            io.mmio_write(at, step as u8, u64::from_le_bytes(bytes));
        } else {
            bytes = io.mmio_read(at, step as u8).to_le_bytes();
            part.copy_from_slice(&bytes[..step]);
        }
    }
}

fn host_tsc() -> u64 {
    // SAFETY: every processor that KVM runs on has the instruction.
    unsafe { _rdtsc() }
}

fn read_msr(fd: &VcpuFd, index: u32) -> Option<u64> {
    let mut msrs = Msrs::from_entries(&[regs::msr(index, 0)]).ok()?;
    let count = fd.get_msrs(&mut msrs).ok()?;
    msrs.as_slice().first().filter(|_| count == 1).map(|entry| entry.data)
}

fn write_msr(fd: &VcpuFd, index: u32, value: u64) {
    if let Ok(msrs) = Msrs::from_entries(&[regs::msr(index, value)]) {
        let _ = fd.set_msrs(&msrs);
    }
}

impl Vcpu for KvmVcpu {
    fn run(&mut self) -> Exit {
        self.kick.set_thread(true);
        let exit = self.run_loop();
        self.kick.set_thread(false);
        exit
    }

    fn wake_mask(&self) -> u32 {
        const ALWAYS: u32 = Event::Init as u32 | Event::Exit as u32;
        match self.activity {
            Activity::WaitForSipi => ALWAYS | Event::Sipi as u32,
            Activity::Shutdown => ALWAYS,
            Activity::Running | Activity::Halted if self.enabled => {
                ALWAYS | Event::Nmi as u32 | Event::Intr as u32
            }
            Activity::Running | Activity::Halted => ALWAYS | Event::Nmi as u32,
        }
    }

    fn state(&mut self) -> &X86State {
        if !self.current {
            match self.pull() {
                Ok(()) => self.current = true,
                Err(error) => report::error_report!("kvm_arch_get_registers: {}", reason(error)),
            }
        }
        self.state.activity = self.activity;
        &self.state
    }

    fn set_state(&mut self, state: &X86State) {
        self.failed = false;
        self.load(state);
        // What the state does not hold belongs to the guest that was there before: KVM would go on writing its clocks'
        // pages, for one.
        for index in regs::UNKEPT_MSRS {
            write_msr(&self.fd, index, 0);
        }
    }

    fn translate(&mut self, linear: u64) -> Option<u64> {
        let found = self.fd.translate_gva(linear).ok()?;
        (found.valid != 0).then_some(found.physical_address)
    }

    fn tsc(&mut self) -> u64 {
        read_msr(&self.fd, regs::MSR_TSC).unwrap_or_else(host_tsc)
    }

    fn shift_tsc(&mut self, ticks: u64) {
        let now = Vcpu::tsc(self);
        write_msr(&self.fd, regs::MSR_TSC, now.wrapping_add(ticks));
        self.state.tsc_offset = self.state.tsc_offset.wrapping_add(ticks);
    }
}

impl Drop for KvmVcpu {
    fn drop(&mut self) {
        self.kick.release();
    }
}
