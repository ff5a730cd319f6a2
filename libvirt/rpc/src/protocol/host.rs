//! The host and the daemon.

use super::limits::{
    CPUMAP_MAX, NODE_CPU_STATS_MAX, NODE_MAX_CELLS, NODE_MEMORY_PARAMETERS_MAX, NODE_MEMORY_STATS_MAX,
};
use super::types::TypedParam;

derive::protocol! {
    /// What is asked about the host and the daemon.
    handler Host;

    /// A time of the CPUs in nanoseconds.
    struct NodeGetCpuStats {
        field: str,
        value: u64,
    }

    /// An amount of memory in KiB.
    struct NodeGetMemoryStats {
        field: str,
        value: u64,
    }

    call 6 node_get_info()
        -> (
            model: fixed_chars<32>, memory: u64, cpus: i32, mhz: i32, nodes: i32, sockets: i32, cores: i32,
            threads: i32,
        ):
        virNodeGetInfo, high, acl["connect:read"];
    call 59 connect_get_hostname() -> (hostname: str): virConnectGetHostname, high, acl["connect:getattr"];
    call 101 node_get_cells_free_memory(start_cell: i32, maxcells: i32) -> (cells: [u64; NODE_MAX_CELLS]):
        virNodeGetCellsFreeMemory, high, positive(maxcells as maxCells), acl["connect:read"];
    call 102 node_get_free_memory() -> (free_mem: u64): virNodeGetFreeMemory, high, acl["connect:read"];
    call 157 connect_get_lib_version() -> (lib_ver: u64):
        virConnectGetLibVersion, high, acl["connect:getattr"];
    call 203 connect_get_sysinfo(flags: u32) -> (sysinfo: str):
        virConnectGetSysinfo, high, acl["connect:read"];
    call 227 node_get_cpu_stats(cpu_num: i32, nparams: i32, flags: u32)
        -> (params: [NodeGetCpuStats; NODE_CPU_STATS_MAX], nparams: i32):
        virNodeGetCPUStats, high, acl["connect:read"];
    call 228 node_get_memory_stats(nparams: i32, cell_num: i32, flags: u32)
        -> (params: [NodeGetMemoryStats; NODE_MEMORY_STATS_MAX], nparams: i32):
        virNodeGetMemoryStats, high, acl["connect:read"];
    call 250 node_suspend_for_duration(target: u32, duration: u64, flags: u32):
        virNodeSuspendForDuration, write, acl["connect:pm_control"];
    call 288 node_set_memory_parameters(params: [TypedParam; NODE_MEMORY_PARAMETERS_MAX], flags: u32):
        virNodeSetMemoryParameters, write, nonnull(params), acl["connect:write"];
    call 289 node_get_memory_parameters(nparams: i32, flags: u32)
        -> (params: [TypedParam; NODE_MEMORY_PARAMETERS_MAX], nparams: i32):
        virNodeGetMemoryParameters, acl["connect:read"];
    call 293 node_get_cpu_map(need_map: i32, need_online: i32, flags: u32)
        -> (cpumap: bytes<CPUMAP_MAX>, online: u32, ret: i32):
        virNodeGetCPUMap, acl["connect:read"];
    call 340 node_get_free_pages(
        pages: [u32; NODE_MAX_CELLS], start_cell: i32, cell_count: u32, flags: u32
    )
        -> (counts: [u64; NODE_MAX_CELLS]):
        virNodeGetFreePages, high, nonzero(pages as npages), acl["connect:read"];
    call 347 node_alloc_pages(
        page_sizes: [u32; NODE_MAX_CELLS], page_counts: [u64; NODE_MAX_CELLS], start_cell: i32,
        cell_count: u32, flags: u32
    )
        -> (ret: i32):
        virNodeAllocPages, write, nonzero(page_sizes as npages), acl["connect:write"];
}
