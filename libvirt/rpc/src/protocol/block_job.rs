//! Block jobs.

use super::limits::DOMAIN_BLOCK_COPY_PARAMETERS_MAX;
use super::types::{Domain, TypedParam};

derive::protocol! {
    /// Block jobs.
    handler BlockJobs;

    call 237 domain_block_job_abort(dom: Domain, path: str, flags: u32):
        virDomainBlockJobAbort, write, acl["domain:write"];
    call 238 domain_get_block_job_info(dom: Domain, path: str, flags: u32)
        -> (found: i32, kind: i32, bandwidth: u64, cur: u64, end: u64):
        virDomainGetBlockJobInfo, acl["domain:read"];
    call 239 domain_block_job_set_speed(dom: Domain, path: str, bandwidth: u64, flags: u32):
        virDomainBlockJobSetSpeed, write, acl["domain:write"];
    missing 240 domain_block_pull(dom: Domain, path: str, bandwidth: u64, flags: u32):
        virDomainBlockPull, write, acl["domain:block_write"];
    missing 266 domain_block_rebase(dom: Domain, path: str, base: str?, bandwidth: u64, flags: u32):
        virDomainBlockRebase, write, acl["domain:block_write"];
    missing 290 domain_block_commit(dom: Domain, disk: str, base: str?, top: str?, bandwidth: u64, flags: u32):
        virDomainBlockCommit, write, acl["domain:block_write"];
    missing 345 domain_block_copy(
        dom: Domain, path: str, destxml: str, params: [TypedParam; DOMAIN_BLOCK_COPY_PARAMETERS_MAX],
        flags: u32
    ):
        virDomainBlockCopy, write, acl["domain:block_write"];
}
