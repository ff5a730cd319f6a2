//! The table of character devices.

use crate::backends;
use crate::core::{Backend, Core, Device};
use crate::frontend::{CharFrontend, Port};
use crate::mux::{self, Mux};
use crate::ringbuf::RingBuf;
use crate::socket;
use crate::spec::{Kind, Spec, SpecError};
use eventloop::LoopHandle;
use parking_lot::Mutex;
use qdev::{DeviceError, Links};
use std::collections::BTreeMap;
use std::fs::OpenOptions;
use std::sync::Arc;
use std::sync::atomic::Ordering;

struct Entry {
    device: Arc<Device>,
    mux: Option<Arc<Mux>>,
    taken: bool,
}

/// One row of `info chardev`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Info {
    /// The id.
    pub label: String,
    /// What is behind it, in one line.
    pub description: String,
}

/// All character devices of a machine by id.
pub struct Chardevs {
    handle: LoopHandle,
    on_quit: Arc<dyn Fn() + Send + Sync>,
    entries: Mutex<BTreeMap<String, Entry>>,
}

impl Chardevs {
    /// An empty table whose devices run on `handle`'s loop; `on_quit` is the multiplexer's "exit emulator" key.
    pub fn new(handle: LoopHandle, on_quit: impl Fn() + Send + Sync + 'static) -> Self {
        Self { handle, on_quit: Arc::new(on_quit), entries: Mutex::default() }
    }

    /// Sets the multiplexers' escape key (`-echr`).
    pub fn set_escape(key: u8) {
        mux::ESCAPE.store(key, Ordering::Relaxed);
    }

    /// Makes a character device.
    ///
    /// # Errors
    /// The id is taken, or the back end cannot be opened; the text is QEMU's.
    pub fn create(&self, spec: &Spec) -> Result<(), SpecError> {
        if self.entries.lock().contains_key(&spec.id) {
            return Err(SpecError(format!("Duplicate ID '{}' for chardev", spec.id)));
        }
        let log = match &spec.logfile {
            Some(path) => {
                let mut options = OpenOptions::new();
                options.create(true).write(true);
                if spec.logappend {
                    options.append(true);
                } else {
                    options.truncate(true);
                }
                let open = options.open(path);
                Some(open.map_err(|error| {
                    SpecError(format!("Could not create '{path}': {}", backends::reason(&error)))
                })?)
            }
            None => None,
        };
        let core = Core::new(&spec.id, self.handle.clone(), "", log);
        let mut open = true;
        let mut description = String::new();
        let backend: Box<dyn Backend> = match &spec.kind {
            Kind::Null => {
                description.push_str("null");
                Box::new(backends::Null { handle: self.handle.clone() })
            }
            Kind::VirtualConsole => {
                description.push_str("vc");
                Box::new(backends::Null { handle: self.handle.clone() })
            }
            Kind::Stdio { signal } => {
                description.push_str("stdio");
                Box::new(backends::stdio(&core, *signal)?)
            }
            Kind::File { path, input, append } => {
                description.push_str("file");
                Box::new(backends::file(&core, path, input.as_deref(), *append)?)
            }
            Kind::Pipe { path } => {
                description.push_str("pipe");
                Box::new(backends::pipe(&core, path)?)
            }
            Kind::RingBuf { size } => {
                if !size.is_power_of_two() {
                    return Err(SpecError("size of ringbuf chardev must be power of two".to_owned()));
                }
                description.push_str("ringbuf");
                Box::new(RingBuf { handle: self.handle.clone(), size: *size, bytes: Mutex::default() })
            }
            Kind::Pty => {
                let (pty, path) = backends::pty(&core)?;
                // Tools read this line from standard output to find the terminal.
                println!("char device redirected to {path} (label {})", spec.id);
                description = format!("pty:{path}");
                open = false;
                Box::new(pty)
            }
            Kind::Socket(socket) => {
                open = false;
                Box::new(socket::open(&core, socket)?)
            }
        };
        if !description.is_empty() {
            core.set_description(description);
        }
        if open {
            core.set_open(true);
        }
        let device = Arc::new(Device { core, backend });
        let mux = spec.mux.then(|| {
            let below = CharFrontend::new(device.clone());
            Mux::new(below, self.handle.clone(), self.on_quit.clone())
        });
        self.entries.lock().insert(spec.id.clone(), Entry { device, mux, taken: false });
        Ok(())
    }

    /// The program ends: removes the sockets that were bound to paths.
    pub fn finish(&self) {
        for entry in self.entries.lock().values() {
            entry.device.backend.finish();
        }
    }

    /// Whether a device of this id exists.
    pub fn contains(&self, id: &str) -> bool {
        self.entries.lock().contains_key(id)
    }

    /// The front end of device `id`, for one user (a multiplexer has several places).
    ///
    /// # Errors
    /// There is no such device (`None` in the text's place is the caller's matter), or it is in use.
    pub fn claim(&self, id: &str) -> Result<CharFrontend, SpecError> {
        let mut entries = self.entries.lock();
        let entry = entries.get_mut(id).ok_or_else(|| SpecError(format!("Chardev '{id}' not found")))?;
        let in_use = || SpecError(format!("Device '{id}' is in use"));
        match &entry.mux {
            Some(mux) => mux.attach().ok_or_else(in_use),
            None if std::mem::replace(&mut entry.taken, true) => Err(in_use()),
            None => {
                let port: Arc<dyn Port> = entry.device.clone();
                Ok(CharFrontend::new(port))
            }
        }
    }

    /// The name under which the table stands among a machine's links.
    pub const LINK: &'static str = "chardevs";

    /// The front end that property `chardev` of a device type `owner` names; `None` for an empty value.
    ///
    /// # Errors
    /// There is no such character device, or it is in use: QEMU's texts.
    pub fn link(links: &Links, owner: &str, id: &str) -> Result<Option<CharFrontend>, DeviceError> {
        if id.is_empty() {
            return Ok(None);
        }
        let table = links.get::<Self>(Self::LINK);
        let Some(table) = table.filter(|table| table.contains(id)) else {
            return Err(DeviceError::new(format!("Property '{owner}.chardev' can't find value '{id}'")));
        };
        match table.claim(id) {
            Ok(front) => Ok(Some(front)),
            Err(error) => {
                Err(DeviceError::new(format!("Property '{owner}.chardev' can't take value '{id}': {error}")))
            }
        }
    }

    /// The rows of `info chardev`.
    pub fn info(&self) -> Vec<Info> {
        let entries = self.entries.lock();
        let mut rows = Vec::new();
        for (id, entry) in &*entries {
            let description = entry.device.core.description();
            if entry.mux.is_some() {
                rows.push(Info { label: format!("{id}-base"), description });
                rows.push(Info { label: id.clone(), description: "mux".to_owned() });
            } else {
                rows.push(Info { label: id.clone(), description });
            }
        }
        rows
    }

    /// Takes up to `max` bytes out of a ring buffer.
    ///
    /// # Errors
    /// There is no such device, or it is no ring buffer.
    pub fn read_ringbuf(&self, id: &str, max: usize) -> Result<Vec<u8>, SpecError> {
        let entries = self.entries.lock();
        let entry = entries.get(id).ok_or_else(|| SpecError(format!("Device '{id}' not found")))?;
        let ring = entry
            .device
            .backend
            .ringbuf()
            .ok_or_else(|| SpecError(format!("{id} is not a ringbuf device")))?;
        Ok(ring.read(max))
    }
}
