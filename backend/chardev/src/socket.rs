//! `socket`: a stream socket, listening or connecting.

use crate::backends::reason;
use crate::core::{Backend, Core};
use crate::fd::{FdReader, FdWriter, duplicate, set_nonblocking};
use crate::frontend::OnceCall;
use crate::spec::{Address, SocketSpec, SpecError};
use eventloop::{HostTimer, Ready, Watch};
use parking_lot::Mutex;
use rustix::fd::OwnedFd;
use rustix::net::SocketFlags;
use std::io;
use std::net::{TcpListener, TcpStream, ToSocketAddrs as _};
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::net::{UnixListener, UnixStream};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

struct Connection {
    fd: Arc<OwnedFd>,
    reader: Arc<FdReader>,
    writer: Arc<FdWriter>,
}

/// A socket back end.
pub(crate) struct Socket {
    core: Arc<Core>,
    spec: SocketSpec,
    listener: Option<Arc<OwnedFd>>,
    accepting: Mutex<Option<Watch>>,
    connection: Mutex<Option<Connection>>,
    retry: Mutex<Option<HostTimer>>,
    me: Weak<Self>,
}

/// Opens the socket; a waiting server returns once a peer is there.
pub(crate) fn open(core: &Arc<Core>, spec: &SocketSpec) -> Result<Arc<Socket>, SpecError> {
    let listener = match (&spec.address, spec.server) {
        (Address::Fd(_), true) => Some(Arc::new(connect(&spec.address)?)),
        (_, true) => Some(Arc::new(listen(&spec.address)?)),
        _ => None,
    };
    let socket = Arc::new_cyclic(|me| Socket {
        core: core.clone(),
        spec: spec.clone(),
        listener,
        accepting: Mutex::new(None),
        connection: Mutex::new(None),
        retry: Mutex::new(None),
        me: me.clone(),
    });
    socket.describe(None);
    if spec.server {
        if spec.wait {
            report::info_report!("QEMU waiting for connection on: {}", core.description());
            socket.accept(true);
        } else {
            socket.start_accepting();
        }
    } else {
        let me = socket.me.clone();
        *socket.retry.lock() = Some(core.handle.timer(move || {
            if let Some(me) = me.upgrade() {
                me.connect_again();
            }
        }));
        match connect(&spec.address) {
            Ok(fd) => socket.connected(fd),
            Err(_) if spec.reconnect_ms > 0 => socket.schedule(),
            Err(error) => return Err(error),
        }
    }
    Ok(socket)
}

fn listen(address: &Address) -> Result<OwnedFd, SpecError> {
    match address {
        Address::Unix { path, abstract_name } => {
            let bound = if *abstract_name {
                std::os::unix::net::SocketAddr::from_abstract_name(path)
                    .and_then(|address| UnixListener::bind_addr(&address))
            } else {
                // A socket that a dead process left behind would be in the way for ever.
                let _ = std::fs::remove_file(path);
                UnixListener::bind(path)
            };
            let fail =
                |error: io::Error| SpecError(format!("Failed to bind socket to {path}: {}", reason(&error)));
            Ok(bound.map_err(fail)?.into())
        }
        Address::Inet { host, port } => {
            let any = if host.is_empty() { "0.0.0.0" } else { host };
            let listener = resolve(any, port)?;
            TcpListener::bind(&listener[..])
                .map(Into::into)
                .map_err(|error| SpecError(format!("Failed to bind socket: {}", reason(&error))))
        }
        Address::Fd(_) => Err(SpecError("a listening descriptor cannot be opened again".to_owned())),
    }
}

fn resolve(host: &str, port: &str) -> Result<Vec<std::net::SocketAddr>, SpecError> {
    let fail = |why: String| SpecError(format!("address resolution failed for {host}:{port}: {why}"));
    let number = port.parse::<u16>().map_err(|_| fail("the port is not a number".to_owned()))?;
    let found: Vec<_> = (host, number).to_socket_addrs().map_err(|error| fail(reason(&error)))?.collect();
    if found.is_empty() { Err(fail("no address".to_owned())) } else { Ok(found) }
}

fn connect(address: &Address) -> Result<OwnedFd, SpecError> {
    match address {
        Address::Unix { path, abstract_name } => {
            let stream = if *abstract_name {
                std::os::unix::net::SocketAddr::from_abstract_name(path)
                    .and_then(|address| UnixStream::connect_addr(&address))
            } else {
                UnixStream::connect(path)
            };
            let fail =
                |error: io::Error| SpecError(format!("Failed to connect to '{path}': {}", reason(&error)));
            Ok(stream.map_err(fail)?.into())
        }
        Address::Inet { host, port } => {
            let host = if host.is_empty() { "localhost" } else { host };
            TcpStream::connect(&resolve(host, port)?[..]).map(Into::into).map_err(|error| {
                SpecError(format!("Failed to connect to '{host}:{port}': {}", reason(&error)))
            })
        }
        Address::Fd(fd) => hostio::inherit::adopt(*fd)
            .map_err(|error| SpecError(format!("File descriptor '{fd}' cannot be used: {}", reason(&error)))),
    }
}

