//! PCI buses and who has their slots.

use domain_xml::{Code, Error, PciAddress, Result};

use super::connect::{
    AUTO, BRIDGE, Connect, DMI, DOWNSTREAM, INTEGRATED, KINDS, PCI, PCIE, PCIE_TO_PCI, PXB, PXB_PCIE,
    ROOT_PORT, SHARED_SLOT, UPSTREAM,
};

/// The last slot of a bus.
const LAST_SLOT: u64 = 31;

/// Most buses.
const MAX_BUSES: usize = 256;

/// A bus: what is below a PCI controller.
#[derive(Debug, Clone)]
pub struct Bus {
    /// The controller's model.
    pub model: String,
    takes: Connect,
    first: u64,
    last: u64,
    functions: [u8; 32],
    shared: [bool; 32],
}

impl Bus {
    /// The bus below a controller of that model.
    pub fn new(model: &str) -> Result<Self> {
        let (takes, first, last) = match model {
            "pci-root" => (AUTO | PCI | BRIDGE | PXB, 1, LAST_SLOT),
            "pci-bridge" | "pcie-to-pci-bridge" => (AUTO | PCI | BRIDGE, 1, LAST_SLOT),
            "pci-expander-bus" => (AUTO | PCI | BRIDGE, 0, LAST_SLOT),
            "pcie-root" => (PCIE | ROOT_PORT | DMI | PXB_PCIE, 1, LAST_SLOT),
            "dmi-to-pci-bridge" => (PCI | BRIDGE, 0, LAST_SLOT),
            "pcie-root-port" | "pcie-switch-downstream-port" => (AUTO | PCIE | UPSTREAM | PCIE_TO_PCI, 0, 0),
            "pcie-switch-upstream-port" => (DOWNSTREAM, 0, LAST_SLOT),
            "pcie-expander-bus" => (ROOT_PORT | DMI, 0, LAST_SLOT),
            _ => return Err(Error::internal("PCI controller model was not set correctly")),
        };
        Ok(Self { model: model.to_owned(), takes, first, last, functions: [0; 32], shared: [false; 32] })
    }

    fn full(&self) -> bool {
        (self.first..=self.last).all(|slot| self.functions[slot as usize] != 0)
    }
}

/// All buses.
#[derive(Debug, Clone)]
pub struct Buses {
    /// The buses by their numbers.
    pub all: Vec<Bus>,
    /// Whether buses are added for devices that find no slot; devices get no addresses meanwhile.
    pub growing: bool,
    /// Whether the emulator has bridges from PCI Express to PCI.
    pub express_bridges: bool,
}

fn text(address: &PciAddress) -> String {
    let (domain, bus, slot, function) = address.place();
    format!("{domain:04x}:{bus:02x}:{slot:02x}.{function:x}")
}

/// Why a device does not fit on a bus.
enum Misfit {
    Integrated,
    Auto,
    Kind,
}

/// Whether a bus takes a device; addresses that a user chose may put PCI devices into PCI Express slots and back.
fn fits(bus_number: u64, takes: Connect, needs: Connect, chosen: bool) -> std::result::Result<(), Misfit> {
    let (mut takes, mut needs) = (takes, needs);
    if needs & INTEGRATED != 0 {
        if bus_number != 0 {
            return Err(Misfit::Integrated);
        }
        takes |= AUTO;
    }
    if chosen {
        if takes & (PCI | PCIE) != 0 {
            takes |= PCI | PCIE;
        }
        if needs & BRIDGE != 0 {
            needs |= PCI;
        }
    } else if needs & AUTO != 0 && takes & AUTO == 0 {
        return Err(Misfit::Auto);
    }
    if needs & takes & KINDS == 0 { Err(Misfit::Kind) } else { Ok(()) }
}

