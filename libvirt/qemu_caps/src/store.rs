//! Capabilities for everybody: from memory, from disk, or by asking, one run at a time.

use crate::probe::{Error, Settings, probe};
use crate::{QemuCaps, Stamp, cache_name, format, parse};
use parking_lot::{Condvar, Mutex};
use std::collections::{HashMap, HashSet};
use std::io::Write as _;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// For how long a binary that could not be asked is not asked again unless it changed.
const FAILURE_HOLDS: Duration = Duration::from_secs(10);

#[derive(Default)]
struct State {
    known: HashMap<PathBuf, Arc<QemuCaps>>,
    failed: HashMap<PathBuf, (Instant, i64, Error)>,
    /// The binaries that somebody looks at now.
    busy: HashSet<PathBuf>,
}

/// The capabilities of all binaries.
pub struct Store {
    settings: Settings,
    /// Where the answers are kept: `.../capabilities`.
    directory: PathBuf,
    state: Mutex<State>,
    changed: Condvar,
}

impl Store {
    /// A store whose files are in `directory`.
    pub fn new(directory: PathBuf, settings: Settings) -> Self {
        Self { settings, directory, state: Mutex::default(), changed: Condvar::new() }
    }

    /// The capabilities of `binary`. Whoever asks while another caller finds them out waits for those; what failed is
    /// not tried again at once.
    ///
    /// # Errors
    /// The binary cannot be asked.
    pub fn get(&self, binary: &Path) -> Result<Arc<QemuCaps>, Error> {
        let now = Stamp::now(binary).ok_or_else(|| Error::Missing(binary.to_owned()))?;
        let mut state = self.state.lock();
        loop {
            if let Some(caps) = state.known.get(binary).filter(|caps| caps.stamp == now) {
                return Ok(caps.clone());
            }
            if let Some((at, changed, error)) = state.failed.get(binary)
                && *changed == now.binary
                && at.elapsed() < FAILURE_HOLDS
            {
                return Err(error.clone());
            }
            if state.busy.insert(binary.to_owned()) {
                break;
            }
            self.changed.wait(&mut state);
        }
        drop(state);
        let found = match self.load(binary, &now) {
            Some(caps) => Ok(caps),
            None => probe(binary, &self.settings).inspect(|caps| self.save(caps)),
        };
        let mut state = self.state.lock();
        state.busy.remove(binary);
        self.changed.notify_all();
        match found {
            Ok(caps) => {
                let caps = Arc::new(caps);
                state.failed.remove(binary);
                state.known.insert(binary.to_owned(), caps.clone());
                Ok(caps)
            }
            Err(error) => {
                state.failed.insert(binary.to_owned(), (Instant::now(), now.binary, error.clone()));
                Err(error)
            }
        }
    }

    fn file(&self, binary: &Path) -> PathBuf {
        self.directory.join(cache_name(binary))
    }

    fn load(&self, binary: &Path, now: &Stamp) -> Option<QemuCaps> {
        let text = std::fs::read_to_string(self.file(binary)).ok()?;
        let caps = parse(&text).ok()?;
        (caps.binary == binary && caps.stamp == *now).then_some(caps)
    }

    /// A cache that cannot be written is only slow.
    fn save(&self, caps: &QemuCaps) {
        let path = self.file(&caps.binary);
        let new = path.with_extension(format!("new-{}", std::process::id()));
        let written = || {
            std::fs::DirBuilder::new().recursive(true).mode(0o755).create(&self.directory)?;
            let mut file =
                std::fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&new)?;
            file.write_all(format(caps).as_bytes())?;
            std::fs::rename(&new, &path)
        };
        if written().is_err() {
            let _ = std::fs::remove_file(&new);
        }
    }
}
