//! The process that has the library: it is handed requests one by one and has each worked on by a child.

use super::convert::{self, Task};
use super::library::{self, Library};
use super::mapper::{self, Mapper};
use super::wire::{self, Answer};
use crate::protocol::Command;
use crate::sense::{self, Sense};
use crate::sg::{self, Data};
use daemon::app::Settings;
use daemon::sandbox::seccomp::{self, Rule};
use daemon::sandbox::{landlock, no_new_privileges};
use daemon::{detach, log, os_text, privileges, process, signals, socket};
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::Path;

/// Most commands in progress at once.
const WORKERS: usize = 64;

/// Forks the process and answers the way to it. It ends when the answered descriptor is closed, and ignores the
/// ending signals, which the server has blocked before: requests in progress are to be finished.
///
/// # Errors
/// What `socketpair` or `fork` report.
pub fn start(settings: &Settings) -> io::Result<OwnedFd> {
    let (ours, theirs) = socket::message_pair()?;
    match process::fork()? {
        process::Side::Parent(_) => Ok(ours),
        process::Side::Child => {
            process::close_all_but(theirs.as_fd());
            process::set_name(c"pr-multipath");
            // The library raises the limit itself, which it cannot any more then, and says so each time.
            let most = std::fs::read_to_string("/proc/sys/fs/nr_open").ok();
            let most = most.and_then(|text| text.trim().parse().ok()).unwrap_or(0);
            let _ = privileges::raise_descriptor_limit(most);
            let confined = privileges::drop_to(
                settings.uid,
                settings.gid,
                &[privileges::CAP_SYS_RAWIO, privileges::CAP_SYS_ADMIN],
            )
            .and_then(|()| if settings.background { detach::silence() } else { Ok(()) })
            .and_then(|()| confine());
            if let Err(err) = confined {
                // Where the server fails likewise it says so itself and leaves; else this matters once we are needed.
                let asked = socket::receive_with_fd(theirs.as_fd(), &mut [0], true);
                if asked.is_ok_and(|received| received.bytes > 0) {
                    log::error(&format!("no sandbox for multipath devices: {}", os_text(&err)));
                }
                process::exit(1);
            }
            let status = serve(&theirs, &mut mapper::Kernel::default(), settings.verbosity);
            process::exit(i32::from(status.is_err()));
        }
    }
}

/// Everything that libmpathpersist does and the server must not: opening devices, configuration and libraries, threads
/// and children, multipathd's socket. No other family of sockets, nothing new to execute, no writing but to devices.
/// For a process with one thread.
///
/// # Errors
/// What the system calls report.
pub fn confine() -> io::Result<()> {
    use landlock::{IOCTL_DEVICE, READ_DIR, READ_FILE, WRITE_FILE};
    no_new_privileges()?;
    let read = READ_FILE | READ_DIR;
    landlock::restrict_but(
        &[
            (Path::new("/dev"), read | WRITE_FILE | IOCTL_DEVICE),
            (Path::new("/etc"), read),
            (Path::new("/lib"), read),
            (Path::new("/lib64"), read),
            (Path::new("/usr"), read),
            (Path::new("/opt"), read),
            (Path::new("/proc"), read),
            (Path::new("/sys"), read),
            (Path::new("/run"), read),
        ],
        // multipathd listens on an abstract socket.
        landlock::Scope::Open,
    )?;
    let mut rules = seccomp::server_rules();
    rules.extend(RULES);
    seccomp::install(&rules)
}

