//! The remaining options.

use crate::parse::{Builder, Info, Raw, Stop, refuse, refuse_late};
use crate::{
    Actions, DATA_DIRS, FwCfg, FwCfgData, OnPanic, OnReboot, OnShutdown, OnWatchdog, RtcBase, RtcClock, help,
};
use keyval::{Opts, parse_bool, parse_number, parse_size};
use report::log::ItemsError;
use std::io;

/// The C library's text for an error, without Rust's number.
pub(crate) fn reason(error: &io::Error) -> String {
    let text = error.to_string();
    text.rfind(" (os error").map_or(text.clone(), |at| text[..at].to_owned())
}

/// Warns of keys that stand alone where a value is expected.
pub(crate) fn warn_short_form(opts: &Opts) {
    for flag in opts.flags.iter().filter(|flag| *flag != "help" && *flag != "?") {
        let (key, value) = match flag.strip_prefix("no") {
            Some(key) if !key.is_empty() => (key, "off"),
            _ => (flag.as_str(), "on"),
        };
        // The one exception: `nodelay` is a key, and `delay` its opposite.
        let hint = if flag == "delay" { "nodelay=off".to_owned() } else { format!("{key}={value}") };
        report::warn_report!("short-form boolean option '{flag}' deprecated\nPlease use {hint} instead");
    }
}

pub(crate) fn help(_builder: &mut Builder<'_>, _raw: &Raw<'_>) -> Result<(), Stop> {
    Err(Stop::Text(help::usage(), 0))
}

pub(crate) fn version(_builder: &mut Builder<'_>, _raw: &Raw<'_>) -> Result<(), Stop> {
    Err(Stop::Text(help::version(), 0))
}

pub(crate) fn flag(builder: &mut Builder<'_>, raw: &Raw<'_>) -> Result<(), Stop> {
    let plan = &mut builder.plan;
    match raw.name {
        "S" => plan.start_stopped = true,
        "snapshot" => plan.snapshot = true,
        "no-reboot" => plan.actions.reboot = OnReboot::Shutdown,
        "no-shutdown" => plan.actions.shutdown = OnShutdown::Pause,
        "daemonize" => plan.daemonize = true,
        "nodefaults" => plan.no_defaults = true,
        "perfmap" => plan.perfmap = true,
        "jitdump" => plan.jitdump = true,
        // There are no configuration files, so that there is nothing to skip.
        "no-user-config" => {}
        other => return refuse(format!("-{other} has no meaning as a switch")),
    }
    Ok(())
}

pub(crate) fn memory(builder: &mut Builder<'_>, raw: &Raw<'_>) -> Result<(), Stop> {
    let opts = Opts::parse(raw.value, Some("size"));
    opts.check(&["size", "slots", "maxmem"])?;
    let mut size = match opts.get("size") {
        Some(text) => parse_size("size", text, 1 << 20)?,
        None => 0,
    };
    // No size is the default size, as for QEMU.
    if size == 0 {
        size = 128 << 20;
    }
    let Some(rounded) = size.checked_next_multiple_of(8192) else { return refuse("ram size too large") };
    // Without a suffix the most is in bytes, unlike the size.
    let max = opts.get("maxmem").map(|text| parse_size("maxmem", text, 1)).transpose()?;
    let slots = opts.get("slots").map(|text| parse_number("slots", text)).transpose()?;
    match (max, slots) {
        (Some(max), _) if max < rounded => {
            return refuse_late(format!(
                "invalid value of maxmem: maximum memory size (0x{max:x}) must be at least the initial memory size \
                 (0x{rounded:x})"
            ));
        }
        (None, Some(_)) => return refuse_late("slots specified but no max-size"),
        (Some(max), slots) if max > rounded || slots.unwrap_or(0) > 0 => {
            return refuse("memory hotplug (slots=, maxmem=) is not supported by this build");
        }
        _ => {}
    }
    builder.ram = Some(rounded);
    Ok(())
}

pub(crate) fn name(builder: &mut Builder<'_>, raw: &Raw<'_>) -> Result<(), Stop> {
    let opts = Opts::parse(raw.value, Some("guest"));
    opts.check(&["guest", "process", "debug-threads"])?;
    let name = &mut builder.plan.name;
    name.guest = opts.get("guest").map(str::to_owned);
    name.process = opts.get("process").map(str::to_owned);
    name.debug_threads = opts.get("debug-threads").map_or(Ok(false), |v| parse_bool("debug-threads", v))?;
    Ok(())
}

