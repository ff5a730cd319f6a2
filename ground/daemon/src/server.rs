//! A thread per client, with caps, and an end that cannot hang.
//!
//! The main thread accepts and waits for signals; each client has a blocking thread of its own, so that none waits for
//! another. When all places are taken the oldest client that has not said hello gives way; if all have, accepting pauses
//! until one leaves. At the end nobody new is let in, idle clients are sent away, requests in progress get a grace,
//! and what is stuck in the kernel then is named.

use crate::log;
use crate::signals;
use crate::socket::{self, Peer};
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// How many clients at once.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// In total.
    pub total: usize,
    /// Of one user other than root.
    pub per_user: usize,
    /// Of one process.
    pub per_process: usize,
    /// Time for requests in progress at the end.
    pub grace: Duration,
}

impl Limits {
    /// The caps for a process with `descriptors` open files at most, of which each client takes `per_client`.
    #[must_use]
    pub fn for_descriptors(descriptors: u64, per_client: u64) -> Self {
        const RESERVED: u64 = 24;
        let total =
            usize::try_from(descriptors.saturating_sub(RESERVED) / per_client).unwrap_or(1).clamp(1, 1024);
        Self {
            total,
            per_user: (total * 3 / 4).max(1),
            per_process: (total / 2).max(1),
            grace: Duration::from_millis(3500),
        }
    }
}

/// One client.
#[derive(Debug)]
pub struct Connection {
    socket: OwnedFd,
    peer: Peer,
    since: Instant,
    greeted: AtomicBool,
    busy: AtomicBool,
    device: AtomicU64,
    stopping: Arc<AtomicBool>,
}

impl Connection {
    /// A connection outside of any server.
    ///
    /// # Errors
    /// When `socket` does not say who its peer is: it must be a connected Unix socket.
    pub fn new(socket: OwnedFd) -> io::Result<Self> {
        let peer = socket::peer(socket.as_fd())?;
        Ok(Self::admitted(socket, peer, Arc::default()))
    }

    fn admitted(socket: OwnedFd, peer: Peer, stopping: Arc<AtomicBool>) -> Self {
        Self {
            socket,
            peer,
            since: Instant::now(),
            greeted: AtomicBool::new(false),
            busy: AtomicBool::new(false),
            device: AtomicU64::new(0),
            stopping,
        }
    }

    /// The client's socket.
    #[must_use]
    pub fn socket(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }

    /// Who connected.
    #[must_use]
    pub fn peer(&self) -> Peer {
        self.peer
    }

    /// Marks the client as one that has done what the protocol asks for at first.
    pub fn greeted(&self) {
        self.greeted.store(true, Ordering::Relaxed);
    }

    /// Marks a request on `device` (a device number) as in progress.
    pub fn begin(&self, device: u64) {
        self.device.store(device, Ordering::Relaxed);
        self.busy.store(true, Ordering::Relaxed);
    }

    /// Marks the request as done.
    pub fn end(&self) {
        self.busy.store(false, Ordering::Relaxed);
    }

    /// Whether the server is ending, so that no further request is to be begun.
    #[must_use]
    pub fn stopping(&self) -> bool {
        self.stopping.load(Ordering::Relaxed)
    }
}

/// What a server does with a client; runs on the client's own thread until the client is done with.
pub trait Handler: Send + Sync + 'static {
    /// Serves `connection` to its end.
    fn serve(&self, connection: &Connection);
}

#[derive(Debug, Default)]
struct Table {
    clients: Mutex<Vec<Arc<Connection>>>,
    left: Condvar,
    waiting: AtomicBool,
    wake: Option<File>,
}

impl Table {
    fn clients(&self) -> std::sync::MutexGuard<'_, Vec<Arc<Connection>>> {
        self.clients.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The oldest of the clients that have not said hello.
    fn rudest(&self) -> Option<Arc<Connection>> {
        let clients = self.clients();
        let rude = clients.iter().filter(|c| !c.greeted.load(Ordering::Relaxed));
        rude.min_by_key(|c| c.since).map(Arc::clone)
    }

    fn remove(&self, connection: &Arc<Connection>) {
        self.clients().retain(|c| !Arc::ptr_eq(c, connection));
        self.left.notify_all();
        if let Some(wake) = self.wake.as_ref().filter(|_| self.waiting.load(Ordering::Relaxed)) {
            let mut wake: &File = wake;
            let _ = wake.write(&1u64.to_ne_bytes());
        }
    }
}

/// How long a client may take for its hello when others wait for its place.
const PATIENCE: Duration = Duration::from_millis(500);

/// Bytes of stack for a client's thread.
const STACK: usize = 64 << 10;

