//! Checkpoints and backups.

use super::limits::DOMAIN_CHECKPOINT_LIST_MAX;
use super::types::Domain;

derive::protocol! {
    /// Checkpoints and backups.
    handler Checkpoints;

    /// A checkpoint of a domain.
    struct DomainCheckpoint {
        name: str,
        dom: Domain,
    }

    missing 411 domain_checkpoint_create_xml(dom: Domain, xml_desc: str, flags: u32)
        -> (checkpoint: DomainCheckpoint):
        virDomainCheckpointCreateXML, write,
        acl[
            "domain:checkpoint",
            "domain:fs_freeze:VIR_DOMAIN_CHECKPOINT_CREATE_QUIESCE",
        ];
    call 412 domain_checkpoint_get_xml_desc(checkpoint: DomainCheckpoint, flags: u32) -> (xml: str):
        virDomainCheckpointGetXMLDesc, write_if(0x1, "virDomainCheckpointGetXMLDesc with secure flag"),
        acl[
            "domain:read",
            "domain:read_secure:VIR_DOMAIN_CHECKPOINT_XML_SECURE",
        ];
    call 413 domain_list_all_checkpoints(dom: Domain, need_results: i32, flags: u32)
        -> (checkpoints: [DomainCheckpoint; DOMAIN_CHECKPOINT_LIST_MAX], ret: i32):
        virDomainListAllCheckpoints, high, acl["domain:read"];
    call 414 domain_checkpoint_list_all_children(
        checkpoint: DomainCheckpoint, need_results: i32, flags: u32
    )
        -> (checkpoints: [DomainCheckpoint; DOMAIN_CHECKPOINT_LIST_MAX], ret: i32):
        virDomainCheckpointListAllChildren, high, acl["domain:read"];
    call 415 domain_checkpoint_lookup_by_name(dom: Domain, name: str, flags: u32)
        -> (checkpoint: DomainCheckpoint):
        virDomainCheckpointLookupByName, high, acl["domain:read"];
    call 416 domain_checkpoint_get_parent(checkpoint: DomainCheckpoint, flags: u32)
        -> (parent: DomainCheckpoint):
        virDomainCheckpointGetParent, high, acl["domain:read"];
    missing 417 domain_checkpoint_delete(checkpoint: DomainCheckpoint, flags: u32):
        virDomainCheckpointDelete, write, acl["domain:checkpoint"];
    missing 421 domain_backup_begin(dom: Domain, backup_xml: str, checkpoint_xml: str?, flags: u32):
        virDomainBackupBegin, write, acl["domain:checkpoint", "domain:block_write"];
    call 422 domain_backup_get_xml_desc(dom: Domain, flags: u32) -> (xml: str):
        virDomainBackupGetXMLDesc, high, acl["domain:read"];
}
