//! The daemon's life: clients come and go, signals arrive, and at last it ends.

use crate::control::{Control, Timeout};
use crate::log::{self, Level};
use crate::options::Options;
use crate::paths::Paths;
use crate::settings::Settings;
use crate::sockets::{self, Listening};
use confinement::polkit::{Polkit, Subject};
use eventloop::{EventLoop, HostTimer, LoopHandle, Ready, Watch};
use host::NodeHost;
use parking_lot::Mutex;
use qemu_driver::QemuDriver;
use qemu_driver::hooks::About;
use rpc::Hypervisor;
use rpc::relay::Sockets;
use rpc::server::{Administration, Limits, Server, Service, Workers};
use rustix::net::SocketFlags;
use std::io;
use std::os::fd::{AsFd as _, AsRawFd as _, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

/// Where the sockets of the other daemons are said to be, as the original's clients know it.
const SECONDARIES: &str = "/var/run/libvirt";

/// How often guests are counted while they alone keep the daemon.
const RECOUNT: Duration = Duration::from_secs(5);

/// Descriptors that clients leave to everything else.
const RESERVE: u64 = 512;

/// So many clients of a socket are let in before anything else has its turn.
const TURN: u32 = 64;

/// A daemon that is ready to begin.
pub struct Running {
    event_loop: EventLoop,
    state: Arc<State>,
    signals: Option<OwnedFd>,
}

struct State {
    handle: LoopHandle,
    /// Clients are let in while no more than so many descriptors are in use: guests need theirs.
    most_descriptors: u64,
    main: Arc<Server>,
    admin: Arc<Server>,
    driver: Arc<QemuDriver>,
    timeout: Arc<Timeout>,
    started: AtomicBool,
    reloading: AtomicBool,
    sockets: Mutex<Vec<Listening>>,
    watches: Mutex<Vec<Watch>>,
    timers: OnceLock<Timers>,
    /// Since when there have been neither clients nor guests.
    idle_since: Mutex<Option<Instant>>,
}

struct Timers {
    idle: HostTimer,
    keepalive: HostTimer,
}

/// Blocks the signals that matter, and answers where they arrive. To be called before there are threads.
pub fn signals() -> io::Result<OwnedFd> {
    daemon::signals::ignore_broken_pipes()?;
    daemon::signals::descriptor(&[libc::SIGTERM, libc::SIGINT, libc::SIGQUIT, libc::SIGHUP])
}

impl Running {
    /// The servers and the driver; no thread has been started.
    pub fn new(options: &Options, paths: &Paths, settings: &Settings) -> io::Result<Self> {
        let event_loop = EventLoop::new()?;
        let handle = event_loop.handle();
        let config = &settings.daemon;
        let report = |level, text: &str| {
            let level = match level {
                qemu_driver::Level::Warning => Level::Warning,
                qemu_driver::Level::Error => Level::Error,
            };
            log::write(level, "qemu.qemu_driver", text);
        };
        let driver = Arc::new(QemuDriver::new(
            qemu_driver::Paths::of_process(),
            settings.driver.clone(),
            settings.host_uuid,
            Box::new(report),
        ));
        let secondaries = Sockets {
            folder: if paths.privileged { SECONDARIES.into() } else { paths.run.clone() },
            path: if paths.privileged { "system" } else { "session" },
        };
        let service = Service::Hypervisor {
            host: Arc::new(NodeHost::default()),
            driver: driver.clone(),
            secondaries,
            authorize: Box::new(authorize),
        };
        let limits = Limits {
            clients: config.max_clients,
            anonymous: config.max_anonymous_clients,
            requests: config.max_client_requests,
            keepalive_interval: config.keepalive_interval,
            keepalive_count: config.keepalive_count,
        };
        let workers =
            Workers { min: config.min_workers, max: config.max_workers, priority: config.prio_workers };
        let main = Server::new("virtqemud", service, limits, workers)?;
        let timeout = Arc::new(Timeout::default());
        timeout.set(options.timeout);
        let state: Arc<OnceLock<Arc<State>>> = Arc::default();
        let for_control = state.clone();
        let control = Control {
            timeout: timeout.clone(),
            changed: Box::new(move || {
                if let Some(state) = for_control.get() {
                    state.changed();
                }
            }),
        };
        let administration = Arc::new(Administration::new(crate::VERSION, Box::new(control)));
        let limits = Limits {
            clients: config.admin_max_clients,
            anonymous: 0,
            requests: config.admin_max_client_requests,
            keepalive_interval: config.admin_keepalive_interval,
            keepalive_count: config.admin_keepalive_count,
        };
        let workers = Workers { min: config.admin_min_workers, max: config.admin_max_workers, priority: 0 };
        let admin = Server::new("admin", Service::Admin(administration.clone()), limits, workers)?;
        // By name, as they are listed.
        administration.set_servers(vec![admin.clone(), main.clone()]);
        // Each client has a descriptor, and may have one for each other daemon.
        let wanted = 2 * (u64::from(config.max_clients) + u64::from(config.admin_max_clients)) + RESERVE;
        let descriptors = daemon::privileges::raise_descriptor_limit(wanted);
        let built = Arc::new(State {
            handle,
            most_descriptors: descriptors - RESERVE.min(descriptors / 2),
            main,
            admin,
            driver,
            timeout,
            started: AtomicBool::new(false),
            reloading: AtomicBool::new(false),
            sockets: Mutex::default(),
            watches: Mutex::default(),
            timers: OnceLock::new(),
            idle_since: Mutex::default(),
        });
        // Set once, here.
        let _ = state.set(built.clone());
        Ok(Self { event_loop, state: built, signals: None })
    }

    /// Calls the scripts that are told of the daemon's start.
    pub fn tell_start(&self) {
        self.state.driver.hooks().look();
        self.state.tell_script("start", "-", "start");
    }

    /// Hands over where signals arrive, and the sockets.
    pub fn with(mut self, signals: OwnedFd, sockets: Vec<Listening>) -> Self {
        self.signals = Some(signals);
        *self.state.sockets.lock() = sockets;
        self
    }

    /// Runs to the end.
    pub fn run(self) -> io::Result<()> {
        let state = self.state;
        let handle = &state.handle;
        let of = |state: &Arc<State>| Arc::downgrade(state);
        let (idle, keepalive) = (of(&state), of(&state));
        let timers = Timers {
            idle: handle.timer(move || {
                if let Some(state) = idle.upgrade() {
                    state.look_at_idleness();
                }
            }),
            keepalive: handle.timer(move || {
                if let Some(state) = keepalive.upgrade() {
                    state.look_at_clients();
                }
            }),
        };
        let _ = state.timers.set(timers);
        let mut signal_watch = None;
        if let Some(signals) = self.signals {
            let signals = Arc::new(signals);
            let (fd, for_signals) = (signals.clone(), of(&state));
            signal_watch = Some(handle.watch(signals, Ready::READ, move |_| {
                while let (Some(signal), Some(state)) = (daemon::signals::take(&fd), for_signals.upgrade()) {
                    state.signal(signal);
                }
            })?);
        }
        for server in [&state.main, &state.admin] {
            server.on_failure(log_failure);
            let changed = of(&state);
            server.start(move || {
                if let Some(state) = changed.upgrade() {
                    state.changed();
                }
            });
        }
        let starting = state.clone();
        std::thread::Builder::new().name("init".to_owned()).spawn(move || starting.start_driver())?;
        self.event_loop.run()?;
        drop(signal_watch);
        state.driver.hooks().look();
        state.tell_script("shutdown", "-", "shutdown");
        state.watches.lock().clear();
        state.sockets.lock().clear();
        state.main.stop();
        state.admin.stop();
        state.driver.stop();
        Ok(())
    }
}

impl State {
    /// On a thread of its own: the driver, then the clients that wait.
    fn start_driver(self: Arc<Self>) {
        if let Err(error) = self.driver.start() {
            log::write(Level::Error, "qemu.qemu_driver", &error.to_string());
            log::write(Level::Error, "daemon.libvirtd", "Driver state initialization failed");
            self.handle.stop();
            return;
        }
        self.started.store(true, Ordering::Release);
        let state = self.clone();
        self.handle.defer(move || {
            state.accept_clients();
            state.look_at_idleness();
            notify_ready();
        });
    }

    /// Begins to watch the sockets.
    fn accept_clients(self: &Arc<Self>) {
        let mut watches = self.watches.lock();
        for (at, listening) in self.sockets.lock().iter().enumerate() {
            let state = Arc::downgrade(self);
            let watch = self.handle.watch(listening.socket.clone(), Ready::READ, move |_| {
                if let Some(state) = state.upgrade() {
                    state.accept(at);
                }
            });
            match watch {
                Ok(watch) => watches.push(watch),
                Err(error) => log::write(Level::Error, "rpc.netserver", &error.to_string()),
            }
        }
    }

    fn server(&self, server: sockets::Server) -> &Arc<Server> {
        match server {
            sockets::Server::Main => &self.main,
            sockets::Server::Admin => &self.admin,
        }
    }

    /// Takes clients from a socket; those that are still waiting then the next time.
    fn accept(&self, at: usize) {
        for _ in 0..TURN {
            let sockets = self.sockets.lock();
            let Some(listening) = sockets.get(at) else { return };
            let server = self.server(listening.server).clone();
            if !server.accepts() {
                // They wait in the socket's queue until somebody leaves.
                drop(sockets);
                self.update_watches();
                return;
            }
            let accepted = rustix::net::accept_with(&*listening.socket, SocketFlags::CLOEXEC);
            let (kind, access) = (listening.server, listening.access);
            drop(sockets);
            let socket = match accepted {
                // The lowest number that is free: so many are in use.
                Ok(socket) if u64::from(socket.as_raw_fd().unsigned_abs()) >= self.most_descriptors => {
                    log::write(
                        Level::Error,
                        "rpc.netserver",
                        "Too many open files for another client, dropping connection",
                    );
                    self.pause();
                    return;
                }
                Ok(socket) => socket,
                Err(rustix::io::Errno::AGAIN | rustix::io::Errno::CONNABORTED) => return,
                Err(errno) => {
                    log::write(Level::Error, "rpc.netserver", &format!("Unable to accept client: {errno}"));
                    // Out of descriptors: others are let in again when somebody leaves.
                    self.pause();
                    return;
                }
            };
            if kind == sockets::Server::Admin && !may_administrate(&socket) {
                log::write(
                    Level::Error,
                    "daemon.admin",
                    "operation forbidden: disallowing a client of another user",
                );
                continue;
            }
            if let Err(error) = server.admit(socket, &access) {
                log::write(Level::Error, "rpc.netserver", &error.to_string());
            }
        }
    }

    /// Lets nobody in for a moment.
    fn pause(&self) {
        for watch in self.watches.lock().iter() {
            watch.set_interest(Ready::NONE);
        }
        // The next client that leaves, or the next look at clients, lets them in again.
        if let Some(timers) = self.timers.get() {
            timers.keepalive.arm(Instant::now() + Duration::from_millis(500));
        }
    }

    /// Watches those sockets whose servers take more clients.
    fn update_watches(&self) {
        let sockets = self.sockets.lock();
        for (watch, listening) in self.watches.lock().iter().zip(sockets.iter()) {
            let accepts = self.server(listening.server).accepts();
            watch.set_interest(if accepts { Ready::READ } else { Ready::NONE });
        }
    }

    /// Clients came or went; called on any thread.
    fn changed(self: &Arc<Self>) {
        let state = self.clone();
        self.handle.defer(move || {
            state.update_watches();
            state.look_at_clients();
            state.look_at_idleness();
        });
    }

    fn look_at_clients(self: &Arc<Self>) {
        self.update_watches();
        let next = [&self.main, &self.admin].into_iter().filter_map(|server| server.check_clients()).min();
        if let (Some(next), Some(timers)) = (next, self.timers.get()) {
            timers.keepalive.arm(next);
        }
    }

    /// Ends the daemon if it has been idle for long enough.
    fn look_at_idleness(&self) {
        let Some(timers) = self.timers.get() else { return };
        let timeout = Duration::from_secs(self.timeout.get().into());
        let clients = self.main.clients().0 + self.admin.clients().0;
        let mut idle_since = self.idle_since.lock();
        if timeout.is_zero() || clients > 0 || !self.started.load(Ordering::Acquire) {
            *idle_since = None;
            timers.idle.disarm();
            return;
        }
        if self.driver.running() > 0 {
            *idle_since = None;
            timers.idle.arm(Instant::now() + RECOUNT.min(timeout));
            return;
        }
        let since = *idle_since.get_or_insert_with(Instant::now);
        if since.elapsed() >= timeout {
            self.handle.stop();
        } else {
            timers.idle.arm(since + timeout);
        }
    }

    /// Calls the scripts that are told of the daemon's life: what happens, which part of it, and why.
    fn tell_script(&self, operation: &str, part: &str, why: &str) {
        if let Err(error) = self.driver.hooks().call(About::Daemon, ["-", operation, part, why], None) {
            log::write(Level::Error, "util.hook", &error.to_string());
        }
    }

    fn signal(self: &Arc<Self>, signal: u32) {
        if signal != libc::SIGHUP.cast_unsigned() {
            self.handle.stop();
            return;
        }
        if !self.started.load(Ordering::Acquire) {
            log::write(Level::Warning, "daemon.libvirtd", "Drivers are not initialized, reload ignored");
            return;
        }
        if self.reloading.swap(true, Ordering::AcqRel) {
            return;
        }
        let state = self.clone();
        let reload = move || {
            log::write(Level::Info, "daemon.libvirtd", "Reloading configuration on SIGHUP");
            state.driver.hooks().look();
            state.tell_script("reload", "begin", "SIGHUP");
            state.driver.reload();
            state.reloading.store(false, Ordering::Release);
        };
        if std::thread::Builder::new().name("daemon-reload".to_owned()).spawn(reload).is_err() {
            self.reloading.store(false, Ordering::Release);
        }
    }
}

/// Asks polkit whether a client may use its socket.
fn authorize(identity: &rpc::Identity, action: &str) -> Result<(), rpc::Error> {
    let origin = rpc::Origin::Polkit;
    let gone = || rpc::Error::new(origin, rpc::Code::AuthFailed, "access denied by policy");
    let subject = Subject::of(identity.pid.cast_unsigned(), identity.uid).ok_or_else(gone)?;
    Polkit::default().check(action, subject, &[], true).map_err(|error| {
        let code = rpc::Code::from_number(error.code.number()).unwrap_or(rpc::Code::InternalError);
        rpc::Error::from_message(origin, code, &error.message)
    })
}

/// Logs what a client is told has failed. That something does not exist is no news to the administrator.
fn log_failure(error: &rpc::Error) {
    use rpc::Code::*;
    let usual = error.known_code().is_some_and(|code| {
        matches!(
            code,
            NoDomain
                | NoNetwork
                | NoStoragePool
                | NoStorageVol
                | NoNodeDevice
                | NoInterface
                | MultipleInterfaces
                | NoNwfilter
                | NoNwfilterBinding
                | NoSecret
                | NoDomainSnapshot
                | NoDomainMetadata
                | NoServer
                | NoClient
                | NoHostname
                | NoNetworkMetadata
                | OperationInvalid
        )
    });
    let level = if usual { Level::Debug } else { Level::Error };
    if log::enabled("rpc.server", level) && may_log() {
        log::write(level, "rpc.server", &error.to_string());
    }
}

/// Whether a client's mistake may be logged: a hundred a second shall do.
fn may_log() -> bool {
    const MOST: u32 = 100;
    static SECOND: Mutex<(Option<Instant>, u32)> = Mutex::new((None, 0));
    let mut second = SECOND.lock();
    if second.0.is_none_or(|begin| begin.elapsed() >= Duration::from_secs(1)) {
        *second = (Some(Instant::now()), 0);
    }
    second.1 += 1;
    second.1 <= MOST
}

/// Whether a client of the admin socket is the user that we run as.
fn may_administrate(socket: &OwnedFd) -> bool {
    daemon::socket::peer(socket.as_fd()).is_ok_and(|peer| peer.uid == rustix::process::geteuid().as_raw())
}

/// Tells the service manager that the daemon is ready (sd_notify(3)).
fn notify_ready() {
    use std::os::linux::net::SocketAddrExt as _;
    use std::os::unix::net::{SocketAddr, UnixDatagram};
    let Ok(name) = std::env::var("NOTIFY_SOCKET") else { return };
    let address = match name.strip_prefix('@') {
        Some(name) => SocketAddr::from_abstract_name(name),
        None => SocketAddr::from_pathname(&name),
    };
    let sent = address.and_then(|address| {
        UnixDatagram::unbound().and_then(|socket| socket.send_to_addr(b"READY=1", &address))
    });
    if let Err(error) = sent {
        log::write(Level::Warning, "util.systemd", &format!("cannot notify the service manager: {error}"));
    }
}
