//! What libvirt's clients ask about the host: its processors, its memory, its name.
#![forbid(unsafe_code)]

pub mod sys;

use rpc::protocol::host::*;
use rpc::{ClientContext, Code, Error, Origin, TypedParam, TypedValue};
use std::collections::BTreeSet;
use std::path::Path;
use sys::Root;

/// Answers for the host.
#[derive(Debug, Clone)]
pub struct HostNode {
    version: u64,
    root: Root,
}

/// "All of them", where a number is asked for.
const ALL: i32 = -1;

type Result<T> = std::result::Result<T, Error>;

impl HostNode {
    /// The host, for a library that says it is `version` (major * 1000000 + minor * 1000 + release).
    pub fn new(version: u64) -> Self {
        Self { version, root: Root::default() }
    }

    /// Sockets, cores in each, and threads in each core among `cpus`; and how many are off.
    fn shape(&self, cpus: &BTreeSet<u32>, online: &BTreeSet<u32>) -> Shape {
        let mut cores = std::collections::BTreeMap::<i64, std::collections::BTreeMap<i64, i32>>::new();
        let mut shape = Shape::default();
        for &cpu in cpus {
            if !online.contains(&cpu) {
                shape.offline += 1;
                continue;
            }
            shape.cpus += 1;
            let of = |name| self.root.topology(cpu, name).unwrap_or(0);
            *cores.entry(of("physical_package_id")).or_default().entry(of("core_id")).or_default() += 1;
        }
        let count = |length: usize| i32::try_from(length).unwrap_or(i32::MAX);
        shape.sockets = count(cores.len());
        shape.cores = count(cores.values().map(|socket| socket.len()).max().unwrap_or(0));
        shape.threads = cores.values().flat_map(|socket| socket.values()).copied().max().unwrap_or(0);
        shape
    }

    fn largest_cell(&self) -> i32 {
        self.root.nodes().last().map_or(0, |(number, _)| (*number).cast_signed())
    }

    fn page_kib() -> u64 {
        rustix::param::page_size() as u64 / 1024
    }

    /// Pages of a size that are free in a cell.
    fn free_pages(&self, cell: i32, size_kib: u32) -> Result<u64> {
        let nodes = self.root.nodes();
        let folder = nodes.iter().find(|(number, _)| (*number).cast_signed() == cell).map(|(_, path)| path);
        if u64::from(size_kib) == Self::page_kib() {
            let free = match folder {
                Some(folder) => free_kib(&folder.join("meminfo")),
                None => free_kib(&self.root.proc.join("meminfo")),
            };
            return Ok(free.unwrap_or(0) / Self::page_kib());
        }
        let pages = match folder {
            Some(folder) => folder.join("hugepages"),
            None => self.root.sys.join("kernel/mm/hugepages"),
        };
        let file = pages.join(format!("hugepages-{size_kib}kB/free_hugepages"));
        Root::read(&file).and_then(|text| text.parse().ok()).ok_or_else(|| {
            let text = format!("page size {size_kib} is not available on node {cell}");
            Error::new(Origin::None, Code::OperationFailed, text)
        })
    }
}

#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
struct Shape {
    cpus: i32,
    offline: i32,
    sockets: i32,
    cores: i32,
    threads: i32,
}

fn free_kib(meminfo: &Path) -> Option<u64> {
    Root::meminfo(meminfo).into_iter().find(|(name, _)| name == "MemFree").map(|(_, value)| value)
}

/// Refuses cells that do not exist.
fn check_cell(cell: i32, last: i32) -> Result<()> {
    if (0..=last).contains(&cell) {
        return Ok(());
    }
    Err(Error::internal(Origin::None, format!("start cell {cell} out of range (0-{last})")))
}

