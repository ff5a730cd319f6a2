//! A client of `qemu-vmsr-helper` that sends anything.

use daemon::server::{Connection, Handler};
use rapl::msr::{Cache, Registers};
use rapl::protocol::{REQUEST_SIZE, Vendor};
use rapl::service::Service;
use std::io::{self, Read, Write};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::sync::LazyLock;

struct Fake;

impl Registers for Fake {
    fn read(&self, _: u32, msr: u32) -> io::Result<u64> {
        assert!([0x606, 0x610, 0x611, 0x614].contains(&msr), "register {msr:#x} must never be read");
        Ok(u64::from(msr))
    }

    fn package(&self, cpu: u32) -> Option<u32> {
        (cpu < 4).then_some(cpu / 2)
    }
}

static SERVICE: LazyLock<Service<Fake>> = LazyLock::new(|| {
    daemon::log::set_quiet(true);
    Service::new(Vendor::Intel, Cache::new(Fake))
});

/// The input is what the client sends. A thread id of zero stands for one that the client has.
pub fn run(data: &[u8]) {
    let mut data = data[..data.len().min(2048)].to_vec();
    for request in data.chunks_exact_mut(REQUEST_SIZE).filter(|r| r[8..] == [0; 4]) {
        request[8..].copy_from_slice(&std::process::id().to_ne_bytes());
    }
    let (mut near, far) = UnixStream::pair().expect("socketpair");
    near.write_all(&data).expect("room for the requests");
    near.shutdown(Shutdown::Write).expect("shutdown");
    SERVICE.serve(&Connection::new(far.into()).expect("a connection"));
    let mut replies = Vec::new();
    // What the service left unread resets the connection once all replies are read.
    let _ = near.read_to_end(&mut replies);
    assert_eq!(replies.len() % 8, 0, "whole replies");
    assert!(replies.len() / 8 <= data.len() / REQUEST_SIZE);
    for (reply, request) in replies.chunks_exact(8).zip(data.chunks_exact(REQUEST_SIZE)) {
        let value = u64::from_ne_bytes(reply.try_into().expect("eight bytes"));
        let msr = u64::from(u32::from_ne_bytes(request[..4].try_into().expect("four bytes")));
        assert!(value == 0 || value == msr);
    }
}
