//! What running guests are asked, and what the host tells of their processes.

use crate::definition;
use crate::error::Result;
use crate::guest::Guest;
use domain_xml::Domain as Definition;
use domain_xml::disk::Disk;
use json::{Dict, Value, dict};
use std::os::unix::fs::MetadataExt as _;

/// What a disk has done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct BlockStats {
    /// Requests, bytes and nanoseconds of reading.
    pub read: [u64; 3],
    /// Requests, bytes and nanoseconds of writing.
    pub write: [u64; 3],
    /// Requests and nanoseconds of flushing.
    pub flush: [u64; 2],
    /// The highest offset that was written.
    pub highest: Option<u64>,
}

/// The sizes of a disk.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct BlockSizes {
    /// What the guest sees.
    pub capacity: u64,
    /// What is in use on the host.
    pub allocation: u64,
    /// How large the image is on the host.
    pub physical: u64,
}

fn number(value: &Value, key: &str) -> u64 {
    value.get(key).and_then(Value::as_u64).unwrap_or(0)
}

/// What all disks have done, as the emulator tells it.
pub struct AllBlockStats(Value);

impl AllBlockStats {
    /// Asks.
    ///
    /// # Errors
    /// The guest does not run.
    pub fn ask(guest: &Guest) -> Result<Self> {
        guest.ask("query-blockstats", Dict::default()).map(Self)
    }

    /// One disk's; none if the emulator does not know it.
    pub fn of(&self, disk: &Disk) -> Option<BlockStats> {
        let alias = definition::disk_alias(disk)?;
        let ours = |row: &&Value| {
            let qdev = row.get("qdev").and_then(Value::as_str).unwrap_or_default();
            qdev == alias || qdev.split('/').any(|part| part == alias)
        };
        let row = self.0.as_list()?.iter().find(ours)?;
        let stats = row.get("stats")?;
        let of = |kind: &str| {
            let field = |name: &str| number(stats, &format!("{kind}_{name}"));
            [field("operations"), field("bytes"), field("total_time_ns")]
        };
        let highest =
            row.get("parent").and_then(|parent| parent.get("stats")?.get("wr_highest_offset")?.as_u64());
        let [requests, _, time] = of("flush");
        Some(BlockStats { read: of("rd"), write: of("wr"), flush: [requests, time], highest })
    }
}

/// The nodes of all images, as the emulator tells them.
pub struct Nodes(Value);

impl Nodes {
    /// Asks.
    ///
    /// # Errors
    /// The guest does not run.
    pub fn ask(guest: &Guest) -> Result<Self> {
        let flat =
            guest.lock().live.as_ref().is_some_and(|live| live.caps.has("query-named-block-nodes.flat"));
        let arguments = if flat {
            dict! { "flat" => true }
        } else {
            Dict::default()
        };
        guest.ask("query-named-block-nodes", arguments).map(Self)
    }

    /// The size of a disk as the guest sees it.
    pub fn capacity(&self, disk: &Disk) -> Option<u64> {
        self.image(disk)?.get("virtual-size")?.as_u64()
    }

    /// How much of the host's storage a disk takes; none if that is not known.
    pub fn in_use(&self, disk: &Disk) -> Option<u64> {
        self.image(disk)?.get("actual-size")?.as_u64().filter(|size| *size > 0)
    }

    /// Behind which byte a write to a disk is told of.
    pub fn threshold(&self, disk: &Disk) -> Option<u64> {
        self.node(disk, "storage")?.get("write_threshold")?.as_u64().filter(|threshold| *threshold > 0)
    }

    fn image(&self, disk: &Disk) -> Option<&Value> {
        self.node(disk, "format")?.get("image")
    }

    fn node(&self, disk: &Disk, layer: &str) -> Option<&Value> {
        let index = disk.source.as_ref()?.index?;
        let name = format!("libvirt-{index}-{layer}");
        self.0.as_list()?.iter().find(|node| node.get("node-name").and_then(Value::as_str) == Some(&name))
    }
}

/// The file of a disk on the host.
pub fn local_path(disk: &Disk) -> Option<&str> {
    let source = disk.source.as_ref()?;
    source.file.as_deref().or(source.dev.as_deref()).filter(|path| !path.is_empty())
}