const RULES: &[Rule] = &[
    Rule::AllowIf(libc::SYS_ioctl, 1, sg::SG_IO),
    // The device mapper's ioctls, type 0xfd: version, devices, status, dependencies, table, names, messages.
    Rule::AllowIf(libc::SYS_ioctl, 1, 0xc138_fd00),
    Rule::AllowIf(libc::SYS_ioctl, 1, 0xc138_fd02),
    Rule::AllowIf(libc::SYS_ioctl, 1, 0xc138_fd07),
    Rule::AllowIf(libc::SYS_ioctl, 1, 0xc138_fd0b),
    Rule::AllowIf(libc::SYS_ioctl, 1, mapper::DM_TABLE_STATUS),
    Rule::AllowIf(libc::SYS_ioctl, 1, 0xc138_fd0d),
    Rule::AllowIf(libc::SYS_ioctl, 1, 0xc138_fd0e),
    // SG_GET_VERSION_NUM, BLKGETSIZE, BLKSSZGET, BLKGETSIZE64; FIONREAD.
    Rule::AllowIf(libc::SYS_ioctl, 1, 0x2282),
    Rule::AllowIf(libc::SYS_ioctl, 1, 0x1260),
    Rule::AllowIf(libc::SYS_ioctl, 1, 0x1268),
    Rule::AllowIf(libc::SYS_ioctl, 1, 0x8008_1272),
    Rule::AllowIf(libc::SYS_ioctl, 1, 0x541b),
    Rule::AllowIf(libc::SYS_socketpair, 0, libc::AF_UNIX as u32),
    Rule::AllowIf(libc::SYS_socket, 0, libc::AF_UNIX as u32),
    // A child as fork makes it: none of the bits that make namespaces (clone(2)), checked by their being absent.
    Rule::AllowUnlessBits(libc::SYS_clone, 0, NAMESPACES),
    // Code of libraries is mapped.
    Rule::Allow(libc::SYS_mmap),
    Rule::Allow(libc::SYS_mprotect),
    Rule::Allow(libc::SYS_fork),
    Rule::Allow(libc::SYS_wait4),
    Rule::Allow(libc::SYS_connect),
    Rule::Allow(libc::SYS_sendmsg),
    Rule::Allow(libc::SYS_setsockopt),
    Rule::Allow(libc::SYS_getsockname),
    Rule::Allow(libc::SYS_open),
    Rule::Allow(libc::SYS_stat),
    Rule::Allow(libc::SYS_lstat),
    Rule::Allow(libc::SYS_access),
    Rule::Allow(libc::SYS_faccessat),
    Rule::Allow(libc::SYS_faccessat2),
    Rule::Allow(libc::SYS_readlink),
    Rule::Allow(libc::SYS_readlinkat),
    Rule::Allow(libc::SYS_getdents64),
    Rule::Allow(libc::SYS_fcntl),
    Rule::Allow(libc::SYS_flock),
    Rule::Allow(libc::SYS_dup),
    Rule::Allow(libc::SYS_pipe2),
    Rule::Allow(libc::SYS_statfs),
    Rule::Allow(libc::SYS_fstatfs),
    Rule::Allow(libc::SYS_getcwd),
    Rule::Allow(libc::SYS_uname),
    Rule::Allow(libc::SYS_sysinfo),
    Rule::Allow(libc::SYS_umask),
    Rule::Allow(libc::SYS_getuid),
    Rule::Allow(libc::SYS_geteuid),
    Rule::Allow(libc::SYS_getgid),
    Rule::Allow(libc::SYS_getegid),
    Rule::Allow(libc::SYS_getppid),
    Rule::Allow(libc::SYS_prlimit64),
    Rule::Allow(libc::SYS_getrlimit),
    Rule::Allow(libc::SYS_setrlimit),
    Rule::Allow(libc::SYS_getpriority),
    Rule::Allow(libc::SYS_clock_getres),
    Rule::Allow(libc::SYS_timer_create),
    Rule::Allow(libc::SYS_timer_settime),
    Rule::Allow(libc::SYS_timer_delete),
    Rule::Allow(libc::SYS_epoll_create1),
    Rule::Allow(libc::SYS_epoll_ctl),
    Rule::Allow(libc::SYS_epoll_wait),
    // The checker that reads paths asynchronously.
    Rule::Allow(libc::SYS_io_setup),
    Rule::Allow(libc::SYS_io_submit),
    Rule::Allow(libc::SYS_io_cancel),
    Rule::Allow(libc::SYS_io_getevents),
    Rule::Allow(libc::SYS_io_destroy),
    Rule::Allow(libc::SYS_pread64),
    Rule::Allow(libc::SYS_set_tid_address),
    Rule::Allow(libc::SYS_membarrier),
    Rule::Allow(libc::SYS_signalfd4),
];