impl Host for HostNode {
    fn node_get_info(&self, _: &ClientContext) -> Result<NodeGetInfoRet> {
        let (present, online) = (self.root.present(), self.root.online());
        let nodes = self.root.nodes();
        let mut whole = Shape::default();
        let mut count = 0;
        for (_, folder) in &nodes {
            let cpus = Root::read(&folder.join("cpulist")).map(|text| sys::list(&text)).unwrap_or_default();
            let shape = self.shape(&cpus.intersection(&present).copied().collect(), &online);
            count += 1;
            whole.cpus += shape.cpus;
            whole.sockets = whole.sockets.max(shape.sockets);
            whole.cores = whole.cores.max(shape.cores);
            whole.threads = whole.threads.max(shape.threads);
        }
        if count == 0 || whole.cpus == 0 {
            whole = self.shape(&present, &online);
            count = 1;
        }
        whole.offline = i32::try_from(present.difference(&online).count()).unwrap_or(0);
        if whole.cpus == 0 {
            return Err(Error::internal(Origin::None, "no CPUs found"));
        }
        let all = whole.cpus + whole.offline;
        if count * whole.sockets * whole.cores * whole.threads != all {
            // A topology that four numbers cannot tell.
            (count, whole.sockets, whole.cores, whole.threads) = (1, 1, all, 1);
        }
        let mut model = [0; 32];
        let machine = rustix::system::uname();
        for (to, from) in model.iter_mut().zip(machine.machine().to_bytes().iter().take(31)) {
            *to = *from;
        }
        Ok(NodeGetInfoRet {
            model,
            memory: self.total_kib(&nodes),
            cpus: whole.cpus,
            mhz: self.root.mhz(),
            nodes: count,
            sockets: whole.sockets,
            cores: whole.cores,
            threads: whole.threads,
        })
    }

    fn connect_get_hostname(&self, _: &ClientContext) -> Result<ConnectGetHostnameRet> {
        let name = rustix::system::uname();
        Ok(ConnectGetHostnameRet { hostname: name.nodename().to_string_lossy().into_owned() })
    }

    fn node_get_cells_free_memory(
        &self,
        _: &ClientContext,
        args: NodeGetCellsFreeMemoryArgs,
    ) -> Result<NodeGetCellsFreeMemoryRet> {
        let NodeGetCellsFreeMemoryArgs { start_cell, maxcells } = args;
        if maxcells < 0 || maxcells > rpc::protocol::limits::NODE_MAX_CELLS as i32 {
            return Err(Error::internal(Origin::Rpc, "maxcells too large"));
        }
        let last = self.largest_cell();
        check_cell(start_cell, last)?;
        let nodes = self.root.nodes();
        let end = start_cell.saturating_add(maxcells).min(last.saturating_add(1));
        let free = |cell: i32| {
            let folder = nodes.iter().find(|(number, _)| (*number).cast_signed() == cell);
            let file =
                folder.map_or_else(|| self.root.proc.join("meminfo"), |(_, path)| path.join("meminfo"));
            free_kib(&file).unwrap_or(0) * 1024
        };
        Ok(NodeGetCellsFreeMemoryRet { cells: (start_cell..end).map(free).collect() })
    }

    fn node_get_free_memory(&self, _: &ClientContext) -> Result<NodeGetFreeMemoryRet> {
        let nodes = self.root.nodes();
        let free = match nodes.is_empty() {
            true => free_kib(&self.root.proc.join("meminfo")).unwrap_or(0),
            false => nodes.iter().filter_map(|(_, folder)| free_kib(&folder.join("meminfo"))).sum(),
        };
        Ok(NodeGetFreeMemoryRet { free_mem: free * 1024 })
    }

    fn connect_get_lib_version(&self, _: &ClientContext) -> Result<ConnectGetLibVersionRet> {
        Ok(ConnectGetLibVersionRet { lib_ver: self.version })
    }

    fn connect_get_sysinfo(
        &self,
        _: &ClientContext,
        args: ConnectGetSysinfoArgs,
    ) -> Result<ConnectGetSysinfoRet> {
        Error::check_flags(Origin::Qemu, args.flags, 0, "qemuConnectGetSysinfo")?;
        let text = "Host SMBIOS information is not available";
        Err(Error::new(Origin::Qemu, Code::ConfigUnsupported, text))
    }

