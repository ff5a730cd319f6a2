//! Guests' memory written to files.

use super::compression::Compression;
use super::direct::Output;
use crate::core::{Core, Level};
use crate::error::{Result, error, failed, monitor, system};
use crate::guest::Guest;
use crate::process::Work;
use crate::state::{Paused, State};
use json::{Dict, Value, dict};
use rpc::Code;
use std::os::fd::BorrowedFd;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// What is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DumpKind {
    /// Memory only, in the emulator's format of that name.
    Memory(&'static str),
    /// The state of all devices too, as it is migrated.
    State,
}

impl Core {
    /// Writes the guest's memory to `path`. Its job is held by the caller, who lets it go on if this stopped it.
    ///
    /// # Errors
    /// The file cannot be written, or the emulator refuses; a file that is new is gone then.
    pub fn dump(&self, guest: &Arc<Guest>, path: &Path, kind: DumpKind, bypass_cache: bool) -> Result<()> {
        let new = !path.exists();
        let shown = path.display();
        let opened = Output::create(path, bypass_cache);
        let mut output =
            opened.map_err(|error| system(&error, &format!("Failed to create file '{shown}'")))?;
        let id = guest.running_id()?;
        // A guest that runs is stopped by the emulator, which tells for how long.
        let stopped = matches!(guest.lock().state, State::Paused(Paused::Dump)).then(Instant::now);
        let work = match kind {
            DumpKind::Memory(_) => Work::MemoryDump,
            DumpKind::State => Work::Dump,
        };
        guest.with_live(id, |live| (live.work, live.dump_failure) = (Some((work, Instant::now())), None));
        let written = match kind {
            DumpKind::Memory(format) => dump_memory(guest, output.descriptor(), format),
            DumpKind::State => output
                .compress(self.dump_compression())
                .map_err(|error| system(&error, "cannot start the compressing program"))
                .and_then(|()| self.migrate_to(guest, &output, stopped)),
        };
        let unwritten = |error: std::io::Error| system(&error, &format!("unable to close file {shown}"));
        let written = match written {
            Ok(()) => output.finish().map(drop).map_err(unwritten),
            Err(error) => Err(output.failure().map_or(error, unwritten)),
        };
        guest.with_live(id, |live| live.work = None);
        if written.is_err() && new {
            let _ = std::fs::remove_file(path);
        }
        written
    }

    /// How dumps are compressed: as configured if that can be had, since a dump is wanted all the same.
    fn dump_compression(&self) -> Compression {
        Compression::configured(&self.config.dump_image_format, "dump").unwrap_or_else(|error| {
            let text = error.message.unwrap_or_default();
            self.log(Level::Warning, &format!("{text}, using raw"));
            Compression::Raw
        })
    }

    /// Dumps the guest of that run where dumps are kept that nobody asked for.
    pub(super) fn auto_dump(self: &Arc<Self>, guest: &Arc<Guest>, id: i32, kind: DumpKind) {
        let _job = guest.jobs.begin_surely("automatic dump");
        let name = {
            let inner = guest.lock();
            if inner.id() != id {
                return;
            }
            inner.name.clone()
        };
        let path = self.paths.auto_dump(id, &name, &super::log::local_moment());
        if let Err(error) = self.dump(guest, &path, kind, false) {
            self.log(Level::Error, &format!("Dump of '{name}' to '{}' failed: {error}", path.display()));
        }
    }
}

/// Why the memory could not be dumped: the emulator tells of it a moment after it is known.
fn failure(guest: &Guest) -> String {
    let begin = Instant::now();
    loop {
        let told = guest.lock().live.as_mut().and_then(|live| live.dump_failure.take());
        if let Some(told) = told {
            return format!("memory-only dump failed: {told}");
        }
        if begin.elapsed() > Duration::from_secs(2) {
            return "memory-only dump failed for unknown reason".to_owned();
        }
        std::thread::sleep(Duration::from_millis(10));
    }
}

fn dump_memory(guest: &Guest, to: BorrowedFd<'_>, format: &str) -> Result<()> {
    let qemu = guest.monitor()?;
    let ask = |command: &str, arguments: Dict| {
        qemu.execute(command, arguments).map_err(|error| monitor(error, command))
    };
    if format != "elf" {
        let known = ask("query-dump-guest-memory-capability", Dict::default())?;
        let known = known.get("formats").and_then(Value::as_list).unwrap_or_default();
        if !known.iter().any(|known| known.as_str() == Some(format)) {
            let detail = format!("unsupported dumpformat '{format}' for this QEMU binary");
            return Err(error(Code::InvalidArg, detail));
        }
    }
    qemu.execute_with_fds("getfd", dict! { "fdname" => "dump" }, &[to])
        .map_err(|error| monitor(error, "getfd"))?;
    let mut arguments = dict! { "paging" => false, "protocol" => "fd:dump", "detach" => true };
    if format != "elf" {
        arguments.insert("format", format.into());
    }
    if let Err(error) = ask("dump-guest-memory", arguments) {
        // It has not taken the descriptor.
        let _ = ask("closefd", dict! { "fdname" => "dump" });
        return Err(error);
    }
    let mut pause = Duration::from_millis(2);
    loop {
        let reply = ask("query-dump", Dict::default())?;
        match reply.get("status").and_then(Value::as_str) {
            Some("completed") => return Ok(()),
            Some("failed") => return Err(failed(failure(guest))),
            _ => {}
        }
        std::thread::sleep(pause);
        pause = (pause * 2).min(Duration::from_millis(50));
    }
}
