//! Migration. None can be begun yet; what limits those to come can be set and asked for.

use crate::driver::QemuDriver;
use crate::error::{Result, check_flags, error, internal, invalid};
use crate::guest::{Guest, MOST_BANDWIDTH};
use json::{Dict, Value, dict};
use rpc::protocol::migration::*;
use rpc::{ClientContext, Code, Domain};
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// The speed of a migration whose guest runs at the other end already.
const POSTCOPY: u32 = 1;

/// A parameter of the emulator's migrations; none that it does not have.
fn parameter(guest: &Guest, name: &str) -> Result<Option<u64>> {
    let parameters = guest.execute("query-migrate-parameters", Dict::default())?;
    Ok(parameters.get(name).and_then(Value::as_u64))
}

fn set(guest: &Guest, name: &str, value: u64) -> Result<()> {
    guest.execute("migrate-set-parameters", dict! { name => value }).map(drop)
}

impl QemuDriver {
    /// The guest, if its emulator can compress migrations by what it sent before.
    fn compressing(&self, guest: &Guest) -> Result<()> {
        let known = guest.execute("query-migrate-capabilities", Dict::default())?;
        let named = |item: &Value| item.get("capability").and_then(Value::as_str) == Some("xbzrle");
        if known.as_list().is_some_and(|list| list.iter().any(named)) {
            return Ok(());
        }
        let detail = "Compressed migration is not supported by QEMU binary";
        Err(error(Code::OperationUnsupported, detail))
    }

    fn checked(&self, dom: &Domain, flags: u32, known: u32, function: &str) -> Result<Arc<Guest>> {
        check_flags(flags, known, function)?;
        self.guest(dom)
    }
}

impl Migration for QemuDriver {
    fn domain_migrate_set_max_downtime(
        &self,
        _: &ClientContext,
        args: DomainMigrateSetMaxDowntimeArgs,
    ) -> Result<()> {
        let guest = self.checked(&args.dom, args.flags, 0, "qemuDomainMigrateSetMaxDowntime")?;
        let _job = guest.jobs.begin("virDomainMigrateSetMaxDowntime")?;
        set(&guest, "downtime-limit", args.downtime)
    }

    fn domain_migrate_get_max_downtime(
        &self,
        _: &ClientContext,
        args: DomainMigrateGetMaxDowntimeArgs,
    ) -> Result<DomainMigrateGetMaxDowntimeRet> {
        let guest = self.checked(&args.dom, args.flags, 0, "qemuDomainMigrateGetMaxDowntime")?;
        let _job = guest.jobs.begin("virDomainMigrateGetMaxDowntime")?;
        let unknown = || invalid("Querying migration downtime is not supported by QEMU binary");
        let downtime = parameter(&guest, "downtime-limit")?.ok_or_else(unknown)?;
        Ok(DomainMigrateGetMaxDowntimeRet { downtime })
    }

    fn domain_migrate_set_max_speed(
        &self,
        _: &ClientContext,
        args: DomainMigrateSetMaxSpeedArgs,
    ) -> Result<()> {
        let guest = self.checked(&args.dom, args.flags, POSTCOPY, "qemuDomainMigrateSetMaxSpeed")?;
        let postcopy = args.flags & POSTCOPY != 0;
        let most = if postcopy { u64::MAX >> 20 } else { MOST_BANDWIDTH };
        if args.bandwidth > most {
            return Err(error(Code::Overflow, format!("bandwidth must be less than {}", most + 1)));
        }
        let keep = || guest.migration_bandwidth.store(args.bandwidth, Ordering::Relaxed);
        if !postcopy && !guest.lock().is_active() {
            keep();
            return Ok(());
        }
        let _job = guest.jobs.begin("virDomainMigrateSetMaxSpeed")?;
        set(&guest, if postcopy { "max-postcopy-bandwidth" } else { "max-bandwidth" }, args.bandwidth << 20)?;
        if !postcopy {
            keep();
        }
        Ok(())
    }

    fn domain_migrate_get_max_speed(
        &self,
        _: &ClientContext,
        args: DomainMigrateGetMaxSpeedArgs,
    ) -> Result<DomainMigrateGetMaxSpeedRet> {
        let guest = self.checked(&args.dom, args.flags, POSTCOPY, "qemuDomainMigrateGetMaxSpeed")?;
        if args.flags & POSTCOPY == 0 {
            let bandwidth = guest.migration_bandwidth.load(Ordering::Relaxed);
            return Ok(DomainMigrateGetMaxSpeedRet { bandwidth });
        }
        let _job = guest.jobs.begin("virDomainMigrateGetMaxSpeed")?;
        let unknown =
            || invalid("querying maximum post-copy migration speed is not supported by QEMU binary");
        let bandwidth = parameter(&guest, "max-postcopy-bandwidth")?.ok_or_else(unknown)? >> 20;
        Ok(DomainMigrateGetMaxSpeedRet { bandwidth })
    }

    fn domain_migrate_get_compression_cache(
        &self,
        _: &ClientContext,
        args: DomainMigrateGetCompressionCacheArgs,
    ) -> Result<DomainMigrateGetCompressionCacheRet> {
        let guest = self.checked(&args.dom, args.flags, 0, "qemuDomainMigrateGetCompressionCache")?;
        let _job = guest.jobs.begin("virDomainMigrateGetCompressionCache")?;
        self.compressing(&guest)?;
        let untold = || internal("query-migrate-parameters reply was missing 'xbzrle-cache-size'");
        let cache_size = parameter(&guest, "xbzrle-cache-size")?.ok_or_else(untold)?;
        Ok(DomainMigrateGetCompressionCacheRet { cache_size })
    }

    fn domain_migrate_set_compression_cache(
        &self,
        _: &ClientContext,
        args: DomainMigrateSetCompressionCacheArgs,
    ) -> Result<()> {
        let guest = self.checked(&args.dom, args.flags, 0, "qemuDomainMigrateSetCompressionCache")?;
        let _job = guest.jobs.begin("virDomainMigrateSetCompressionCache")?;
        self.compressing(&guest)?;
        set(&guest, "xbzrle-cache-size", args.cache_size)
    }

    fn domain_migrate_start_post_copy(
        &self,
        _: &ClientContext,
        args: DomainMigrateStartPostCopyArgs,
    ) -> Result<()> {
        let guest = self.checked(&args.dom, args.flags, 0, "qemuDomainMigrateStartPostCopy")?;
        let _job = guest.jobs.begin("virDomainMigrateStartPostCopy")?;
        guest.running_id()?;
        Err(invalid("post-copy can only be started while outgoing migration is in progress"))
    }
}
