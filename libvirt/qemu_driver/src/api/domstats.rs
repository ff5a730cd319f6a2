//! All statistics of domains at once.

use crate::driver::QemuDriver;
use crate::error::{Result, check_flags, error};
use crate::guest::Guest;
use crate::process::counters::Counters;
use crate::process::times;
use crate::query::{self, AllBlockStats, Nodes};
use domain_xml::Domain as Definition;
use domain_xml::disk::Disk;
use json::{Dict, Value};
use rpc::protocol::stats::{ConnectGetAllDomainStatsArgs, DomainStatsRecord};
use rpc::{Code, TypedParam, TypedValue};
use std::sync::Arc;

/// `VIR_DOMAIN_STATS_...`
mod group {
    pub(super) const STATE: u32 = 1;
    pub(super) const CPU_TOTAL: u32 = 2;
    pub(super) const BALLOON: u32 = 4;
    pub(super) const VCPU: u32 = 8;
    pub(super) const INTERFACE: u32 = 16;
    pub(super) const BLOCK: u32 = 32;
    pub(super) const PERF: u32 = 64;
    pub(super) const IOTHREAD: u32 = 128;
    pub(super) const MEMORY: u32 = 256;
    pub(super) const DIRTY_RATE: u32 = 512;
    pub(super) const VM: u32 = 1024;
    pub(super) const ALL: u32 = 2047;
}

const BACKING: u32 = 1 << 30;
const NOWAIT: u32 = 1 << 29;
const ENFORCE: u32 = 1 << 31;

struct Record {
    params: Vec<TypedParam>,
}

impl Record {
    fn add(&mut self, field: impl Into<String>, value: impl Into<TypedValue>) {
        self.params.push(TypedParam::new(field, value));
    }
}

impl QemuDriver {
    /// The records of the chosen domains.
    pub(super) fn domain_stats(&self, args: ConnectGetAllDomainStatsArgs) -> Result<Vec<DomainStatsRecord>> {
        const FILTERS: u32 = 0xff;
        check_flags(args.flags, FILTERS | BACKING | NOWAIT | ENFORCE, "qemuConnectGetAllDomainStats")?;
        let unknown = args.stats & !group::ALL;
        if unknown != 0 && args.flags & ENFORCE != 0 {
            let detail = format!("Stats types bits 0x{unknown:x} are not supported by this daemon or QEMU");
            return Err(error(Code::ArgumentUnsupported, detail));
        }
        let wanted = if args.stats == 0 { group::ALL } else { args.stats };
        let guests = if args.doms.is_empty() {
            self.listed(args.flags & FILTERS)
        } else {
            // A domain that has gone meanwhile is left out.
            args.doms.iter().filter_map(|dom| self.guest(dom).ok()).collect()
        };
        let wait = args.flags & NOWAIT == 0;
        let one = |guest: &Arc<Guest>| {
            // Who is not to wait does without what the emulator of a guest tells that somebody works on.
            let asks = wait || guest.jobs.held_for().is_none();
            DomainStatsRecord { dom: guest.reference(), params: record(guest, wanted, asks) }
        };
        Ok(guests.iter().map(one).collect())
    }
}

/// What a record begins with, taken at once.
struct Moment {
    state: (i32, i32),
    definition: Arc<Definition>,
    /// Its emulator is asked, too.
    asks: bool,
    /// The process, and the threads of vCPUs.
    process: Option<(i32, Vec<(u32, i32)>)>,
    counters: Counters,
}

