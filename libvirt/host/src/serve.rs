//! The calls about the host.

use crate::node::page_size;
use crate::parse::{meminfo, text};
use crate::sleep::Sleeper;
use crate::{Cell, Topology, cpu, memory, topology};
use rpc::protocol::host::*;
use rpc::{ClientContext, Code, Error, Origin, TypedValue};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

/// What calls return.
type Result<T> = std::result::Result<T, Error>;

/// libvirt's version that is reported: `major * 1,000,000 + minor * 1,000 + micro`.
const VERSION: u64 = 10_000_000;

/// Serves the calls about the host.
pub struct NodeHost {
    root: PathBuf,
    /// As it was last seen.
    topology: Mutex<Option<Arc<Topology>>>,
    sleeper: Sleeper,
}

impl Default for NodeHost {
    fn default() -> Self {
        Self::at("/")
    }
}

fn invalid(detail: impl Into<String>) -> Error {
    Error::new(Origin::None, Code::InvalidArg, detail)
}

fn flags(flags: u32, known: u32, function: &str) -> Result<()> {
    Error::check_flags(Origin::None, flags, known, function)
}

impl NodeHost {
    /// The host whose `/proc` and `/sys` are below `root`.
    pub fn at(root: impl Into<PathBuf>) -> Self {
        Self { root: root.into(), topology: Mutex::default(), sleeper: Sleeper::default() }
    }

    fn cell(&self, id: i32) -> Result<Cell> {
        let cells = Cell::read_all(&self.root);
        let last = cells.last().map_or(0, |cell| cell.id);
        let found = cells.into_iter().find(|cell| i32::try_from(cell.id) == Ok(id));
        found.ok_or_else(|| {
            let text = format!("cellNum in virHostMemGetStats must be less than or equal to {last}");
            Error::invalid_argument(Origin::None, "virHostMemGetStats", "cellNum", text)
        })
    }
}

impl Host for NodeHost {
    fn connect_get_hostname(&self, _: &ClientContext) -> Result<ConnectGetHostnameRet> {
        Ok(ConnectGetHostnameRet {
            hostname: rustix::system::uname().nodename().to_string_lossy().into_owned(),
        })
    }

    fn connect_get_lib_version(&self, _: &ClientContext) -> Result<ConnectGetLibVersionRet> {
        Ok(ConnectGetLibVersionRet { lib_ver: VERSION })
    }

    fn node_get_info(&self, _: &ClientContext) -> Result<NodeGetInfoRet> {
        let mut known = self.topology.lock().unwrap_or_else(PoisonError::into_inner);
        let topology = Topology::reread(&self.root, &mut known);
        drop(known);
        let (mut nodes, memory) = Cell::totals(&self.root);
        let mut model = [0; 32];
        let arch = std::env::consts::ARCH.as_bytes();
        model[..arch.len().min(31)].copy_from_slice(&arch[..arch.len().min(31)]);
        let mut sockets = topology.sockets() / nodes;
        let (mut cores, mut threads) = (topology.cores() * topology.dies(), topology.threads());
        // Where the product is not the number of processors, clients are told so by a single group.
        if sockets == 0 || nodes * sockets * cores * threads != topology.online.len() {
            (nodes, sockets, cores, threads) = (1, 1, topology.online.len(), 1);
        }
        Ok(NodeGetInfoRet {
            model,
            memory,
            cpus: topology.online.len() as i32,
            mhz: cpu::mhz(&self.root) as i32,
            nodes: nodes as i32,
            sockets: sockets as i32,
            cores: cores as i32,
            threads: threads as i32,
        })
    }

    fn node_get_cells_free_memory(
        &self,
        _: &ClientContext,
        args: NodeGetCellsFreeMemoryArgs,
    ) -> Result<NodeGetCellsFreeMemoryRet> {
        let cells = Cell::numbers(&self.root);
        let last = cells.last().copied().unwrap_or(0);
        let start = usize::try_from(args.start_cell).unwrap_or(usize::MAX);
        if start > last {
            let detail = format!("start cell {} out of range (0-{last})", args.start_cell);
            return Err(Error::internal(Origin::None, detail));
        }
        let wanted = cells.into_iter().filter(|cell| *cell >= start);
        let most = usize::try_from(args.maxcells).unwrap_or(0);
        let free = |cell| Cell::free_of(&self.root, Some(cell)) * 1024;
        Ok(NodeGetCellsFreeMemoryRet { cells: wanted.take(most).map(free).collect() })
    }

