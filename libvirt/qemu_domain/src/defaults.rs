//! Defaults of the domain itself.

use domain_xml::clock::{Clock, EventAction, TimerName};
use domain_xml::cpu::cell_size;
use domain_xml::os::{BootDevice, OsBoot, SysinfoEntry, SysinfoTable};
use domain_xml::tune::{IoThread, IoThreadIds, Placement, Vcpu, VcpuState};
use domain_xml::units::Kib;
use domain_xml::words::YesNo;
use domain_xml::{Code, Domain, Error, Result};
use std::collections::BTreeMap;

use crate::{Context, each, missing, virt_type};

/// No more processors than these are listed one by one; no emulator has as many.
const MAX_LISTED: u32 = 4096;

/// What a definition may leave out.
pub fn general(domain: &mut Domain, context: &mut Context<'_>) -> Result<()> {
    if domain.name().is_empty() {
        return Err(Error { code: Code::NoName, detail: String::new() });
    }
    if domain.name().contains('/') {
        return Err(Error::xml(format!("name {} cannot contain '/'", domain.name())));
    }
    if let Some(uuid) = &mut domain.uuid {
        *uuid = uuid_text(uuid).ok_or_else(|| Error::internal("malformed uuid element"))?;
    }
    sysinfo(domain)?;
    if domain.uuid.is_none() {
        domain.uuid = Some(context.generate.uuid());
    }
    if let Some(genid) = &mut domain.genid
        && genid.uuid.is_none()
    {
        genid.uuid = Some(context.generate.uuid());
    }
    if let Some(features) = &mut domain.features {
        features.fill_states();
    }
    let virt = virt_type(domain);
    if let Some(bootloader) = &domain.bootloader {
        let _ = bootloader;
        return Err(Error::unsupported("bootloader is not supported by QEMU"));
    }
    let kind = domain.os.kind.as_mut().ok_or_else(|| Error::xml("an os <type> must be specified"))?;
    if kind.name != "hvm" {
        return Err(Error { code: Code::OsType, detail: format!("'{}'", kind.name) });
    }
    let own = context.caps.arch.as_str();
    let arch = kind.arch.get_or_insert_with(|| own.to_owned());
    // An emulator of 64-bit machines has those of 32 bits too.
    if arch != own && !(own == "x86_64" && arch == "i686") {
        let emulator = domain.devices.emulator.clone();
        let emulator = emulator.unwrap_or_else(|| context.caps.binary.display().to_string());
        return Err(Error::unsupported(format!("Emulator '{emulator}' does not support arch '{arch}'")));
    }
    if kind.machine.is_none() {
        let machine = context.caps.default_machine(virt).ok_or_else(|| Error {
            code: Code::InvalidArgument,
            detail: format!(
                "could not get preferred machine for {} type={}",
                context.caps.binary.display(),
                virt.name()
            ),
        })?;
        kind.machine = Some(machine.name.clone());
    }
    if domain.devices.emulator.is_none() {
        domain.devices.emulator = Some(context.caps.binary.display().to_string());
    }
    processors(domain)?;
    domain.on_poweroff.get_or_insert(EventAction::Destroy);
    domain.on_reboot.get_or_insert(EventAction::Restart);
    domain.on_crash.get_or_insert(EventAction::Destroy);
    domain.clock.get_or_insert_with(Clock::default);
    Ok(())
}