pub(crate) fn uuid(builder: &mut Builder<'_>, raw: &Raw<'_>) -> Result<(), Stop> {
    match parse_uuid(raw.value) {
        Some(uuid) => builder.plan.uuid = Some(uuid),
        None => return refuse("failed to parse UUID string: wrong format"),
    }
    Ok(())
}

fn parse_uuid(text: &str) -> Option<[u8; 16]> {
    let bytes = text.as_bytes();
    let dashes = [8, 13, 18, 23];
    if bytes.len() != 36 || dashes.iter().any(|&at| bytes[at] != b'-') {
        return None;
    }
    let mut nibbles = Vec::with_capacity(32);
    for (at, &byte) in bytes.iter().enumerate() {
        if !dashes.contains(&at) {
            nibbles.push(u8::try_from(char::from(byte).to_digit(16)?).ok()?);
        }
    }
    let mut uuid = [0; 16];
    for (byte, pair) in uuid.iter_mut().zip(nibbles.chunks(2)) {
        *byte = pair[0] << 4 | pair[1];
    }
    Some(uuid)
}

pub(crate) fn boot(builder: &mut Builder<'_>, raw: &Raw<'_>) -> Result<(), Stop> {
    let opts = Opts::parse(raw.value, Some("order"));
    if opts.wants_help() {
        let text = "boot-opts options:\n  menu=<bool (on/off)>\n  once=<str>\n  order=<str>\n  reboot-timeout=<num>\n  \
                    splash-time=<num>\n  splash=<str>\n  strict=<bool (on/off)>\n";
        return Err(Stop::Text(text.to_owned(), 0));
    }
    let boot = &mut builder.plan.boot;
    for (key, value) in opts.iter() {
        match key {
            "order" | "once" => {
                check_boot_order(value)?;
                let slot = if key == "order" { &mut boot.order } else { &mut boot.once };
                *slot = Some(value.to_owned());
            }
            "menu" => boot.menu = Some(boot_switch("boot.menu", value)?),
            "strict" => boot.strict = boot_switch("boot.strict", value)?,
            "splash" => boot.splash = Some(value.to_owned()),
            "splash-time" => match integer(value) {
                Some(ms) => boot.splash_time = Some(ms),
                None => return refuse_late("Parameter 'boot.splash-time' expects integer"),
            },
            "reboot-timeout" => match integer(value) {
                None => return refuse_late("Parameter 'boot.reboot-timeout' expects integer"),
                Some(ms) if (-1..=0xffff).contains(&ms) => boot.reboot_timeout = Some(ms),
                Some(_) => {
                    return refuse_late(
                        "reboot timeout is invalid,it should be a value between -1 and 65535",
                    );
                }
            },
            _ => return refuse_late(format!("Parameter 'boot.{key}' is unexpected")),
        }
    }
    Ok(())
}

/// A number with an optional sign.
fn integer(text: &str) -> Option<i64> {
    let (minus, digits) = text.strip_prefix('-').map_or((false, text), |digits| (true, digits));
    let number = i64::try_from(parse_number("", digits).ok()?).ok()?;
    Some(if minus { -number } else { number })
}

fn boot_switch(key: &str, value: &str) -> Result<bool, Stop> {
    parse_bool(key, value).map_err(|error| Stop::Late(error.0))
}

fn check_boot_order(order: &str) -> Result<(), Stop> {
    let mut seen = String::new();
    for drive in order.chars() {
        if !('a'..='p').contains(&drive) {
            return refuse_late(format!("Invalid boot device '{drive}'"));
        }
        if seen.contains(drive) {
            return refuse_late(format!("Boot device '{drive}' was given twice"));
        }
        seen.push(drive);
    }
    Ok(())
}

pub(crate) fn audiodev(_builder: &mut Builder<'_>, raw: &Raw<'_>) -> Result<(), Stop> {
    let opts = Opts::parse(raw.value, Some("driver"));
    match opts.get("driver") {
        None if opts.get("id").is_none() => refuse("Parameter 'id' is missing"),
        None => refuse("Parameter 'driver' is missing"),
        Some("help" | "?") => Err(Stop::Text("Available audio drivers:\n".to_owned(), 0)),
        Some(kind) if !kind.starts_with('{') && opts.get("id").is_none() => {
            refuse("Parameter 'id' is missing")
        }
        Some(
            "none" | "alsa" | "coreaudio" | "dbus" | "dsound" | "jack" | "oss" | "pa" | "pipewire" | "sdl"
            | "sndio" | "spice" | "wav",
        ) => refuse("this option is not supported by this build"),
        Some(other) if !other.starts_with('{') => {
            refuse(format!("Parameter 'driver' does not accept value '{other}'"))
        }
        Some(_) => refuse("this option is not supported by this build"),
    }
}

