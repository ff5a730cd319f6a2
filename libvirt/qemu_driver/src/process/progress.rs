//! How far something of long duration is, and how it ended.

use super::Work;
use json::Value;
use rpc::TypedParam;
use std::time::Instant;

/// How far something of long duration is, or how it ended.
#[derive(Clone, Debug)]
pub struct Progress {
    /// What is done.
    pub work: Work,
    /// For how long, in milliseconds.
    pub elapsed: u64,
    /// For how long the guest has not run, in milliseconds, if not what the emulator tells.
    stopped: Option<u64>,
    /// The emulator's last answer.
    told: Value,
}

fn milliseconds(since: Instant) -> u64 {
    u64::try_from(since.elapsed().as_millis()).unwrap_or(u64::MAX)
}

impl Progress {
    /// Of what has gone on since `since`; the emulator answers `told` about it.
    pub fn new(work: Work, since: Instant, told: Value) -> Self {
        Self { work, elapsed: milliseconds(since), stopped: None, told }
    }

    /// The same for what has just ended; the guest was stopped for it at `stopped`.
    pub fn ended(work: Work, since: Instant, stopped: Option<Instant>, told: Value) -> Self {
        Self { stopped: stopped.map(milliseconds), ..Self::new(work, since, told) }
    }

    fn number(&self, key: &str) -> Option<u64> {
        self.told.get(key).and_then(Value::as_u64)
    }

    fn ram(&self, key: &str) -> Option<u64> {
        self.told.get("ram")?.get(key)?.as_u64()
    }

    fn downtime(&self) -> Option<u64> {
        let over = self.told.get("status").and_then(Value::as_str) == Some("completed");
        self.stopped.or_else(|| self.number(if over { "downtime" } else { "expected-downtime" }))
    }

    /// All memory, what was transferred of it, and what is left.
    pub fn memory(&self) -> [u64; 3] {
        if self.work == Work::MemoryDump {
            let number = |key: &str| self.number(key).unwrap_or(0);
            let (total, completed) = (number("total"), number("completed"));
            return [total, completed, total.saturating_sub(completed)];
        }
        ["total", "transferred", "remaining"].map(|key| self.ram(key).unwrap_or(0))
    }

    /// What clients are told.
    pub fn params(&self) -> Vec<TypedParam> {
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
        add("downtime", self.downtime());
        add("setup_time", self.number("setup-time"));
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

#[cfg(test)]
mod tests {
    use super::*;
    use rpc::TypedValue;

    fn value(progress: &Progress, name: &str) -> Option<u64> {
        progress.params().iter().find(|param| param.field == name).map(|param| match param.value {
            TypedValue::Ullong(value) => value,
            ref other => panic!("{name} is {other:?}"),
        })
    }

    #[test]
    fn what_has_ended_tells_how_long_the_guest_stood() {
        let told = br#"{"status":"completed","downtime":7,"ram":{"total":10,"transferred":4,"remaining":0}}"#;
        let told = json::parse(told).expect("an answer");
        let now = Instant::now();
        let before = now.checked_sub(std::time::Duration::from_secs(2)).expect("a moment");
        let live = Progress::ended(Work::Save, before, None, told.clone());
        assert_eq!(value(&live, "downtime"), Some(7));
        let stood = Progress::ended(Work::Save, before, Some(before), told);
        assert!(value(&stood, "downtime").is_some_and(|time| time >= 2000));
        assert_eq!(value(&stood, "memory_processed"), Some(4));
        let running = json::parse(br#"{"status":"active","downtime":7,"expected-downtime":9}"#).expect("one");
        assert_eq!(value(&Progress::new(Work::Dump, now, running), "downtime"), Some(9));
        let dump = json::parse(br#"{"status":"active","total":9,"completed":4}"#).expect("an answer");
        let dump = Progress::new(Work::MemoryDump, now, dump);
        assert_eq!(
            (dump.memory(), value(&dump, "downtime"), value(&dump, "memory_remaining")),
            ([9, 4, 5], None, Some(5))
        );
    }
}
