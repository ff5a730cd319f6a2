//! I/O limits: the keys of `-drive` that set them, and the leaky bucket that keeps to them.
//!
//! What a request moves is poured into a bucket that leaks at the average rate; while the bucket is over its rim,
//! requests wait. With a burst rate the rim is what the burst rate gives in the burst length. A burst longer than a
//! second is held to its own rate by a second level, which leaks at that rate. (QEMU: `docs/throttle.txt`.)

use crate::BlockError;

/// Largest rate, and largest product of a burst rate and its length.
const MOST: u64 = 1_000_000_000_000_000;
const NANOS: f64 = 1e9;

/// What is limited, in the order of [`Limits::rates`].
const KINDS: [&str; 6] = ["bps-total", "bps-read", "bps-write", "iops-total", "iops-read", "iops-write"];

/// Keys with the name that they had before.
const ALIASES: [(&str, &str); 15] = [
    ("throttling.iops-total", "iops"),
    ("throttling.iops-read", "iops_rd"),
    ("throttling.iops-write", "iops_wr"),
    ("throttling.bps-total", "bps"),
    ("throttling.bps-read", "bps_rd"),
    ("throttling.bps-write", "bps_wr"),
    ("throttling.iops-total-max", "iops_max"),
    ("throttling.iops-read-max", "iops_rd_max"),
    ("throttling.iops-write-max", "iops_wr_max"),
    ("throttling.bps-total-max", "bps_max"),
    ("throttling.bps-read-max", "bps_rd_max"),
    ("throttling.bps-write-max", "bps_wr_max"),
    ("throttling.iops-size", "iops_size"),
    ("throttling.group", "group"),
    ("read-only", "readonly"),
];

/// One limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    /// Bytes or requests in a second; 0: no limit.
    pub average: u64,
    /// The same in a burst; 0: there are no bursts.
    pub max: u64,
    /// Seconds that a burst may last.
    pub length: u64,
}

impl Default for Rate {
    fn default() -> Self {
        Self { average: 0, max: 0, length: 1 }
    }
}

/// The limits of a disk or of a group of disks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Limits {
    /// Bytes in all, read and written; then requests in all, reads and writes.
    pub rates: [Rate; 6],
    /// Bytes that count as one request, so that a larger one counts for more; 0: every request is one.
    pub operation: u64,
}

impl Limits {
    /// Whether anything is limited.
    pub fn any(&self) -> bool {
        self.rates.iter().any(|rate| rate.average != 0)
    }

    /// Looks for contradictions.
    ///
    /// # Errors
    /// QEMU's texts.
    pub fn check(&self) -> Result<(), BlockError> {
        let error = |text: &str| Err(BlockError(text.to_owned()));
        for kind in self.rates.chunks(3) {
            let both = |get: fn(&Rate) -> u64| get(&kind[0]) != 0 && (get(&kind[1]) | get(&kind[2])) != 0;
            if both(|rate| rate.average) || both(|rate| rate.max) {
                return error(
                    "bps/iops/max total values and read/write values cannot be used at the same time",
                );
            }
        }
        if self.operation != 0 && self.rates[3..].iter().all(|rate| rate.average == 0) {
            return error("iops size requires an iops value to be set");
        }
        for Rate { average, max, length } in self.rates {
            if average > MOST || max > MOST {
                return Err(BlockError(format!("bps/iops/max values must be within [0, {MOST}]")));
            }
            if length == 0 {
                return error("the burst length cannot be 0");
            }
            if length > 1 && max == 0 {
                return error("burst length set without burst rate");
            }
            if max != 0 && length > MOST / max {
                return error("burst length too high for this burst rate");
            }
            if max != 0 && average == 0 {
                return error("bps_max/iops_max require corresponding bps/iops values");
            }
            if max != 0 && max < average {
                return error("bps_max/iops_max cannot be lower than bps/iops");
            }
        }
        Ok(())
    }

    /// The line of `info block` about them, without the group.
    pub fn describe(&self) -> String {
        let mut words = Vec::new();
        for (kind, name) in self.rates.chunks(3).zip(["bps", "iops"]) {
            let parts = || ["", "_rd", "_wr"].into_iter().zip(kind);
            words.extend(parts().map(|(part, rate)| format!("{name}{part}={}", rate.average)));
            words.extend(parts().map(|(part, rate)| format!("{name}{part}_max={}", rate.max)));
        }
        words.push(format!("iops_size={}", self.operation));
        words.join(" ")
    }
}

/// What a drive says about its limits.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Throttling {
    /// The limits.
    pub limits: Limits,
    /// The group that shares them; `None`: one of the drive's own, with its name.
    pub group: Option<String>,
}