    fn node_get_cpu_stats(&self, _: &ClientContext, args: NodeGetCpuStatsArgs) -> Result<NodeGetCpuStatsRet> {
        const FIELDS: i32 = 4;
        Error::check_flags(Origin::None, args.flags, 0, "virHostCPUGetStats")?;
        if args.nparams == 0 {
            return Ok(NodeGetCpuStatsRet { params: Vec::new(), nparams: FIELDS });
        }
        let function = "virHostCPUGetStatsLinux";
        if args.nparams != FIELDS {
            let text = format!("nparams in {function} must be equal to {FIELDS}");
            return Err(Error::invalid_argument(Origin::None, function, "*nparams", text));
        }
        let name = if args.cpu_num == ALL { "cpu".to_owned() } else { format!("cpu{}", args.cpu_num) };
        let text = Root::read(&self.root.proc.join("stat")).unwrap_or_default();
        let line = text.lines().map(str::split_whitespace).find_map(|mut words| {
            (words.next() == Some(&name))
                .then(|| words.filter_map(|word| word.parse::<u64>().ok()).collect::<Vec<_>>())
        });
        let Some(ticks) = line.filter(|ticks| ticks.len() >= 4) else {
            let text = format!("Invalid cpuNum in {function}");
            return Err(Error::invalid_argument(Origin::None, function, "cpuNum", text));
        };
        let of = |at: usize| ticks.get(at).copied().unwrap_or(0);
        let nanoseconds = 1_000_000_000 / rustix::param::clock_ticks_per_second().max(1);
        let values =
            [("kernel", of(2) + of(5) + of(6)), ("user", of(0) + of(1)), ("idle", of(3)), ("iowait", of(4))];
        let params = values
            .map(|(field, ticks)| NodeGetCpuStats { field: field.to_owned(), value: ticks * nanoseconds });
        Ok(NodeGetCpuStatsRet { params: params.into(), nparams: FIELDS })
    }

    fn node_get_memory_stats(
        &self,
        _: &ClientContext,
        args: NodeGetMemoryStatsArgs,
    ) -> Result<NodeGetMemoryStatsRet> {
        Error::check_flags(Origin::None, args.flags, 0, "virHostMemGetStats")?;
        let (file, fields) = if args.cell_num == ALL {
            (self.root.proc.join("meminfo"), 4)
        } else {
            let last = self.largest_cell();
            let nodes = self.root.nodes();
            let folder = nodes.iter().find(|(number, _)| (*number).cast_signed() == args.cell_num);
            let Some((_, folder)) = folder else {
                let function = "virHostMemGetStats";
                let text = format!("cellNum in {function} must be less than or equal to {last}");
                return Err(Error::invalid_argument(Origin::None, function, "cellNum", text));
            };
            (folder.join("meminfo"), 2)
        };
        if args.nparams == 0 {
            return Ok(NodeGetMemoryStatsRet { params: Vec::new(), nparams: fields });
        }
        if args.nparams != fields {
            let function = "virHostMemGetStatsLinux";
            let text = format!("nparams in {function} must be {fields}");
            return Err(Error::invalid_argument(Origin::None, function, "nparams", text));
        }
        let names =
            [("MemTotal", "total"), ("MemFree", "free"), ("Buffers", "buffers"), ("Cached", "cached")];
        let known = |(line, value): (String, u64)| {
            let (_, field) = names.iter().find(|(name, _)| *name == line)?;
            Some(NodeGetMemoryStats { field: (*field).to_owned(), value })
        };
        let params: Vec<_> =
            Root::meminfo(&file).into_iter().filter_map(known).take(fields as usize).collect();
        if params.is_empty() {
            return Err(Error::internal(Origin::None, "no available memory line found"));
        }
        Ok(NodeGetMemoryStatsRet { params, nparams: fields })
    }

