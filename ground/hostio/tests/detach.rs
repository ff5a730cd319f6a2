//! Detaching, with this program as its own daemon: run without the test harness, whose threads forbid a fork.

use hostio::{detach, pidlock::PidLock};
use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

fn main() {
    if let Some(path) = std::env::var_os("DETACH_PIDFILE") {
        let path = PathBuf::from(path);
        let readiness = detach::detach().expect("detach");
        if std::env::var_os("DETACH_FAILS").is_some() {
            return;
        }
        let lock = PidLock::create(&path).expect("pid file");
        readiness.ready(false).expect("ready");
        // In the background: the caller sees the file while we live, and not after.
        std::thread::sleep(Duration::from_millis(500));
        drop(lock);
        return;
    }
    let path = std::env::temp_dir().join(format!("detach-{}", std::process::id()));
    let program = std::env::current_exe().expect("own path");
    let daemon = || {
        let mut command = Command::new(&program);
        command.env("DETACH_PIDFILE", &path);
        command
    };
    let failed = daemon().env("DETACH_FAILS", "1").status().expect("run");
    assert_eq!(failed.code(), Some(1), "a daemon that ends before it is ready is a failure");
    let begin = Instant::now();
    let status = daemon().status().expect("run");
    assert!(status.success());
    assert!(begin.elapsed() < Duration::from_millis(450), "the caller does not wait for the daemon's end");
    let pid: u32 = std::fs::read_to_string(&path).expect("pid file").trim().parse().expect("number");
    assert!(PidLock::create(&path).is_err(), "the daemon holds the lock");
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).expect("the daemon lives");
    let session = stat.rsplit(") ").next().and_then(|rest| rest.split(' ').nth(3)).expect("session");
    assert_ne!(session, pid.to_string(), "no leader of its session, so that no terminal can come back");
    let end = Instant::now() + Duration::from_secs(5);
    while path.exists() {
        assert!(Instant::now() < end, "the daemon did not end");
        std::thread::sleep(Duration::from_millis(20));
    }
    println!("detach: ok");
}