/// Checks that no key comes under two names.
pub(crate) fn check_aliases(pairs: &[(&str, &str)]) -> Result<(), BlockError> {
    let given = |name: &str| pairs.iter().any(|(key, _)| *key == name);
    match ALIASES.iter().find(|(key, alias)| given(key) && given(alias)) {
        Some((key, alias)) => {
            Err(BlockError(format!("'{key}' and its alias '{alias}' can't be used at the same time")))
        }
        None => Ok(()),
    }
}

impl Throttling {
    /// Takes one key; false: it is none of these.
    pub(crate) fn set(&mut self, key: &str, value: &str) -> Result<bool, BlockError> {
        let key = ALIASES.iter().find(|(_, alias)| *alias == key).map_or(key, |(key, _)| key);
        let Some(name) = key.strip_prefix("throttling.") else { return Ok(false) };
        match name {
            "group" => self.group = Some(value.to_owned()),
            "iops-size" => self.limits.operation = number(key, value)?,
            _ => {
                let rates = &mut self.limits.rates;
                let found =
                    KINDS.iter().zip(rates).find_map(|(kind, rate)| Some((name.strip_prefix(kind)?, rate)));
                match found {
                    Some(("", rate)) => rate.average = number(key, value)?,
                    Some(("-max", rate)) => rate.max = number(key, value)?,
                    Some(("-max-length", rate)) => rate.length = number(key, value)?,
                    _ => return Ok(false),
                }
            }
        }
        Ok(true)
    }
}

/// A number as C's `strtoull` reads it: with a sign, and in hexadecimal and octal too.
fn number(key: &str, value: &str) -> Result<u64, BlockError> {
    let (negative, digits) = match value.as_bytes().first() {
        Some(b'-') => (true, &value[1..]),
        Some(b'+') => (false, &value[1..]),
        _ => (false, value),
    };
    let hex = digits.strip_prefix("0x").or_else(|| digits.strip_prefix("0X"));
    let (digits, radix) = match hex {
        Some(hex) => (hex, 16),
        None if digits.starts_with('0') => (digits, 8),
        None => (digits, 10),
    };
    if digits.is_empty() || !digits.chars().all(|digit| digit.is_digit(radix)) {
        return Err(BlockError(format!("Parameter '{key}' expects a number")));
    }
    let number = u64::from_str_radix(digits, radix)
        .map_err(|_| BlockError(format!("Value '{value}' is too large for parameter '{key}'")))?;
    Ok(if negative { number.wrapping_neg() } else { number })
}

/// A rate with what was used of it.
#[derive(Clone, Copy, Debug, Default)]
struct Bucket {
    rate: Rate,
    level: f64,
    burst: f64,
}

impl Bucket {
    fn leak(&mut self, nanos: u64) {
        let seconds = nanos as f64 / NANOS;
        self.level = (self.level - self.rate.average as f64 * seconds).max(0.0);
        self.burst = (self.burst - self.rate.max as f64 * seconds).max(0.0);
    }

    fn pour(&mut self, units: f64) {
        self.level += units;
        if self.rate.length > 1 {
            self.burst += units;
        }
    }

    /// Seconds until the next request may go.
    fn wait(&self) -> f64 {
        let Rate { average, max, length } = self.rate;
        let (average, max) = (average as f64, max as f64);
        if average == 0.0 {
            return 0.0;
        }
        // Without bursts a tenth of a second's worth may come at once: else requests would go one by one.
        let rim = if max == 0.0 { average / 10.0 } else { max * length as f64 };
        if self.level > rim {
            return (self.level - rim) / average;
        }
        let rim = max / 10.0;
        if length > 1 && self.burst > rim { (self.burst - rim) / max } else { 0.0 }
    }
}

/// The buckets of a set of limits. Times are nanoseconds of any clock that does not go back.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Buckets {
    buckets: [Bucket; 6],
    operation: u64,
    leaked: u64,
}

impl Buckets {
    /// Empty ones.
    pub(crate) fn new(limits: &Limits) -> Self {
        let buckets = limits.rates.map(|rate| Bucket { rate, ..Bucket::default() });
        Self { buckets, operation: limits.operation, leaked: 0 }
    }

    /// The buckets that a request goes through: of all requests and of its direction.
    fn of(write: bool) -> [usize; 4] {
        let direction = 1 + usize::from(write);
        [0, direction, 3, 3 + direction]
    }

