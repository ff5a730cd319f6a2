//! Saved states of guests: the file that libvirt and we write, how a guest gets into one and out again.
//!
//! The file begins with a header of 92 bytes in the host's byte order: 16 bytes that say whether it is complete, the
//! version (2), the length of the data behind it, whether the guest ran, how the stream is compressed (0: not), where
//! in the data the cookie is (0: nowhere), and 14 reserved words. Then the data: the definition as XML, ended by a
//! zero, and room to edit it. The emulator's migration stream follows.

use crate::core::Core;
use crate::definition::Form;
use crate::error::{Result, error, failed, internal, monitor, not_running, system};
use crate::guest::{Guest, MOST_BANDWIDTH};
use crate::process::compression::Compression;
use crate::process::direct::{self, Output};
use crate::process::{Progress, Restore, StartOptions, Work};
use crate::state::{Paused, Running, Shutoff, State};
use domain_xml::Domain as Definition;
use json::{Dict, Value, dict};
use qmp::Monitor;
use rpc::protocol::events::DomainEventCallbackJobCompletedMsg;
use rpc::{Code, DomainEvent};
use std::fs::{File, OpenOptions};
use std::io::{Read as _, Seek as _, SeekFrom};
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

const COMPLETE: &[u8; 16] = b"LibvirtQemudSave";
const PARTIAL: &[u8; 16] = b"LibvirtQemudPart";
const VERSION: u32 = 2;
const HEADER: usize = 92;
/// Where in the header it says whether the guest ran.
const WAS_RUNNING: u64 = 24;
/// Room for edits behind the definition.
const ROOM: usize = 64 << 10;
/// Most data that is read.
const MAX_DATA: u32 = 64 << 20;
/// How long what the emulator reported before its state was written may take to get to clients.
const SETTLING: Duration = Duration::from_secs(1);

/// What a file of a saved state tells.
pub struct Image {
    /// The definition.
    pub xml: String,
    /// The guest ran when it was saved.
    pub was_running: bool,
    file: File,
    path: PathBuf,
    data: usize,
    compression: Compression,
}

/// How a guest's state is saved.
#[derive(Clone, Debug, Default)]
pub struct SaveOptions {
    /// What the guest is to do when it goes on, if not what it does now.
    pub running: Option<bool>,
    /// The host's memory keeps nothing of the file.
    pub bypass_cache: bool,
    /// How it is compressed.
    pub compression: Compression,
    /// The definition that is kept with the state, if not the guest's own.
    pub definition: Option<Definition>,
}

impl Image {
    /// Opens a file.
    ///
    /// # Errors
    /// It is none, or not complete.
    pub fn open(path: &Path, write: bool) -> Result<Self> {
        let shown = path.display();
        let opened = OpenOptions::new().read(true).write(write).open(path);
        let mut file = opened.map_err(|error| system(&error, &format!("Failed to open file '{shown}'")))?;
        let mut header = [0; HEADER];
        file.read_exact(&mut header).map_err(|_| failed("failed to read qemu header"))?;
        let word =
            |at: usize| u32::from_ne_bytes([header[at], header[at + 1], header[at + 2], header[at + 3]]);
        if header.starts_with(PARTIAL) {
            return Err(failed("save image is incomplete"));
        }
        if !header.starts_with(COMPLETE) {
            return Err(failed("image magic is incorrect"));
        }
        let (version, length, was_running, compression) = (word(16), word(20), word(24), word(28));
        if version > VERSION {
            return Err(failed(format!("image version is not supported ({version} > {VERSION})")));
        }
        if length == 0 || length > MAX_DATA {
            return Err(failed(format!("invalid header data length: {length}")));
        }
        let compression = Compression::from_number(compression)?;
        let mut data = vec![0; length as usize];
        file.read_exact(&mut data).map_err(|_| failed("failed to read domain XML"))?;
        let end = data.iter().position(|byte| *byte == 0).unwrap_or(data.len());
        let xml = String::from_utf8(data[..end].to_vec()).map_err(|_| failed("failed to read domain XML"))?;
        let (was_running, path, data) = (was_running != 0, path.to_owned(), length as usize);
        Ok(Self { xml, was_running, file, path, data, compression })
    }

    /// Whether the file is the beginning of a saved state that was not completed, or empty.
    pub fn is_partial(path: &Path) -> bool {
        let mut head = Vec::new();
        let read = File::open(path).and_then(|file| file.take(PARTIAL.len() as u64).read_to_end(&mut head));
        read.is_ok() && (head.is_empty() || head == PARTIAL)
    }

    /// Puts another definition in place of the one in the file; `running`: what the guest is to do when it goes on, if
    /// that changes too.
    ///
    /// # Errors
    /// There is no room for it, or the file cannot be written.
    pub fn replace(&self, xml: &str, running: Option<bool>) -> Result<()> {
        if xml.len() >= self.data {
            return Err(internal("new xml too large to fit in file"));
        }
        let mut data = xml.as_bytes().to_vec();
        data.resize(self.data, 0);
        let flag = running.map(|running| u32::from(running).to_ne_bytes());
        self.file
            .write_all_at(&data, HEADER as u64)
            .and_then(|()| flag.map_or(Ok(()), |flag| self.file.write_all_at(&flag, WAS_RUNNING)))
            .map_err(|error| {
                system(
                    &error,
                    &format!("failed to write header to domain save file '{}'", self.path.display()),
                )
            })
    }

