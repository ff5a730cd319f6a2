//! Snapshots.

use super::limits::DOMAIN_SNAPSHOT_LIST_MAX;
use super::types::Domain;

derive::protocol! {
    /// Snapshots.
    handler Snapshots;

    /// A snapshot of a domain.
    struct DomainSnapshot {
        name: str,
        dom: Domain,
    }

    missing 185 domain_snapshot_create_xml(dom: Domain, xml_desc: str, flags: u32) -> (snap: DomainSnapshot):
        virDomainSnapshotCreateXML, write,
        acl[
            "domain:snapshot",
            "domain:fs_freeze:VIR_DOMAIN_SNAPSHOT_CREATE_QUIESCE",
        ];
    call 186 domain_snapshot_get_xml_desc(snap: DomainSnapshot, flags: u32) -> (xml: str):
        virDomainSnapshotGetXMLDesc, write_if(0x1, "virDomainSnapshotGetXMLDesc with secure flag"), high,
        acl[
            "domain:read",
            "domain:read_secure:VIR_DOMAIN_SNAPSHOT_XML_SECURE",
        ];
    call 187 domain_snapshot_num(dom: Domain, flags: u32) -> (num: i32):
        virDomainSnapshotNum, high, acl["domain:read"];
    call 188 domain_snapshot_list_names(dom: Domain, maxnames: i32, flags: u32)
        -> (names: [str; DOMAIN_SNAPSHOT_LIST_MAX]):
        virDomainSnapshotListNames, high, acl["domain:read"];
    call 189 domain_snapshot_lookup_by_name(dom: Domain, name: str, flags: u32) -> (snap: DomainSnapshot):
        virDomainSnapshotLookupByName, high, acl["domain:read"];
    call 190 domain_has_current_snapshot(dom: Domain, flags: u32) -> (result: i32):
        virDomainHasCurrentSnapshot, acl["domain:read"];
    call 191 domain_snapshot_current(dom: Domain, flags: u32) -> (snap: DomainSnapshot):
        virDomainSnapshotCurrent, acl["domain:read"];
    missing 192 domain_revert_to_snapshot(snap: DomainSnapshot, flags: u32):
        virDomainRevertToSnapshot, write, acl["domain:snapshot"];
    missing 193 domain_snapshot_delete(snap: DomainSnapshot, flags: u32):
        virDomainSnapshotDelete, write, acl["domain:snapshot"];
    call 244 domain_snapshot_get_parent(snap: DomainSnapshot, flags: u32) -> (snap: DomainSnapshot):
        virDomainSnapshotGetParent, high, acl["domain:read"];
    call 246 domain_snapshot_num_children(snap: DomainSnapshot, flags: u32) -> (num: i32):
        virDomainSnapshotNumChildren, high, acl["domain:read"];
    call 247 domain_snapshot_list_children_names(snap: DomainSnapshot, maxnames: i32, flags: u32)
        -> (names: [str; DOMAIN_SNAPSHOT_LIST_MAX]):
        virDomainSnapshotListChildrenNames, high, acl["domain:read"];
    call 271 domain_snapshot_is_current(snap: DomainSnapshot, flags: u32) -> (current: i32):
        virDomainSnapshotIsCurrent, acl["domain:read"];
    call 272 domain_snapshot_has_metadata(snap: DomainSnapshot, flags: u32) -> (metadata: i32):
        virDomainSnapshotHasMetadata, acl["domain:read"];
    call 274 domain_list_all_snapshots(dom: Domain, need_results: i32, flags: u32)
        -> (snapshots: [DomainSnapshot; DOMAIN_SNAPSHOT_LIST_MAX], ret: i32):
        virDomainListAllSnapshots, high, acl["domain:read"];
    call 275 domain_snapshot_list_all_children(snapshot: DomainSnapshot, need_results: i32, flags: u32)
        -> (snapshots: [DomainSnapshot; DOMAIN_SNAPSHOT_LIST_MAX], ret: i32):
        virDomainSnapshotListAllChildren, high, acl["domain:read"];
}
