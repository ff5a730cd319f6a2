//! Saved domains and core dumps.

use super::limits::DOMAIN_SAVE_PARAMS_MAX;
use super::types::{Domain, TypedParam};

derive::protocol! {
    /// Saved domains and core dumps.
    handler DomainSave;

    call 53 domain_core_dump(dom: Domain, to: str, flags: u32):
        virDomainCoreDump, write, acl["domain:core_dump"];
    call 54 domain_restore(from: str): virDomainRestore, write, acl["domain:start", "domain:write"];
    call 55 domain_save(dom: Domain, to: str): virDomainSave, write, acl["domain:hibernate"];
    call 182 domain_managed_save(dom: Domain, flags: u32):
        virDomainManagedSave, write, acl["domain:hibernate"];
    call 183 domain_has_managed_save_image(dom: Domain, flags: u32) -> (result: i32):
        virDomainHasManagedSaveImage, acl["domain:read"];
    call 184 domain_managed_save_remove(dom: Domain, flags: u32):
        virDomainManagedSaveRemove, write, acl["domain:hibernate"];
    call 232 domain_save_flags(dom: Domain, to: str, dxml: str?, flags: u32):
        virDomainSaveFlags, write, acl["domain:hibernate"];
    call 233 domain_restore_flags(from: str, dxml: str?, flags: u32):
        virDomainRestoreFlags, write, acl["domain:start", "domain:write"];
    call 235 domain_save_image_get_xml_desc(file: str, flags: u32) -> (xml: str):
        virDomainSaveImageGetXMLDesc, high, write, acl["domain:write"];
    call 236 domain_save_image_define_xml(file: str, dxml: str, flags: u32):
        virDomainSaveImageDefineXML, high, write, acl["domain:write", "domain:hibernate"];
    call 334 domain_core_dump_with_format(dom: Domain, to: str, dumpformat: u32, flags: u32):
        virDomainCoreDumpWithFormat, write, acl["domain:core_dump"];
    call 388 domain_managed_save_get_xml_desc(dom: Domain, flags: u32) -> (xml: str):
        virDomainManagedSaveGetXMLDesc, write_if(0x1, "virDomainManagedSaveGetXMLDesc with secure flag"),
        acl[
            "domain:read",
            "domain:read_secure:VIR_DOMAIN_SAVE_IMAGE_XML_SECURE",
        ];
    call 389 domain_managed_save_define_xml(dom: Domain, dxml: str?, flags: u32):
        virDomainManagedSaveDefineXML, write, acl["domain:write", "domain:hibernate"];
    call 440 domain_save_params(dom: Domain, params: [TypedParam; DOMAIN_SAVE_PARAMS_MAX], flags: u32):
        virDomainSaveParams, write, acl["domain:hibernate"];
    call 441 domain_restore_params(params: [TypedParam; DOMAIN_SAVE_PARAMS_MAX], flags: u32):
        virDomainRestoreParams, write, acl["domain:start", "domain:write"];
}