    /// What the emulator reads its state from.
    fn stream(mut self, bypass_cache: bool) -> Result<OwnedFd> {
        let offset = (HEADER + self.data) as u64;
        let opened = match bypass_cache {
            true => direct::read(&self.path, offset),
            false => self.file.seek(SeekFrom::Start(offset)).map(|_| self.file.into()),
        };
        opened
            .and_then(|stream| self.compression.decompressed(stream))
            .map_err(|error| system(&error, &format!("Failed to open file '{}'", self.path.display())))
    }
}

fn head(magic: &[u8; 16], data: usize, was_running: bool, compression: Compression) -> Vec<u8> {
    let mut bytes = magic.to_vec();
    for word in [VERSION, data as u32, u32::from(was_running), compression as u32, 0] {
        bytes.extend_from_slice(&word.to_ne_bytes());
    }
    bytes.resize(HEADER, 0);
    bytes
}

/// Waits until the migration that is under way has ended.
pub(super) fn await_migration(qemu: &Monitor, what: &str) -> Result<Value> {
    let mut pause = Duration::from_millis(2);
    loop {
        let reply = qemu.execute("query-migrate", Dict::default());
        let reply = reply.map_err(|error| monitor(error, "query-migrate"))?;
        match reply.get("status").and_then(Value::as_str) {
            Some("completed") => {
                // Clients hear of its passes before they hear of its end.
                qemu.settle(SETTLING);
                return Ok(reply);
            }
            Some("failed") => {
                let why = reply.get("error-desc").and_then(Value::as_str).map(|why| format!(": {why}"));
                return Err(failed(format!("{what}: unexpectedly failed{}", why.unwrap_or_default())));
            }
            Some("cancelled") => {
                return Err(error(Code::OperationAborted, format!("{what}: canceled by client")));
            }
            _ => {}
        }
        std::thread::sleep(pause);
        pause = (pause * 2).min(Duration::from_millis(50));
    }
}

impl Core {
    /// Has the emulator write its state, which is the work that is under way; `stopped`: since when the guest is, for
    /// it. Clients are told when that is done.
    pub(super) fn migrate_to(&self, guest: &Guest, output: &Output, stopped: Option<Instant>) -> Result<()> {
        let qemu = guest.monitor()?;
        let ask = |command: &str, arguments: Dict| {
            qemu.execute(command, arguments).map_err(|error| monitor(error, command))
        };
        let allow = |most: u64| ask("migrate-set-parameters", dict! { "max-bandwidth" => most << 20 });
        let (work, since) = guest.lock().live.as_ref().and_then(|live| live.work).ok_or_else(not_running)?;
        let what = if work == Work::Save { "domain save job" } else { "domain core dump job" };
        let write = || {
            qemu.execute_with_fds("getfd", dict! { "fdname" => "migrate" }, &[output.descriptor()])
                .map_err(|error| monitor(error, "getfd"))?;
            ask("migrate", dict! { "uri" => "fd:migrate", "detach" => true })?;
            await_migration(&qemu, what)
        };
        allow(MOST_BANDWIDTH)?;
        let written = write().map(|told| {
            let progress = Progress::ended(work, since, stopped, told);
            let (dom, params) = (guest.reference(), progress.params());
            *guest.completed.lock() = Some(Box::new(progress));
            let event = DomainEventCallbackJobCompletedMsg { callback_id: 0, dom, params };
            self.event(DomainEvent::JobCompleted(event));
        });
        let allowed = guest.migration_bandwidth.load(Ordering::Relaxed);
        if allowed != MOST_BANDWIDTH {
            // It may have gone meanwhile.
            let _ = allow(allowed);
        }
        written
    }

    /// Saves the guest's state to `path` and ends it. Its job is held by the caller.
    ///
    /// # Errors
    /// It cannot be saved: then it goes on, and the file is gone.
    pub fn save(self: &Arc<Self>, guest: &Arc<Guest>, path: &Path, options: &SaveOptions) -> Result<()> {
        let id = guest.running_id()?;
        let was_running = matches!(guest.lock().state, State::Running(_));
        let begin = Instant::now();
        if was_running {
            self.suspend(guest, Paused::Save)?;
        }
        // What was there before must not be taken for this state.
        if Image::open(path, false).is_ok() {
            let _ = std::fs::remove_file(path);
        }
        guest.with_live(id, |live| {
            live.saving = Some(path.to_owned());
            live.work = Some((Work::Save, begin));
        });
        // Whoever finds this lets the guest go on, or completes its end.
        self.save_status(guest);
        let saved = self.write_image(guest, id, path, was_running, options);
        if let Err(error) = saved {
            let _ = std::fs::remove_file(path);
            guest.with_live(id, |live| (live.saving, live.work) = (None, None));
            if was_running {
                let _ = self.resume(guest, Running::SaveCanceled);
            }
            self.save_status(guest);
            return Err(error);
        }
        self.end_process(guest, id);
        self.clean_up(guest, id, Shutoff::Saved, Some(Shutoff::Saved.stopped_detail()));
        Ok(())
    }