/// The flags of `clone` that make namespaces.
const NAMESPACES: u32 = (libc::CLONE_NEWNS
    | libc::CLONE_NEWCGROUP
    | libc::CLONE_NEWUTS
    | libc::CLONE_NEWIPC
    | libc::CLONE_NEWUSER
    | libc::CLONE_NEWPID
    | libc::CLONE_NEWNET) as u32;

/// Serves requests that come over `control` until it is closed. For a process with one thread only: it forks.
///
/// # Errors
/// When waiting fails.
pub fn serve(control: &OwnedFd, mapper: &mut dyn Mapper, verbosity: u32) -> io::Result<()> {
    let ended = signals::descriptor(&[libc::SIGCHLD])?;
    let mut dispatcher = Dispatcher { mapper, verbosity, library: None, told: [false; 2], workers: 0 };
    loop {
        socket::wait_any(&[control.as_fd(), ended.as_fd()], None)?;
        let _ = signals::take(&ended);
        while process::reap().is_some() {
            dispatcher.workers = dispatcher.workers.saturating_sub(1);
        }
        let mut byte = [0];
        match socket::receive_with_fd(control.as_fd(), &mut byte, false) {
            Ok(received) if received.bytes == 0 => return Ok(()),
            Ok(received) => {
                if let Some(reply_to) = received.fd {
                    dispatcher.dispatch(&reply_to);
                }
            }
            Err(err) if err.kind() == io::ErrorKind::WouldBlock => {}
            // Out of descriptors, for a moment.
            Err(err) => log::client_error(&format!("multipath request: {}", os_text(&err))),
        }
    }
}

struct Dispatcher<'a> {
    mapper: &'a mut dyn Mapper,
    verbosity: u32,
    library: Option<Library>,
    told: [bool; 2],
    workers: usize,
}

impl Dispatcher<'_> {
    fn dispatch(&mut self, reply_to: &OwnedFd) {
        let mut bytes = vec![0; wire::REQUEST_MAX];
        let Ok(received) = socket::receive_with_fd(reply_to.as_fd(), &mut bytes, false) else { return };
        let Some(device) = received.fd else { return };
        let Some((command, parameters)) = wire::decode_request(&bytes[..received.bytes]) else { return };
        if let Some(answer) = self.without_worker(device.as_fd()) {
            send(reply_to, &answer);
            return;
        }
        let Some(library) = self.library else { return };
        match process::fork() {
            Ok(process::Side::Parent(_)) => self.workers += 1,
            Ok(process::Side::Child) => {
                let answer = work(&library, &command, parameters, device.as_fd(), self.verbosity);
                send(reply_to, &answer);
                process::exit(0);
            }
            Err(_) => send(reply_to, &Answer::Busy),
        }
    }

    /// The answer, where that takes no command to a device.
    fn without_worker(&mut self, device: BorrowedFd<'_>) -> Option<Answer> {
        let number = crate::device::number(device)?;
        match self.mapper.is_multipath(number) {
            Ok(true) => {}
            Ok(false) => return Some(Answer::NotMultipath),
            Err(err) => {
                self.tell(
                    0,
                    &format!(
                        "device {}:{}: {}: {}",
                        libc::major(number),
                        libc::minor(number),
                        mapper::CONTROL,
                        os_text(&err)
                    ),
                );
                return Some(Answer::Unable);
            }
        }
        if self.library.is_none() {
            match Library::load() {
                Ok(library) => self.library = Some(library),
                Err(words) => {
                    let device = format!("{}:{}", libc::major(number), libc::minor(number));
                    self.tell(1, &format!(
                        "device {device} is a multipath device, and reservations on those need libmpathpersist: {words}"
                    ));
                    return Some(Answer::Unable);
                }
            }
        }
        (self.workers >= WORKERS).then_some(Answer::Busy)
    }

    /// Says once what is missing; it may be installed while we run, so each request looks again.
    fn tell(&mut self, which: usize, text: &str) {
        if !std::mem::replace(&mut self.told[which], true) {
            log::error(text);
        }
    }
}

/// The server may be gone by now.
fn send(reply_to: &OwnedFd, answer: &Answer) {
    let _ = socket::send_message(reply_to.as_fd(), &answer.encode(), None);
}

