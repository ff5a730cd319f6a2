//! A client's conversation, on the client's own thread.

use crate::msr::{Cache, Registers};
use crate::options::{CONN_CLOSE, CONN_OPEN, REPLY, REQUEST};
use crate::protocol::{REQUEST_SIZE, Request, Vendor};
use daemon::server::{Connection, Handler};
use daemon::{log, os_text, socket};
use std::collections::BTreeSet;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Time for a request that has begun, and for taking a reply.
pub const DEADLINE: Duration = Duration::from_secs(10);

/// Serves clients of the RAPL protocol.
#[derive(Debug)]
pub struct Service<R> {
    vendor: Vendor,
    registers: Cache<R>,
    /// CPUs that are not served, as far as they have been told of.
    missing: Mutex<BTreeSet<u32>>,
}

/// Most CPUs that are told of as missing: clients may ask for any number.
const MISSING_MAX: usize = 1024;

impl<R: Registers> Service<R> {
    /// A service of `vendor`'s registers.
    #[must_use]
    pub fn new(vendor: Vendor, registers: Cache<R>) -> Self {
        Self { vendor, registers, missing: Mutex::default() }
    }

    fn converse(&self, connection: &Connection) -> io::Result<()> {
        let client = connection.socket();
        let peer = connection.peer();
        let process = socket::peer_pidfd(client, peer);
        connection.greeted();
        while !connection.stopping() {
            let mut bytes = [0; REQUEST_SIZE];
            // For the beginning of a request there is all the time in the world.
            socket::wait(client, POLLIN, None)?;
            match socket::read_exact(client, &mut bytes, Instant::now() + DEADLINE) {
                Err(err) if err.kind() == io::ErrorKind::UnexpectedEof => return Ok(()),
                other => other?,
            }
            let request = Request::decode(bytes);
            tracepoint::trace!(
                REQUEST,
                "pid={} msr=0x{:x} cpu={} tid={}",
                peer.pid,
                request.msr,
                request.cpu,
                request.tid
            );
            if !request.is_allowed(self.vendor) {
                log::client_error(&format!("Requested unallowed msr: {}", request.msr));
                return Ok(());
            }
            let value = self.value(request, peer.pid, process.as_ref());
            tracepoint::trace!(REPLY, "value=0x{value:x}");
            socket::write_all(client, &value.to_ne_bytes(), DEADLINE)?;
        }
        Ok(())
    }

    /// The register's value, or 0 with a message where there is none or the client has no such thread.
    fn value(&self, request: Request, pid: i32, process: Option<&OwnedFd>) -> u64 {
        if !has_thread(Path::new("/proc"), pid, request.tid, process) {
            log::client_error(&format!("Failed to find thread {} of process {pid}", request.tid));
            return 0;
        }
        self.registers.read(request.cpu, request.msr).unwrap_or_else(|err| {
            if err.kind() == io::ErrorKind::NotFound {
                let mut missing = self.missing.lock().unwrap_or_else(PoisonError::into_inner);
                if missing.len() < MISSING_MAX && missing.insert(request.cpu) {
                    log::client_error(&format!("CPU {} was not there at start and reads as 0", request.cpu));
                }
            } else {
                log::client_error(&format!(
                    "Failed to read MSR 0x{:x} of CPU {}: {}",
                    request.msr,
                    request.cpu,
                    os_text(&err)
                ));
            }
            0
        })
    }
}

/// `POLLIN`.
const POLLIN: i16 = 1;

/// Whether `tid` is a thread of `pid`, and `pid` still the process that connected.
fn has_thread(proc: &Path, pid: i32, tid: u32, process: Option<&OwnedFd>) -> bool {
    pid > 0
        && proc.join(format!("{pid}/task/{tid}")).symlink_metadata().is_ok()
        && process.is_none_or(|pidfd| !socket::has_exited(pidfd.as_fd()))
}

impl<R: Registers + 'static> Handler for Service<R> {
    fn serve(&self, connection: &Connection) {
        let peer = connection.peer();
        tracepoint::trace!(CONN_OPEN, "pid={} uid={}", peer.pid, peer.uid);
        if let Err(err) = self.converse(connection)
            && err.kind() == io::ErrorKind::TimedOut
        {
            log::client_error(&format!("process {} took too long over a request, closing socket.", peer.pid));
        }
        tracepoint::trace!(CONN_CLOSE, "pid={} uid={}", peer.pid, peer.uid);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read, Write};
    use std::os::unix::net::UnixStream;

    /// A host with CPU 0, whose registers read as their number.
    struct Fake;
    impl Registers for Fake {
        fn read(&self, _: u32, msr: u32) -> io::Result<u64> {
            Ok(u64::from(msr) << 8)
        }
        fn package(&self, cpu: u32) -> Option<u32> {
            (cpu == 0).then_some(0)
        }
    }

    /// What a client of this process gets for its requests (register, CPU, thread), until it is sent away.
    fn values(vendor: Vendor, requests: &[(u32, u32, u32)]) -> Vec<u64> {
        let (mut near, far) = UnixStream::pair().unwrap();
        for (msr, cpu, tid) in requests {
            near.write_all(&[*msr, *cpu, *tid].map(u32::to_ne_bytes).concat()).unwrap();
        }
        near.shutdown(std::net::Shutdown::Write).unwrap();
        Service::new(vendor, Cache::new(Fake)).serve(&Connection::new(far.into()).unwrap());
        let mut replies = Vec::new();
        let _ = near.read_to_end(&mut replies);
        replies.chunks_exact(8).map(|b| u64::from_ne_bytes(b.try_into().unwrap())).collect()
    }

    #[test]
    fn intel_and_amd() {
        let me = std::process::id();
        let all = [0x606, 0x610, 0x611, 0x614].map(|msr| (msr, 0, me));
        assert_eq!(values(Vendor::Intel, &all), [0x6_0600, 0x6_1000, 0x6_1100, 0x6_1400]);
        let amd = [(0xc001_0299, 0, me), (0xc001_029b, 0, me), (0x611, 0, me), (0xc001_0299, 0, me)];
        assert_eq!(
            values(Vendor::Amd, &amd),
            [0xc0_0102_9900, 0xc0_0102_9b00],
            "closed at another's register"
        );
        assert_eq!(values(Vendor::Intel, &amd), []);
    }

    #[test]
    fn foreign_threads_and_missing_processors_read_as_zero() {
        let me = std::process::id();
        assert_eq!(values(Vendor::Intel, &[(0x611, 0, 1), (0x611, 7, me), (0x611, 0, me)]), [0, 0, 0x6_1100]);
    }

    #[test]
    fn threads_of_this_process() {
        let me = std::process::id();
        let pid = i32::try_from(me).unwrap();
        let proc = Path::new("/proc");
        assert!(has_thread(proc, pid, me, None));
        assert!(!has_thread(proc, pid, 1, None));
        assert!(!has_thread(proc, 0, me, None));
    }
}
