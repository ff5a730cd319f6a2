//! A client of `qemu-pr-helper` that sends anything, in pieces, with and without descriptors.

use daemon::server::{Connection, Handler};
use daemon::socket;
use scsi_pr::device::Device;
use scsi_pr::multipath::Client;
use scsi_pr::protocol::REPLY_SIZE;
use scsi_pr::service::Service;
use std::fs::File;
use std::io::{Read, Write};
use std::net::Shutdown;
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::sync::LazyLock;

static NULL: LazyLock<File> = LazyLock::new(|| File::open("/dev/null").expect("/dev/null"));
static SERVICE: LazyLock<Service> = LazyLock::new(|| {
    daemon::log::set_quiet(true);
    let (control, _) = socket::message_pair().expect("socketpair");
    // Commands are let through to the ioctl, which that device refuses.
    Service::new(Client::new(control)).classified_by(|_| Device::Scsi(0))
});

/// The input: four bytes of hello, then pieces; each begins with its length, whose highest bit adds a descriptor.
pub fn run(data: &[u8]) {
    let Some((hello, mut rest)) = data.split_first_chunk::<4>() else { return };
    let (mut near, far) = UnixStream::pair().expect("socketpair");
    near.write_all(hello).expect("room for the hello");
    // All of it fits into the socket's buffer, and so do the replies.
    for _ in 0..64 {
        let Some((&head, tail)) = rest.split_first() else { break };
        let (piece, tail) = tail.split_at(usize::from(head & 0x7f).min(tail.len()));
        rest = tail;
        if !piece.is_empty() {
            let fd = (head & 0x80 != 0).then(|| NULL.as_fd());
            socket::send_message(near.as_fd(), piece, fd).expect("room for a piece");
        }
    }
    near.shutdown(Shutdown::Write).expect("shutdown");
    SERVICE.serve(&Connection::new(far.into()).expect("a connection"));
    let mut replies = Vec::new();
    // What the service left unread resets the connection once all replies are read.
    let _ = near.read_to_end(&mut replies);
    assert_eq!(replies.len() % REPLY_SIZE, 4, "a hello and whole replies");
    assert_eq!(replies[..4], [0; 4]);
    for reply in replies[4..].chunks_exact(REPLY_SIZE) {
        assert_eq!(reply[..8], [0, 0, 0, 2, 0, 0, 0, 0], "CHECK CONDITION and no payload");
    }
}