    fn node_get_free_memory(&self, _: &ClientContext) -> Result<NodeGetFreeMemoryRet> {
        let free = meminfo(&text(&self.root.join("proc/meminfo")), "MemFree");
        Ok(NodeGetFreeMemoryRet { free_mem: free.unwrap_or(0) * 1024 })
    }

    fn connect_get_sysinfo(
        &self,
        _: &ClientContext,
        args: ConnectGetSysinfoArgs,
    ) -> Result<ConnectGetSysinfoRet> {
        Error::check_flags(Origin::Qemu, args.flags, 0, "qemuConnectGetSysinfo")?;
        sysinfo(&self.root).map(|sysinfo| ConnectGetSysinfoRet { sysinfo }).ok_or_else(|| {
            Error::new(Origin::Qemu, Code::ConfigUnsupported, "Host SMBIOS information is not available")
        })
    }

    fn node_get_cpu_stats(&self, _: &ClientContext, args: NodeGetCpuStatsArgs) -> Result<NodeGetCpuStatsRet> {
        const FIELDS: [&str; 4] = ["kernel", "user", "idle", "iowait"];
        flags(args.flags, 0, "virHostCPUGetStats")?;
        let (nparams, function) = (FIELDS.len() as i32, "virHostCPUGetStatsLinux");
        if args.nparams == 0 {
            return Ok(NodeGetCpuStatsRet { params: Vec::new(), nparams });
        }
        if args.nparams != nparams {
            let text = format!("nparams in {function} must be equal to {nparams}");
            return Err(Error::invalid_argument(Origin::None, function, "*nparams", text));
        }
        let name = match args.cpu_num {
            -1 => "cpu".to_owned(),
            number => format!("cpu{number}"),
        };
        let stat = text(&self.root.join("proc/stat"));
        let row = stat.lines().find_map(|line| line.strip_prefix(&name)?.strip_prefix(' '));
        let row = row.ok_or_else(|| {
            Error::invalid_argument(Origin::None, function, "cpuNum", format!("Invalid cpuNum in {function}"))
        })?;
        let tick = 1_000_000_000 / rustix::param::clock_ticks_per_second().max(1);
        let times: Vec<u64> = row.split_whitespace().filter_map(|word| word.parse().ok()).collect();
        let time = |at: usize| times.get(at).copied().unwrap_or(0).saturating_mul(tick);
        let values = [time(2) + time(5) + time(6), time(0) + time(1), time(3), time(4)];
        let all = FIELDS
            .iter()
            .zip(values)
            .map(|(field, value)| NodeGetCpuStats { field: (*field).to_owned(), value });
        Ok(NodeGetCpuStatsRet { params: all.collect(), nparams })
    }

    fn node_get_memory_stats(
        &self,
        _: &ClientContext,
        args: NodeGetMemoryStatsArgs,
    ) -> Result<NodeGetMemoryStatsRet> {
        flags(args.flags, 0, "virHostMemGetStats")?;
        let field = |field: &str, value: u64| NodeGetMemoryStats { field: field.to_owned(), value };
        let all = if args.cell_num == -1 {
            let memory = text(&self.root.join("proc/meminfo"));
            [("total", "MemTotal"), ("free", "MemFree"), ("buffers", "Buffers"), ("cached", "Cached")]
                .map(|(name, key)| field(name, meminfo(&memory, key).unwrap_or(0)))
                .to_vec()
        } else {
            let cell = self.cell(args.cell_num)?;
            vec![field("total", cell.memory), field("free", cell.free)]
        };
        let nparams = all.len() as i32;
        Ok(NodeGetMemoryStatsRet { params: if args.nparams == 0 { Vec::new() } else { all }, nparams })
    }

