//! What takes long and is under way: how far it is, and its end before its time.

use crate::driver::QemuDriver;
use crate::error::{Result, check_flags, invalid, not_running};
use crate::guest::Guest;
use crate::process::{Phase, Work};
use json::{Dict, Value};
use rpc::TypedParam;
use rpc::protocol::stats::{DomainGetJobInfoRet, DomainGetJobStatsRet};

/// `VIR_DOMAIN_JOB_UNBOUNDED`: nobody knows how long it takes.
const UNBOUNDED: i32 = 2;

/// How far a job is.
struct Progress {
    work: Work,
    elapsed: u64,
    /// The emulator's answer.
    told: Value,
}

impl Progress {
    fn of(guest: &Guest) -> Result<Option<Self>> {
        let work = guest.lock().live.as_ref().ok_or_else(not_running)?.work;
        let Some((work, since)) = work else { return Ok(None) };
        let question = if work == Work::MemoryDump { "query-dump" } else { "query-migrate" };
        // It may be over by now, or not have begun.
        let told = guest.ask(question, Dict::default()).unwrap_or(Value::Null);
        let elapsed = u64::try_from(since.elapsed().as_millis()).unwrap_or(u64::MAX);
        Ok(Some(Self { work, elapsed, told }))
    }

    fn ram(&self, key: &str) -> Option<u64> {
        self.told.get("ram")?.get(key)?.as_u64()
    }

    /// All memory, what was transferred of it, and what is left.
    fn memory(&self) -> [u64; 3] {
        if self.work == Work::MemoryDump {
            let number = |key: &str| self.told.get(key).and_then(Value::as_u64).unwrap_or(0);
            let (total, completed) = (number("total"), number("completed"));
            return [total, completed, total.saturating_sub(completed)];
        }
        ["total", "transferred", "remaining"].map(|key| self.ram(key).unwrap_or(0))
    }

    fn params(&self) -> Vec<TypedParam> {
        /// `VIR_DOMAIN_JOB_OPERATION_...`
        const SAVE: i32 = 2;
        const DUMP: i32 = 8;
        let operation = if self.work == Work::Save { SAVE } else { DUMP };
        let mut params =
            vec![TypedParam::new("operation", operation), TypedParam::new("time_elapsed", self.elapsed)];
        let mut add = |name: &str, value: Option<u64>| {
            params.extend(value.map(|value| TypedParam::new(name, value)));
        };
        let [total, processed, remaining] = self.memory();
        let of_memory = |add: &mut dyn FnMut(&str, Option<u64>)| {
            add("memory_total", Some(total));
            add("memory_processed", Some(processed));
            add("memory_remaining", Some(remaining));
        };
        if self.work == Work::MemoryDump {
            of_memory(&mut add);
            return params;
        }
        add("setup_time", self.told.get("setup-time").and_then(Value::as_u64));
        add("data_total", Some(total));
        add("data_processed", Some(processed));
        add("data_remaining", Some(remaining));
        of_memory(&mut add);
        // The emulator tells millions of bits a second.
        let rate = self.told.get("ram").and_then(|ram| ram.get("mbps")?.to_string().parse::<f64>().ok());
        add("memory_bps", rate.map(|rate| (rate * 1_000_000.0 / 8.0) as u64).filter(|rate| *rate > 0));
        add("memory_constant", self.ram("duplicate"));
        add("memory_normal", self.ram("normal"));
        add("memory_normal_bytes", self.ram("normal-bytes"));
        add("memory_dirty_rate", Some(self.ram("dirty-pages-rate").unwrap_or(0)));
        add("memory_iteration", Some(self.ram("dirty-sync-count").unwrap_or(0)));
        add("memory_postcopy_requests", Some(self.ram("postcopy-requests").unwrap_or(0)));
        add("memory_page_size", self.ram("page-size").filter(|size| *size > 0));
        params
    }
}

impl QemuDriver {
    /// How far the domain's job is, in few numbers.
    pub(super) fn job_info(&self, dom: &rpc::Domain) -> Result<DomainGetJobInfoRet> {
        let progress = Progress::of(&*self.guest(dom)?)?;
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

    /// How far the domain's job is; of one that is over nothing is kept.
    pub(super) fn job_stats(&self, dom: &rpc::Domain, flags: u32) -> Result<DomainGetJobStatsRet> {
        const COMPLETED: u32 = 1;
        const KEEP_COMPLETED: u32 = 2;
        check_flags(flags, COMPLETED | KEEP_COMPLETED, "qemuDomainGetJobStats")?;
        let guest = self.guest(dom)?;
        let progress = if flags & COMPLETED != 0 { None } else { Progress::of(&guest)? };
        Ok(match progress {
            Some(progress) => DomainGetJobStatsRet { kind: UNBOUNDED, params: progress.params() },
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
