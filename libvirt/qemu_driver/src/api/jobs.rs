//! What takes long and is under way: how far it is, and its end before its time.

use crate::driver::QemuDriver;
use crate::error::{Result, check_flags, invalid, not_running};
use crate::guest::Guest;
use crate::process::{Phase, Progress, Work};
use json::{Dict, Value};
use rpc::protocol::stats::{DomainGetJobInfoRet, DomainGetJobStatsRet};

/// `VIR_DOMAIN_JOB_UNBOUNDED`: nobody knows how long it takes.
const UNBOUNDED: i32 = 2;
/// `VIR_DOMAIN_JOB_COMPLETED`.
const ENDED: i32 = 3;

/// How far the guest's job is; none when there is none.
fn under_way(guest: &Guest) -> Result<Option<Progress>> {
    let work = guest.lock().live.as_ref().ok_or_else(not_running)?.work;
    let Some((work, since)) = work else { return Ok(None) };
    let question = if work == Work::MemoryDump { "query-dump" } else { "query-migrate" };
    // It may be over by now, or not have begun.
    let told = guest.ask(question, Dict::default()).unwrap_or(Value::Null);
    Ok(Some(Progress::new(work, since, told)))
}

impl QemuDriver {
    /// How far the domain's job is, in few numbers.
    pub(super) fn job_info(&self, dom: &rpc::Domain) -> Result<DomainGetJobInfoRet> {
        let progress = under_way(&*self.guest(dom)?)?;
        let [total, processed, remaining] = progress.as_ref().map_or([0; 3], Progress::memory);
        Ok(DomainGetJobInfoRet {
            kind: progress.as_ref().map_or(0, |_| UNBOUNDED),
            time_elapsed: progress.as_ref().map_or(0, |progress| progress.elapsed),
            time_remaining: 0,
            data_total: total,
            data_processed: processed,
            data_remaining: remaining,
            mem_total: total,
            mem_processed: processed,
            mem_remaining: remaining,
            file_total: 0,
            file_processed: 0,
            file_remaining: 0,
        })
    }

    /// How far the domain's job is, or how the last one ended.
    pub(super) fn job_stats(&self, dom: &rpc::Domain, flags: u32) -> Result<DomainGetJobStatsRet> {
        const COMPLETED: u32 = 1;
        const KEEP_COMPLETED: u32 = 2;
        check_flags(flags, COMPLETED | KEEP_COMPLETED, "qemuDomainGetJobStats")?;
        let guest = self.guest(dom)?;
        let (kind, progress) = if flags & COMPLETED == 0 {
            (UNBOUNDED, under_way(&guest)?)
        } else if guest.lock().live.as_ref().is_some_and(|live| live.work.is_some()) {
            (ENDED, None)
        } else if flags & KEEP_COMPLETED != 0 {
            (ENDED, guest.completed.lock().as_deref().cloned())
        } else {
            (ENDED, guest.completed.lock().take().map(|completed| *completed))
        };
        Ok(match progress {
            Some(progress) => DomainGetJobStatsRet { kind, params: progress.params() },
            None => DomainGetJobStatsRet { kind: 0, params: Vec::new() },
        })
    }

    /// Ends what is under way; whoever began it is told.
    pub(super) fn abort_job(&self, dom: &rpc::Domain, flags: u32) -> Result<()> {
        const POSTCOPY: u32 = 1;
        check_flags(flags, POSTCOPY, "qemuDomainAbortJobFlags")?;
        let guest = self.guest(dom)?;
        let (work, starting) = {
            let inner = guest.lock();
            let live = inner.live.as_ref().ok_or_else(not_running)?;
            (live.work.map(|(work, _)| work), live.phase < Phase::Ready)
        };
        if flags & POSTCOPY != 0 {
            return Err(invalid("current job is not outgoing migration in post-copy mode"));
        }
        match work {
            _ if starting => Err(invalid("cannot abort VM start; use virDomainDestroy instead")),
            None => Err(invalid("no job is active on the domain")),
            Some(Work::MemoryDump) => Err(invalid("cannot abort memory-only dump")),
            Some(Work::Save | Work::Dump) => guest.execute("migrate_cancel", Dict::default()).map(drop),
        }
    }
}
