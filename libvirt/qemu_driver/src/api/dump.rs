//! Dumps of guests.

use crate::driver::QemuDriver;
use crate::error::{Result, check_flags, error, failed};
use crate::process::DumpKind;
use crate::state::{Paused, Running, Shutoff, State};
use json::Dict;
use rpc::{Code, Domain};
use std::path::Path;

/// `VIR_DUMP_...`
mod flag {
    pub(super) const CRASH: u32 = 1;
    pub(super) const LIVE: u32 = 2;
    pub(super) const BYPASS_CACHE: u32 = 4;
    pub(super) const RESET: u32 = 8;
    pub(super) const MEMORY_ONLY: u32 = 16;
    pub(super) const ALL: u32 = CRASH | LIVE | BYPASS_CACHE | RESET | MEMORY_ONLY;
}

/// By `virDomainCoreDumpFormat`.
const FORMATS: &[&str] = &["elf", "kdump-zlib", "kdump-lzo", "kdump-snappy", "win-dmp"];

fn kind(format: u32, flags: u32) -> Result<DumpKind> {
    if flags & flag::MEMORY_ONLY != 0 {
        let name = usize::try_from(format).ok().and_then(|format| FORMATS.get(format));
        let unknown = || error(Code::InvalidArg, format!("unknown dumpformat '{format}'"));
        return name.map(|name| DumpKind::Memory(name)).ok_or_else(unknown);
    }
    if format != 0 {
        let detail = "kdump-compressed format is only supported with memory-only dump";
        return Err(error(Code::OperationUnsupported, detail));
    }
    Ok(DumpKind::State)
}

impl QemuDriver {
    /// Writes the guest's memory to a file of the host.
    pub(super) fn core_dump(
        &self,
        dom: &Domain,
        to: &str,
        format: u32,
        flags: u32,
        api: &'static str,
    ) -> Result<()> {
        check_flags(flags, flag::ALL, "qemuDomainCoreDumpWithFormat")?;
        let guest = self.guest(dom)?;
        let _job = guest.jobs.begin(api)?;
        let id = guest.running_id()?;
        let kind = kind(format, flags)?;
        let was_running = matches!(guest.lock().state, State::Running(_));
        if was_running && flags & flag::LIVE == 0 {
            self.core.suspend(&guest, Paused::Dump)?;
        } else if kind == DumpKind::State {
            // The emulator stops at the end of a migration.
            guest.with_live(id, |live| live.paused_because = Some(Paused::Dump));
        }
        let bypass_cache = flags & flag::BYPASS_CACHE != 0;
        let dumped = self.core.dump(&guest, Path::new(to), kind, bypass_cache);
        if dumped.is_ok() && flags & flag::CRASH != 0 {
            self.core.end_process(&guest, id);
            self.core.clean_up(&guest, id, Shutoff::Crashed, Some(Shutoff::Crashed.stopped_detail()));
            return Ok(());
        }
        let reset = match dumped.is_ok() && flags & flag::RESET != 0 {
            true => guest.execute("system_reset", Dict::default()).map(drop),
            false => Ok(()),
        };
        if was_running {
            if dumped.is_ok() && kind == DumpKind::State {
                // The event that says so may not be here yet.
                self.core.set_paused(&guest, id, Paused::Dump);
            }
            let stopped = matches!(guest.lock().state, State::Paused(_));
            if stopped && self.core.resume(&guest, Running::Unpaused).is_err() && dumped.is_ok() {
                return Err(failed("resuming after dump failed"));
            }
        }
        dumped.and(reset)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn formats() {
        assert_eq!(kind(0, 0).expect("state"), DumpKind::State);
        assert_eq!(kind(2, flag::MEMORY_ONLY).expect("memory"), DumpKind::Memory("kdump-lzo"));
        assert!(kind(1, 0).is_err());
        let unknown = kind(9, flag::MEMORY_ONLY).expect_err("refused").to_string();
        assert_eq!(unknown, "invalid argument: unknown dumpformat '9'");
    }
}
