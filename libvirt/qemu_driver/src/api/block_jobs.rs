//! Block jobs. None can be begun yet, so no disk has one.

use crate::driver::QemuDriver;
use crate::error::{Result, check_flags, error, not_running};
use crate::query;
use rpc::protocol::block_job::*;
use rpc::{ClientContext, Code, Error};

/// Speeds are in bytes per second, not in MiB.
const BANDWIDTH_BYTES: u32 = 1;

impl QemuDriver {
    /// That a disk has no job.
    ///
    /// # Errors
    /// The domain does not run, or has no such disk.
    fn no_block_job(&self, dom: &rpc::Domain, path: &str) -> Result<Error> {
        let guest = self.guest(dom)?;
        let definition = {
            let inner = guest.lock();
            inner.live.as_ref().ok_or_else(not_running)?.definition.clone()
        };
        let disk = query::find_disk(&definition, path)
            .ok_or_else(|| error(Code::InvalidArg, format!("disk '{path}' not found in domain")))?;
        let detail = format!("disk {} does not have an active block job", disk.dev());
        Ok(error(Code::InvalidArg, detail))
    }
}

impl BlockJobs for QemuDriver {
    fn domain_block_job_abort(&self, _: &ClientContext, args: DomainBlockJobAbortArgs) -> Result<()> {
        const ASYNC: u32 = 1;
        const PIVOT: u32 = 2;
        check_flags(args.flags, ASYNC | PIVOT, "qemuDomainBlockJobAbort")?;
        Err(self.no_block_job(&args.dom, &args.path)?)
    }

    fn domain_get_block_job_info(
        &self,
        _: &ClientContext,
        args: DomainGetBlockJobInfoArgs,
    ) -> Result<DomainGetBlockJobInfoRet> {
        check_flags(args.flags, BANDWIDTH_BYTES, "qemuDomainGetBlockJobInfo")?;
        self.no_block_job(&args.dom, &args.path)?;
        Ok(DomainGetBlockJobInfoRet { found: 0, kind: 0, bandwidth: 0, cur: 0, end: 0 })
    }

    fn domain_block_job_set_speed(&self, _: &ClientContext, args: DomainBlockJobSetSpeedArgs) -> Result<()> {
        check_flags(args.flags, BANDWIDTH_BYTES, "qemuDomainBlockJobSetSpeed")?;
        const MOST: u64 = (i64::MAX >> 20) as u64;
        if args.flags & BANDWIDTH_BYTES == 0 && args.bandwidth > MOST {
            return Err(error(Code::Overflow, format!("bandwidth must be less than {MOST}")));
        }
        Err(self.no_block_job(&args.dom, &args.path)?)
    }
}
