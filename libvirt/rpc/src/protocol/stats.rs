//! State and statistics of domains, their jobs and labels.

use super::limits::{
    CONNECT_GET_ALL_DOMAIN_STATS_MAX, DOMAIN_BLOCK_STATS_PARAMETERS_MAX, DOMAIN_GET_CPU_STATS_MAX,
    DOMAIN_JOB_STATS_MAX, DOMAIN_LAUNCH_SECURITY_INFO_PARAMS_MAX, DOMAIN_LAUNCH_SECURITY_STATE_PARAMS_MAX,
    DOMAIN_LIST_MAX, DOMAIN_MEMORY_STATS_MAX, DOMAIN_MESSAGES_MAX, SECURITY_LABEL_LIST_MAX,
    SECURITY_LABEL_MAX,
};
use super::types::{Domain, TypedParam};

derive::protocol! {
    /// State and statistics of domains, their jobs and labels.
    handler DomainStats;

    /// A memory statistic: its tag and its value.
    struct DomainMemoryStat {
        tag: i32,
        val: u64,
    }

    /// A domain's statistics.
    struct DomainStatsRecord {
        dom: Domain,
        params: [TypedParam; CONNECT_GET_ALL_DOMAIN_STATS_MAX],
    }

    call 16 domain_get_info(dom: Domain)
        -> (state: u32, max_mem: u64, memory: u64, nr_virt_cpu: u32, cpu_time: u64):
        virDomainGetInfo, acl["domain:read"];
    call 64 domain_block_stats(dom: Domain, path: str)
        -> (rd_req: i64, rd_bytes: i64, wr_req: i64, wr_bytes: i64, errs: i64):
        virDomainBlockStats, acl["domain:read"];
    call 65 domain_interface_stats(dom: Domain, device: str)
        -> (
            rx_bytes: i64, rx_packets: i64, rx_errs: i64, rx_drop: i64, tx_bytes: i64, tx_packets: i64,
            tx_errs: i64, tx_drop: i64,
        ):
        virDomainInterfaceStats, high, acl["domain:read"];
    call 121 domain_get_security_label(dom: Domain) -> (label: chars<SECURITY_LABEL_MAX>, enforcing: i32):
        virDomainGetSecurityLabel, high, acl["domain:read"];
    call 159 domain_memory_stats(dom: Domain, max_stats: u32, flags: u32)
        -> (stats: [DomainMemoryStat; DOMAIN_MEMORY_STATS_MAX]):
        virDomainMemoryStats, acl["domain:read"];
    call 163 domain_get_job_info(dom: Domain)
        -> (
            kind: i32, time_elapsed: u64, time_remaining: u64, data_total: u64, data_processed: u64,
            data_remaining: u64, mem_total: u64, mem_processed: u64, mem_remaining: u64, file_total: u64,
            file_processed: u64, file_remaining: u64,
        ):
        virDomainGetJobInfo, acl["domain:read"];
    call 164 domain_abort_job(dom: Domain): virDomainAbortJob, write, acl["domain:write"];
    call 212 domain_get_state(dom: Domain, flags: u32) -> (state: i32, reason: i32):
        virDomainGetState, high, acl["domain:read"];
    call 229 domain_get_control_info(dom: Domain, flags: u32)
        -> (state: u32, details: u32, state_time: u64):
        virDomainGetControlInfo, high, acl["domain:read"];
    call 243 domain_block_stats_flags(dom: Domain, path: str, nparams: i32, flags: u32)
        -> (params: [TypedParam; DOMAIN_BLOCK_STATS_PARAMETERS_MAX], nparams: i32):
        virDomainBlockStatsFlags, acl["domain:read"];
    call 262 domain_get_cpu_stats(dom: Domain, nparams: u32, start_cpu: i32, ncpus: u32, flags: u32)
        -> (params: [TypedParam; DOMAIN_GET_CPU_STATS_MAX], nparams: i32):
        virDomainGetCPUStats, acl["domain:read"];
    call 278 domain_get_security_label_list(dom: Domain)
        -> (labels: [DomainGetSecurityLabelRet; SECURITY_LABEL_LIST_MAX], ret: i32):
        virDomainGetSecurityLabelList, high, acl["domain:read"];
    call 298 domain_get_job_stats(dom: Domain, flags: u32)
        -> (kind: i32, params: [TypedParam; DOMAIN_JOB_STATS_MAX]):
        virDomainGetJobStats, acl["domain:read"];
    call 344 connect_get_all_domain_stats(doms: [Domain; DOMAIN_LIST_MAX], stats: u32, flags: u32)
        -> (ret_stats: [DomainStatsRecord; DOMAIN_LIST_MAX]):
        virConnectGetAllDomainStats, acl["connect:search_domains"];
    call 396 domain_get_launch_security_info(dom: Domain, flags: u32)
        -> (params: [TypedParam; DOMAIN_LAUNCH_SECURITY_INFO_PARAMS_MAX]):
        virDomainGetLaunchSecurityInfo, write, acl["domain:read"];
    call 426 domain_get_messages(dom: Domain, flags: u32) -> (msgs: [str; DOMAIN_MESSAGES_MAX]):
        virDomainGetMessages, acl["domain:read"];
    call 427 domain_start_dirty_rate_calc(dom: Domain, seconds: i32, flags: u32):
        virDomainStartDirtyRateCalc, write, acl["domain:write"];
    call 439 domain_set_launch_security_state(
        dom: Domain, params: [TypedParam; DOMAIN_LAUNCH_SECURITY_STATE_PARAMS_MAX], flags: u32
    ):
        virDomainSetLaunchSecurityState, nonnull(params), write, acl["domain:write"];
    call 442 domain_abort_job_flags(dom: Domain, flags: u32):
        virDomainAbortJobFlags, write, acl["domain:write"];
}