const NETDEVS: &[&str] = &[
    "af-xdp",
    "bridge",
    "dgram",
    "hubport",
    "l2tpv3",
    "netmap",
    "socket",
    "stream",
    "tap",
    "user",
    "vde",
    "vhost-user",
    "vhost-vdpa",
    "vmnet-bridged",
    "vmnet-host",
    "vmnet-shared",
];

pub(crate) fn netdev(_builder: &mut Builder<'_>, raw: &Raw<'_>) -> Result<(), Stop> {
    let opts = Opts::parse(raw.value, Some("type"));
    if let Some(id) = opts.get("id") {
        crate::items::check_id(id)?;
    }
    match opts.get("type") {
        None if opts.get("id").is_none() => refuse("Parameter 'id' is missing"),
        None => refuse("Parameter 'type' is missing"),
        Some("help" | "?") => Err(Stop::Text("Available netdev backend types:\n".to_owned(), 0)),
        Some(kind) if !kind.starts_with('{') && opts.get("id").is_none() => {
            refuse("Parameter 'id' is missing")
        }
        Some(kind) if NETDEVS.contains(&kind) || kind.starts_with('{') => {
            refuse("this option is not supported by this build")
        }
        Some(kind) => refuse(format!("Parameter 'type' does not accept value '{kind}'")),
    }
}

pub(crate) fn nic(builder: &mut Builder<'_>, raw: &Raw<'_>) -> Result<(), Stop> {
    let kind = raw.value.split(',').next().unwrap_or_default();
    match kind {
        "none" if raw.value == "none" => {
            builder.plan.no_nic = true;
            Ok(())
        }
        _ if NETDEVS.contains(&kind) || matches!(kind, "nic" | "none") => {
            refuse(format!("'{kind}' is not supported by this build"))
        }
        _ => refuse(format!("Parameter 'type' does not accept value '{kind}'")),
    }
}

pub(crate) fn display(builder: &mut Builder<'_>, raw: &Raw<'_>) -> Result<(), Stop> {
    let opts = Opts::parse(raw.value, Some("type"));
    builder.display_given = true;
    match opts.get("type") {
        Some("help" | "?") => Err(Stop::Text("Available display backend types:\nnone\n".to_owned(), 0)),
        Some("none") => match opts.iter().find(|(key, _)| *key != "type") {
            Some((key, _)) => refuse(format!("Parameter '{key}' is unexpected")),
            None => Ok(()),
        },
        Some(
            kind @ ("sdl" | "gtk" | "vnc" | "curses" | "cocoa" | "egl-headless" | "dbus" | "spice-app"
            | "default"),
        ) => refuse(format!("display '{kind}' is not supported by this build")),
        Some(kind) => refuse(format!("Parameter 'type' does not accept value '{kind}'")),
        None => refuse("Parameter 'type' is missing"),
    }
}

pub(crate) fn nographic(builder: &mut Builder<'_>, _raw: &Raw<'_>) -> Result<(), Stop> {
    builder.plan.nographic = true;
    builder.display_given = true;
    Ok(())
}

pub(crate) fn vga(builder: &mut Builder<'_>, raw: &Raw<'_>) -> Result<(), Stop> {
    match raw.value {
        "none" => {
            builder.plan.no_vga = true;
            Ok(())
        }
        "help" | "?" => Err(Stop::Text(format!("{:<20} no graphic card\n", "none"), 0)),
        "std" | "cirrus" | "vmware" | "qxl" | "xenfb" | "tcx" | "cg3" | "virtio" => {
            refuse(format!("display adapter '{}' is not supported by this build", raw.value))
        }
        other => refuse_late(format!("unknown vga type: {other}")),
    }
}

pub(crate) fn bios(builder: &mut Builder<'_>, raw: &Raw<'_>) -> Result<(), Stop> {
    builder.plan.bios = Some(raw.value.to_owned());
    Ok(())
}

pub(crate) fn kernel(builder: &mut Builder<'_>, raw: &Raw<'_>) -> Result<(), Stop> {
    let slot = match raw.name {
        "kernel" => &mut builder.plan.kernel,
        "initrd" => &mut builder.plan.initrd,
        _ => &mut builder.plan.append,
    };
    *slot = Some(raw.value.to_owned());
    Ok(())
}