/// Entries of tables about the system in their order; what the guest takes for the machine's UUID is the domain's.
fn sysinfo(domain: &mut Domain) -> Result<()> {
    const BIOS: &[&str] = &["vendor", "version", "date", "release"];
    const SYSTEM: &[&str] = &["manufacturer", "product", "version", "serial", "uuid", "sku", "family"];
    const BOARD: &[&str] = &["manufacturer", "product", "version", "serial", "asset", "location"];
    const CHASSIS: &[&str] = &["manufacturer", "version", "serial", "asset", "sku"];
    let sort = |table: &mut SysinfoTable, order: &[&str]| {
        let place = |entry: &SysinfoEntry| order.iter().position(|name| entry.name.as_deref() == Some(name));
        table.entry.sort_by_key(|entry| place(entry).unwrap_or(order.len()));
    };
    let detail = |detail: &str| Error { code: Code::Detail, detail: detail.to_owned() };
    for info in domain.sysinfo.iter_mut().filter(|info| info.kind == "smbios") {
        for (table, order) in
            [(&mut info.bios, BIOS), (&mut info.system, SYSTEM), (&mut info.chassis, CHASSIS)]
        {
            if let Some(table) = table {
                sort(table, order);
            }
        }
        info.base_board.iter_mut().for_each(|table| sort(table, BOARD));
        let entries = info.system.iter_mut().flat_map(|system| &mut system.entry);
        for entry in entries.filter(|entry| entry.name.as_deref() == Some("uuid")) {
            let uuid = uuid_text(entry.value.as_deref().unwrap_or_default())
                .ok_or_else(|| detail("malformed <sysinfo> uuid element"))?;
            if *domain.uuid.get_or_insert_with(|| uuid.clone()) != uuid {
                return Err(detail("UUID mismatch between <uuid> and <sysinfo>"));
            }
            entry.value = Some(uuid);
        }
    }
    Ok(())
}

fn processors(domain: &mut Domain) -> Result<()> {
    let vcpu = domain.vcpu.get_or_insert_with(|| Vcpu { count: 1, ..Vcpu::default() });
    if vcpu.count == 0 {
        return Err(missing("invalid number of vCPUs"));
    }
    vcpu.placement.get_or_insert(Placement::Static);
    if let Some(set) = &mut vcpu.cpuset {
        *set = bitmap(set)?;
    }
    if vcpu.current == Some(vcpu.count) {
        vcpu.current = None;
    }
    if let Some(current) = vcpu.current
        && current > vcpu.count
    {
        return Err(Error::internal(format!(
            "maxvcpus must not be less than current vcpus ({} < {current})",
            vcpu.count
        )));
    }
    if let Some(states) = domain.vcpus.as_mut().filter(|states| !states.vcpu.is_empty()) {
        // The list decides, whatever the number says; who is not listed is not there.
        let mut listed: BTreeMap<u32, VcpuState> = states
            .vcpu
            .drain(..)
            .filter(|state| state.id < vcpu.count)
            .map(|state| (state.id, state))
            .collect();
        for id in 0..vcpu.count.min(MAX_LISTED) {
            let absent = VcpuState { id, enabled: YesNo::No, hotpluggable: Some(YesNo::Yes), order: None };
            listed.entry(id).or_insert(absent);
        }
        let online = listed.values().filter(|state| state.enabled == YesNo::Yes).count() as u32;
        vcpu.current = (online < vcpu.count).then_some(online);
        states.vcpu = listed.into_values().collect();
    }
    let count = domain.iothreads.unwrap_or(0);
    let listed = domain.iothreadids.as_ref().map_or(0, |ids| ids.iothread.len() as u32);
    if count > 0 || listed > 0 {
        if count > 4096 {
            return Err(Error::xml(format!("invalid iothreads count '{count}'")));
        }
        domain.iothreads = Some(count.max(listed));
        let ids = domain.iothreadids.get_or_insert_with(IoThreadIds::default);
        let mut next = 1;
        while (ids.iothread.len() as u32) < count {
            while ids.iothread.iter().any(|thread| thread.id == next) {
                next += 1;
            }
            ids.iothread.push(IoThread { id: next, ..IoThread::default() });
        }
        if listed == 0 {
            domain.iothreadids = None;
        }
    }
    Ok(())
}

