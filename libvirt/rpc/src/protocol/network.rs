//! Virtual networks; another daemon answers.

use super::limits::{
    NETWORK_DHCP_LEASES_MAX, NETWORK_LIST_MAX, NETWORK_PORT_LIST_MAX, NETWORK_PORT_PARAMETERS_MAX,
};
use super::types::{TypedParam, Uuid};

derive::protocol! {
    /// A network.
    struct Network {
        name: str,
        uuid: Uuid,
    }

    /// A port of a network.
    struct NetworkPort {
        net: Network,
        uuid: Uuid,
    }

    /// A lease of an address.
    struct NetworkDhcpLease {
        iface: str,
        expirytime: i64,
        kind: i32,
        mac: str?,
        iaid: str?,
        ipaddr: str,
        prefix: u32,
        hostname: str?,
        clientid: str?,
    }

    relay Network 36 connect_list_defined_networks(maxnames: i32) -> (names: [str; NETWORK_LIST_MAX]):
        virConnectListDefinedNetworks, high, acl["connect:search_networks"];
    relay Network 38 connect_list_networks(maxnames: i32) -> (names: [str; NETWORK_LIST_MAX]):
        virConnectListNetworks, high, acl["connect:search_networks"];
    relay Network 39 network_create(net: Network): virNetworkCreate, write, acl["network:start"];
    relay Network 40 network_create_xml(xml: str) -> (net: Network):
        virNetworkCreateXML, write, acl["network:write", "network:start"];
    relay Network 41 network_define_xml(xml: str) -> (net: Network):
        virNetworkDefineXML, high, write, acl["network:write", "network:save"];
    relay Network 42 network_destroy(net: Network): virNetworkDestroy, high, write, acl["network:stop"];
    relay Network 43 network_get_xml_desc(net: Network, flags: u32) -> (xml: str):
        virNetworkGetXMLDesc, high, acl["network:read"];
    relay Network 44 network_get_autostart(net: Network) -> (autostart: i32):
        virNetworkGetAutostart, high, acl["network:read"];
    relay Network 45 network_get_bridge_name(net: Network) -> (name: str):
        virNetworkGetBridgeName, high, acl["network:read"];
    relay Network 46 network_lookup_by_name(name: str) -> (net: Network):
        virNetworkLookupByName, high, acl["network:getattr"];
    relay Network 47 network_lookup_by_uuid(uuid: Uuid) -> (net: Network):
        virNetworkLookupByUUID, high, acl["network:getattr"];
    relay Network 48 network_set_autostart(net: Network, autostart: i32):
        virNetworkSetAutostart, high, write, acl["network:write"];
    relay Network 49 network_undefine(net: Network): virNetworkUndefine, high, write, acl["network:delete"];
    relay Network 50 connect_num_of_defined_networks() -> (num: i32):
        virConnectNumOfDefinedNetworks, high, acl["connect:search_networks"];
    relay Network 52 connect_num_of_networks() -> (num: i32):
        virConnectNumOfNetworks, high, acl["connect:search_networks"];
    relay Network 152 network_is_active(net: Network) -> (active: i32):
        virNetworkIsActive, high, acl["network:read"];
    relay Network 153 network_is_persistent(net: Network) -> (persistent: i32):
        virNetworkIsPersistent, high, acl["network:read"];
    relay Network 283 connect_list_all_networks(need_results: i32, flags: u32)
        -> (nets: [Network; NETWORK_LIST_MAX], ret: u32):
        virConnectListAllNetworks, high, acl["connect:search_networks"];
    relay Network 291 network_update(
        net: Network, command: u32, section: u32, parent_index: i32, xml: str, flags: u32
    ):
        virNetworkUpdate, high, write,
        acl[
            "network:write",
            "network:save:!VIR_NETWORK_UPDATE_AFFECT_CONFIG|VIR_NETWORK_UPDATE_AFFECT_LIVE",
            "network:save:VIR_NETWORK_UPDATE_AFFECT_CONFIG",
        ];
    relay Network 313 connect_network_event_register_any(event_id: i32, net: Network?) -> (callback_id: i32):
        virConnectNetworkEventRegisterAny, high, acl["connect:search_networks"];
    relay Network 314 connect_network_event_deregister_any(callback_id: i32):
        virConnectNetworkEventDeregisterAny, high, acl["connect:read"];
    event 315 network_event_lifecycle(callback_id: i32, net: Network, event: i32, detail: i32);
    relay Network 341 network_get_dhcp_leases(net: Network, mac: str?, need_results: i32, flags: u32)
        -> (leases: [NetworkDhcpLease; NETWORK_DHCP_LEASES_MAX], ret: u32):
        virNetworkGetDHCPLeases, acl["network:read"];
    relay Network 404 network_list_all_ports(network: Network, need_results: i32, flags: u32)
        -> (ports: [NetworkPort; NETWORK_PORT_LIST_MAX], ret: u32):
        virNetworkListAllPorts, high, acl["network:search_ports"];
    relay Network 405 network_port_lookup_by_uuid(network: Network, uuid: Uuid) -> (port: NetworkPort):
        virNetworkPortLookupByUUID, high, acl["network_port:getattr"];
    relay Network 406 network_port_create_xml(network: Network, xml: str, flags: u32) -> (port: NetworkPort):
        virNetworkPortCreateXML, write, acl["network_port:create"];
    relay Network 407 network_port_get_parameters(port: NetworkPort, nparams: i32, flags: u32)
        -> (params: [TypedParam; NETWORK_PORT_PARAMETERS_MAX], nparams: i32):
        virNetworkPortGetParameters, acl["network_port:read"];
    relay Network 408 network_port_set_parameters(
        port: NetworkPort, params: [TypedParam; NETWORK_PORT_PARAMETERS_MAX], flags: u32
    ):
        virNetworkPortSetParameters, write, acl["network_port:write"];
    relay Network 409 network_port_get_xml_desc(port: NetworkPort, flags: u32) -> (xml: str):
        virNetworkPortGetXMLDesc, acl["network_port:read"];
    relay Network 410 network_port_delete(port: NetworkPort, flags: u32):
        virNetworkPortDelete, write, acl["network_port:delete"];
    relay Network 432 network_define_xml_flags(xml: str, flags: u32) -> (net: Network):
        virNetworkDefineXMLFlags, high, write, acl["network:write", "network:save"];
    relay Network 437 network_create_xml_flags(xml: str, flags: u32) -> (net: Network):
        virNetworkCreateXMLFlags, high, write, acl["network:write", "network:start"];
    relay Network 444 network_set_metadata(
        network: Network, kind: i32, metadata: str?, key: str?, uri: str?, flags: u32
    ):
        virNetworkSetMetadata, write,
        acl[
            "network:write",
            "network:save:!VIR_NETWORK_UPDATE_AFFECT_CONFIG|VIR_NETWORK_UPDATE_AFFECT_LIVE",
            "network:save:VIR_NETWORK_UPDATE_AFFECT_CONFIG",
        ];
    relay Network 445 network_get_metadata(network: Network, kind: i32, uri: str?, flags: u32)
        -> (metadata: str):
        virNetworkGetMetadata, acl["network:read"];
    event 446 network_event_callback_metadata_change(callback_id: i32, net: Network, kind: i32, nsuri: str?);
}