    /// Nanoseconds from `now` until the next request of a direction may go.
    pub(crate) fn wait(&mut self, write: bool, now: u64) -> u64 {
        let passed = now.saturating_sub(self.leaked);
        self.leaked = self.leaked.max(now);
        self.buckets.iter_mut().for_each(|bucket| bucket.leak(passed));
        let longest = Self::of(write).into_iter().map(|at| self.buckets[at].wait()).fold(0.0, f64::max);
        (longest * NANOS) as u64
    }

    /// A request of `bytes` goes.
    pub(crate) fn account(&mut self, write: bool, bytes: u64) {
        let large = self.operation != 0 && bytes > self.operation;
        let requests = if large { bytes as f64 / self.operation as f64 } else { 1.0 };
        for at in Self::of(write) {
            self.buckets[at].pour(if at < 3 { bytes as f64 } else { requests });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000_000;

    fn limits(keys: &[(&str, &str)]) -> Limits {
        let mut throttling = Throttling::default();
        for (key, value) in keys {
            assert!(throttling.set(key, value).expect(key), "{key}");
        }
        throttling.limits.check().expect("sound");
        throttling.limits
    }

    /// Requests of `bytes` that go in the time from `from` to `to`, each as early as it may.
    fn count(buckets: &mut Buckets, write: bool, bytes: u64, from: u64, to: u64) -> u64 {
        let (mut now, mut done) = (from, 0);
        loop {
            now += buckets.wait(write, now);
            if now >= to {
                return done;
            }
            buckets.account(write, bytes);
            done += 1;
        }
    }

    #[test]
    fn the_average_holds() {
        let mut buckets = Buckets::new(&limits(&[("iops", "100")]));
        // A tenth of a second's worth comes at once, and the one that goes over the rim.
        for _ in 0..11 {
            assert_eq!(buckets.wait(false, 0), 0);
            buckets.account(false, 512);
        }
        assert_eq!(buckets.wait(true, 0), SECOND / 100);
        assert_eq!(buckets.wait(false, SECOND / 200), SECOND / 200);
        assert_eq!(buckets.wait(false, SECOND / 100), 0);
        let mut buckets = Buckets::new(&limits(&[("bps", "1000000")]));
        let done = count(&mut buckets, true, 4096, 0, 10 * SECOND);
        assert!((2441..=2470).contains(&done), "{done}");
    }

    #[test]
    fn a_burst_is_as_long_as_it_may_be() {
        let keys = [("throttling.iops-total", "100"), ("throttling.iops-total-max", "2000")];
        let mut buckets = Buckets::new(&limits(&keys));
        // The bucket of one second's burst.
        let done = count(&mut buckets, false, 512, 0, 1);
        assert_eq!(done, 2001);
        let long = [&keys[..], &[("throttling.iops-total-max-length", "60")]].concat();
        let mut buckets = Buckets::new(&limits(&long));
        // At 2000 a second, until 120000 more have come than leaked at 100 a second: after 63 seconds.
        let done = count(&mut buckets, false, 512, 0, 60 * SECOND);
        assert!((120_000..=120_210).contains(&done), "{done}");
        let done = count(&mut buckets, false, 512, 60 * SECOND, 100 * SECOND);
        assert!((9_500..=10_300).contains(&done), "{done}");
        let done = count(&mut buckets, false, 512, 100 * SECOND, 110 * SECOND);
        assert!((999..=1001).contains(&done), "{done}");
    }

    #[test]
    fn directions_and_sizes_count_as_the_limits_say() {
        let mut buckets = Buckets::new(&limits(&[("bps_rd", "1000")]));
        buckets.account(true, 1 << 20);
        assert_eq!((buckets.wait(false, 0), buckets.wait(true, 0)), (0, 0));
        buckets.account(false, 1100);
        assert_eq!((buckets.wait(false, 0), buckets.wait(true, 0)), (SECOND, 0));
        let mut buckets = Buckets::new(&limits(&[("iops", "10"), ("iops_size", "4096")]));
        buckets.account(false, 512);
        assert_eq!(buckets.wait(false, 0), 0);
        buckets.account(false, 40960);
        assert_eq!(buckets.wait(true, 0), SECOND);
    }

    #[test]
    fn numbers_are_read_as_in_c() {
        for (text, value) in
            [("10", 10), ("0x10", 16), ("010", 8), ("+5", 5), ("0", 0), ("-1", u64::MAX), ("-0", 0)]
        {
            assert_eq!(number("k", text).expect(text), value);
        }
        for text in ["", "x", "1k", " 5", "9_", "08", "0x", "1.5", "--1", "+"] {
            assert_eq!(number("k", text).expect_err(text).0, "Parameter 'k' expects a number");
        }
        let text = number("k", "18446744073709551616").expect_err("large").0;
        assert_eq!(text, "Value '18446744073709551616' is too large for parameter 'k'");
    }
}