/// What depends on other parts: memory, boot order, timers.
pub fn late(domain: &mut Domain, update_abi: bool) -> Result<()> {
    huge_pages(domain)?;
    memory(domain, update_abi)?;
    boot(domain)?;
    for timer in &domain.clock.get_or_insert_with(Clock::default).timer {
        let name = timer.name;
        if matches!(name, TimerName::KvmClock | TimerName::HypervClock) && timer.tickpolicy.is_some() {
            return Err(Error::unsupported(format!(
                "timer {name} doesn't support setting of timer tickpolicy"
            )));
        }
        if timer.catchup.is_some() && timer.tickpolicy != Some(domain_xml::clock::TickPolicy::Catchup) {
            return Err(Error::xml(
                "setting of timer catchup policies is only supported with tickpolicy='catchup'",
            ));
        }
        if name != TimerName::Tsc && timer.frequency.is_some() {
            return Err(Error::unsupported(format!(
                "timer {name} doesn't support setting of timer frequency"
            )));
        }
        if name != TimerName::Tsc && timer.mode.is_some() {
            return Err(Error::unsupported(format!("timer {name} doesn't support setting of timer mode")));
        }
        if !matches!(name, TimerName::Platform | TimerName::Rtc) && timer.track.is_some() {
            return Err(Error::unsupported(format!("timer {name} doesn't support setting of timer track")));
        }
    }
    Ok(())
}

/// Sizes of pages in KiB; one page that is of no node says more than none.
fn huge_pages(domain: &mut Domain) -> Result<()> {
    let cells = domain.cpu.as_ref().and_then(|cpu| cpu.numa.as_ref()).map_or(0, |numa| numa.cell.len());
    let pages = domain.memory_backing.as_mut().and_then(|backing| backing.hugepages.as_mut());
    let detail = |detail: String| Error { code: Code::Detail, detail };
    let mut general: Option<u64> = None;
    let mut taken: BTreeMap<u32, u64> = BTreeMap::new();
    for page in pages.into_iter().flat_map(|pages| &mut pages.page) {
        let Some(size) = page.kib().filter(|size| *size > 0) else {
            return Err(detail("hugepage size can't be zero".to_owned()));
        };
        (page.size, page.unit) = (size.to_string(), Some("KiB".to_owned()));
        // A machine without nodes is one node.
        if cells == 0
            && page.nodeset.as_deref().is_some_and(|nodes| numbers(nodes).is_ok_and(|it| it.iter().eq([&0])))
        {
            page.nodeset = None;
        }
        match &mut page.nodeset {
            None => {
                if let Some(other) = general.replace(size) {
                    return Err(detail(format!("two master hugepages detected: {other} and {size}")));
                }
            }
            Some(nodes) => {
                let set = numbers(nodes)?;
                for node in &set {
                    if let Some(other) = taken.insert(*node, size) {
                        return Err(detail(format!(
                            "nodeset attribute of hugepages of sizes {other} and {size} intersect"
                        )));
                    }
                }
                *nodes = ranges(&set);
            }
        }
    }
    Ok(())
}

fn memory(domain: &mut Domain, update_abi: bool) -> Result<()> {
    let numa: u64 =
        domain.cpu.as_ref().and_then(|cpu| cpu.numa.as_ref()).map_or(0, |numa| {
            numa.cell.iter().fold(0, |sum: u64, cell| sum.saturating_add(cell_size(cell).0))
        });
    let modules = domain.devices.memory.iter().fold(0, |sum: u64, module| sum.saturating_add(module.size()));
    let total = &mut domain.memory.size.0;
    if numa > 0 && (*total == 0 || update_abi) {
        *total = numa.saturating_add(modules);
    } else if modules > *total {
        return Err(Error::xml("Total size of memory devices exceeds the total memory size"));
    }
    let total = *total;
    if total <= modules {
        return Err(Error::xml("Memory size must be specified via <memory> or in the <numa> configuration"));
    }
    let current = domain.current_memory.get_or_insert(Kib(total));
    if current.0 > total || current.0 == 0 {
        *current = Kib(total);
    }
    if let Some(max) = &domain.max_memory {
        if max.slots == 0 || max.size.0 == 0 {
            return Err(Error::xml("both maximum memory size and memory slot count must be specified"));
        }
        if max.size.0 < total {
            return Err(Error::xml(
                "maximum memory size must be equal or greater than the actual memory size",
            ));
        }
    }
    Ok(())
}

