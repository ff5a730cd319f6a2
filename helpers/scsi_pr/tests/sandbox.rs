//! What the two processes of `qemu-pr-helper` can still do once they are confined, tried out from inside.
//!
//! Without the test harness: a sandbox is for a whole process, and is stepped into by one with a single thread.
#![forbid(unsafe_code)]

use daemon::process::{self, Side};
use daemon::sandbox::landlock;
use nix::sys::socket::{AddressFamily, SockFlag, SockType, socket};
use nix::sys::wait::{WaitStatus, waitpid};
use std::fs::File;
use std::io;
use std::os::fd::AsFd;
use std::os::unix::net::UnixListener;
use std::path::Path;

/// Runs `body` in a child, and fails if that does.
fn in_child(name: &str, body: impl FnOnce() -> Result<(), String>) {
    match process::fork().unwrap() {
        Side::Child => {
            let result = body();
            if let Err(text) = &result {
                eprintln!("{name}: {text}");
            }
            process::exit(i32::from(result.is_err()));
        }
        Side::Parent(child) => {
            let status = waitpid(nix::unistd::Pid::from_raw(child), None).unwrap();
            assert!(matches!(status, WaitStatus::Exited(_, 0)), "{name}: {status:?}");
            println!("test {name} ... ok");
        }
    }
}

fn refused<T>(what: &str, result: io::Result<T>) -> Result<(), String> {
    match result {
        Ok(_) => Err(format!("{what} is possible")),
        Err(err) => match err.raw_os_error() {
            Some(libc::EPERM | libc::EACCES) => Ok(()),
            _ => Err(format!("{what}: {err}")),
        },
    }
}

fn errno<T>(result: nix::Result<T>) -> io::Result<T> {
    result.map_err(Into::into)
}

/// What neither process may do.
fn common(null: &File) -> Result<(), String> {
    refused("execve", std::process::Command::new("/bin/true").status())?;
    let internet = socket(AddressFamily::Inet, SockType::Stream, SockFlag::empty(), None);
    refused("an internet socket", errno(internet))?;
    let netlink = socket(AddressFamily::Netlink, SockType::Raw, SockFlag::empty(), None);
    refused("a netlink socket", errno(netlink))?;
    refused("a terminal's ioctl", errno(nix::sys::termios::tcgetattr(null.as_fd()).map(drop)))?;
    refused("kill", errno(nix::sys::signal::kill(nix::unistd::getppid(), None)))?;
    refused("creating a file", File::create("/tmp/tinamou-sandbox-test"))?;
    Ok(())
}

fn server(null: &File, folder: &Path) -> Result<(), String> {
    scsi_pr::confine(&[folder.to_owned()]).map_err(|e| e.to_string())?;
    common(null)?;
    refused("a Unix socket", UnixListener::bind(folder.join("s")))?;
    // On kernels without Landlock only the system calls are limited, and openat is among them.
    if landlock::version() > 0 {
        refused("opening a device", File::open("/dev/null"))?;
        refused("opening a file", File::open("/etc/passwd"))?;
    }
    let fork = process::fork();
    if matches!(fork, Ok(Side::Child)) {
        process::exit(0);
    }
    refused("a child", fork)?;
    // And what it needs goes on working: threads, clocks, our own files' removal, SG_IO itself.
    std::thread::spawn(std::time::Instant::now).join().map_err(|_| "no thread".to_owned())?;
    std::fs::remove_file(folder.join("mine")).map_err(|e| format!("removing: {e}"))?;
    let mut sense = [0; 96];
    let done = scsi_pr::sg::execute(null.as_fd(), &[0; 6], scsi_pr::sg::Data::None, &mut sense);
    match done.map_err(|e| e.raw_os_error()) {
        Err(Some(libc::ENOTTY)) => Ok(()),
        other => Err(format!("SG_IO: {other:?}")),
    }
}

fn with_the_library(null: &File) -> Result<(), String> {
    scsi_pr::multipath::process::confine().map_err(|e| e.to_string())?;
    common(null)?;
    // Reading configuration, writing to devices, children and Unix sockets are what it is for.
    File::open("/etc/passwd").map_err(|e| format!("configuration: {e}"))?;
    File::options().write(true).open("/dev/null").map_err(|e| format!("devices: {e}"))?;
    std::os::unix::net::UnixDatagram::unbound().map_err(|e| format!("Unix socket: {e}"))?;
    match process::fork() {
        Ok(Side::Child) => process::exit(0),
        Ok(Side::Parent(_)) => {}
        Err(err) => return Err(format!("a child: {err}")),
    }
    Ok(())
}

fn main() {
    let folder = std::env::temp_dir().join(format!("sandbox-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    std::fs::write(folder.join("mine"), "").unwrap();
    let null = File::options().read(true).write(true).open("/dev/null").unwrap();
    in_child("server", || server(&null, &folder));
    in_child("with_the_library", || with_the_library(&null));
    std::fs::remove_dir_all(&folder).unwrap();
    println!("test result: ok. 2 passed; 0 failed");
}