    fn node_get_memory_parameters(
        &self,
        _: &ClientContext,
        args: NodeGetMemoryParametersArgs,
    ) -> Result<NodeGetMemoryParametersRet> {
        // The second flag says that strings are understood; there are none.
        Error::check_flags(Origin::None, args.flags, 4, "virHostMemGetParameters")?;
        let folder = self.root.sys.join("kernel/mm/ksm");
        let whole = ["pages_to_scan", "sleep_millisecs", "merge_across_nodes"];
        let large = ["pages_shared", "pages_sharing", "pages_unshared", "pages_volatile", "full_scans"];
        let order = [0, 1];
        let read = |name: &str| Root::read(&folder.join(name));
        let mut params: Vec<TypedParam> = Vec::new();
        let mut push = |name: &str, value: Option<TypedValue>| {
            params.extend(value.map(|value| TypedParam { field: format!("shm_{name}"), value }));
        };
        for at in order {
            push(whole[at], read(whole[at]).and_then(|text| text.parse().ok()).map(TypedValue::Uint));
        }
        for name in large {
            push(name, read(name).and_then(|text| text.parse().ok()).map(TypedValue::Ullong));
        }
        push(whole[2], read(whole[2]).and_then(|text| text.parse().ok()).map(TypedValue::Uint));
        let count = i32::try_from(params.len()).unwrap_or(0);
        if args.nparams == 0 {
            return Ok(NodeGetMemoryParametersRet { params: Vec::new(), nparams: count });
        }
        params.truncate(usize::try_from(args.nparams).unwrap_or(0));
        Ok(NodeGetMemoryParametersRet { params, nparams: 0 })
    }

    fn node_get_cpu_map(&self, _: &ClientContext, args: NodeGetCpuMapArgs) -> Result<NodeGetCpuMapRet> {
        Error::check_flags(Origin::None, args.flags, 0, "virHostCPUGetMap")?;
        let (present, online) = (self.root.present(), self.root.online());
        let last = present.last().copied().unwrap_or(0) as usize;
        let mut cpumap = Vec::new();
        if args.need_map != 0 {
            cpumap = vec![0; last / 8 + 1];
            for &cpu in &online {
                if let Some(byte) = cpumap.get_mut(cpu as usize / 8) {
                    *byte |= 1 << (cpu % 8);
                }
            }
        }
        let count = |number: usize| i32::try_from(number).unwrap_or(i32::MAX);
        let online = if args.need_online != 0 { count(online.len()).cast_unsigned() } else { 0 };
        Ok(NodeGetCpuMapRet { cpumap, online, ret: count(last + 1) })
    }

    fn node_get_free_pages(
        &self,
        _: &ClientContext,
        args: NodeGetFreePagesArgs,
    ) -> Result<NodeGetFreePagesRet> {
        Error::check_flags(Origin::None, args.flags, 0, "qemuNodeGetFreePages")?;
        let last = self.largest_cell();
        check_cell(args.start_cell, last)?;
        let end = i64::from(args.start_cell) + i64::from(args.cell_count);
        let end = i32::try_from(end.min(i64::from(last) + 1)).unwrap_or(last);
        let cells = i64::from(end) - i64::from(args.start_cell);
        if cells * args.pages.len() as i64 > rpc::protocol::limits::NODE_MAX_CELLS as i64 {
            return Err(Error::internal(Origin::Rpc, "the result won't fit into NODE_MAX_CELLS"));
        }
        let mut counts = Vec::new();
        for cell in args.start_cell..end {
            for &size in &args.pages {
                counts.push(self.free_pages(cell, size)?);
            }
        }
        if counts.is_empty() {
            return Err(Error::internal(Origin::None, "no suitable info found"));
        }
        Ok(NodeGetFreePagesRet { counts })
    }
}

impl HostNode {
    /// The memory of all nodes in KiB.
    fn total_kib(&self, nodes: &[(u32, std::path::PathBuf)]) -> u64 {
        let total = |file: &Path| {
            Root::meminfo(file).into_iter().find(|(name, _)| name == "MemTotal").map(|(_, value)| value)
        };
        let sum: u64 = nodes.iter().filter_map(|(_, folder)| total(&folder.join("meminfo"))).sum();
        if sum > 0 { sum } else { total(&self.root.proc.join("meminfo")).unwrap_or(0) }
    }
}
