//! Network filters; another daemon answers.

use super::limits::{NWFILTER_BINDING_LIST_MAX, NWFILTER_LIST_MAX};
use super::types::Uuid;

derive::protocol! {
    /// A network filter.
    struct Nwfilter {
        name: str,
        uuid: Uuid,
    }

    /// A network filter on an interface.
    struct NwfilterBinding {
        portdev: str,
        filtername: str,
    }

    relay Nwfilter 175 nwfilter_lookup_by_name(name: str) -> (nwfilter: Nwfilter):
        virNWFilterLookupByName, high, acl["nwfilter:getattr"];
    relay Nwfilter 176 nwfilter_lookup_by_uuid(uuid: Uuid) -> (nwfilter: Nwfilter):
        virNWFilterLookupByUUID, high, acl["nwfilter:getattr"];
    relay Nwfilter 177 nwfilter_get_xml_desc(nwfilter: Nwfilter, flags: u32) -> (xml: str):
        virNWFilterGetXMLDesc, high, acl["nwfilter:read"];
    relay Nwfilter 178 connect_num_of_nwfilters() -> (num: i32):
        virConnectNumOfNWFilters, high, acl["connect:search_nwfilters"];
    relay Nwfilter 179 connect_list_nwfilters(maxnames: i32) -> (names: [str; NWFILTER_LIST_MAX]):
        virConnectListNWFilters, high, acl["connect:search_nwfilters"];
    relay Nwfilter 180 nwfilter_define_xml(xml: str) -> (nwfilter: Nwfilter):
        virNWFilterDefineXML, high, write, acl["nwfilter:write", "nwfilter:save"];
    relay Nwfilter 181 nwfilter_undefine(nwfilter: Nwfilter):
        virNWFilterUndefine, high, write, acl["nwfilter:delete"];
    relay Nwfilter 286 connect_list_all_nwfilters(need_results: i32, flags: u32)
        -> (filters: [Nwfilter; NWFILTER_LIST_MAX], ret: u32):
        virConnectListAllNWFilters, high, acl["connect:search_nwfilters"];
    relay Nwfilter 397 nwfilter_binding_lookup_by_port_dev(name: str) -> (nwfilter: NwfilterBinding):
        virNWFilterBindingLookupByPortDev, high, acl["nwfilter_binding:getattr"];
    relay Nwfilter 398 nwfilter_binding_get_xml_desc(nwfilter: NwfilterBinding, flags: u32) -> (xml: str):
        virNWFilterBindingGetXMLDesc, high, acl["nwfilter_binding:read"];
    relay Nwfilter 399 nwfilter_binding_create_xml(xml: str, flags: u32) -> (nwfilter: NwfilterBinding):
        virNWFilterBindingCreateXML, high, write, acl["nwfilter_binding:create"];
    relay Nwfilter 400 nwfilter_binding_delete(nwfilter: NwfilterBinding):
        virNWFilterBindingDelete, high, write, acl["nwfilter_binding:delete"];
    relay Nwfilter 401 connect_list_all_nwfilter_bindings(need_results: i32, flags: u32)
        -> (bindings: [NwfilterBinding; NWFILTER_BINDING_LIST_MAX], ret: u32):
        virConnectListAllNWFilterBindings, high, acl["connect:search_nwfilter_bindings"];
    relay Nwfilter 431 nwfilter_define_xml_flags(xml: str, flags: u32) -> (nwfilter: Nwfilter):
        virNWFilterDefineXMLFlags, high, write, acl["nwfilter:write", "nwfilter:save"];
}
