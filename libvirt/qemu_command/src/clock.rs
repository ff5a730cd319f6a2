//! The guest's clock.

use crate::command::Builder;
use crate::{Error, Result};
use domain_xml::clock::{ClockOffset, TickPolicy, TimerName};
use domain_xml::words::YesNo;

/// `YYYY-MM-DDThh:mm:ss` of a time in seconds since 1970 (proleptic Gregorian calendar, UTC).
pub(crate) fn date(seconds: i64) -> String {
    let (days, second) = (seconds.div_euclid(86_400), seconds.rem_euclid(86_400));
    // Days are counted from 1 March of year 0 in eras of 400 years: leap days are then last.
    let day = days + 719_468;
    let (era, day) = (day.div_euclid(146_097), day.rem_euclid(146_097));
    let year = (day - day / 1_460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day + 2) / 153;
    let day_of_month = day - (153 * month + 2) / 5 + 1;
    let (month, late) = if month < 10 { (month + 3, 0) } else { (month - 9, 1) };
    let (hour, minute) = (second / 3_600, second / 60 % 60);
    format!(
        "{:04}-{month:02}-{day_of_month:02}T{hour:02}:{minute:02}:{:02}",
        era * 400 + year + late,
        second % 60
    )
}

impl Builder<'_> {
    pub(crate) fn clock(&mut self) -> Result<()> {
        let Some(clock) = &self.domain.clock else {
            self.option("-rtc", "base=utc");
            return Ok(());
        };
        let base = match clock.offset {
            ClockOffset::Utc => "utc".to_owned(),
            ClockOffset::Localtime | ClockOffset::Timezone => "localtime".to_owned(),
            ClockOffset::Variable => {
                let (now, ahead) = self.host.now();
                let local = clock.basis.as_deref() == Some("localtime");
                let adjustment: i64 = match clock.adjustment.as_deref() {
                    None | Some("reset") => 0,
                    Some(text) => text
                        .parse()
                        .map_err(|_| Error::xml(format!("invalid value '{text}' of clock adjustment")))?,
                };
                let shift = adjustment.saturating_add(if local { ahead } else { 0 });
                date(now.saturating_add(shift).clamp(-62_135_596_800, 253_402_300_799))
            }
            ClockOffset::Absolute => {
                let start = i64::try_from(clock.start.unwrap_or(0)).unwrap_or(i64::MAX);
                date(start.min(253_402_300_799))
            }
        };
        let mut text = format!("base={base}");
        if let Some(rtc) = clock.timer(TimerName::Rtc) {
            match rtc.track.as_deref() {
                None => {}
                Some("guest") => text += ",clock=vm",
                Some("wall") => text += ",clock=host",
                Some("realtime") => text += ",clock=rt",
                Some(other) => {
                    return Err(Error::unsupported(format!("unsupported rtc timer track '{other}'")));
                }
            }
            match rtc.tickpolicy {
                None | Some(TickPolicy::Delay) => {}
                Some(TickPolicy::Catchup) => text += ",driftfix=slew",
                Some(other) => {
                    return Err(Error::unsupported(format!("unsupported rtc timer tickpolicy '{other}'")));
                }
            }
        }
        self.option("-rtc", text);
        if clock.offset == ClockOffset::Timezone
            && let Some(zone) = &clock.timezone
        {
            self.env("TZ", zone.clone());
        }
        for timer in &clock.timer {
            match (timer.name, timer.tickpolicy) {
                (TimerName::Pit, None | Some(TickPolicy::Delay)) if self.has("kvm-pit-lost-tick-policy") => {
                    self.option("-global", "kvm-pit.lost_tick_policy=delay");
                }
                (TimerName::Pit, Some(TickPolicy::Discard)) if self.has("kvm-pit-lost-tick-policy") => {
                    self.option("-global", "kvm-pit.lost_tick_policy=discard");
                }
                (TimerName::Pit, Some(TickPolicy::Merge)) => {
                    return Err(Error::unsupported("unsupported pit timer tickpolicy 'merge'"));
                }
                (TimerName::Hpet, _) if timer.present == Some(YesNo::No) && self.has("no-hpet") => {
                    self.flag("-no-hpet");
                }
                (TimerName::Platform, _) => {
                    return Err(Error::unsupported("unsupported timer type (name) 'platform'"));
                }
                _ => {}
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::date;

    #[test]
    fn dates_are_right_around_leap_days() {
        assert_eq!(date(0), "1970-01-01T00:00:00");
        assert_eq!(date(1_234_567_890), "2009-02-13T23:31:30");
        assert_eq!(date(951_782_399), "2000-02-28T23:59:59");
        assert_eq!(date(951_782_400), "2000-02-29T00:00:00");
        assert_eq!(date(4_107_542_400), "2100-03-01T00:00:00");
        assert_eq!(date(-1), "1969-12-31T23:59:59");
    }
}