fn record(guest: &Guest, wanted: u32, asks: bool) -> Vec<TypedParam> {
    let moment = {
        let inner = guest.lock();
        let Some(definition) = inner.current() else { return Vec::new() };
        let process = inner.live.as_ref().map(|live| (live.pid, live.vcpus.clone()));
        let counters = inner.live.as_ref().map(|live| live.counters.clone()).unwrap_or_default();
        Moment { state: inner.state.numbers(), definition, asks, process, counters }
    };
    let mut record = Record { params: Vec::new() };
    if wanted & group::STATE != 0 {
        record.add("state.state", moment.state.0);
        record.add("state.reason", moment.state.1);
    }
    if wanted & group::CPU_TOTAL != 0 {
        if let Some(times) = moment.process.as_ref().and_then(|(pid, _)| times(*pid)) {
            record.add("cpu.time", times.total());
            record.add("cpu.user", times.user);
            record.add("cpu.system", times.system);
        }
        if moment.process.is_some() {
            record.add("cpu.cache.monitor.count", 0u32);
        }
    }
    if wanted & group::BALLOON != 0 {
        balloon(&mut record, guest, &moment);
    }
    if wanted & group::VCPU != 0 {
        vcpus(&mut record, &moment);
    }
    if wanted & group::INTERFACE != 0 && moment.process.is_some() {
        interfaces(&mut record, &moment.definition);
    }
    if wanted & group::BLOCK != 0 {
        blocks(&mut record, guest, &moment);
    }
    if wanted & group::PERF != 0 {
        for (name, counter) in &moment.counters {
            if let Ok(count) = counter.read() {
                record.add(format!("perf.{name}"), count);
            }
        }
    }
    // No bandwidth is monitored: the group is empty then.
    let _ = group::MEMORY;
    if wanted & group::IOTHREAD != 0 && asks && moment.process.is_some() {
        io_threads(&mut record, guest);
    }
    if wanted & group::DIRTY_RATE != 0 && asks && moment.process.is_some() {
        dirty_rate(&mut record, guest);
    }
    let _ = group::VM;
    record.params
}

fn balloon(record: &mut Record, guest: &Guest, moment: &Moment) {
    const NAMES: &[(i32, &str)] = &[
        (0, "swap_in"),
        (1, "swap_out"),
        (2, "major_fault"),
        (3, "minor_fault"),
        (4, "unused"),
        (5, "available"),
        (8, "usable"),
        (10, "disk_caches"),
        (11, "hugetlb_pgalloc"),
        (12, "hugetlb_pgfail"),
    ];
    let max = moment.definition.memory_kib();
    let current = moment.definition.current_memory.map_or(max, |current| current.0);
    record.add("balloon.current", current);
    record.add("balloon.maximum", max);
    let Some((pid, _)) = moment.process else { return };
    if moment.asks
        && let Ok((_, memory)) = query::memory(guest)
    {
        for (tag, value) in &memory.stats {
            if let Some((_, name)) = NAMES.iter().find(|(number, _)| number == tag) {
                record.add(format!("balloon.{name}"), *value);
            }
        }
        if let Some(updated) = memory.updated {
            record.add("balloon.last-update", updated);
        }
    }
    if let Some(rss) = query::resident(pid) {
        record.add("balloon.rss", rss);
    }
}

fn vcpus(record: &mut Record, moment: &Moment) {
    let vcpu = moment.definition.vcpu.as_ref();
    let maximum = vcpu.map_or(1, |vcpu| vcpu.count);
    record.add("vcpu.current", vcpu.and_then(|vcpu| vcpu.current).unwrap_or(maximum));
    record.add("vcpu.maximum", maximum);
    let Some((pid, threads)) = &moment.process else { return };
    for (id, tid) in threads {
        let Some(thread) = query::thread(*pid, *tid) else { continue };
        const RUNNING: i32 = 1;
        record.add(format!("vcpu.{id}.state"), RUNNING);
        record.add(format!("vcpu.{id}.time"), thread.time);
        record.add(format!("vcpu.{id}.wait"), 0u64);
        record.add(format!("vcpu.{id}.delay"), thread.delay);
    }
}

fn interfaces(record: &mut Record, definition: &Definition) {
    record.add("net.count", definition.devices.interface.len() as u32);
    for (at, interface) in definition.devices.interface.iter().enumerate() {
        let Some(name) = interface.target.as_ref().and_then(|target| target.dev.as_deref()) else { continue };
        record.add(format!("net.{at}.name"), name);
        let Some(stats) = super::devices::interface_stats(interface) else { continue };
        let fields =
            ["rx.bytes", "rx.pkts", "rx.errs", "rx.drop", "tx.bytes", "tx.pkts", "tx.errs", "tx.drop"];
        for (field, value) in fields.iter().zip(stats) {
            record.add(format!("net.{at}.{field}"), value);
        }
    }
}

fn blocks(record: &mut Record, guest: &Guest, moment: &Moment) {
    let disks = &moment.definition.devices.disk;
    record.add("block.count", disks.len() as u32);
    let running = moment.asks && moment.process.is_some();
    let stats = running.then(|| AllBlockStats::ask(guest).ok()).flatten();
    let nodes = running.then(|| Nodes::ask(guest).ok()).flatten();
    for (at, disk) in disks.iter().enumerate() {
        block(record, at, disk, stats.as_ref(), nodes.as_ref());
    }
}

