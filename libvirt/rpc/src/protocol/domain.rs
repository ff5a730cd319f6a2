//! Domains: list, look-up, definition, life.

use super::limits::DOMAIN_LIST_MAX;
use super::types::{Domain, Uuid};

derive::protocol! {
    /// Domains: list, look-up, definition, life.
    handler Domains;

    call 9 domain_create(dom: Domain): virDomainCreate, write, acl["domain:start"];
    call 10 domain_create_xml(xml_desc: str, flags: u32) -> (dom: Domain):
        virDomainCreateXML, write, acl["domain:write", "domain:start"];
    call 11 domain_define_xml(xml: str) -> (dom: Domain):
        virDomainDefineXML, high, write, acl["domain:write", "domain:save"];
    call 12 domain_destroy(dom: Domain): virDomainDestroy, high, write, acl["domain:stop"];
    call 14 domain_get_xml_desc(dom: Domain, flags: u32) -> (xml: str):
        virDomainGetXMLDesc, write_if(0x9, "virDomainGetXMLDesc with secure flag"),
        acl[
            "domain:read",
            "domain:read_secure:VIR_DOMAIN_XML_SECURE",
            "domain:read_secure:VIR_DOMAIN_XML_MIGRATABLE",
        ];
    call 15 domain_get_autostart(dom: Domain) -> (autostart: i32):
        virDomainGetAutostart, high, acl["domain:read"];
    call 19 domain_get_os_type(dom: Domain) -> (kind: str): virDomainGetOSType, high, acl["domain:read"];
    call 21 connect_list_defined_domains(maxnames: i32) -> (names: [str; DOMAIN_LIST_MAX]):
        virConnectListDefinedDomains, high, acl["connect:search_domains"];
    call 22 domain_lookup_by_id(id: i32) -> (dom: Domain):
        virDomainLookupByID, high, acl["domain:getattr"];
    call 23 domain_lookup_by_name(name: str) -> (dom: Domain):
        virDomainLookupByName, high, acl["domain:getattr"];
    call 24 domain_lookup_by_uuid(uuid: Uuid) -> (dom: Domain):
        virDomainLookupByUUID, high, acl["domain:getattr"];
    call 25 connect_num_of_defined_domains() -> (num: i32):
        virConnectNumOfDefinedDomains, high, acl["connect:search_domains"];
    call 27 domain_reboot(dom: Domain, flags: u32):
        virDomainReboot, write, acl["domain:init_control", "domain:write:VIR_DOMAIN_REBOOT_GUEST_AGENT"];
    call 28 domain_resume(dom: Domain): virDomainResume, write, acl["domain:suspend"];
    call 29 domain_set_autostart(dom: Domain, autostart: i32):
        virDomainSetAutostart, high, write, acl["domain:write"];
    call 33 domain_shutdown(dom: Domain): virDomainShutdown, write, acl["domain:init_control"];
    call 34 domain_suspend(dom: Domain): virDomainSuspend, write, acl["domain:suspend"];
    call 35 domain_undefine(dom: Domain): virDomainUndefine, high, write, acl["domain:delete"];
    call 37 connect_list_domains(maxids: i32) -> (ids: [i32; DOMAIN_LIST_MAX]):
        virConnectListDomains, high, acl["connect:search_domains"];
    call 51 connect_num_of_domains() -> (num: i32):
        virConnectNumOfDomains, high, acl["connect:search_domains"];
    call 150 domain_is_active(dom: Domain) -> (active: i32): virDomainIsActive, high, acl["domain:read"];
    call 151 domain_is_persistent(dom: Domain) -> (persistent: i32):
        virDomainIsPersistent, high, acl["domain:read"];
    call 196 domain_create_with_flags(dom: Domain, flags: u32) -> (dom: Domain):
        virDomainCreateWithFlags, write, acl["domain:start"];
    call 202 domain_is_updated(dom: Domain) -> (updated: i32):
        virDomainIsUpdated, high, acl["domain:read"];
    call 231 domain_undefine_flags(dom: Domain, flags: u32):
        virDomainUndefineFlags, high, write, acl["domain:delete"];
    call 234 domain_destroy_flags(dom: Domain, flags: u32):
        virDomainDestroyFlags, high, write, acl["domain:stop"];
    call 245 domain_reset(dom: Domain, flags: u32): virDomainReset, write, acl["domain:reset"];
    call 258 domain_shutdown_flags(dom: Domain, flags: u32):
        virDomainShutdownFlags, write,
        acl[
            "domain:init_control",
            "domain:write:VIR_DOMAIN_SHUTDOWN_GUEST_AGENT",
        ];
    call 264 domain_set_metadata(dom: Domain, kind: i32, metadata: str?, key: str?, uri: str?, flags: u32):
        virDomainSetMetadata, write,
        acl[
            "domain:write",
            "domain:save:!VIR_DOMAIN_AFFECT_CONFIG|VIR_DOMAIN_AFFECT_LIVE",
            "domain:save:VIR_DOMAIN_AFFECT_CONFIG",
        ];
    call 265 domain_get_metadata(dom: Domain, kind: i32, uri: str?, flags: u32) -> (metadata: str):
        virDomainGetMetadata, acl["domain:read"];
    call 267 domain_pm_wakeup(dom: Domain, flags: u32): virDomainPMWakeup, write, acl["domain:pm_control"];
    call 273 connect_list_all_domains(need_results: i32, flags: u32)
        -> (domains: [Domain; DOMAIN_LIST_MAX], ret: u32):
        virConnectListAllDomains, high, acl["connect:search_domains"];
    missing 309 domain_create_xml_with_files(xml_desc: str, flags: u32) -> (dom: Domain):
        virDomainCreateXMLWithFiles, write, fds_in, acl["domain:write", "domain:start"];
    missing 310 domain_create_with_files(dom: Domain, flags: u32) -> (dom: Domain):
        virDomainCreateWithFiles, write, fds_in, acl["domain:start"];
    call 350 domain_define_xml_flags(xml: str, flags: u32) -> (dom: Domain):
        virDomainDefineXMLFlags, high, write, acl["domain:write", "domain:save"];
    call 358 domain_rename(dom: Domain, new_name: str?, flags: u32) -> (retcode: i32):
        virDomainRename, nonnull(new_name), write, acl["domain:write", "domain:save"];
    call 390 domain_set_lifecycle_action(dom: Domain, kind: u32, action: u32, flags: u32):
        virDomainSetLifecycleAction, write, acl["domain:write"];
}