    fn node_get_memory_parameters(
        &self,
        _: &ClientContext,
        args: NodeGetMemoryParametersArgs,
    ) -> Result<NodeGetMemoryParametersRet> {
        // That the client understands texts makes no difference here.
        flags(args.flags, 4, "virHostMemGetParameters")?;
        if args.nparams == 0 {
            return Ok(NodeGetMemoryParametersRet { params: Vec::new(), nparams: memory::COUNT });
        }
        let params = memory::parameters(&self.root);
        Ok(NodeGetMemoryParametersRet { nparams: params.len() as i32, params })
    }

    fn node_set_memory_parameters(&self, _: &ClientContext, args: NodeSetMemoryParametersArgs) -> Result<()> {
        flags(args.flags, 0, "virHostMemSetParameters")?;
        let mut writes = Vec::new();
        for param in &args.params {
            let path = memory::setting(&self.root, &param.field);
            let path = path.ok_or_else(|| invalid(format!("parameter '{}' not supported", param.field)))?;
            let TypedValue::Uint(value) = param.value else {
                let detail = format!("invalid type for parameter '{}', expected 'uint'", param.field);
                return Err(invalid(detail));
            };
            writes.push((path, value, &param.field));
        }
        for (path, value, field) in writes {
            std::fs::write(&path, value.to_string())
                .map_err(|error| Error::system(Origin::None, &error, &format!("failed to set {field}")))?;
        }
        Ok(())
    }

    fn node_suspend_for_duration(&self, _: &ClientContext, args: NodeSuspendForDurationArgs) -> Result<()> {
        self.sleeper.sleep(args.target, args.duration, args.flags)
    }

    fn node_get_cpu_map(&self, _: &ClientContext, args: NodeGetCpuMapArgs) -> Result<NodeGetCpuMapRet> {
        flags(args.flags, 0, "virHostCPUGetMap")?;
        let (present, online) = topology::numbers(&self.root);
        let count = present.last().map_or(0, |last| last + 1);
        let mut cpumap = vec![0; count.div_ceil(8)];
        for cpu in &online {
            if let Some(byte) = cpumap.get_mut(cpu / 8) {
                *byte |= 1 << (cpu % 8);
            }
        }
        Ok(NodeGetCpuMapRet {
            cpumap: if args.need_map == 0 { Vec::new() } else { cpumap },
            online: if args.need_online == 0 { 0 } else { online.len() as u32 },
            ret: count as i32,
        })
    }

    fn node_get_free_pages(
        &self,
        _: &ClientContext,
        args: NodeGetFreePagesArgs,
    ) -> Result<NodeGetFreePagesRet> {
        flags(args.flags, 0, "virHostMemGetFreePages")?;
        let last = Cell::numbers(&self.root).last().map_or(0, |last| *last as i32);
        if args.start_cell > last {
            let detail = format!("start cell {} out of range (0-{last})", args.start_cell);
            return Err(Error::internal(Origin::None, detail));
        }
        let count = i32::try_from(args.cell_count).unwrap_or(i32::MAX);
        let end = last.min(args.start_cell.saturating_add(count).saturating_sub(1));
        let mut counts = Vec::new();
        for cell in args.start_cell..=end {
            // Before the first one is the whole host.
            let node = usize::try_from(cell).ok();
            for size in &args.pages {
                let free = match u64::from(*size) {
                    size if size == page_size() => Some(Cell::free_of(&self.root, node) / size),
                    size => Cell::free_large_pages(&self.root, node, size),
                };
                counts.push(free.ok_or_else(|| {
                    let place = node.map(|node| format!(" on node {node}")).unwrap_or_default();
                    let detail = format!("page size {size} is not available{place}");
                    Error::new(Origin::None, Code::OperationFailed, detail)
                })?);
            }
        }
        if counts.is_empty() {
            return Err(Error::internal(Origin::None, "no suitable info found"));
        }
        Ok(NodeGetFreePagesRet { counts })
    }

    fn node_alloc_pages(&self, _: &ClientContext, args: NodeAllocPagesArgs) -> Result<NodeAllocPagesRet> {
        const SET: u32 = 1;
        flags(args.flags, SET, "qemuNodeAllocPages")?;
        let last = Cell::numbers(&self.root).last().map_or(0, |last| *last as i32);
        if args.start_cell > last {
            let detail = format!("start cell {} out of range (0-{last})", args.start_cell);
            return Err(Error::internal(Origin::None, detail));
        }
        let count = i32::try_from(args.cell_count).unwrap_or(i32::MAX);
        let end = last.min(args.start_cell.saturating_add(count).saturating_sub(1));
        let mut changed = 0;
        for cell in args.start_cell..=end {
            for (size, wanted) in args.page_sizes.iter().zip(&args.page_counts) {
                self.set_page_pool(cell, *size, *wanted, args.flags & SET == 0)?;
                changed += 1;
            }
        }
        Ok(NodeAllocPagesRet { ret: changed })
    }
}

