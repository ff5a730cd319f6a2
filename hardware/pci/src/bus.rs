//! A bus: who sits where, and how their interrupts leave it.

use crate::address::Devfn;
use crate::config::regs;
use crate::function::{FunctionBuilder, PciFunction};
use crate::slot::{PciSlot, address_of};
use guestmem::{AddressSpace, Region};
use irq::MsiSink;
use parking_lot::{Mutex, RwLock};
use qdev::{Bus, Context, Device, DeviceError, DeviceSpec, Properties};
use std::collections::BTreeMap;
use std::sync::{Arc, Weak};

/// Where a root bus's INTx wires lead.
pub trait IntxRouter: Send + Sync {
    /// The wire of pin `pin` (0 for INTA#) of a device.
    fn map(&self, devfn: Devfn, pin: u8) -> u8;
    /// A wire changed its level.
    fn set(&self, wire: u8, level: bool);
}

/// How many functions pull each wire.
pub(crate) struct Wires {
    router: Option<Arc<dyn IntxRouter>>,
    pulls: [u32; 256],
}

impl Wires {
    pub(crate) fn map(&self, devfn: Devfn, pin: u8) -> u8 {
        self.router.as_ref().map_or(0, |r| r.map(devfn, pin & 3))
    }

    pub(crate) fn count(&mut self, wire: u8, on: bool) {
        let pulls = &mut self.pulls[usize::from(wire)];
        let before = *pulls > 0;
        *pulls = if on { pulls.saturating_add(1) } else { pulls.saturating_sub(1) };
        let after = *pulls > 0;
        if before != after
            && let Some(router) = &self.router
        {
            router.set(wire, after);
        }
    }
}

/// A root bus.
pub struct PciBus {
    own: Weak<Self>,
    name: String,
    express: bool,
    memory: Region,
    io: Region,
    dma: AddressSpace,
    msi: Arc<dyn MsiSink>,
    wires: Mutex<Wires>,
    functions: RwLock<BTreeMap<Devfn, Arc<PciFunction>>>,
    /// Device numbers that automatic placement leaves free, as a mask.
    reserved: Mutex<u32>,
}

impl PciBus {
    /// A root bus called `name` (`pci.0`, or `pcie.0` with `express`). BARs appear in `memory` and `io`; devices
    /// reach memory through `dma` and send messages to `msi`.
    pub fn new(
        name: &str,
        express: bool,
        memory: &Region,
        io: &Region,
        dma: &AddressSpace,
        msi: Arc<dyn MsiSink>,
    ) -> Arc<Self> {
        Arc::new_cyclic(|own| Self {
            own: own.clone(),
            name: name.to_owned(),
            express,
            memory: memory.clone(),
            io: io.clone(),
            dma: dma.clone(),
            msi,
            wires: Mutex::new(Wires { router: None, pulls: [0; 256] }),
            functions: RwLock::default(),
            reserved: Mutex::new(0),
        })
    }

    /// Says where the INTx wires lead; until then they lead nowhere.
    pub fn set_router(&self, router: Arc<dyn IntxRouter>) {
        self.wires.lock().router = Some(router);
    }

    /// Keeps device number `device` (0 to 31) free of automatic placement, for a device that is not there.
    pub fn reserve(&self, device: u8) {
        *self.reserved.lock() |= 1 << (device & 31);
    }

    /// Whether this is a PCI Express bus.
    pub fn is_express(&self) -> bool {
        self.express
    }

    /// The container of memory BARs.
    pub fn memory(&self) -> &Region {
        &self.memory
    }

    /// The container of I/O BARs.
    pub fn io(&self) -> &Region {
        &self.io
    }

    pub(crate) fn dma_space(&self) -> &AddressSpace {
        &self.dma
    }

    pub(crate) fn msi(&self) -> &Arc<dyn MsiSink> {
        &self.msi
    }

    pub(crate) fn with_wires(&self, f: impl FnOnce(&mut Wires)) {
        f(&mut self.wires.lock());
    }

    /// The routing of pins to wires changed: moves every INTx that is high.
    pub fn remap_intx(&self) {
        for function in self.functions() {
            function.remap_intx();
        }
    }

    /// All functions by address.
    pub fn functions(&self) -> Vec<Arc<PciFunction>> {
        self.functions.read().values().cloned().collect()
    }