impl Socket {
    fn describe(&self, connection: Option<&OwnedFd>) {
        let state = if connection.is_some() { "" } else { "disconnected:" };
        let server = if self.spec.server { ",server=on" } else { "" };
        let ends = connection.filter(|_| matches!(self.spec.address, Address::Inet { .. })).and_then(|fd| {
            let address = |any: rustix::net::SocketAddrAny| std::net::SocketAddr::try_from(any).ok();
            let near = address(rustix::net::getsockname(fd).ok()?)?;
            let far = rustix::net::getpeername(fd).ok().flatten().and_then(address)?;
            Some(format!("tcp:{near}{server} <-> {far}"))
        });
        self.core.set_description(ends.unwrap_or_else(|| format!("{state}{}{server}", self.spec.address)));
    }

    /// Takes a peer; waits for one when `blocking`.
    fn accept(&self, blocking: bool) {
        let Some(listener) = &self.listener else { return };
        loop {
            match rustix::net::accept_with(&**listener, SocketFlags::CLOEXEC) {
                Ok(fd) => return self.connected(fd),
                Err(rustix::io::Errno::INTR) if blocking => {}
                Err(_) => return,
            }
        }
    }

    fn start_accepting(&self) {
        let Some(listener) = &self.listener else { return };
        let _ = set_nonblocking(listener);
        let me = self.me.clone();
        let watch = self.core.handle.watch(listener.clone(), Ready::READ, move |_| {
            if let Some(me) = me.upgrade() {
                // One peer at a time: others wait in the listen queue.
                let watch = me.accepting.lock().take();
                me.accept(false);
                drop(watch);
                if me.connection.lock().is_none() {
                    me.start_accepting();
                }
            }
        });
        *self.accepting.lock() = watch.ok();
    }

    fn connected(&self, fd: OwnedFd) {
        if self.spec.nodelay && matches!(self.spec.address, Address::Inet { .. }) {
            let _ = rustix::net::sockopt::set_tcp_nodelay(&fd, true);
        }
        let Ok(output) = set_nonblocking(&fd).and_then(|()| duplicate(&fd)) else { return };
        self.describe(Some(&fd));
        let fd = Arc::new(fd);
        let me = self.me.clone();
        let reader = FdReader::new(self.core.clone(), fd.clone(), move || {
            if let Some(me) = me.upgrade() {
                me.lost();
            }
        });
        reader.resume();
        let writer = FdWriter::new(self.core.handle.clone(), output);
        *self.connection.lock() = Some(Connection { fd, reader, writer });
        self.core.set_open(true);
    }

    /// The connection is over: tells the front end, and looks for the next peer.
    fn lost(&self) {
        let Some(old) = self.connection.lock().take() else { return };
        old.reader.close();
        let _ = rustix::net::shutdown(&*old.fd, rustix::net::Shutdown::Both);
        self.describe(None);
        self.core.set_open(false);
        old.writer.flush();
        drop(old);
        if self.spec.server {
            self.start_accepting();
        } else if self.spec.reconnect_ms > 0 {
            self.schedule();
        }
    }

    fn schedule(&self) {
        if let Some(timer) = &*self.retry.lock() {
            timer.arm(Instant::now() + Duration::from_millis(self.spec.reconnect_ms));
        }
    }

    fn connect_again(&self) {
        match connect(&self.spec.address) {
            Ok(fd) => self.connected(fd),
            Err(_) => self.schedule(),
        }
    }
}

impl Backend for Arc<Socket> {
    fn write(&self, bytes: &[u8]) -> io::Result<usize> {
        let writer = match &*self.connection.lock() {
            Some(connection) => connection.writer.clone(),
            None => return Ok(bytes.len()),
        };
        let written = writer.write(bytes);
        if let Err(error) = &written
            && error.kind() != io::ErrorKind::WouldBlock
        {
            let me = self.me.clone();
            self.core.handle.defer(move || {
                if let Some(me) = me.upgrade() {
                    me.lost();
                }
            });
        }
        written
    }
    fn on_writable(&self, call: OnceCall) {
        match &*self.connection.lock() {
            Some(connection) => connection.writer.on_writable(call),
            None => self.core.handle.defer(call),
        }
    }
    fn wait_writable(&self) {
        let writer = self.connection.lock().as_ref().map(|connection| connection.writer.clone());
        if let Some(writer) = writer {
            writer.wait();
        }
    }
    fn accept_input(&self) {
        if let Some(connection) = &*self.connection.lock() {
            connection.reader.resume();
        }
    }
    fn finish(&self) {
        if self.spec.server
            && let Address::Unix { path, abstract_name: false } = &self.spec.address
        {
            let _ = std::fs::remove_file(path);
        }
    }
    fn disconnect(&self) {
        let me = self.me.clone();
        self.core.handle.defer(move || {
            if let Some(me) = me.upgrade() {
                me.lost();
            }
        });
    }
}
