//! A client's conversation: hello, then request and reply by turns, on the client's own thread.

use crate::device::{self, Device};
use crate::multipath::{self, wire::Answer};
use crate::options::{CONN_CLOSE, CONN_OPEN, OUTCOME, PR_IN, PR_OUT, REQUEST};
use crate::protocol::{CDB_SIZE, Command, DATA_MAX, FEATURES, Invalid, Reply};
use crate::sense::{self, Sense, Verdict};
use crate::sg::{self, Data};
use daemon::log;
use daemon::server::{Connection, Handler};
use daemon::socket;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

/// Time for a hello, for a request that has begun, and for taking a reply.
pub const DEADLINE: Duration = Duration::from_secs(10);

/// Serves clients of the persistent reservation protocol.
#[derive(Debug)]
pub struct Service {
    multipath: multipath::Client,
    classify: fn(BorrowedFd<'_>) -> Device,
}

/// Why a conversation ended.
enum End {
    /// The client left, the server is ending, or the client is to be sent away without a word.
    Quiet,
    /// The client broke the protocol, in these words.
    Broken(&'static str),
    /// The socket failed.
    Io(io::Error),
}

impl From<io::Error> for End {
    fn from(err: io::Error) -> Self {
        match err.kind() {
            io::ErrorKind::UnexpectedEof => Self::Broken("Unexpected end-of-file before all data were read"),
            _ => Self::Io(err),
        }
    }
}

const NO_DESCRIPTOR: End = End::Broken("No file descriptor in request.");
const INVALID_CDB: End = End::Broken("Invalid CDB, closing socket.");

impl Handler for Service {
    fn serve(&self, connection: &Connection) {
        let peer = connection.peer();
        tracepoint::trace!(CONN_OPEN, "pid={} uid={}", peer.pid, peer.uid);
        let end = self.converse(connection).err();
        connection.end();
        match end {
            None | Some(End::Quiet) => {}
            Some(_) if connection.stopping() => {}
            Some(End::Broken(words)) => log::client_error(words),
            Some(End::Io(err)) if err.kind() == io::ErrorKind::TimedOut => {
                log::client_error(&format!(
                    "process {} took too long over a request, closing socket.",
                    peer.pid
                ));
            }
            // The client went away in the middle; nothing to be said.
            Some(End::Io(_)) => {}
        }
        tracepoint::trace!(CONN_CLOSE, "pid={} uid={}", peer.pid, peer.uid);
    }
}

impl Service {
    /// A service that has `multipath` look after devices of the device mapper.
    #[must_use]
    pub fn new(multipath: multipath::Client) -> Self {
        Self { multipath, classify: device::classify }
    }

