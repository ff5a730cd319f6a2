//! Secrets; another daemon answers.

use super::limits::{SECRET_LIST_MAX, SECRET_VALUE_MAX};
use super::types::Uuid;

derive::protocol! {
    /// A secret.
    struct Secret {
        uuid: Uuid,
        usage_type: i32,
        usage_id: str,
    }

    relay Secret 139 connect_num_of_secrets() -> (num: i32):
        virConnectNumOfSecrets, high, acl["connect:search_secrets"];
    relay Secret 140 connect_list_secrets(maxuuids: i32) -> (uuids: [str; SECRET_LIST_MAX]):
        virConnectListSecrets, high, acl["connect:search_secrets"];
    relay Secret 141 secret_lookup_by_uuid(uuid: Uuid) -> (secret: Secret):
        virSecretLookupByUUID, high, acl["secret:getattr"];
    relay Secret 142 secret_define_xml(xml: str, flags: u32) -> (secret: Secret):
        virSecretDefineXML, high, write, acl["secret:write", "secret:save"];
    relay Secret 143 secret_get_xml_desc(secret: Secret, flags: u32) -> (xml: str):
        virSecretGetXMLDesc, high, acl["secret:read"];
    relay Secret 144 secret_set_value(secret: Secret, value: bytes<SECRET_VALUE_MAX>, flags: u32):
        virSecretSetValue, high, write, acl["secret:write"];
    relay Secret 145 secret_get_value(secret: Secret, flags: u32) -> (value: bytes<SECRET_VALUE_MAX>):
        virSecretGetValue, high, write, acl["secret:read_secure"];
    relay Secret 146 secret_undefine(secret: Secret): virSecretUndefine, high, write, acl["secret:delete"];
    relay Secret 147 secret_lookup_by_usage(usage_type: i32, usage_id: str) -> (secret: Secret):
        virSecretLookupByUsage, high, acl["secret:getattr"];
    relay Secret 287 connect_list_all_secrets(need_results: i32, flags: u32)
        -> (secrets: [Secret; SECRET_LIST_MAX], ret: u32):
        virConnectListAllSecrets, high, acl["connect:search_secrets"];
    relay Secret 380 connect_secret_event_register_any(event_id: i32, secret: Secret?) -> (callback_id: i32):
        virConnectSecretEventRegisterAny, high, acl["connect:search_secrets"];
    relay Secret 381 connect_secret_event_deregister_any(callback_id: i32):
        virConnectSecretEventDeregisterAny, high, acl["connect:read"];
    event 382 secret_event_lifecycle(callback_id: i32, secret: Secret, event: i32, detail: i32);
    event 383 secret_event_value_changed(callback_id: i32, secret: Secret);
}
