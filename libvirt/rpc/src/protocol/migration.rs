//! Migration, all versions of its protocol.

use super::limits::{DOMAIN_MIGRATE_PARAM_LIST_MAX, MIGRATE_COOKIE_MAX};
use super::types::{Domain, TypedParam};

derive::protocol! {
    /// Migration, all versions of its protocol.
    handler Migration;

    missing 61 domain_migrate_prepare(uri_in: str?, flags: u64, dname: str?, resource: u64)
        -> (cookie: bytes<MIGRATE_COOKIE_MAX>, uri_out: str?):
        virDomainMigratePrepare, write, acl["domain:migrate", "domain:start", "domain:write"];
    missing 62 domain_migrate_perform(
        dom: Domain, cookie: bytes<MIGRATE_COOKIE_MAX>, uri: str, flags: u64, dname: str?, resource: u64
    ):
        virDomainMigratePerform, write, acl["domain:migrate"];
    missing 63 domain_migrate_finish(dname: str, cookie: bytes<MIGRATE_COOKIE_MAX>, uri: str, flags: u64)
        -> (ddom: Domain):
        virDomainMigrateFinish, write, acl["domain:migrate"];
    missing 108 domain_migrate_prepare2(uri_in: str?, flags: u64, dname: str?, resource: u64, dom_xml: str)
        -> (cookie: bytes<MIGRATE_COOKIE_MAX>, uri_out: str?):
        virDomainMigratePrepare2, write, acl["domain:migrate", "domain:start", "domain:write"];
    missing 109 domain_migrate_finish2(
        dname: str, cookie: bytes<MIGRATE_COOKIE_MAX>, uri: str, flags: u64, retcode: i32
    )
        -> (ddom: Domain):
        virDomainMigrateFinish2, write, acl["domain:migrate"];
    missing 148 domain_migrate_prepare_tunnel(flags: u64, dname: str?, resource: u64, dom_xml: str):
        virDomainMigratePrepareTunnel, write, write_stream,
        acl[
            "domain:migrate",
            "domain:start",
            "domain:write",
        ];
    call 166 domain_migrate_set_max_downtime(dom: Domain, downtime: u64, flags: u32):
        virDomainMigrateSetMaxDowntime, write, acl["domain:migrate"];
    call 207 domain_migrate_set_max_speed(dom: Domain, bandwidth: u64, flags: u32):
        virDomainMigrateSetMaxSpeed, write, acl["domain:migrate"];
    missing 213 domain_migrate_begin3(dom: Domain, xmlin: str?, flags: u64, dname: str?, resource: u64)
        -> (cookie_out: bytes<MIGRATE_COOKIE_MAX>, xml: str):
        virDomainMigrateBegin3, write, acl["domain:migrate"];
    missing 214 domain_migrate_prepare3(
        cookie_in: bytes<MIGRATE_COOKIE_MAX>, uri_in: str?, flags: u64, dname: str?, resource: u64,
        dom_xml: str
    )
        -> (cookie_out: bytes<MIGRATE_COOKIE_MAX>, uri_out: str?):
        virDomainMigratePrepare3, write, acl["domain:migrate", "domain:start", "domain:write"];
    missing 215 domain_migrate_prepare_tunnel3(
        cookie_in: bytes<MIGRATE_COOKIE_MAX>, flags: u64, dname: str?, resource: u64, dom_xml: str
    )
        -> (cookie_out: bytes<MIGRATE_COOKIE_MAX>):
        virDomainMigratePrepareTunnel3, write, write_stream,
        acl[
            "domain:migrate",
            "domain:start",
            "domain:write",
        ];
    missing 216 domain_migrate_perform3(
        dom: Domain, xmlin: str?, cookie_in: bytes<MIGRATE_COOKIE_MAX>, dconnuri: str?, uri: str?, flags: u64,
        dname: str?, resource: u64
    )
        -> (cookie_out: bytes<MIGRATE_COOKIE_MAX>):
        virDomainMigratePerform3, write, acl["domain:migrate"];
    missing 217 domain_migrate_finish3(
        dname: str, cookie_in: bytes<MIGRATE_COOKIE_MAX>, dconnuri: str?, uri: str?, flags: u64,
        cancelled: i32
    )
        -> (dom: Domain, cookie_out: bytes<MIGRATE_COOKIE_MAX>):
        virDomainMigrateFinish3, write, acl["domain:migrate"];
    missing 218 domain_migrate_confirm3(
        dom: Domain, cookie_in: bytes<MIGRATE_COOKIE_MAX>, flags: u64, cancelled: i32
    ):
        virDomainMigrateConfirm3, write, acl["domain:migrate"];
    call 242 domain_migrate_get_max_speed(dom: Domain, flags: u32) -> (bandwidth: u64):
        virDomainMigrateGetMaxSpeed, write, acl["domain:migrate"];
    call 299 domain_migrate_get_compression_cache(dom: Domain, flags: u32) -> (cache_size: u64):
        virDomainMigrateGetCompressionCache, acl["domain:migrate"];
    call 300 domain_migrate_set_compression_cache(dom: Domain, cache_size: u64, flags: u32):
        virDomainMigrateSetCompressionCache, write, acl["domain:migrate"];
    missing 302 domain_migrate_begin3_params(
        dom: Domain, params: [TypedParam; DOMAIN_MIGRATE_PARAM_LIST_MAX], flags: u32
    )
        -> (cookie_out: bytes<MIGRATE_COOKIE_MAX>, xml: str):
        virDomainMigrateBegin3Params, write, acl["domain:migrate"];
    missing 303 domain_migrate_prepare3_params(
        params: [TypedParam; DOMAIN_MIGRATE_PARAM_LIST_MAX], cookie_in: bytes<MIGRATE_COOKIE_MAX>, flags: u32
    )
        -> (cookie_out: bytes<MIGRATE_COOKIE_MAX>, uri_out: str?):
        virDomainMigratePrepare3Params, write, acl["domain:migrate", "domain:start", "domain:write"];
    missing 304 domain_migrate_prepare_tunnel3_params(
        params: [TypedParam; DOMAIN_MIGRATE_PARAM_LIST_MAX], cookie_in: bytes<MIGRATE_COOKIE_MAX>, flags: u32
    )
        -> (cookie_out: bytes<MIGRATE_COOKIE_MAX>):
        virDomainMigratePrepareTunnel3Params, write, write_stream,
        acl["domain:migrate", "domain:start", "domain:write"];
    missing 305 domain_migrate_perform3_params(
        dom: Domain, dconnuri: str?, params: [TypedParam; DOMAIN_MIGRATE_PARAM_LIST_MAX],
        cookie_in: bytes<MIGRATE_COOKIE_MAX>, flags: u32
    )
        -> (cookie_out: bytes<MIGRATE_COOKIE_MAX>):
        virDomainMigratePerform3Params, write, acl["domain:migrate"];
    missing 306 domain_migrate_finish3_params(
        params: [TypedParam; DOMAIN_MIGRATE_PARAM_LIST_MAX], cookie_in: bytes<MIGRATE_COOKIE_MAX>, flags: u32,
        cancelled: i32
    )
        -> (dom: Domain, cookie_out: bytes<MIGRATE_COOKIE_MAX>):
        virDomainMigrateFinish3Params, write, acl["domain:migrate"];
    missing 307 domain_migrate_confirm3_params(
        dom: Domain, params: [TypedParam; DOMAIN_MIGRATE_PARAM_LIST_MAX],
        cookie_in: bytes<MIGRATE_COOKIE_MAX>, flags: u32, cancelled: i32
    ):
        virDomainMigrateConfirm3Params, write, acl["domain:migrate"];
    call 364 domain_migrate_start_post_copy(dom: Domain, flags: u32):
        virDomainMigrateStartPostCopy, write, acl["domain:migrate"];
    call 387 domain_migrate_get_max_downtime(dom: Domain, flags: u32) -> (downtime: u64):
        virDomainMigrateGetMaxDowntime, acl["domain:migrate"];
}