/// Serves clients of `listener` until one of `signals` arrives; then `closed` is called at once (to remove the
/// socket), and the function answers when all requests are done or `limits.grace` has passed.
///
/// # Errors
/// When waiting fails.
pub fn serve(
    listener: &OwnedFd,
    signals: &OwnedFd,
    limits: Limits,
    handler: Arc<dyn Handler>,
    closed: impl FnOnce(),
) -> io::Result<()> {
    // SAFETY: eventfd takes integers.
    let wake = crate::check(unsafe { libc::eventfd(0, libc::EFD_CLOEXEC | libc::EFD_NONBLOCK) })?;
    // SAFETY: the kernel just handed us this descriptor.
    let wake = File::from(unsafe { OwnedFd::from_raw_fd(wake) });
    let table = Arc::new(Table { wake: Some(wake), ..Table::default() });
    let stopping = Arc::new(AtomicBool::new(false));
    static SERIAL: AtomicUsize = AtomicUsize::new(0);
    let mut paused_until: Option<Instant> = None;
    let Some(mut wake) = table.wake.as_ref() else { return Err(io::ErrorKind::InvalidInput.into()) };
    loop {
        let full = table.clients().len() >= limits.total;
        table.waiting.store(full || paused_until.is_some(), Ordering::Relaxed);
        // A client may have left between the look at the table and the flag.
        let full = full && table.clients().len() >= limits.total;
        // Of those that have not said hello one gives way, but only if somebody else waits.
        let rude = if full { table.rudest() } else { None };
        let paused = (full && rude.is_none()) || paused_until.is_some();
        let entry = |fd: &dyn AsRawFd, on: bool| libc::pollfd {
            fd: if on { fd.as_raw_fd() } else { -1 },
            events: libc::POLLIN,
            revents: 0,
        };
        let mut entries = [entry(signals, true), entry(wake, true), entry(listener, !paused)];
        let timeout = if paused_until.is_some() { 100 } else { -1 };
        // SAFETY: three entries are passed, and the count says three.
        let ready = unsafe { libc::poll(entries.as_mut_ptr(), 3, timeout) };
        if ready < 0 {
            let err = io::Error::last_os_error();
            if err.kind() == io::ErrorKind::Interrupted {
                continue;
            }
            return Err(err);
        }
        if entries[0].revents != 0 && signals::take(signals).is_some() {
            break;
        }
        if entries[1].revents != 0 {
            let _ = wake.read(&mut [0; 8]);
        }
        paused_until = paused_until.filter(|&until| Instant::now() < until);
        if entries[2].revents == 0 {
            continue;
        }
        if let Some(rude) = rude {
            if rude.since.elapsed() >= PATIENCE {
                socket::shutdown(rude.socket(), libc::SHUT_RDWR);
            }
            paused_until = Some(Instant::now() + Duration::from_millis(100));
            continue;
        }
        match socket::accept(listener.as_fd()) {
            Ok(client) => {
                let serial = SERIAL.fetch_add(1, Ordering::Relaxed);
                if !admit(client, &table, limits, &handler, &stopping, serial) {
                    // No thread to be had: as with descriptors.
                    paused_until = Some(Instant::now() + Duration::from_millis(100));
                }
            }
            Err(err) => match err.raw_os_error() {
                // Out of descriptors or memory: nothing helps but waiting, without turning in circles.
                Some(libc::EMFILE | libc::ENFILE | libc::ENOMEM | libc::ENOBUFS) => {
                    paused_until = Some(Instant::now() + Duration::from_millis(100));
                }
                Some(libc::EINVAL | libc::EBADF | libc::ENOTSOCK | libc::EOPNOTSUPP) => return Err(err),
                _ => {}
            },
        }
    }
    stopping.store(true, Ordering::SeqCst);
    socket::shutdown(listener.as_fd(), libc::SHUT_RDWR);
    closed();
    finish(&table, limits.grace);
    Ok(())
}

/// Starts a client's thread, unless the client's user or process has too many already (then it is closed). Answers
/// false when there is no thread to be had.
fn admit(
    client: OwnedFd,
    table: &Arc<Table>,
    limits: Limits,
    handler: &Arc<dyn Handler>,
    stopping: &Arc<AtomicBool>,
    serial: usize,
) -> bool {
    let Ok(peer) = socket::peer(client.as_fd()) else { return true };
    let connection = Arc::new(Connection::admitted(client, peer, Arc::clone(stopping)));
    {
        let mut clients = table.clients();
        let same_user = clients.iter().filter(|c| c.peer.uid == peer.uid).count();
        let same_process = clients.iter().filter(|c| peer.pid > 0 && c.peer.pid == peer.pid).count();
        if same_process >= limits.per_process || (peer.uid != 0 && same_user >= limits.per_user) {
            drop(clients);
            log::client_error(&format!(
                "Too many connections from process {} of user {}",
                peer.pid, peer.uid
            ));
            return true;
        }
        clients.push(Arc::clone(&connection));
    }
    let (handler, for_thread) = (Arc::clone(handler), Arc::clone(&connection));
    let table_of_thread = Arc::clone(table);
    let started =
        std::thread::Builder::new().name(format!("client-{serial}")).stack_size(STACK).spawn(move || {
            handler.serve(&for_thread);
            // Whoever else still holds the connection must not keep the client waiting.
            socket::shutdown(for_thread.socket(), libc::SHUT_RDWR);
            table_of_thread.remove(&for_thread);
        });
    if started.is_err() {
        table.remove(&connection);
        return false;
    }
    true
}

/// Sends idle clients away and waits for the busy ones.
fn finish(table: &Table, grace: Duration) {
    let deadline = Instant::now() + grace;
    let mut clients = table.clients();
    // Waiting reads see the end of the stream; replies still go out.
    clients.iter().for_each(|c| socket::shutdown(c.socket(), libc::SHUT_RD));
    while !clients.is_empty() {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            break;
        }
        clients = table.left.wait_timeout(clients, left).unwrap_or_else(PoisonError::into_inner).0;
    }
    for stuck in clients.iter().filter(|c| c.busy.load(Ordering::Relaxed)) {
        let device = stuck.device.load(Ordering::Relaxed);
        let text = format!(
            "request on device {}:{} for process {} is stuck, leaving it behind",
            libc::major(device),
            libc::minor(device),
            stuck.peer.pid
        );
        let _ = writeln!(io::stderr(), "{}: {text}", log::name());
    }
}
