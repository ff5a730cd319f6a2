//! A socket between libvirt's clients and a daemon, which notes what they say to each other.

use std::io::{Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::sync::{Arc, Mutex};

/// A message that went through.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Passed {
    /// Which of the connections, in the order in which they were made.
    pub connection: usize,
    /// It came from the client.
    pub from_client: bool,
    /// Program, version, procedure, type, serial, status.
    pub header: [u32; 6],
    /// The rest.
    pub payload: Vec<u8>,
}

#[derive(Debug, Default)]
struct State {
    connections: usize,
    open: usize,
    passed: Vec<Passed>,
}

/// The recorder; it lives as long as the test.
#[derive(Debug)]
pub struct Recorder(Arc<Mutex<State>>);

fn locked<T>(state: &Mutex<State>, look: impl FnOnce(&mut State) -> T) -> T {
    look(&mut state.lock().expect("no thread has panicked"))
}

/// Copies messages until one side ends; what cannot be read as one ends the connection.
fn copy(mut from: UnixStream, mut to: UnixStream, mut note: impl FnMut([u32; 6], Vec<u8>)) {
    let mut next = || -> std::io::Result<()> {
        let mut length = [0; 4];
        from.read_exact(&mut length)?;
        let mut bytes = vec![0; (u32::from_be_bytes(length) as usize).clamp(28, 64 << 20) - 4];
        from.read_exact(&mut bytes)?;
        let mut header = [0; 6];
        for (word, bytes) in header.iter_mut().zip(bytes.chunks_exact(4)) {
            *word = u32::from_be_bytes(bytes.try_into().expect("four bytes"));
        }
        note(header, bytes[24..].to_vec());
        to.write_all(&[&length[..], &bytes].concat())
    };
    while next().is_ok() {}
    let _ = from.shutdown(std::net::Shutdown::Both);
    let _ = to.shutdown(std::net::Shutdown::Both);
}

impl Recorder {
    /// Listens at `path` for clients of the daemon at `daemon`. Descriptors are not passed on.
    pub fn new(path: &Path, daemon: &Path) -> Self {
        let _ = std::fs::remove_file(path);
        let listener = UnixListener::bind(path).expect("a socket");
        let state = Arc::new(Mutex::new(State::default()));
        let (shared, daemon) = (state.clone(), daemon.to_owned());
        std::thread::spawn(move || {
            for client in listener.incoming() {
                let (Ok(client), Ok(server)) = (client, UnixStream::connect(&daemon)) else { return };
                let connection = locked(&shared, |state| {
                    state.connections += 1;
                    state.open += 2;
                    state.connections - 1
                });
                let ends = || Some((client.try_clone().ok()?, server.try_clone().ok()?));
                let (Some((one, other)), Some((back, forth))) = (ends(), ends()) else { return };
                for (from, to, from_client) in [(one, other, true), (forth, back, false)] {
                    let shared = shared.clone();
                    std::thread::spawn(move || {
                        copy(from, to, |header, payload| {
                            let passed = Passed { connection, from_client, header, payload };
                            locked(&shared, |state| state.passed.push(passed));
                        });
                        locked(&shared, |state| state.open -= 1);
                    });
                }
            }
        });
        Self(state)
    }

    /// Waits until no client is connected, and takes what was said since the last time.
    pub fn take(&self) -> Vec<Passed> {
        let deadline = std::time::Instant::now() + std::time::Duration::from_secs(10);
        while locked(&self.0, |state| state.open > 0) && std::time::Instant::now() < deadline {
            std::thread::sleep(std::time::Duration::from_millis(2));
        }
        locked(&self.0, |state| {
            state.connections = 0;
            std::mem::take(&mut state.passed)
        })
    }
}