/// What the host tells of a disk's file: its size and how much of it is allocated.
///
/// # Errors
/// It cannot be looked at.
pub fn file_sizes(path: &str) -> std::io::Result<BlockSizes> {
    let found = std::fs::metadata(path)?;
    let size = if found.file_type().is_file() {
        found.len()
    } else {
        // A device says its size by its end.
        std::io::Seek::seek(&mut std::fs::File::open(path)?, std::io::SeekFrom::End(0))?
    };
    Ok(BlockSizes { capacity: size, allocation: found.blocks() * 512, physical: size })
}

/// The disk that a client names by its target (`vda`) or by its path.
pub fn find_disk<'a>(definition: &'a Definition, name: &str) -> Option<&'a Disk> {
    let disks = &definition.devices.disk;
    let by_target = disks.iter().find(|disk| disk.dev() == name);
    by_target.or_else(|| disks.iter().find(|disk| local_path(disk) == Some(name)))
}

/// Where the balloon is among the emulator's objects.
pub const BALLOON: &str = "/machine/peripheral/balloon0";

/// What the guest tells of its memory, by libvirt's tags (`virDomainMemoryStatTags`), in KiB or as counts.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct GuestMemory {
    /// Tag and value.
    pub stats: Vec<(i32, u64)>,
    /// When the guest told it, seconds since 1970.
    pub updated: Option<u64>,
}

/// Tags, the emulator's names, and whether a value is in bytes.
const MEMORY_TAGS: &[(i32, &str, bool)] = &[
    (0, "stat-swap-in", true),
    (1, "stat-swap-out", true),
    (2, "stat-major-faults", false),
    (3, "stat-minor-faults", false),
    (4, "stat-free-memory", true),
    (5, "stat-total-memory", true),
    (8, "stat-available-memory", true),
    (10, "stat-disk-caches", true),
    (11, "stat-htlb-pgalloc", false),
    (12, "stat-htlb-pgfail", false),
];

/// The balloon's size in KiB, and what the guest tells of its memory.
///
/// # Errors
/// The guest does not run, or its emulator has gone.
pub fn memory(guest: &Guest) -> Result<(Option<u64>, GuestMemory)> {
    guest.monitor()?;
    let actual = guest.ask("query-balloon", Dict::default());
    let Ok(actual) = actual else { return Ok((None, GuestMemory::default())) };
    let actual = actual.get("actual").and_then(Value::as_u64).map(|bytes| bytes.div_ceil(1024));
    let asked = dict! { "path" => BALLOON, "property" => "guest-stats" };
    let mut memory = GuestMemory::default();
    if let Ok(reply) = guest.ask("qom-get", asked) {
        memory.updated = reply.get("last-update").and_then(Value::as_u64);
        for (tag, name, bytes) in MEMORY_TAGS {
            // What the guest does not tell is -1.
            let value = reply.get("stats").and_then(|stats| stats.get(name)?.as_u64());
            if let Some(value) = value.filter(|value| *value != u64::MAX) {
                memory.stats.push((*tag, if *bytes { value / 1024 } else { value }));
            }
        }
    }
    Ok((actual, memory))
}

/// The memory of a process that is in RAM, in KiB.
pub fn resident(pid: i32) -> Option<u64> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/statm")).ok()?;
    let pages: u64 = text.split_whitespace().nth(1)?.parse().ok()?;
    Some(pages * rustix::param::page_size() as u64 / 1024)
}

/// A vCPU's thread as the host sees it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Thread {
    /// Nanoseconds used.
    pub time: u64,
    /// The processor of the host that it used last.
    pub cpu: i32,
    /// Nanoseconds that it waited for a processor.
    pub delay: u64,
}

/// What the host tells of a thread.
pub fn thread(pid: i32, tid: i32) -> Option<Thread> {
    let place = format!("/proc/{pid}/task/{tid}");
    let stat = std::fs::read_to_string(format!("{place}/stat")).ok()?;
    let (_, rest) = stat.rsplit_once(')')?;
    let fields: Vec<_> = rest.split_whitespace().collect();
    let tick = 1_000_000_000 / rustix::param::clock_ticks_per_second().max(1);
    let ticks = |at: usize| fields.get(at)?.parse::<u64>().ok();
    let schedule = std::fs::read_to_string(format!("{place}/schedstat")).unwrap_or_default();
    Some(Thread {
        time: (ticks(11)? + ticks(12)?).saturating_mul(tick),
        cpu: fields.get(36)?.parse().ok()?,
        delay: schedule.split_whitespace().nth(1).and_then(|word| word.parse().ok()).unwrap_or(0),
    })
}
