//! The host's interfaces; another daemon answers.

use super::limits::INTERFACE_LIST_MAX;

derive::protocol! {
    /// An interface of the host.
    struct Interface {
        name: str,
        mac: str,
    }

    relay Interface 126 connect_num_of_interfaces() -> (num: i32):
        virConnectNumOfInterfaces, high, acl["connect:search_interfaces"];
    relay Interface 127 connect_list_interfaces(maxnames: i32) -> (names: [str; INTERFACE_LIST_MAX]):
        virConnectListInterfaces, high, acl["connect:search_interfaces"];
    relay Interface 128 interface_lookup_by_name(name: str) -> (iface: Interface):
        virInterfaceLookupByName, high, acl["interface:getattr"];
    relay Interface 129 interface_lookup_by_mac_string(mac: str) -> (iface: Interface):
        virInterfaceLookupByMACString, high, acl["interface:getattr"];
    relay Interface 130 interface_get_xml_desc(iface: Interface, flags: u32) -> (xml: str):
        virInterfaceGetXMLDesc, acl["interface:read"];
    relay Interface 131 interface_define_xml(xml: str, flags: u32) -> (iface: Interface):
        virInterfaceDefineXML, high, write, acl["interface:write", "interface:save"];
    relay Interface 132 interface_undefine(iface: Interface):
        virInterfaceUndefine, high, write, acl["interface:delete"];
    relay Interface 133 interface_create(iface: Interface, flags: u32):
        virInterfaceCreate, write, acl["interface:start"];
    relay Interface 134 interface_destroy(iface: Interface, flags: u32):
        virInterfaceDestroy, high, write, acl["interface:stop"];
    relay Interface 137 connect_num_of_defined_interfaces() -> (num: i32):
        virConnectNumOfDefinedInterfaces, high, acl["connect:search_interfaces"];
    relay Interface 138 connect_list_defined_interfaces(maxnames: i32) -> (names: [str; INTERFACE_LIST_MAX]):
        virConnectListDefinedInterfaces, high, acl["connect:search_interfaces"];
    relay Interface 156 interface_is_active(iface: Interface) -> (active: i32):
        virInterfaceIsActive, high, acl["interface:read"];
    relay Interface 220 interface_change_begin(flags: u32):
        virInterfaceChangeBegin, write, acl["connect:interface_transaction"];
    relay Interface 221 interface_change_commit(flags: u32):
        virInterfaceChangeCommit, write, acl["connect:interface_transaction"];
    relay Interface 222 interface_change_rollback(flags: u32):
        virInterfaceChangeRollback, write, acl["connect:interface_transaction"];
    relay Interface 284 connect_list_all_interfaces(need_results: i32, flags: u32)
        -> (ifaces: [Interface; INTERFACE_LIST_MAX], ret: u32):
        virConnectListAllInterfaces, high, acl["connect:search_interfaces"];
}
