//! The host's devices; another daemon answers.

use super::limits::{NODE_DEVICE_CAPS_LIST_MAX, NODE_DEVICE_LIST_MAX};

derive::protocol! {
    /// A device of the host.
    struct NodeDevice {
        name: str,
    }

    relay Nodedev 111 node_num_of_devices(cap: str?, flags: u32) -> (num: i32):
        virNodeNumOfDevices, high, acl["connect:search_node_devices"];
    relay Nodedev 112 node_list_devices(cap: str?, maxnames: i32, flags: u32)
        -> (names: [str; NODE_DEVICE_LIST_MAX]):
        virNodeListDevices, high, acl["connect:search_node_devices"];
    relay Nodedev 113 node_device_lookup_by_name(name: str) -> (dev: NodeDevice):
        virNodeDeviceLookupByName, high, acl["node_device:getattr"];
    relay Nodedev 114 node_device_get_xml_desc(name: str, flags: u32) -> (xml: str):
        virNodeDeviceGetXMLDesc, acl["node_device:read"];
    relay Nodedev 115 node_device_get_parent(name: str) -> (parent_name: str?):
        virNodeDeviceGetParent, high, acl["node_device:read"];
    relay Nodedev 116 node_device_num_of_caps(name: str) -> (num: i32):
        virNodeDeviceNumOfCaps, high, acl["node_device:read"];
    relay Nodedev 117 node_device_list_caps(name: str, maxnames: i32)
        -> (names: [str; NODE_DEVICE_CAPS_LIST_MAX]):
        virNodeDeviceListCaps, high, acl["node_device:read"];
    relay Nodedev 118 node_device_dettach(name: str): virNodeDeviceDettach, write, acl["node_device:detach"];
    relay Nodedev 119 node_device_re_attach(name: str):
        virNodeDeviceReAttach, write, acl["node_device:detach"];
    relay Nodedev 120 node_device_reset(name: str): virNodeDeviceReset, write, acl["node_device:detach"];
    relay Nodedev 123 node_device_create_xml(xml_desc: str, flags: u32) -> (dev: NodeDevice):
        virNodeDeviceCreateXML, write, acl["node_device:write", "node_device:start"];
    relay Nodedev 124 node_device_destroy(name: str):
        virNodeDeviceDestroy, high, write, acl["node_device:stop"];
    relay Nodedev 285 connect_list_all_node_devices(need_results: i32, flags: u32)
        -> (devices: [NodeDevice; NODE_DEVICE_LIST_MAX], ret: u32):
        virConnectListAllNodeDevices, high, acl["connect:search_node_devices"];
    relay Nodedev 297 node_device_lookup_scsi_host_by_wwn(wwnn: str, wwpn: str, flags: u32)
        -> (dev: NodeDevice):
        virNodeDeviceLookupSCSIHostByWWN, high, acl["node_device:getattr"];
    relay Nodedev 301 node_device_detach_flags(name: str, driver_name: str?, flags: u32):
        virNodeDeviceDetachFlags, write, acl["node_device:detach"];
    relay Nodedev 374 connect_node_device_event_register_any(event_id: i32, dev: NodeDevice?)
        -> (callback_id: i32):
        virConnectNodeDeviceEventRegisterAny, high, acl["connect:search_node_devices"];
    relay Nodedev 375 connect_node_device_event_deregister_any(callback_id: i32):
        virConnectNodeDeviceEventDeregisterAny, high, acl["connect:read"];
    event 376 node_device_event_lifecycle(callback_id: i32, dev: NodeDevice, event: i32, detail: i32);
    event 377 node_device_event_update(callback_id: i32, dev: NodeDevice);
    relay Nodedev 428 node_device_define_xml(xml_desc: str, flags: u32) -> (dev: NodeDevice):
        virNodeDeviceDefineXML, write, acl["node_device:write", "node_device:save"];
    relay Nodedev 429 node_device_undefine(name: str, flags: u32):
        virNodeDeviceUndefine, high, write, acl["node_device:delete"];
    relay Nodedev 430 node_device_create(name: str, flags: u32):
        virNodeDeviceCreate, high, write, acl["node_device:start"];
    relay Nodedev 433 node_device_get_autostart(name: str) -> (autostart: i32):
        virNodeDeviceGetAutostart, high, acl["node_device:read"];
    relay Nodedev 434 node_device_set_autostart(name: str, autostart: i32):
        virNodeDeviceSetAutostart, high, write, acl["node_device:write"];
    relay Nodedev 435 node_device_is_persistent(name: str) -> (persistent: i32):
        virNodeDeviceIsPersistent, high, acl["node_device:read"];
    relay Nodedev 436 node_device_is_active(name: str) -> (active: i32):
        virNodeDeviceIsActive, high, acl["node_device:read"];
}
