//! The guest's clock and timers.

use xml::{element, words};

use crate::words::YesNo;

/// What the clock starts from.
#[words]
pub enum ClockOffset {
    Utc,
    Localtime,
    Variable,
    Timezone,
    Absolute,
}

/// How much of lost ticks is made up for.
#[element]
pub struct Catchup {
    #[attr]
    pub threshold: Option<u64>,
    #[attr]
    pub slew: Option<u64>,
    #[attr]
    pub limit: Option<u64>,
}

/// Timers.
#[words]
pub enum TimerName {
    Platform,
    Pit,
    Rtc,
    Hpet,
    Tsc,
    #[word("kvmclock")]
    KvmClock,
    #[word("hypervclock")]
    HypervClock,
    Armvtimer,
}

/// What becomes of lost ticks.
#[words]
pub enum TickPolicy {
    Delay,
    Catchup,
    Merge,
    Discard,
}

/// A timer.
#[element]
pub struct Timer {
    #[attr]
    pub name: TimerName,
    #[attr]
    pub present: Option<YesNo>,
    #[attr]
    pub tickpolicy: Option<TickPolicy>,
    #[attr]
    pub track: Option<String>,
    #[attr]
    pub frequency: Option<u64>,
    #[attr]
    pub mode: Option<String>,
    #[child]
    pub catchup: Option<Catchup>,
}

/// The clock.
#[element]
pub struct Clock {
    #[attr(default)]
    pub offset: ClockOffset,
    #[attr]
    pub adjustment: Option<String>,
    #[attr]
    pub basis: Option<String>,
    #[attr]
    pub adjustment0: Option<i64>,
    #[attr]
    pub timezone: Option<String>,
    #[attr]
    pub start: Option<u64>,
    #[child]
    pub timer: Vec<Timer>,
}

impl Clock {
    /// The timer of that name.
    pub fn timer(&self, name: TimerName) -> Option<&Timer> {
        self.timer.iter().find(|timer| timer.name == name)
    }
}

/// A state of sleep.
#[element]
pub struct Sleep {
    #[attr]
    pub enabled: YesNo,
}

/// States of sleep.
#[element]
pub struct Pm {
    #[child("suspend-to-mem")]
    pub suspend_to_mem: Option<Sleep>,
    #[child("suspend-to-disk")]
    pub suspend_to_disk: Option<Sleep>,
}

/// What happens after an event.
#[words]
pub enum EventAction {
    Destroy,
    Restart,
    RenameRestart,
    Preserve,
    CoredumpDestroy,
    CoredumpRestart,
}