fn kind_name(needs: Connect) -> &'static str {
    [
        (PCI, "standard PCI device"),
        (PCIE, "PCI Express device"),
        (ROOT_PORT, "pcie-root-port"),
        (UPSTREAM, "pcie-switch-upstream-port"),
        (DOWNSTREAM, "pcie-switch-downstream-port"),
        (DMI, "dmi-to-pci-bridge"),
        (PCIE_TO_PCI, "pcie-to-pci-bridge"),
        (PXB, "pci-expander-bus"),
        (PXB_PCIE, "pcie-expander-bus"),
    ]
    .into_iter()
    .find(|(bit, _)| needs & bit != 0)
    .map_or("pci-bridge", |(_, name)| name)
}

impl Buses {
    /// Whether something is in the slot.
    pub fn in_use(&self, bus: u64, slot: u64) -> bool {
        self.all.get(bus as usize).is_some_and(|bus| bus.functions[(slot & 31) as usize] != 0)
    }

    /// Whether no bus has a free slot.
    pub fn full(&self) -> bool {
        self.all.iter().all(Bus::full)
    }

    fn validate(&self, address: &PciAddress, needs: Connect, chosen: bool) -> Result<()> {
        let error =
            |detail: String| Err(Error { code: if chosen { Code::Xml } else { Code::Internal }, detail });
        let (domain, number, slot, function) = address.place();
        let text = text(address);
        if self.all.is_empty() {
            return error("No PCI buses available".to_owned());
        }
        if domain != 0 {
            return error(format!("Invalid PCI address {text}. Only PCI domain 0 is available"));
        }
        let Some(bus) = self.all.get(number as usize) else {
            return error(format!(
                "Invalid PCI address {text}. Only PCI buses up to {} are available",
                self.all.len() - 1
            ));
        };
        match fits(number, bus.takes, needs, chosen) {
            Ok(()) => {}
            Err(Misfit::Integrated) => {
                return error(format!(
                    "The device at PCI address {text} needs to be an integrated device (bus=0)"
                ));
            }
            Err(Misfit::Auto) => {
                return error(format!(
                    "The device at PCI address {text} was auto-assigned this address, but the PCI controller with index='{number}' doesn't allow auto-assignment"
                ));
            }
            Err(Misfit::Kind) => {
                return error(format!(
                    "The device at PCI address {text} cannot be plugged into the PCI controller with index='{number}'. It requires a controller that accepts a {}.",
                    kind_name(needs)
                ));
            }
        }
        if slot < bus.first {
            return error(format!("Invalid PCI address {text}. slot must be >= {}", bus.first));
        }
        if slot > bus.last {
            return error(format!("Invalid PCI address {text}. slot must be <= {}", bus.last));
        }
        if function > 7 {
            return error(format!("Invalid PCI address {text}. function must be <= 7"));
        }
        Ok(())
    }

    fn take(&mut self, address: &PciAddress, needs: Connect, chosen: bool) -> Result<()> {
        let known = usize::try_from(address.bus.0).is_ok_and(|bus| bus < self.all.len());
        if self.growing && !known && address.bus.0 < MAX_BUSES as u64 {
            self.grow(&mut address.clone(), needs)?;
        }
        self.validate(address, needs, chosen)?;
        let (_, bus, slot, function) = address.place();
        let bus = &mut self.all[bus as usize];
        let (slot, bit) = (slot as usize, 1_u8 << function);
        if bus.functions[slot] & bit != 0 {
            return Err(Error {
                code: if chosen { Code::Xml } else { Code::Internal },
                detail: format!("Attempted double use of PCI Address {}", text(address)),
            });
        }
        if bus.functions[slot] == 0 && needs & SHARED_SLOT != 0 {
            bus.shared[slot] = true;
        }
        bus.functions[slot] |= bit;
        Ok(())
    }

    /// Reserves a place that was chosen.
    pub fn reserve(&mut self, address: &PciAddress, needs: Connect) -> Result<()> {
        self.take(address, needs, true)
    }