pub(crate) fn fw_cfg(builder: &mut Builder<'_>, raw: &Raw<'_>) -> Result<(), Stop> {
    let opts = Opts::parse(raw.value, Some("name"));
    warn_short_form(&opts);
    opts.check(&["name", "file", "string", "gen_id"])?;
    let data = match (opts.get("file"), opts.get("string"), opts.get("gen_id")) {
        (Some(file), None, None) => FwCfgData::File(file.to_owned()),
        (None, Some(text), None) => FwCfgData::Text(text.to_owned()),
        (None, None, Some(_)) => return refuse("'gen_id' is not supported by this build"),
        _ => return refuse("name, plus exactly one of file, string and gen_id, are needed"),
    };
    let name = match opts.get("name") {
        Some(name) if !name.is_empty() => name,
        _ => return refuse("name, plus exactly one of file, string and gen_id, are needed"),
    };
    if name.len() > 55 {
        return refuse("name too long (max. 55 char)");
    }
    if !name.starts_with("opt/") {
        report::warn_report!("externally provided fw_cfg item names should be prefixed with \"opt/\"");
    }
    if builder.plan.fw_cfg.iter().any(|file| file.name == name) {
        return refuse(format!("duplicate fw_cfg file name: {name}"));
    }
    builder.plan.fw_cfg.push(FwCfg { location: raw.location.clone(), name: name.to_owned(), data });
    Ok(())
}

pub(crate) fn pidfile(builder: &mut Builder<'_>, raw: &Raw<'_>) -> Result<(), Stop> {
    builder.plan.pidfile = Some(raw.value.to_owned());
    Ok(())
}

pub(crate) fn log_items(builder: &mut Builder<'_>, raw: &Raw<'_>) -> Result<(), Stop> {
    if matches!(raw.value, "help" | "?") {
        return Err(Stop::Text(report::log::help(), 0));
    }
    match report::log::items(raw.value) {
        Ok(mask) => builder.plan.log.items = mask,
        Err(error @ ItemsError::Unbuilt(_)) => return refuse(error.to_string()),
        Err(error) => {
            report::error_report!("{error}");
            return Err(Stop::Text(report::log::help(), 1));
        }
    }
    Ok(())
}

pub(crate) fn log_ranges(builder: &mut Builder<'_>, raw: &Raw<'_>) -> Result<(), Stop> {
    match report::log::ranges(raw.value) {
        Ok(ranges) => builder.plan.log.ranges.get_or_insert_default().extend(ranges),
        Err(error) => return refuse(error.to_string()),
    }
    Ok(())
}

pub(crate) fn log_file(builder: &mut Builder<'_>, raw: &Raw<'_>) -> Result<(), Stop> {
    match report::log::file_name(raw.value) {
        Ok(_) => builder.plan.log.file = Some(raw.value.to_owned()),
        Err(error) => return refuse_late(error.to_string()),
    }
    Ok(())
}

pub(crate) fn data_dir(builder: &mut Builder<'_>, raw: &Raw<'_>) -> Result<(), Stop> {
    if matches!(raw.value, "help" | "?") {
        let own = builder.plan.data_dirs.iter().map(|dir| dir.display().to_string());
        let all = own.chain(DATA_DIRS.map(str::to_owned));
        let text: String = all.map(|dir| format!("{dir}\n")).collect();
        return Err(Stop::Text(text, 0));
    }
    builder.plan.data_dirs.push(raw.value.into());
    Ok(())
}

pub(crate) fn action(builder: &mut Builder<'_>, raw: &Raw<'_>) -> Result<(), Stop> {
    let opts = Opts::parse(raw.value, None);
    if opts.wants_help() {
        let keys = ["panic", "reboot", "shutdown", "watchdog"].map(|key| format!("  {key}=<str>\n"));
        return Err(Stop::Text(format!("action options:\n{}", keys.concat()), 1));
    }
    warn_short_form(&opts);
    opts.check(&["reboot", "shutdown", "panic", "watchdog"])?;
    let actions = &mut builder.plan.actions;
    for (key, value) in opts.iter() {
        match (key, value) {
            ("reboot", "reset") => actions.reboot = OnReboot::Reset,
            ("reboot", "shutdown") => actions.reboot = OnReboot::Shutdown,
            ("shutdown", "poweroff") => actions.shutdown = OnShutdown::Poweroff,
            ("shutdown", "pause") => actions.shutdown = OnShutdown::Pause,
            ("panic", "pause") => actions.panic = OnPanic::Pause,
            ("panic", "shutdown") => actions.panic = OnPanic::Shutdown,
            ("panic", "exit-failure") => actions.panic = OnPanic::ExitFailure,
            ("panic", "none") => actions.panic = OnPanic::None,
            ("watchdog", _) => set_watchdog(actions, value)?,
            _ => return refuse(format!("Parameter '{key}' does not accept value '{value}'")),
        }
    }
    Ok(())
}