impl NodeHost {
    /// Gives a cell's pool, or with -1 the host's, that many pages of `size` KiB, or that many more.
    fn set_page_pool(&self, cell: i32, size: u32, wanted: u64, add: bool) -> Result<()> {
        let failed = |code: Code, detail: String| Error::new(Origin::None, code, detail);
        if u64::from(size) == page_size() {
            let detail = "system pages pool can't be modified".to_owned();
            return Err(failed(Code::OperationUnsupported, detail));
        }
        let node = self.root.join(format!("sys/devices/system/node/node{cell}"));
        let pools = match node.exists() {
            true => node.join("hugepages"),
            // A host without nodes is the only one.
            false => self.root.join("sys/kernel/mm/hugepages"),
        };
        let path = pools.join(format!("hugepages-{size}kB/nr_hugepages"));
        if !path.exists() {
            let place = if cell < 0 { String::new() } else { format!(" on node {cell}") };
            let detail = format!("page size {size} is not available{place}");
            return Err(failed(Code::OperationFailed, detail));
        }
        let read = || {
            let found = text(&path);
            let invalid = || {
                let detail = format!("invalid number '{found}' in '{}'", path.display());
                failed(Code::OperationFailed, detail)
            };
            found.trim_end().parse::<u64>().map_err(|_| invalid())
        };
        let now = read()?;
        let target = if add { now.saturating_add(wanted) } else { wanted };
        if target == now {
            return Ok(());
        }
        std::fs::write(&path, target.to_string()).map_err(|error| {
            Error::system(Origin::None, &error, &format!("Unable to write to: {}", path.display()))
        })?;
        // The kernel gives what it has.
        let got = read()?;
        if got != target {
            let detail = format!("Unable to allocate {target} pages. Allocated only {got}");
            return Err(failed(Code::OperationFailed, detail));
        }
        Ok(())
    }
}

/// The system information of the host's firmware, in the form of domain XML; none without firmware tables.
fn sysinfo(root: &std::path::Path) -> Option<String> {
    const GROUPS: &[(&str, &[(&str, &str)])] = &[
        (
            "bios",
            &[
                ("vendor", "bios_vendor"),
                ("version", "bios_version"),
                ("date", "bios_date"),
                ("release", "bios_release"),
            ],
        ),
        (
            "system",
            &[
                ("manufacturer", "sys_vendor"),
                ("product", "product_name"),
                ("version", "product_version"),
                ("serial", "product_serial"),
                ("uuid", "product_uuid"),
                ("sku", "product_sku"),
                ("family", "product_family"),
            ],
        ),
        (
            "baseBoard",
            &[
                ("manufacturer", "board_vendor"),
                ("product", "board_name"),
                ("version", "board_version"),
                ("serial", "board_serial"),
                ("asset", "board_asset_tag"),
            ],
        ),
    ];
    let directory = root.join("sys/class/dmi/id");
    if !directory.exists() {
        return None;
    }
    let mut writer = xml::Writer::default();
    writer.with(
        "sysinfo",
        |writer| writer.attribute("type", "smbios"),
        |writer| {
            for (group, entries) in GROUPS {
                let found: Vec<_> = entries
                    .iter()
                    .map(|(name, file)| (*name, text(&directory.join(file))))
                    .filter(|(_, value)| !value.trim().is_empty())
                    .collect();
                if found.is_empty() {
                    continue;
                }
                writer.with(
                    group,
                    |_| (),
                    |writer| {
                        for (name, value) in &found {
                            let name = *name;
                            writer.with(
                                "entry",
                                |writer| writer.attribute("name", name),
                                |writer| writer.text(value.trim()),
                            );
                        }
                    },
                );
            }
        },
    );
    Some(writer.finish())
}
