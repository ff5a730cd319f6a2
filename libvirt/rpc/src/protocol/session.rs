//! Opening, authenticating and closing a connection; registering for events.

use super::limits::{AUTH_SASL_DATA_MAX, AUTH_TYPE_LIST_MAX, CONNECT_IDENTITY_PARAMS_MAX};
use super::types::{Domain, TypedParam};

derive::protocol! {
    core 1 connect_open(name: str?, flags: u32): virConnectOpen, high, acl["connect:getattr"];
    core 2 connect_close(): virConnectClose, high;
    core 60 connect_supports_feature(feature: i32) -> (supported: i32):
        virConnectSupportsFeature, high, acl["connect:getattr"];
    core 66 auth_list() -> (types: [i32; AUTH_TYPE_LIST_MAX]), high;
    core 67 auth_sasl_init() -> (mechlist: str), high;
    core 68 auth_sasl_start(mech: str, nil: i32, data: chars<AUTH_SASL_DATA_MAX>)
        -> (complete: i32, nil: i32, data: chars<AUTH_SASL_DATA_MAX>),
        high;
    core 69 auth_sasl_step(nil: i32, data: chars<AUTH_SASL_DATA_MAX>)
        -> (complete: i32, nil: i32, data: chars<AUTH_SASL_DATA_MAX>),
        high;
    core 70 auth_polkit() -> (complete: i32), high;
    core 105 connect_domain_event_register() -> (cb_registered: i32):
        virConnectDomainEventRegister, high, acl["connect:search_domains"];
    core 106 connect_domain_event_deregister() -> (cb_registered: i32):
        virConnectDomainEventDeregister, high, acl["connect:read"];
    core 149 connect_is_secure() -> (secure: i32): virConnectIsSecure, high;
    core 167 connect_domain_event_register_any(event_id: i32):
        virConnectDomainEventRegisterAny, high, acl["connect:search_domains"];
    core 168 connect_domain_event_deregister_any(event_id: i32):
        virConnectDomainEventDeregisterAny, high, acl["connect:read"];
    core 316 connect_domain_event_callback_register_any(event_id: i32, dom: Domain?) -> (callback_id: i32),
        high, acl["connect:search_domains"];
    core 317 connect_domain_event_callback_deregister_any(callback_id: i32), high, acl["connect:read"];
    core 360 connect_register_close_callback(): virConnectRegisterCloseCallback, high, acl["connect:getattr"];
    core 361 connect_unregister_close_callback():
        virConnectUnregisterCloseCallback, high, acl["connect:getattr"];
    core 419 connect_set_identity(params: [TypedParam; CONNECT_IDENTITY_PARAMS_MAX], flags: u32):
        virConnectSetIdentity, acl["connect:write"];
}