fn set_watchdog(actions: &mut Actions, value: &str) -> Result<(), Stop> {
    match OnWatchdog::of(value) {
        Some(action) => actions.watchdog = action,
        None => return refuse(format!("Parameter 'watchdog' does not accept value '{value}'")),
    }
    Ok(())
}

pub(crate) fn watchdog_action(builder: &mut Builder<'_>, raw: &Raw<'_>) -> Result<(), Stop> {
    set_watchdog(&mut builder.plan.actions, raw.value)
}

pub(crate) fn rtc(builder: &mut Builder<'_>, raw: &Raw<'_>) -> Result<(), Stop> {
    let opts = Opts::parse(raw.value, None);
    if opts.wants_help() {
        return Err(Stop::Text(
            "rtc options:\n  base=<str>\n  clock=<str>\n  driftfix=<str>\n".to_owned(),
            1,
        ));
    }
    warn_short_form(&opts);
    opts.check(&["base", "clock", "driftfix"])?;
    let rtc = &mut builder.plan.rtc;
    match opts.get("base") {
        None => {}
        Some("utc") => rtc.base = RtcBase::Utc,
        Some("localtime") => rtc.base = RtcBase::LocalTime,
        Some(date) => match parse_date(date) {
            Some(seconds) => rtc.base = RtcBase::At(seconds),
            None => {
                return refuse_late(
                    "invalid datetime format\nvalid formats: '2006-06-17T16:01:21' or '2006-06-17'",
                );
            }
        },
    }
    match opts.get("clock") {
        None => {}
        Some("host") => rtc.clock = RtcClock::Host,
        Some("rt") => rtc.clock = RtcClock::Rt,
        Some("vm") => rtc.clock = RtcClock::Vm,
        Some(other) => return refuse_late(format!("invalid option value '{other}'")),
    }
    match opts.get("driftfix") {
        None => {}
        Some("none") => rtc.slew = false,
        Some("slew") => rtc.slew = true,
        Some(other) => return refuse_late(format!("invalid option value '{other}'")),
    }
    Ok(())
}

/// `2006-06-17T16:01:21` or `2006-06-17` in UTC, as seconds since 1970.
fn parse_date(text: &str) -> Option<i64> {
    let (date, time) = text.split_once('T').unwrap_or((text, "0:0:0"));
    let numbers = |text: &str, separator: char| -> Option<Vec<i64>> {
        let parts: Option<Vec<i64>> = text
            .split(separator)
            .map(|part| {
                part.parse().ok().filter(|_| part.len() <= 4 && part.bytes().all(|b| b.is_ascii_digit()))
            })
            .collect();
        parts.filter(|parts| parts.len() == 3)
    };
    let (date, time) = (numbers(date, '-')?, numbers(time, ':')?);
    let (year, month, day) = (date[0], date[1], date[2]);
    if !(1..=12).contains(&month) || !(1..=31).contains(&day) || time[0] > 23 || time[1] > 59 || time[2] > 60
    {
        return None;
    }
    // Days from the civil calendar: years start in March, so that a leap day is a year's last.
    let shifted = if month <= 2 { year - 1 } else { year };
    let era = shifted.div_euclid(400);
    let year_of_era = shifted.rem_euclid(400);
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    let days =
        era * 146_097 + year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year - 719_468;
    Some(days * 86_400 + time[0] * 3600 + time[1] * 60 + time[2])
}

pub(crate) fn echr(_builder: &mut Builder<'_>, raw: &Raw<'_>) -> Result<(), Stop> {
    match parse_number("echr", raw.value).ok().and_then(|code| u8::try_from(code).ok()) {
        Some(code) => {
            chardev::Chardevs::set_escape(code);
            Ok(())
        }
        None => refuse("Bad argument to echr"),
    }
}

pub(crate) fn msg(builder: &mut Builder<'_>, raw: &Raw<'_>) -> Result<(), Stop> {
    let opts = Opts::parse(raw.value, None);
    warn_short_form(&opts);
    opts.check(&["timestamp", "guest-name"])?;
    if let Some(value) = opts.get("timestamp") {
        report::set_timestamp(parse_bool("timestamp", value)?);
    }
    if let Some(value) = opts.get("guest-name")
        && parse_bool("guest-name", value)?
    {
        builder.infos.push(Info::GuestName);
    }
    Ok(())
}

impl Builder<'_> {
    /// The names that messages carry.
    pub(crate) fn finish_log(&mut self) {
        if self.infos.iter().any(|info| matches!(info, Info::GuestName)) {
            report::set_guest_name(self.plan.name.guest.clone());
            self.infos.retain(|info| !matches!(info, Info::GuestName));
        }
    }
}