fn check(sense: Sense) -> Answer {
    Answer::Done { status: sense::CHECK_CONDITION, sense: sense.fixed().to_vec(), payload: Vec::new() }
}

/// Carries one command out by the library; what it says becomes status and sense.
fn work(
    library: &Library,
    command: &Command,
    parameters: &[u8],
    device: BorrowedFd<'_>,
    verbosity: u32,
) -> Answer {
    let task = match convert::task(command, parameters) {
        Ok(task) => task,
        Err(sense) => return check(sense),
    };
    if !library.init(verbosity) {
        log::client_error("libmpathpersist cannot be initialised");
        return check(sense::TARGET_FAILURE);
    }
    let (code, result) = library.run(device.as_raw_fd(), &task, verbosity);
    match (code, &task) {
        (library::SUCCESS, Task::In(action)) => match convert::payload(*action, &result, command.length) {
            Ok(payload) => Answer::Done { status: sense::GOOD, sense: Vec::new(), payload },
            Err(sense) => check(sense),
        },
        (library::SUCCESS, Task::Out { .. }) => {
            Answer::Done { status: sense::GOOD, sense: Vec::new(), payload: Vec::new() }
        }
        _ => failure(code, || test_unit_ready(device)),
    }
}

/// What the library's refusals become (`MPATH_PR_*`). It tells no more than the sense key, so for some a TEST UNIT READY
/// may bring the device's own sense, if that still has the same key.
fn failure(code: i32, probe: impl FnOnce() -> Option<Vec<u8>>) -> Answer {
    let key_only = match code {
        2 => sense::NOT_READY,
        3 => sense::READ_ERROR,
        4 => sense::TARGET_FAILURE,
        8 => sense::IO_ERROR,
        5 => return check(sense::INVALID_PARAMETER),
        6 => return check(sense::BUS_RESET),
        7 => return check(sense::INVALID_OPCODE),
        9 => return check(sense::NO_SENSE),
        11 => {
            return Answer::Done {
                status: sense::RESERVATION_CONFLICT,
                sense: Vec::new(),
                payload: Vec::new(),
            };
        }
        _ => return check(sense::LUN_COMM_FAILURE),
    };
    match probe().filter(|sense| sense::key(sense) == Some(key_only.0)) {
        Some(sense) => Answer::Done { status: sense::CHECK_CONDITION, sense, payload: Vec::new() },
        None => check(key_only),
    }
}

/// The sense with which a TEST UNIT READY fails.
fn test_unit_ready(device: BorrowedFd<'_>) -> Option<Vec<u8>> {
    let mut sense = [0; 96];
    let done = sg::execute(device, &[0; 6], Data::None, &mut sense).ok()?;
    (done.status == sense::CHECK_CONDITION).then(|| sense[..done.sense].to_vec())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sense_of(answer: Answer) -> Option<(u8, u8, u8)> {
        let Answer::Done { status: sense::CHECK_CONDITION, sense, payload } = answer else { return None };
        assert!(payload.is_empty());
        Some((sense[2], sense[12], sense[13]))
    }

    #[test]
    fn refusals_of_the_library() {
        for (code, want) in [
            (2, (2, 4, 0)),
            (3, (3, 0x11, 0)),
            (4, (4, 0x44, 0)),
            (5, (5, 0x26, 0)),
            (6, (6, 0x29, 2)),
            (7, (5, 0x20, 0)),
            (8, (0xb, 0, 6)),
            (9, (0, 0, 0)),
        ] {
            assert_eq!(sense_of(failure(code, || None)), Some(want), "{code}");
        }
        for code in [-1, 1, 10, 12, 13, 14, 15, 16, 17, 99] {
            assert_eq!(sense_of(failure(code, || None)), Some((0xb, 8, 0)), "{code}");
        }
        assert!(matches!(failure(11, || None), Answer::Done { status: 0x18, .. }));
    }

    #[test]
    fn the_devices_own_sense_if_it_fits() {
        let becoming_ready = Sense(2, 4, 1).fixed().to_vec();
        assert_eq!(sense_of(failure(2, || Some(becoming_ready.clone()))), Some((2, 4, 1)));
        assert_eq!(sense_of(failure(3, || Some(becoming_ready))), Some((3, 0x11, 0)));
    }
}
