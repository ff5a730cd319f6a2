//! Storage pools and volumes; another daemon answers.

use super::limits::{STORAGE_POOL_LIST_MAX, STORAGE_VOL_LIST_MAX};
use super::types::Uuid;

derive::protocol! {
    /// A storage pool.
    struct StoragePool {
        name: str,
        uuid: Uuid,
    }

    /// A volume in a pool.
    struct StorageVol {
        pool: str,
        name: str,
        key: str,
    }

    relay Storage 71 connect_num_of_storage_pools() -> (num: i32):
        virConnectNumOfStoragePools, high, acl["connect:search_storage_pools"];
    relay Storage 72 connect_list_storage_pools(maxnames: i32) -> (names: [str; STORAGE_POOL_LIST_MAX]):
        virConnectListStoragePools, high, acl["connect:search_storage_pools"];
    relay Storage 73 connect_num_of_defined_storage_pools() -> (num: i32):
        virConnectNumOfDefinedStoragePools, high, acl["connect:search_storage_pools"];
    relay Storage 74 connect_list_defined_storage_pools(maxnames: i32)
        -> (names: [str; STORAGE_POOL_LIST_MAX]):
        virConnectListDefinedStoragePools, high, acl["connect:search_storage_pools"];
    relay Storage 75 connect_find_storage_pool_sources(kind: str, src_spec: str?, flags: u32) -> (xml: str):
        virConnectFindStoragePoolSources, write, acl["connect:detect_storage_pools"];
    relay Storage 76 storage_pool_create_xml(xml: str, flags: u32) -> (pool: StoragePool):
        virStoragePoolCreateXML, write, acl["storage_pool:start", "storage_pool:write"];
    relay Storage 77 storage_pool_define_xml(xml: str, flags: u32) -> (pool: StoragePool):
        virStoragePoolDefineXML, high, write, acl["storage_pool:write", "storage_pool:save"];
    relay Storage 78 storage_pool_create(pool: StoragePool, flags: u32):
        virStoragePoolCreate, write, acl["storage_pool:start"];
    relay Storage 79 storage_pool_build(pool: StoragePool, flags: u32):
        virStoragePoolBuild, write, acl["storage_pool:format"];
    relay Storage 80 storage_pool_destroy(pool: StoragePool):
        virStoragePoolDestroy, high, write, acl["storage_pool:stop"];
    relay Storage 81 storage_pool_delete(pool: StoragePool, flags: u32):
        virStoragePoolDelete, write, acl["storage_pool:format"];
    relay Storage 82 storage_pool_undefine(pool: StoragePool):
        virStoragePoolUndefine, high, write, acl["storage_pool:delete"];
    relay Storage 83 storage_pool_refresh(pool: StoragePool, flags: u32):
        virStoragePoolRefresh, write, acl["storage_pool:refresh"];
    relay Storage 84 storage_pool_lookup_by_name(name: str) -> (pool: StoragePool):
        virStoragePoolLookupByName, high, acl["storage_pool:getattr"];
    relay Storage 85 storage_pool_lookup_by_uuid(uuid: Uuid) -> (pool: StoragePool):
        virStoragePoolLookupByUUID, high, acl["storage_pool:getattr"];
    relay Storage 86 storage_pool_lookup_by_volume(vol: StorageVol) -> (pool: StoragePool):
        virStoragePoolLookupByVolume, high, acl["storage_pool:getattr"];
    relay Storage 87 storage_pool_get_info(pool: StoragePool)
        -> (state: u32, capacity: u64, allocation: u64, available: u64):
        virStoragePoolGetInfo, high, acl["storage_pool:read"];
    relay Storage 88 storage_pool_get_xml_desc(pool: StoragePool, flags: u32) -> (xml: str):
        virStoragePoolGetXMLDesc, high, acl["storage_pool:read"];
    relay Storage 89 storage_pool_get_autostart(pool: StoragePool) -> (autostart: i32):
        virStoragePoolGetAutostart, high, acl["storage_pool:read"];
    relay Storage 90 storage_pool_set_autostart(pool: StoragePool, autostart: i32):
        virStoragePoolSetAutostart, high, write, acl["storage_pool:write"];
    relay Storage 91 storage_pool_num_of_volumes(pool: StoragePool) -> (num: i32):
        virStoragePoolNumOfVolumes, high, acl["storage_pool:search_storage_vols"];
    relay Storage 92 storage_pool_list_volumes(pool: StoragePool, maxnames: i32)
        -> (names: [str; STORAGE_VOL_LIST_MAX]):
        virStoragePoolListVolumes, high, acl["storage_pool:search_storage_vols"];
    relay Storage 93 storage_vol_create_xml(pool: StoragePool, xml: str, flags: u32) -> (vol: StorageVol):
        virStorageVolCreateXML, write, acl["storage_vol:create"];
    relay Storage 94 storage_vol_delete(vol: StorageVol, flags: u32):
        virStorageVolDelete, write, acl["storage_vol:delete"];
    relay Storage 95 storage_vol_lookup_by_name(pool: StoragePool, name: str) -> (vol: StorageVol):
        virStorageVolLookupByName, high, acl["storage_vol:getattr"];
    relay Storage 96 storage_vol_lookup_by_key(key: str) -> (vol: StorageVol):
        virStorageVolLookupByKey, high, acl["storage_vol:getattr"];
    relay Storage 97 storage_vol_lookup_by_path(path: str) -> (vol: StorageVol):
        virStorageVolLookupByPath, high, acl["storage_vol:getattr"];
    relay Storage 98 storage_vol_get_info(vol: StorageVol) -> (kind: i32, capacity: u64, allocation: u64):
        virStorageVolGetInfo, high, acl["storage_vol:read"];
    relay Storage 99 storage_vol_get_xml_desc(vol: StorageVol, flags: u32) -> (xml: str):
        virStorageVolGetXMLDesc, high, acl["storage_vol:read"];
    relay Storage 100 storage_vol_get_path(vol: StorageVol) -> (name: str):
        virStorageVolGetPath, high, acl["storage_vol:read"];
    relay Storage 125 storage_vol_create_xml_from(
        pool: StoragePool, xml: str, clonevol: StorageVol, flags: u32
    )
        -> (vol: StorageVol):
        virStorageVolCreateXMLFrom, write, acl["storage_vol:create"];
    relay Storage 154 storage_pool_is_active(pool: StoragePool) -> (active: i32):
        virStoragePoolIsActive, high, acl["storage_pool:read"];
    relay Storage 155 storage_pool_is_persistent(pool: StoragePool) -> (persistent: i32):
        virStoragePoolIsPersistent, high, acl["storage_pool:read"];
    relay Storage 165 storage_vol_wipe(vol: StorageVol, flags: u32):
        virStorageVolWipe, write, acl["storage_vol:format"];
    relay Storage 208 storage_vol_upload(vol: StorageVol, offset: u64, length: u64, flags: u32):
        virStorageVolUpload, write, write_stream, acl["storage_vol:data_write"];
    relay Storage 209 storage_vol_download(vol: StorageVol, offset: u64, length: u64, flags: u32):
        virStorageVolDownload, write, read_stream, acl["storage_vol:data_read"];
    relay Storage 259 storage_vol_wipe_pattern(vol: StorageVol, algorithm: u32, flags: u32):
        virStorageVolWipePattern, write, acl["storage_vol:format"];
    relay Storage 260 storage_vol_resize(vol: StorageVol, capacity: u64, flags: u32):
        virStorageVolResize, write, acl["storage_vol:resize"];
    relay Storage 281 connect_list_all_storage_pools(need_results: i32, flags: u32)
        -> (pools: [StoragePool; STORAGE_POOL_LIST_MAX], ret: u32):
        virConnectListAllStoragePools, high, acl["connect:search_storage_pools"];
    relay Storage 282 storage_pool_list_all_volumes(pool: StoragePool, need_results: i32, flags: u32)
        -> (vols: [StorageVol; STORAGE_VOL_LIST_MAX], ret: u32):
        virStoragePoolListAllVolumes, high, acl["storage_pool:search_storage_vols"];
    relay Storage 368 connect_storage_pool_event_register_any(event_id: i32, pool: StoragePool?)
        -> (callback_id: i32):
        virConnectStoragePoolEventRegisterAny, high, acl["connect:search_storage_pools"];
    relay Storage 369 connect_storage_pool_event_deregister_any(callback_id: i32):
        virConnectStoragePoolEventDeregisterAny, high, acl["connect:read"];
    event 370 storage_pool_event_lifecycle(callback_id: i32, pool: StoragePool, event: i32, detail: i32);
    event 373 storage_pool_event_refresh(callback_id: i32, pool: StoragePool);
    relay Storage 378 storage_vol_get_info_flags(vol: StorageVol, flags: u32)
        -> (kind: i32, capacity: u64, allocation: u64):
        virStorageVolGetInfoFlags, high, acl["storage_vol:read"];
    relay Storage 391 storage_pool_lookup_by_target_path(path: str) -> (pool: StoragePool):
        virStoragePoolLookupByTargetPath, high, acl["storage_pool:getattr"];
    relay Storage 403 connect_get_storage_pool_capabilities(flags: u32) -> (capabilities: str):
        virConnectGetStoragePoolCapabilities, acl["connect:read"];
}