fn boot(domain: &mut Domain) -> Result<()> {
    let mut orders = each::boot_orders(domain);
    orders.sort_unstable();
    if let Some(twice) = orders.windows(2).find(|pair| pair[0] == pair[1]) {
        return Err(Error::internal(format!("boot order '{}' used for more than one device", twice[0])));
    }
    if !domain.os.boot.is_empty() && !orders.is_empty() {
        return Err(Error::unsupported(
            "per-device boot elements cannot be used together with os/boot elements",
        ));
    }
    if domain.os.boot.is_empty() && orders.is_empty() {
        domain.os.boot.push(OsBoot { dev: BootDevice::Hd });
    }
    Ok(())
}

/// A UUID in its usual form, from digits with dashes anywhere.
pub fn uuid_text(text: &str) -> Option<String> {
    let digits: String = text.chars().filter(|c| *c != '-' && !c.is_whitespace()).collect();
    if digits.len() != 32 || !digits.bytes().all(|b| b.is_ascii_hexdigit()) {
        return None;
    }
    let digits = digits.to_ascii_lowercase();
    Some(format!(
        "{}-{}-{}-{}-{}",
        &digits[..8],
        &digits[8..12],
        &digits[12..16],
        &digits[16..20],
        &digits[20..]
    ))
}

/// Most that a set of numbers may reach: processors and nodes of the host.
const MAX_BIT: u32 = 16_384;

/// The numbers in a set as `1-4,^3,7`.
pub fn numbers(text: &str) -> Result<std::collections::BTreeSet<u32>> {
    let error = || Error { code: Code::InvalidArgument, detail: format!("Failed to parse bitmap '{text}'") };
    let mut set = std::collections::BTreeSet::new();
    for part in text.split(',') {
        let part = part.trim();
        let number = |text: &str| text.trim().parse::<u32>().ok().filter(|n| *n < MAX_BIT).ok_or_else(error);
        if let Some(without) = part.strip_prefix('^') {
            set.remove(&number(without)?);
        } else if let Some((first, last)) = part.split_once('-') {
            let (first, last) = (number(first)?, number(last)?);
            if first > last {
                return Err(error());
            }
            set.extend(first..=last);
        } else {
            set.insert(number(part)?);
        }
    }
    Ok(set)
}

/// A set of numbers in its shortest form.
pub fn bitmap(text: &str) -> Result<String> {
    Ok(ranges(&numbers(text)?))
}

/// The text of a set of numbers.
pub fn ranges(set: &std::collections::BTreeSet<u32>) -> String {
    let mut parts: Vec<(u32, u32)> = Vec::new();
    for &number in set {
        match parts.last_mut() {
            Some((_, last)) if *last + 1 == number => *last = number,
            _ => parts.push((number, number)),
        }
    }
    let texts: Vec<String> = parts
        .into_iter()
        .map(|(first, last)| if first == last { first.to_string() } else { format!("{first}-{last}") })
        .collect();
    texts.join(",")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sets_of_numbers() {
        assert_eq!(bitmap("1-4,^3,7").unwrap(), "1-2,4,7");
        assert_eq!(bitmap("5,6,1").unwrap(), "1,5-6");
        assert!(bitmap("4-1").is_err());
        assert!(bitmap("0-4000000000").is_err());
    }

    #[test]
    fn uuids() {
        let text = "c7a5fdbdedaf9455926ad65c16db1809";
        assert_eq!(uuid_text(text).as_deref(), Some("c7a5fdbd-edaf-9455-926a-d65c16db1809"));
        assert_eq!(uuid_text("xyz"), None);
    }
}
