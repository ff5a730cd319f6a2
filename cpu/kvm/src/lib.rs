//! `-accel kvm`: guest code run by the host's KVM (Linux, Documentation/virt/kvm/api.rst).
//!
//! The interrupt controllers stay in user space: KVM is given neither its own APICs nor a PIC, and an interrupt is
//! injected when the guest can take one. A processor is therefore told to leave guest mode (module `kick`) whenever
//! something is posted in its mailbox, HLT and start-up messages are handled here, and features of a local APIC that
//! only the kernel's has (x2APIC mode, the TSC deadline) are not shown.
//!
//! The A20 gate does not mask addresses: KVM has no such thing.

mod cpuid;
mod kick;
mod memory;
mod regs;
mod vcpu;
mod xsave;

#[cfg(test)]
mod tests;

use accel::{Accelerator, Vcpu, VcpuSetup};
use kvm_ioctls::VmFd;
use memory::Slots;
use std::fs::OpenOptions;
use std::io;
use std::os::fd::IntoRawFd;
use std::sync::{Arc, Once};
use x86::features::FeatureSet;
use x86::models::HostCpu;

/// Where Intel processors without real mode for guests keep three pages for KVM, and one for an identity mapping:
/// between the APICs and firmware.
const TSS_ADDRESS: usize = 0xfeff_d000;
const IDENTITY_MAP: u64 = 0xfeff_c000;

/// Most entries of a CPUID table.
pub(crate) const CPUID_ENTRIES: usize = 256;

/// Why KVM cannot be used.
#[derive(Debug)]
pub enum OpenError {
    /// There is no such device, or it may not be opened.
    Access(io::Error),
    /// It does not do what is needed; the text says what.
    Unusable(String),
}

/// KVM, with one virtual machine.
pub struct Kvm {
    system: kvm_ioctls::Kvm,
    vm: Arc<VmFd>,
    slots: Arc<Slots>,
    subscribed: Once,
    supported: kvm_bindings::CpuId,
}

impl Kvm {
    /// Opens `/dev/kvm` and makes an empty virtual machine.
    ///
    /// # Errors
    /// See [`OpenError`].
    pub fn open() -> Result<Self, OpenError> {
        let device = OpenOptions::new().read(true).write(true).open("/dev/kvm").map_err(OpenError::Access)?;
        // SAFETY: the descriptor is open, and is given away.
        let system = unsafe { kvm_ioctls::Kvm::from_raw_fd(device.into_raw_fd()) };
        let refused = |what: &str| {
            let what = what.to_owned();
            move |error: kvm_ioctls::Error| OpenError::Unusable(format!("{what}: {}", reason(error)))
        };
        // QEMU has a line of its own for these, before the error of the accelerator.
        match system.get_api_version() {
            12 => {}
            version => {
                let last = io::Error::last_os_error();
                eprintln!("kvm version {}", if version < 12 { "too old" } else { "not supported" });
                let invalid = kvm_ioctls::Error::new(libc::EINVAL);
                let error = match last.raw_os_error() {
                    Some(number) if version < 0 => kvm_ioctls::Error::new(number),
                    _ => invalid,
                };
                return Err(OpenError::Unusable(reason(error)));
            }
        }
        use kvm_ioctls::Cap;
        for (capability, name) in [
            (Cap::UserMemory, "KVM_CAP_USER_MEMORY"),
            (Cap::ImmediateExit, "KVM_CAP_IMMEDIATE_EXIT"),
            (Cap::ReadonlyMem, "KVM_CAP_READONLY_MEM"),
            (Cap::Xsave, "KVM_CAP_XSAVE"),
            (Cap::VcpuEvents, "KVM_CAP_VCPU_EVENTS"),
            (Cap::Debugregs, "KVM_CAP_DEBUGREGS"),
        ] {
            if !system.check_extension(capability) {
                return Err(OpenError::Unusable(format!("kvm does not support {name}")));
            }
        }
        let vm = system.create_vm().map_err(refused("ioctl(KVM_CREATE_VM) failed"))?;
        vm.set_identity_map_address(IDENTITY_MAP).map_err(refused("KVM_SET_IDENTITY_MAP_ADDR"))?;
        vm.set_tss_address(TSS_ADDRESS).map_err(refused("KVM_SET_TSS_ADDR"))?;
        let supported =
            system.get_supported_cpuid(CPUID_ENTRIES).map_err(refused("KVM_GET_SUPPORTED_CPUID"))?;
        kick::install_handler().map_err(|error| OpenError::Unusable(error.to_string()))?;
        let vm = Arc::new(vm);
        let slots = Slots::new(vm.clone(), system.get_nr_memslots());
        Ok(Self { system, vm, slots, subscribed: Once::new(), supported })
    }

    /// The CPU features that guests can be shown.
    pub fn supported_features(&self) -> FeatureSet {
        cpuid::features(&self.supported)
    }

    /// What `-cpu host` shows.
    pub fn host_cpu(&self) -> HostCpu {
        cpuid::host(&self.supported)
    }

    /// Width of the host's physical addresses.
    pub fn phys_bits(&self) -> u32 {
        cpuid::find(&self.supported, 0x8000_0008, 0).map_or(36, |leaf| leaf.eax & 0xff)
    }

    /// Most processors of a machine.
    pub fn max_cpus(&self) -> u32 {
        u32::try_from(self.system.get_max_vcpus()).unwrap_or(u32::MAX)
    }
}

impl Accelerator for Kvm {
    fn name(&self) -> &'static str {
        "kvm"
    }

    fn create_vcpu(&self, setup: VcpuSetup) -> Result<Box<dyn Vcpu>, String> {
        self.subscribed.call_once(|| {
            let slots = self.slots.clone();
            setup.memory.subscribe(move |view| slots.update(view));
            self.slots.update(&setup.memory.view());
        });
        if let Some(error) = self.slots.failure() {
            return Err(error);
        }
        let fd = self.vm.create_vcpu(setup.apic_id.into()).map_err(|error| {
            format!("kvm_init_vcpu: kvm_get_vcpu failed ({}): {}", setup.index, reason(error))
        })?;
        Ok(Box::new(vcpu::KvmVcpu::new(fd, setup, &self.supported)?))
    }
}

/// The C library's text for an error.
pub(crate) fn reason(error: kvm_ioctls::Error) -> String {
    let text = io::Error::from_raw_os_error(error.errno()).to_string();
    text.rfind(" (os error").map_or(text.clone(), |at| text[..at].to_owned())
}

use std::os::fd::FromRawFd as _;
