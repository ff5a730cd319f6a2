//! The server: clients, their calls, events and streams.

mod admin;
mod connection;
mod dispatch;
mod events;
pub mod input;
mod keepalive;
pub(crate) mod memory;
mod pool;
mod session;
mod socket;
mod stream;

pub use admin::{Administration, LogControl};
pub use connection::{Access, Auth};
pub use pool::{Load, Workers};
pub use stream::{Attached, Direction, Stream, StreamHandle};

use crate::client::{ClientContext, Identity};
use crate::driver::Hypervisor;
use crate::event::{DomainEvent, EventSink};
use crate::protocol::host::Host;
use crate::protocol::types::Domain;
use connection::{After, Connection};
use parking_lot::Mutex;
use pool::{Job, Pool};
use rustix::event::{EventfdFlags, Timespec, epoll, eventfd};
use rustix::fd::{AsFd as _, OwnedFd};
use std::collections::BTreeMap;
use std::io;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock, Weak};
use std::time::Duration;

/// What is allowed of clients.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// So many clients at once.
    pub clients: u32,
    /// So many of them that have not shown who they are.
    pub anonymous: u32,
    /// So many calls of one client at once.
    pub requests: u32,
    /// Seconds of silence after which a client is asked whether it lives; 0 or less: it is not asked.
    pub keepalive_interval: i32,
    /// How often it is asked before it is given up.
    pub keepalive_count: u32,
}

/// What the server's clients may call.
pub enum Service {
    /// The REMOTE and QEMU programs.
    Hypervisor {
        /// Answers for the host.
        host: Arc<dyn Host>,
        /// Answers for guests.
        driver: Arc<dyn Hypervisor>,
        /// Sockets of the other daemons.
        secondaries: crate::relay::Sockets,
        /// Asks polkit.
        authorize: Authorize,
    },
    /// The ADMIN program.
    Admin(Arc<Administration>),
}

/// Asks whether somebody may do an action (`org.libvirt.unix.manage`); it may take its time.
pub type Authorize = Box<dyn Fn(&Identity, &str) -> Result<(), crate::Error> + Send + Sync>;

/// Called when clients come and go.
type Changed = Box<dyn Fn() + Send + Sync>;

/// Called with what clients are told has failed.
type Failed = Box<dyn Fn(&crate::Error) + Send + Sync>;

/// A server: one set of clients and workers.
pub struct Server {
    name: String,
    service: Service,
    limits: Mutex<Limits>,
    epoll: Arc<OwnedFd>,
    wake: OwnedFd,
    connections: Mutex<BTreeMap<u64, Arc<Connection>>>,
    streams: Mutex<BTreeMap<u64, Weak<Stream>>>,
    pool: Pool,
    /// What clients make us hold.
    memory: memory::Total,
    next_id: AtomicU64,
    next_callback: std::sync::atomic::AtomicI32,
    /// Whether any client has registered for events.
    listened: AtomicBool,
    changed: OnceLock<Changed>,
    failed: OnceLock<Failed>,
}

/// The key of the descriptor that wakes a worker.
const WAKE: u64 = 0;

/// The bit that tells streams' keys from clients'.
const STREAM: u64 = 1 << 63;

/// How long a worker that is one too many waits before it ends.
const IDLE: Duration = Duration::from_secs(10);

