//! What host and hypervisor can do; CPU models; native configuration.

use super::limits::{
    CONNECT_CPU_MODELS_MAX, CPU_BASELINE_MAX, NODE_SEV_INFO_MAX, SECURITY_DOI_MAX, SECURITY_MODEL_MAX,
};
use super::types::TypedParam;

derive::protocol! {
    /// Capabilities, CPU models and native configuration.
    handler Capabilities;

    call 3 connect_get_type() -> (kind: str): virConnectGetType, high, acl["connect:getattr"];
    call 4 connect_get_version() -> (hv_ver: u64): virConnectGetVersion, high, acl["connect:getattr"];
    call 5 connect_get_max_vcpus(kind: str?) -> (max_vcpus: i32):
        virConnectGetMaxVcpus, high, acl["connect:read"];
    call 7 connect_get_capabilities() -> (capabilities: str):
        virConnectGetCapabilities, acl["connect:read"];
    call 110 connect_get_uri() -> (uri: str): virConnectGetURI, high, acl["connect:getattr"];
    call 122 node_get_security_model() -> (model: chars<SECURITY_MODEL_MAX>, doi: chars<SECURITY_DOI_MAX>):
        virNodeGetSecurityModel, high, acl["connect:read"];
    missing 135 connect_domain_xml_from_native(native_format: str, native_config: str, flags: u32)
        -> (domain_xml: str):
        virConnectDomainXMLFromNative, write, acl["connect:write"];
    call 136 connect_domain_xml_to_native(native_format: str, domain_xml: str, flags: u32)
        -> (native_config: str):
        virConnectDomainXMLToNative, write, acl["connect:write"];
    call 158 connect_compare_cpu(xml: str, flags: u32) -> (result: i32):
        virConnectCompareCPU, high, acl["connect:read"];
    call 162 connect_baseline_cpu(xml_cp_us: [str; CPU_BASELINE_MAX], flags: u32) -> (cpu: str):
        virConnectBaselineCPU, nonnull(xml_cp_us as xmlCPUs), acl["connect:read"];
    call 312 connect_get_cpu_model_names(arch: str, need_results: i32, flags: u32)
        -> (models: [str; CONNECT_CPU_MODELS_MAX], ret: i32):
        virConnectGetCPUModelNames, acl["connect:read"];
    call 342 connect_get_domain_capabilities(
        emulatorbin: str?, arch: str?, machine: str?, virttype: str?, flags: u32
    )
        -> (capabilities: str):
        virConnectGetDomainCapabilities, write, acl["connect:write"];
    call 393 connect_compare_hypervisor_cpu(
        emulator: str?, arch: str?, machine: str?, virttype: str?, xml_cpu: str, flags: u32
    )
        -> (result: i32):
        virConnectCompareHypervisorCPU, write, acl["connect:write"];
    call 394 connect_baseline_hypervisor_cpu(
        emulator: str?, arch: str?, machine: str?, virttype: str?, xml_cp_us: [str; CPU_BASELINE_MAX],
        flags: u32
    )
        -> (cpu: str):
        virConnectBaselineHypervisorCPU, nonnull(xml_cp_us as xmlCPUs), write, acl["connect:write"];
    call 395 node_get_sev_info(nparams: i32, flags: u32)
        -> (params: [TypedParam; NODE_SEV_INFO_MAX], nparams: i32):
        virNodeGetSEVInfo, write, acl["connect:read"];
}