    /// Finds and reserves a free slot; `function` is the function of it that is taken.
    pub fn next(&mut self, needs: Connect, function: Option<u64>) -> Result<PciAddress> {
        if self.all.is_empty() {
            return Err(Error::xml("No PCI buses available"));
        }
        let found = self.all.iter().enumerate().find_map(|(number, bus)| {
            fits(number as u64, bus.takes, needs, false).ok()?;
            (bus.first..=bus.last).find_map(|slot| {
                let used = bus.functions[slot as usize];
                if used == 0 {
                    return Some(PciAddress::new(number as u64, slot, function.unwrap_or(0)));
                }
                if needs & SHARED_SLOT == 0 || !bus.shared[slot as usize] {
                    return None;
                }
                let free = (function.unwrap_or(0)..8).find(|function| used & 1 << function == 0);
                free.filter(|free| function.is_none_or(|function| function == *free))
                    .map(|free| PciAddress::new(number as u64, slot, free))
            })
        });
        let address = match found {
            Some(address) => address,
            None if self.growing => {
                let mut address = PciAddress::new(self.all.len() as u64, 0, function.unwrap_or(0));
                self.grow(&mut address, needs)?;
                address.slot.0 = self.all[address.bus.0 as usize].first;
                address
            }
            None => return Err(Error::internal("No more available PCI slots")),
        };
        self.take(&address, needs, false)?;
        Ok(address)
    }

    /// Adds buses up to the one of the address, whose number moves when other buses have to come first.
    fn grow(&mut self, address: &mut PciAddress, needs: Connect) -> Result<()> {
        let mut missing = (address.bus.0 as usize + 1).saturating_sub(self.all.len());
        let model = if needs & PCI != 0 {
            "pci-bridge"
        } else if needs & (PCIE | UPSTREAM) != 0 {
            "pcie-root-port"
        } else {
            return Err(Error::internal(format!(
                "a PCI slot is needed to connect a PCI controller model='{}', but none is available, and it cannot be automatically added",
                kind_name(needs)
            )));
        };
        let lonely = needs & PCI != 0 && !self.all.iter().any(|bus| bus.takes & BRIDGE != 0);
        if lonely && missing == 1 {
            missing += 1;
            address.bus.0 += 1;
        }
        let end = self.all.len() + missing;
        if end > MAX_BUSES {
            return Err(Error::internal("No more available PCI slots"));
        }
        if lonely {
            if self.express_bridges {
                // The port that leads to the bridge is for nothing else.
                let mut port = Bus::new("pcie-root-port")?;
                port.takes = PCIE_TO_PCI;
                self.all.push(port);
                self.all.push(Bus::new("pcie-to-pci-bridge")?);
            } else {
                self.all.push(Bus::new("dmi-to-pci-bridge")?);
            }
        }
        while self.all.len() < end {
            self.all.push(Bus::new(model)?);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn buses(root: &str) -> Buses {
        Buses { all: vec![Bus::new(root).unwrap()], growing: true, express_bridges: true }
    }

    #[test]
    fn slots_are_taken_in_order() {
        let mut buses = buses("pci-root");
        assert_eq!(buses.next(PCI | AUTO, None).unwrap().place(), (0, 0, 1, 0));
        buses.reserve(&PciAddress::new(0, 2, 0), PCI).unwrap();
        assert_eq!(buses.next(PCI | AUTO, None).unwrap().place(), (0, 0, 3, 0));
        let error = buses.reserve(&PciAddress::new(0, 2, 0), PCI).unwrap_err();
        assert_eq!(error.to_string(), "XML error: Attempted double use of PCI Address 0000:00:02.0");
    }

    #[test]
    fn express_devices_bring_ports_and_pci_devices_a_bridge() {
        let mut buses = buses("pcie-root");
        assert_eq!(buses.next(PCIE | AUTO, None).unwrap().bus.0, 1);
        assert_eq!(buses.next(PCI | AUTO, None).unwrap().place(), (0, 3, 1, 0));
        assert_eq!(buses.all[3].model, "pcie-to-pci-bridge");
        assert_eq!(buses.next(PCIE | AUTO, None).unwrap().bus.0, 4);
    }

    #[test]
    fn root_ports_share_slots() {
        let mut buses = buses("pcie-root");
        let needs = ROOT_PORT | SHARED_SLOT;
        assert_eq!(buses.next(needs, None).unwrap().place(), (0, 0, 1, 0));
        assert_eq!(buses.next(needs, None).unwrap().place(), (0, 0, 1, 1));
    }
}