    fn write_image(
        &self,
        guest: &Arc<Guest>,
        id: i32,
        path: &Path,
        was_running: bool,
        options: &SaveOptions,
    ) -> Result<()> {
        let stopped = was_running.then(Instant::now);
        let own = guest.with_live(id, |live| live.portable()).ok_or_else(not_running)?;
        if let Some(other) = &options.definition {
            self.check_abi(&own, other, true)?;
        }
        let definition = options.definition.as_ref().unwrap_or(&own);
        let mut data = self.format(definition, Form::SAVED).into_bytes();
        data.push(0);
        data.resize(data.len() + ROOM, 0);
        let shown = path.display();
        let opened = Output::create(path, options.bypass_cache);
        let mut output =
            opened.map_err(|error| system(&error, &format!("Failed to create file '{shown}'")))?;
        let unwritten = |error: std::io::Error| {
            system(&error, &format!("failed to write header to domain save file '{shown}'"))
        };
        let running = options.running.unwrap_or(was_running);
        let header = head(PARTIAL, data.len(), running, options.compression);
        output.write_all(&header).and_then(|()| output.write_all(&data)).map_err(unwritten)?;
        output
            .compress(options.compression)
            .map_err(|error| system(&error, "cannot start the compressing program"))?;
        if let Err(error) = self.migrate_to(guest, &output, stopped) {
            let why = output.failure();
            return Err(why.map_or(error, |why| system(&why, &format!("unable to write to '{shown}'"))));
        }
        let file =
            output.finish().map_err(|error| system(&error, &format!("unable to sync file '{shown}'")))?;
        // Only now it is a saved state.
        file.write_all_at(COMPLETE, 0).and_then(|()| file.sync_all()).map_err(unwritten)
    }

    /// Refuses a definition with which the guest of another one would see something else; `running`: what changes all
    /// the time does not count.
    ///
    /// # Errors
    /// Names what differs.
    pub fn check_abi(&self, old: &Definition, new: &Definition, running: bool) -> Result<()> {
        let seen = |definition: &Definition| {
            let mut definition = definition.clone();
            qemu_domain::inactive::for_migration(&mut definition, &self.domain_settings());
            definition
        };
        qemu_domain::abi::check(&seen(old), &seen(new), running).map_err(|error| crate::error::xml(&error))
    }

    /// Removes the managed save that the guest of that run goes on from.
    pub(super) fn forget_save(&self, guest: &Guest, id: i32) {
        if let Some(path) = guest.with_live(id, |live| live.restored_from.clone()).flatten()
            && crate::files::remove(&path).is_ok()
        {
            guest.with_live(id, |live| live.restored_from = None);
            self.save_status(guest);
        }
    }

    /// Starts a guest from a saved state; `used_up`: the path of a file that is removed then. Its job is held by the
    /// caller.
    ///
    /// # Errors
    /// The guest cannot be started, or not from this state.
    pub fn restore(
        self: &Arc<Self>,
        guest: &Arc<Guest>,
        image: Image,
        definition: Definition,
        options: &StartOptions,
        running: Option<bool>,
        used_up: Option<&Path>,
    ) -> Result<()> {
        let paused = !running.unwrap_or(image.was_running);
        let stream = image.stream(options.bypass_cache)?;
        let restore = Arc::new(Restore { stream, used_up: used_up.map(Path::to_owned) });
        let options =
            StartOptions { paused: paused || options.paused, restore: Some(restore), ..options.clone() };
        self.start(guest, Arc::new(definition), &options)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers() {
        let path = std::env::temp_dir().join(format!("save-{}", std::process::id()));
        let write = |magic, text: &str| {
            let mut bytes = head(magic, 100, true, Compression::Raw);
            assert_eq!(bytes.len(), HEADER);
            let mut data = text.as_bytes().to_vec();
            data.resize(100, 0);
            bytes.extend(data);
            std::fs::write(&path, bytes).expect("write");
        };
        let refused = || Image::open(&path, false).err().expect("refused").to_string();
        write(PARTIAL, "<domain/>");
        assert_eq!(refused(), "operation failed: save image is incomplete");
        write(b"0123456789abcdef", "");
        assert_eq!(refused(), "operation failed: image magic is incorrect");
        std::fs::write(&path, "short").expect("write");
        assert_eq!(refused(), "operation failed: failed to read qemu header");
        write(COMPLETE, "<domain/>");
        let image = Image::open(&path, true).expect("image");
        assert!(image.was_running && image.xml == "<domain/>");
        image.replace("<domain>x</domain>", Some(false)).expect("room");
        assert!(image.replace(&"x".repeat(100), None).is_err());
        let image = Image::open(&path, false).expect("image");
        assert!(!image.was_running && image.xml == "<domain>x</domain>");
        std::fs::remove_file(&path).expect("remove");
    }
}