    /// The function at `devfn`.
    pub fn function(&self, devfn: Devfn) -> Option<Arc<PciFunction>> {
        self.functions.read().get(&devfn).cloned()
    }

    /// The first device number that automatic placement would use.
    pub fn free_slot(&self) -> Option<Devfn> {
        let functions = self.functions.read();
        let reserved = *self.reserved.lock();
        (0..32)
            .filter(|d| reserved >> d & 1 == 0)
            .map(|d| Devfn::new(d, 0))
            .find(|d| functions.range(*d..=Devfn::new(d.device(), 7)).next().is_none())
    }

    /// Checks that `name` may sit at `wanted`, or finds a place for it.
    ///
    /// # Errors
    /// The place is taken, or all are.
    pub fn place(&self, wanted: Option<Devfn>, name: &str) -> Result<Devfn, DeviceError> {
        let Some(at) = wanted else {
            return self.free_slot().ok_or_else(|| {
                DeviceError::new(format!(
                    "PCI: no slot/function available for {name}, all in use or reserved"
                ))
            });
        };
        match self.function(at) {
            Some(other) => {
                let id = other.id();
                let id = if id.is_empty() { "(null)" } else { &id };
                Err(DeviceError::new(format!(
                    "PCI: slot {} function {} not available for {name}, in use by {},id={id}",
                    at.device(),
                    at.function(),
                    other.name()
                )))
            }
            None => Ok(at),
        }
    }

    /// Puts a function at `at`.
    ///
    /// # Errors
    /// The place is taken, function 0 says that it is alone, or configuration space is full.
    pub fn add(&self, at: Devfn, builder: FunctionBuilder) -> Result<Arc<PciFunction>, DeviceError> {
        let own = self.own.upgrade().ok_or_else(|| DeviceError::new("PCI: the bus is gone"))?;
        let function = builder.build(&own, at)?;
        self.place(Some(at), function.name())?;
        let multi = |f: &PciFunction| f.config(regs::HEADER_TYPE, 1) as u8 & regs::HEADER_MULTIFUNCTION != 0;
        let device = at.device();
        if at.function() != 0 {
            let first = self.function(Devfn::new(device, 0));
            if first.is_some_and(|first| !multi(&first)) {
                return Err(DeviceError::new(format!(
                    "PCI: single function device can't be populated in function {device:x}.{:x}",
                    at.function()
                )));
            }
        } else if !multi(&function)
            && let Some(other) = (1..8).find(|n| self.function(Devfn::new(device, *n)).is_some())
        {
            return Err(DeviceError::new(format!(
                "PCI: {device:x}.0 indicates single function, but {device:x}.{other:x} is already populated."
            )));
        }
        self.functions.write().insert(at, function.clone());
        Ok(function)
    }

    /// Takes the function at `at` out (unplug).
    pub fn remove(&self, at: Devfn) {
        let function = self.functions.write().remove(&at);
        if let Some(function) = function {
            function.unmap();
            function.clear_hooks();
        }
    }

    /// A configuration read of `size` (1, 2 or 4) bytes: ones where no function is.
    pub fn config_read(&self, at: Devfn, offset: u16, size: u8) -> u32 {
        self.function(at).map_or(u32::MAX, |f| f.config_read(offset, size))
    }

    /// A configuration write of `size` (1, 2 or 4) bytes.
    pub fn config_write(&self, at: Devfn, offset: u16, size: u8, value: u32) {
        if let Some(function) = self.function(at) {
            function.config_write(offset, size, value);
        }
    }
}

impl Bus for PciBus {
    fn name(&self) -> String {
        self.name.clone()
    }

    fn bus_type(&self) -> &'static str {
        "PCI"
    }

    fn qtree_type(&self) -> String {
        if self.express { "PCIE" } else { "PCI" }.to_owned()
    }

    fn has_room(&self) -> bool {
        self.free_slot().is_some()
    }

    fn plug(
        &self,
        spec: &'static DeviceSpec,
        mut properties: Box<dyn Properties>,
        context: Context,
    ) -> Result<Arc<dyn Device>, DeviceError> {
        let own = self.own.upgrade().ok_or_else(|| DeviceError::new("PCI: the bus is gone"))?;
        let (wanted, multifunction) = address_of(properties.as_mut());
        let at = self.place(wanted, spec.name)?;
        let mut slot = PciSlot::new(own, at, multifunction, context);
        (spec.realize)(properties, &mut slot)
    }
}