    /// The same with another idea of what a descriptor is, for tests without such devices.
    #[must_use]
    pub fn classified_by(mut self, classify: fn(BorrowedFd<'_>) -> Device) -> Self {
        self.classify = classify;
        self
    }

    fn converse(&self, connection: &Connection) -> Result<(), End> {
        let client = connection.socket();
        socket::write_all(client, &FEATURES.to_be_bytes(), DEADLINE)?;
        let mut wanted = [0; 4];
        match socket::read_exact(client, &mut wanted, Instant::now() + DEADLINE) {
            Err(err) if err.kind() == io::ErrorKind::UnexpectedEof => return Err(End::Quiet),
            other => other?,
        }
        if u32::from_be_bytes(wanted) & !FEATURES != 0 {
            return Err(End::Quiet);
        }
        connection.greeted();
        let mut reply = Reply::default();
        let mut parameters = [0; DATA_MAX];
        while !connection.stopping() {
            let (command, device) = receive(connection)?;
            let status = self.answer(connection, &command, device, &mut parameters, &mut reply)?;
            tracepoint::trace!(OUTCOME, "status=0x{status:02x} payload={}", reply.payload());
            socket::write_all(client, reply.wire(), DEADLINE)?;
            connection.end();
        }
        Ok(())
    }

    /// Carries the command out and fills in the reply.
    fn answer(
        &self,
        connection: &Connection,
        command: &Command,
        fd: OwnedFd,
        parameters: &mut [u8; DATA_MAX],
        reply: &mut Reply,
    ) -> Result<u8, End> {
        let action = command.service_action();
        tracepoint::trace!(
            REQUEST,
            "pid={} opcode=0x{:02x} service_action={action} length={}",
            connection.peer().pid,
            command.cdb[0],
            command.length
        );
        if command.is_out() {
            let list = &mut parameters[..command.length];
            socket::read_exact(connection.socket(), list, Instant::now() + DEADLINE)?;
            tracepoint::trace!(
                PR_OUT,
                "service_action={action} type={} length={}",
                command.cdb[2] & 0xf,
                list.len()
            );
            if device::is_read_only(fd.as_fd()) {
                return Ok(check(reply, sense::INVALID_OPCODE));
            }
        } else {
            tracepoint::trace!(PR_IN, "service_action={action} length={}", command.length);
        }
        match (self.classify)(fd.as_fd()) {
            Device::Scsi(number) => connection.begin(number),
            Device::Mapped(number) => {
                connection.begin(number);
                let list = if command.is_out() { &parameters[..command.length] } else { &[] };
                match self.multipath.ask(command, list, fd.as_fd()) {
                    // A volume of another kind: the kernel passes the command on, or says that it does not.
                    Answer::NotMultipath => {}
                    Answer::Unable => return Ok(check(reply, sense::TARGET_FAILURE)),
                    Answer::Busy => return Ok(settle(reply, Verdict::Status(sense::BUSY))),
                    Answer::Lost => return Ok(check(reply, sense::LUN_COMM_FAILURE)),
                    Answer::Done { status, sense, payload } => {
                        let used = payload.len().min(command.length);
                        reply.data()[..used].copy_from_slice(&payload[..used]);
                        reply.set(status, &sense, used);
                        return Ok(status);
                    }
                }
            }
            Device::Other => return Ok(check(reply, sense::IO_ERROR)),
        }
        let mut device_sense = [0; 96];
        let data = if command.is_out() {
            Data::Out(&parameters[..command.length])
        } else {
            // What the device leaves untouched must not be another request's.
            reply.data()[..command.length].fill(0);
            Data::In(reply.data())
        };
        let done = match sg::execute(fd.as_fd(), &command.cdb, data, &mut device_sense) {
            Ok(done) => done,
            Err(err) => return Ok(settle(reply, sense::of_errno(err.raw_os_error().unwrap_or(0)))),
        };
        match sense::of_completion(done.host, done.driver) {
            Verdict::Device => {
                let wants_payload = done.status == sense::GOOD && !command.is_out();
                let payload = if wants_payload { done.transferred.min(command.length) } else { 0 };
                reply.set(done.status, &device_sense[..done.sense], payload);
                Ok(done.status)
            }
            verdict => Ok(settle(reply, verdict)),
        }
    }
}

fn check(reply: &mut Reply, sense: Sense) -> u8 {
    settle(reply, Verdict::Check(sense))
}

fn settle(reply: &mut Reply, verdict: Verdict) -> u8 {
    let status = match verdict {
        Verdict::Check(sense) => {
            reply.set(sense::CHECK_CONDITION, &sense.fixed(), 0);
            return sense::CHECK_CONDITION;
        }
        Verdict::Status(status) => status,
        Verdict::Device => sense::GOOD,
    };
    reply.set(status, &[], 0);
    status
}

/// Waits, for ever, for the first byte of a request; the rest must follow within the deadline.
fn receive(connection: &Connection) -> Result<(Command, OwnedFd), End> {
    let client = connection.socket();
    let mut cdb = [0; CDB_SIZE];
    let mut have = 0;
    let mut device: Option<OwnedFd> = None;
    let mut deadline = None;
    while have < CDB_SIZE {
        let received = match socket::receive_with_fd(client, &mut cdb[have..], have == 0) {
            Ok(received) => received,
            Err(err) if err.kind() == io::ErrorKind::WouldBlock => {
                let until = *deadline.get_or_insert_with(|| Instant::now() + DEADLINE);
                let left = until.saturating_duration_since(Instant::now());
                if left.is_zero() || !socket::wait(client, libc::POLLIN, Some(left))? {
                    return Err(End::Io(io::ErrorKind::TimedOut.into()));
                }
                continue;
            }
            Err(err) => return Err(err.into()),
        };
        // Too many descriptors or the end inside a command: without a word, as the original.
        if received.excess || (device.is_some() && received.fd.is_some()) {
            return Err(End::Quiet);
        }
        if received.bytes == 0 {
            return Err(End::Quiet);
        }
        have += received.bytes;
        device = device.or(received.fd);
    }
    let device = device.ok_or(NO_DESCRIPTOR)?;
    let command = Command::decode(cdb).map_err(|invalid| match invalid {
        Invalid::Opcode(_) => INVALID_CDB,
        Invalid::Length(_) => End::Quiet,
    })?;
    Ok((command, device))
}