impl Server {
    /// A server without clients.
    ///
    /// # Errors
    /// The process is out of descriptors.
    pub fn new(name: &str, service: Service, limits: Limits, workers: Workers) -> io::Result<Arc<Self>> {
        let epoll = Arc::new(epoll::create(epoll::CreateFlags::CLOEXEC)?);
        let wake = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        let flags = epoll::EventFlags::IN | epoll::EventFlags::ET;
        epoll::add(&*epoll, &wake, epoll::EventData::new_u64(WAKE), flags)?;
        Ok(Arc::new(Self {
            name: name.to_owned(),
            service,
            limits: Mutex::new(limits),
            epoll,
            wake,
            connections: Mutex::default(),
            streams: Mutex::default(),
            pool: Pool::new(workers),
            memory: memory::Total::default(),
            next_id: AtomicU64::new(1),
            next_callback: std::sync::atomic::AtomicI32::new(0),
            listened: AtomicBool::new(false),
            changed: OnceLock::new(),
            failed: OnceLock::new(),
        }))
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Starts the workers. `changed` is called, on any thread, whenever a client came, showed who it is, or left.
    pub fn start(self: &Arc<Self>, changed: impl Fn() + Send + Sync + 'static) {
        let _ = self.changed.set(Box::new(changed));
        if let Service::Hypervisor { driver, .. } = &self.service {
            driver.set_events(Arc::new(Sink(Arc::downgrade(self))));
        }
        self.pool.fill(self);
    }

    /// From now on `failed` is called with each error that a client is told of, on the thread that served the call.
    pub fn on_failure(&self, failed: impl Fn(&crate::Error) + Send + Sync + 'static) {
        let _ = self.failed.set(Box::new(failed));
    }

    /// Sends all clients away and lets the workers end.
    pub fn stop(&self) {
        self.pool.stop();
        let connections: Vec<_> = self.connections.lock().values().cloned().collect();
        for connection in connections {
            self.drop_client(&connection);
        }
        self.wake();
    }

    /// The limits.
    pub fn limits(&self) -> Limits {
        *self.limits.lock()
    }

    /// Changes the limits.
    pub fn set_limits(&self, limits: Limits) {
        *self.limits.lock() = limits;
        self.changed();
    }

    /// The numbers of workers.
    pub fn workers(&self) -> Workers {
        self.pool.workers()
    }

    /// Changes the numbers of workers.
    pub fn set_workers(self: &Arc<Self>, workers: Workers) {
        self.pool.set_workers(self, workers);
        self.wake();
    }

    /// What the workers do.
    pub fn load(&self) -> Load {
        self.pool.load()
    }

    /// How many clients there are, and how many of them have not shown who they are.
    pub fn clients(&self) -> (u32, u32) {
        let connections = self.connections.lock();
        let anonymous = connections.values().filter(|c| !c.authenticated.load(Ordering::Relaxed)).count();
        (u32::try_from(connections.len()).unwrap_or(u32::MAX), u32::try_from(anonymous).unwrap_or(u32::MAX))
    }

    /// Whether another client may come.
    pub fn accepts(&self) -> bool {
        let (clients, anonymous) = self.clients();
        let limits = self.limits();
        clients < limits.clients && (limits.anonymous == 0 || anonymous < limits.anonymous)
    }

    /// Takes a client whose socket was accepted.
    ///
    /// # Errors
    /// Its peer is not known, or the process is out of memory.
    pub fn admit(&self, socket: OwnedFd, access: &Access) -> io::Result<()> {
        let peer = daemon::socket::peer(socket.as_fd())?;
        let identity = Identity { pid: peer.pid, uid: peer.uid, gid: peer.gid };
        let id = self.next_id.fetch_add(1, Ordering::Relaxed);
        let context = ClientContext::new(id, identity, access.read_only);
        let connection =
            Arc::new(Connection::new(context, socket, self.epoll.clone(), access.auth, &self.memory));
        self.connections.lock().insert(id, connection.clone());
        if let Err(error) = connection.watch() {
            self.connections.lock().remove(&id);
            return Err(error.into());
        }
        self.changed();
        Ok(())
    }

    fn changed(&self) {
        if let Some(changed) = self.changed.get() {
            changed();
        }
    }

    fn connection(&self, id: u64) -> Option<Arc<Connection>> {
        self.connections.lock().get(&id).cloned()
    }

    /// Ends a client's connection.
    fn drop_client(&self, connection: &Arc<Connection>) {
        if !connection.shut() {
            return;
        }
        self.connections.lock().remove(&connection.id());
        connection.registrations.lock().clear();
        let streams = connection.streams.lock().take_all();
        for stream in streams {
            self.forget_stream(&stream);
            stream.abandon();
        }
        connection.relays.close();
        if connection.context.is_open() {
            self.pool.queue(Job::Closed(connection.clone()));
            self.wake();
        }
        self.changed();
    }

    /// Sends clients away until what the others make us hold is not too much: of the user of whose clients most is held
    /// the one with most, so that nobody pays for others.
    fn relieve(&self) {
        while self.memory.is_too_much() {
            let connections: Vec<_> = self.connections.lock().values().cloned().collect();
            let mut users: BTreeMap<u32, usize> = BTreeMap::new();
            for connection in &connections {
                *users.entry(connection.user).or_default() += connection.account.bytes();
            }
            let Some((user, _)) = users.into_iter().max_by_key(|(_, bytes)| *bytes) else { return };
            let own = connections.iter().filter(|connection| connection.user == user);
            let Some(most) = own.max_by_key(|connection| connection.account.bytes()) else { return };
            self.drop_client(most);
        }
    }

    /// Wakes one worker.
    fn wake(&self) {
        // A full counter has been written to before: a worker is on its way.
        let _ = rustix::io::write(&self.wake, &1u64.to_ne_bytes());
    }

    /// A worker's life.
    fn work(self: Arc<Self>) {
        let mut event =
            [epoll::Event { flags: epoll::EventFlags::empty(), data: epoll::EventData::new_u64(0) }];
        let idle = Timespec { tv_sec: IDLE.as_secs().cast_signed(), tv_nsec: 0 };
        loop {
            while let Some(job) = self.pool.take(&self) {
                if self.pool.has_work() {
                    self.wake();
                }
                self.run(job);
            }
            if self.pool.stopping() && self.pool.leave() {
                // The next one is woken to leave too.
                self.wake();
                return;
            }
            let timeout = self.pool.surplus().then_some(&idle);
            match epoll::wait(&*self.epoll, &mut event, timeout) {
                // One event at a time: a thread that serves a call keeps no other event back.
                Ok(1) => self.handle(event[0].data.u64(), event[0].flags),
                Ok(_) if self.pool.leave() => return,
                Ok(_) | Err(_) => {}
            }
        }
    }

    fn handle(self: &Arc<Self>, key: u64, flags: epoll::EventFlags) {
        if key == WAKE {
            let _ = rustix::io::read(&self.wake, &mut [0u8; 8]);
            return;
        }
        if key & STREAM != 0 {
            self.stream_ready(key);
            return;
        }
        let Some(connection) = self.connection(key) else { return };
        if flags.contains(epoll::EventFlags::OUT) {
            let sent = connection.flush();
            self.sent(&connection, sent);
        }
        if flags.intersects(!epoll::EventFlags::OUT) && connection.begin_reading() {
            if let Some(job) = self.readable(&connection) {
                self.run(job);
            }
        } else {
            connection.event_done();
        }
    }

    /// Does a job, and those that wait.
    fn run(self: &Arc<Self>, job: Job) {
        let mut next = Some(job);
        while let Some(job) = next {
            match job {
                Job::Resume(connection) => {
                    next = self.readable(&connection);
                    continue;
                }
                Job::Stream(stream) => return self.pump(&stream),
                Job::Closed(connection) => {
                    if let Service::Hypervisor { driver, .. } = &self.service {
                        driver.closed(&connection.context);
                    }
                }
                Job::Call { connection, message, held, .. } => {
                    self.serve(&connection, message, held);
                }
            }
            next = self.pool.end();
        }
    }

    /// What sending brought: `Err`, or what is done with.
    fn sent(self: &Arc<Self>, connection: &Arc<Connection>, sent: Result<Vec<After>, connection::Gone>) {
        let Ok(done) = sent else { return self.drop_client(connection) };
        self.relieve();
        for after in done {
            match after {
                After::Nothing => {}
                After::RequestDone => {
                    if connection.request_done() {
                        self.pool.queue(Job::Resume(connection.clone()));
                        self.wake();
                    }
                }
                After::Close => self.drop_client(connection),
                After::StreamReady(key) => self.stream_sent(key),
            }
        }
    }
}

/// Brings the driver's events to the clients.
struct Sink(Weak<Server>);

impl EventSink for Sink {
    fn domain_event(&self, event: DomainEvent) {
        if let Some(server) = self.0.upgrade() {
            server.send_domain_event(&event);
        }
    }

    fn monitor_event(&self, dom: &Domain, event: &str, seconds: i64, micros: u32, details: Option<&str>) {
        if let Some(server) = self.0.upgrade() {
            server.send_monitor_event(dom, event, seconds, micros, details);
        }
    }
}