fn block(record: &mut Record, at: usize, disk: &Disk, stats: Option<&AllBlockStats>, nodes: Option<&Nodes>) {
    let prefix = format!("block.{at}");
    record.add(format!("{prefix}.name"), disk.dev());
    let path = query::local_path(disk);
    if let Some(path) = path {
        record.add(format!("{prefix}.path"), path);
    }
    let (Some(stats), Some(source)) = (stats, disk.source.as_ref()) else {
        // What is not running is as large as its file.
        if let Some(sizes) = path.and_then(|path| query::file_sizes(path).ok()) {
            let sizes = [
                ("allocation", sizes.allocation),
                ("capacity", sizes.capacity),
                ("physical", sizes.physical),
            ];
            for (name, size) in sizes.into_iter().filter(|(_, size)| *size != 0) {
                record.add(format!("{prefix}.{name}"), size);
            }
        }
        return;
    };
    if let Some(index) = source.index {
        record.add(format!("{prefix}.backingIndex"), index);
    }
    let Some(found) = stats.of(disk) else { return };
    for (kind, [requests, bytes, time]) in [("rd", found.read), ("wr", found.write)] {
        record.add(format!("{prefix}.{kind}.reqs"), requests);
        record.add(format!("{prefix}.{kind}.bytes"), bytes);
        record.add(format!("{prefix}.{kind}.times"), time);
    }
    record.add(format!("{prefix}.fl.reqs"), found.flush[0]);
    record.add(format!("{prefix}.fl.times"), found.flush[1]);
    let sizes = path.and_then(|path| query::file_sizes(path).ok());
    let capacity = nodes.and_then(|nodes| nodes.capacity(disk)).or(sizes.map(|sizes| sizes.capacity));
    record.add(format!("{prefix}.allocation"), found.highest.unwrap_or(0));
    if let Some(capacity) = capacity {
        record.add(format!("{prefix}.capacity"), capacity);
    }
    let physical = nodes.and_then(|nodes| nodes.in_use(disk)).or(sizes.map(|sizes| sizes.physical));
    if let Some(physical) = physical {
        record.add(format!("{prefix}.physical"), physical);
    }
    if let Some(threshold) = nodes.and_then(|nodes| nodes.threshold(disk)) {
        record.add(format!("{prefix}.threshold"), threshold);
    }
}

fn io_threads(record: &mut Record, guest: &Guest) {
    let Ok(reply) = guest.ask("query-iothreads", Dict::default()) else { return };
    let threads = reply.as_list().unwrap_or_default();
    if threads.is_empty() {
        return;
    }
    record.add("iothread.count", threads.len() as u32);
    for thread in threads {
        let id = thread.get("id").and_then(Value::as_str).and_then(|id| id.strip_prefix("iothread"));
        let Some(id) = id.and_then(|id| id.parse::<u32>().ok()) else { continue };
        let field = |name: &str| thread.get(name).and_then(Value::as_u64);
        if let Some(most) = field("poll-max-ns") {
            record.add(format!("iothread.{id}.poll-max-ns"), most);
        }
        for name in ["poll-grow", "poll-shrink"] {
            if let Some(value) = field(name).and_then(|value| u32::try_from(value).ok()) {
                record.add(format!("iothread.{id}.{name}"), value);
            }
        }
    }
}

fn dirty_rate(record: &mut Record, guest: &Guest) {
    let Ok(reply) = guest.ask("query-dirty-rate", Dict::default()) else { return };
    let status = match reply.get("status").and_then(Value::as_str) {
        Some("measuring") => 1,
        Some("measured") => 2,
        _ => 0,
    };
    let number = |key: &str| reply.get(key).and_then(Value::as_i64);
    record.add("dirtyrate.calc_status", status);
    record.add("dirtyrate.calc_start_time", number("start-time").unwrap_or(0));
    record.add("dirtyrate.calc_period", number("calc-time").unwrap_or(0) as i32);
    if let Some(rate) = number("dirty-rate") {
        record.add("dirtyrate.megabytes_per_second", rate);
    }
    if let Some(mode) = reply.get("mode").and_then(Value::as_str) {
        record.add("dirtyrate.calc_mode", mode);
    }
}
