//! vCPUs, memory, scheduling, I/O threads.

use super::limits::{
    CPUMAP_MAX, CPUMAPS_MAX, DOMAIN_IOTHREAD_PARAMS_MAX, DOMAIN_MEMORY_PARAMETERS_MAX,
    DOMAIN_NUMA_PARAMETERS_MAX, DOMAIN_PERF_EVENTS_MAX, DOMAIN_SCHEDULER_PARAMETERS_MAX, IOTHREAD_INFO_MAX,
    VCPUINFO_MAX,
};
use super::types::{Domain, TypedParam};

derive::protocol! {
    /// vCPUs, memory, scheduling and I/O threads of domains.
    handler DomainTuning;

    /// A vCPU: its number, its state (0 offline, 1 running, 2 blocked), nanoseconds used, the host CPU it is on.
    struct VcpuInfo {
        number: u32,
        state: i32,
        cpu_time: u64,
        cpu: i32,
    }

    /// An I/O thread and the host CPUs it may use.
    struct DomainIothreadInfo {
        iothread_id: u32,
        cpumap: bytes<CPUMAP_MAX>,
    }

    call 17 domain_get_max_memory(dom: Domain) -> (memory: u64):
        virDomainGetMaxMemory, high, acl["domain:read"];
    call 18 domain_get_max_vcpus(dom: Domain) -> (num: i32):
        virDomainGetMaxVcpus, high, acl["domain:read"];
    call 20 domain_get_vcpus(dom: Domain, maxinfo: i32, maplen: i32)
        -> (info: [VcpuInfo; VCPUINFO_MAX], cpumaps: bytes<CPUMAPS_MAX>):
        virDomainGetVcpus, high, nonnull(maxinfo as info), acl["domain:read"];
    call 26 domain_pin_vcpu(dom: Domain, vcpu: u32, cpumap: bytes<CPUMAP_MAX>):
        virDomainPinVcpu, write, nonnull(cpumap), acl["domain:write"];
    call 30 domain_set_max_memory(dom: Domain, memory: u64):
        virDomainSetMaxMemory, high, write, nonzero(memory), acl["domain:write"];
    call 31 domain_set_memory(dom: Domain, memory: u64): virDomainSetMemory, write, nonzero(memory), acl["domain:write"];
    call 32 domain_set_vcpus(dom: Domain, nvcpus: u32): virDomainSetVcpus, write, nonzero(nvcpus), acl["domain:write"];
    call 56 domain_get_scheduler_type(dom: Domain) -> (kind: str, nparams: i32):
        virDomainGetSchedulerType, acl["domain:read"];
    call 57 domain_get_scheduler_parameters(dom: Domain, nparams: i32)
        -> (params: [TypedParam; DOMAIN_SCHEDULER_PARAMETERS_MAX]):
        virDomainGetSchedulerParameters, nonnull(nparams as params), acl["domain:read"];
    call 58 domain_set_scheduler_parameters(
        dom: Domain, params: [TypedParam; DOMAIN_SCHEDULER_PARAMETERS_MAX]
    ):
        virDomainSetSchedulerParameters, write, nonnull(params), acl["domain:read"];
    call 197 domain_set_memory_parameters(
        dom: Domain, params: [TypedParam; DOMAIN_MEMORY_PARAMETERS_MAX], flags: u32
    ):
        virDomainSetMemoryParameters, write,
        nonnull(params), acl[
            "domain:write",
            "domain:save:!VIR_DOMAIN_AFFECT_CONFIG|VIR_DOMAIN_AFFECT_LIVE",
            "domain:save:VIR_DOMAIN_AFFECT_CONFIG",
        ];
    call 198 domain_get_memory_parameters(dom: Domain, nparams: i32, flags: u32)
        -> (params: [TypedParam; DOMAIN_MEMORY_PARAMETERS_MAX], nparams: i32):
        virDomainGetMemoryParameters, acl["domain:read"];
    call 199 domain_set_vcpus_flags(dom: Domain, nvcpus: u32, flags: u32):
        virDomainSetVcpusFlags, write,
        nonzero(nvcpus), acl[
            "domain:write",
            "domain:save:!VIR_DOMAIN_AFFECT_CONFIG|VIR_DOMAIN_AFFECT_LIVE",
            "domain:save:VIR_DOMAIN_AFFECT_CONFIG",
            "domain:write:VIR_DOMAIN_VCPU_GUEST",
        ];
    call 200 domain_get_vcpus_flags(dom: Domain, flags: u32) -> (num: i32):
        virDomainGetVcpusFlags, write_if(0x8), acl["domain:read", "domain:write:VIR_DOMAIN_VCPU_GUEST"];
    call 204 domain_set_memory_flags(dom: Domain, memory: u64, flags: u32):
        virDomainSetMemoryFlags, write,
        nonzero(memory), acl[
            "domain:write",
            "domain:save:!VIR_DOMAIN_AFFECT_CONFIG|VIR_DOMAIN_AFFECT_LIVE",
            "domain:save:VIR_DOMAIN_AFFECT_CONFIG",
        ];
    call 219 domain_set_scheduler_parameters_flags(
        dom: Domain, params: [TypedParam; DOMAIN_SCHEDULER_PARAMETERS_MAX], flags: u32
    ):
        virDomainSetSchedulerParametersFlags, write,
        nonnull(params), acl[
            "domain:write",
            "domain:save:!VIR_DOMAIN_AFFECT_CONFIG|VIR_DOMAIN_AFFECT_LIVE",
            "domain:save:VIR_DOMAIN_AFFECT_CONFIG",
        ];
    call 223 domain_get_scheduler_parameters_flags(dom: Domain, nparams: i32, flags: u32)
        -> (params: [TypedParam; DOMAIN_SCHEDULER_PARAMETERS_MAX]):
        virDomainGetSchedulerParametersFlags, nonnull(nparams as params), acl["domain:read"];
    call 225 domain_pin_vcpu_flags(dom: Domain, vcpu: u32, cpumap: bytes<CPUMAP_MAX>, flags: u32):
        virDomainPinVcpuFlags, write,
        nonnull(cpumap), acl[
            "domain:write",
            "domain:save:!VIR_DOMAIN_AFFECT_CONFIG|VIR_DOMAIN_AFFECT_LIVE",
            "domain:save:VIR_DOMAIN_AFFECT_CONFIG",
        ];
    call 230 domain_get_vcpu_pin_info(dom: Domain, ncpumaps: i32, maplen: i32, flags: u32)
        -> (cpumaps: bytes<CPUMAPS_MAX>, num: i32):
        virDomainGetVcpuPinInfo, positive(ncpumaps), acl["domain:read"];
    call 254 domain_set_numa_parameters(
        dom: Domain, params: [TypedParam; DOMAIN_NUMA_PARAMETERS_MAX], flags: u32
    ):
        virDomainSetNumaParameters, write,
        nonnull(params), acl[
            "domain:write",
            "domain:save:!VIR_DOMAIN_AFFECT_CONFIG|VIR_DOMAIN_AFFECT_LIVE",
            "domain:save:VIR_DOMAIN_AFFECT_CONFIG",
        ];
    call 255 domain_get_numa_parameters(dom: Domain, nparams: i32, flags: u32)
        -> (params: [TypedParam; DOMAIN_NUMA_PARAMETERS_MAX], nparams: i32):
        virDomainGetNumaParameters, acl["domain:read"];
    call 279 domain_pin_emulator(dom: Domain, cpumap: bytes<CPUMAP_MAX>, flags: u32):
        virDomainPinEmulator, write,
        nonnull(cpumap), acl[
            "domain:write",
            "domain:save:!VIR_DOMAIN_AFFECT_CONFIG|VIR_DOMAIN_AFFECT_LIVE",
            "domain:save:VIR_DOMAIN_AFFECT_CONFIG",
        ];
    call 280 domain_get_emulator_pin_info(dom: Domain, maplen: i32, flags: u32)
        -> (cpumaps: bytes<CPUMAPS_MAX>, ret: i32):
        virDomainGetEmulatorPinInfo, nonnull(maplen as cpumap), acl["domain:read"];
    call 308 domain_set_memory_stats_period(dom: Domain, period: i32, flags: u32):
        virDomainSetMemoryStatsPeriod, write,
        acl[
            "domain:write",
            "domain:save:!VIR_DOMAIN_AFFECT_CONFIG|VIR_DOMAIN_AFFECT_LIVE",
            "domain:save:VIR_DOMAIN_AFFECT_CONFIG",
        ];
    call 351 domain_get_iothread_info(dom: Domain, flags: u32)
        -> (info: [DomainIothreadInfo; IOTHREAD_INFO_MAX], ret: u32):
        virDomainGetIOThreadInfo, acl["domain:read"];
    call 352 domain_pin_iothread(dom: Domain, iothreads_id: u32, cpumap: bytes<CPUMAP_MAX>, flags: u32):
        virDomainPinIOThread, write,
        nonnull(cpumap), acl[
            "domain:write",
            "domain:save:!VIR_DOMAIN_AFFECT_CONFIG|VIR_DOMAIN_AFFECT_LIVE",
            "domain:save:VIR_DOMAIN_AFFECT_CONFIG",
        ];
    call 355 domain_add_iothread(dom: Domain, iothread_id: u32, flags: u32):
        virDomainAddIOThread, write,
        acl[
            "domain:write",
            "domain:save:!VIR_DOMAIN_AFFECT_CONFIG|VIR_DOMAIN_AFFECT_LIVE",
            "domain:save:VIR_DOMAIN_AFFECT_CONFIG",
        ];
    call 356 domain_del_iothread(dom: Domain, iothread_id: u32, flags: u32):
        virDomainDelIOThread, write,
        nonzero(iothread_id), acl[
            "domain:write",
            "domain:save:!VIR_DOMAIN_AFFECT_CONFIG|VIR_DOMAIN_AFFECT_LIVE",
            "domain:save:VIR_DOMAIN_AFFECT_CONFIG",
        ];
    call 365 domain_get_perf_events(dom: Domain, flags: u32)
        -> (params: [TypedParam; DOMAIN_PERF_EVENTS_MAX]):
        virDomainGetPerfEvents, acl["domain:read"];
    call 366 domain_set_perf_events(dom: Domain, params: [TypedParam; DOMAIN_PERF_EVENTS_MAX], flags: u32):
        virDomainSetPerfEvents, write, nonnull(params), acl["domain:write"];
    call 384 domain_set_vcpu(dom: Domain, cpumap: str, state: i32, flags: u32):
        virDomainSetVcpu, write,
        acl[
            "domain:write",
            "domain:save:!VIR_DOMAIN_AFFECT_CONFIG|VIR_DOMAIN_AFFECT_LIVE",
            "domain:save:VIR_DOMAIN_AFFECT_CONFIG",
        ];
    call 402 domain_set_iothread_params(
        dom: Domain, iothread_id: u32, params: [TypedParam; DOMAIN_IOTHREAD_PARAMS_MAX], flags: u32
    ):
        virDomainSetIOThreadParams, write,
        nonnull(params), acl[
            "domain:write",
            "domain:save:!VIR_DOMAIN_AFFECT_CONFIG|VIR_DOMAIN_AFFECT_LIVE",
            "domain:save:VIR_DOMAIN_AFFECT_CONFIG",
        ];
}
