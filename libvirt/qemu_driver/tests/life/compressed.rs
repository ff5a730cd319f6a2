//! Saved states that a program of the host's compresses, and a save that takes long enough to be looked at and aborted.

use crate::{Daemon, Events, Scene};
use qemu_driver::{Config, Paths, QemuDriver};
use rpc::protocol::domain::*;
use rpc::protocol::save::*;
use rpc::protocol::stats::*;
use rpc::{ClientContext, Domain, Hypervisor as _, Identity, Uuid};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

fn daemon(root: &Path, format: &str) -> Daemon {
    let config = Config { save_image_format: format.to_owned(), ..Config::default() };
    let log = Box::new(|_, text: &str| println!("log: {text}"));
    let driver = QemuDriver::new(Paths::system(root), config, Uuid::default(), log);
    let events = Arc::new(Events::default());
    driver.set_events(events.clone());
    driver.start().expect("a driver");
    Daemon { driver, client: ClientContext::new(1, Identity::default(), false), events }
}

/// In a process of its own, where `xz` takes a second longer.
pub fn states_are_compressed_looked_at_and_aborted() {
    let scene = Scene::new("compressed");
    let slow = scene.root.join("slow");
    std::fs::create_dir(&slow).expect("a folder");
    let script = "#!/bin/sh\nsleep 1\nPATH=/usr/bin:/bin exec xz \"$@\"\n";
    std::fs::write(slow.join("xz"), script).expect("written");
    std::fs::set_permissions(slow.join("xz"), std::fs::Permissions::from_mode(0o755)).expect("executable");
    let path = format!("{}:/usr/sbin:/usr/bin:/sbin:/bin", slow.display());
    let mut other = Command::new("/proc/self/exe");
    let status = other.arg("compressed").arg(&scene.root).env("PATH", path).status().expect("it runs");
    assert!(status.success());
}

pub fn child(root: &Path) {
    let scene = std::mem::ManuallyDrop::new(Scene { root: root.to_owned() });
    let unknown = daemon(root, "lha");
    let dom = unknown.define(&scene.xml("guest"));
    unknown.create(&dom).expect("started");
    let to = root.join("state").to_string_lossy().into_owned();
    let save = |daemon: &Daemon| {
        daemon.driver.domain_save(&daemon.client, DomainSaveArgs { dom: dom.clone(), to: to.clone() })
    };
    let refused = save(&unknown).expect_err("no such format").to_string();
    assert_eq!(refused, "operation failed: Invalid save image format specified in configuration file");
    unknown.driver.stop();
    drop(unknown);

    let daemon = daemon(root, "xz");
    let info = |dom: &Domain| {
        daemon
            .driver
            .domain_get_job_info(&daemon.client, DomainGetJobInfoArgs { dom: dom.clone() })
            .expect("info")
    };
    let abort = || daemon.driver.domain_abort_job(&daemon.client, DomainAbortJobArgs { dom: dom.clone() });
    // What changes a domain waits until it is taken up again.
    daemon.driver.domain_suspend(&daemon.client, DomainSuspendArgs { dom: dom.clone() }).expect("suspended");
    daemon.driver.domain_resume(&daemon.client, DomainResumeArgs { dom: dom.clone() }).expect("resumed");
    assert_eq!(info(&dom).kind, 0);
    let idle = abort().expect_err("nothing to abort").to_string();
    assert_eq!(idle, "Requested operation is not valid: no job is active on the domain");
    std::thread::scope(|scope| {
        let saving = scope.spawn(|| save(&daemon));
        std::thread::sleep(Duration::from_millis(500));
        let seen = info(&dom);
        assert_eq!(seen.kind, 2);
        assert!(seen.time_elapsed > 100 && seen.mem_total > 32 << 20 && seen.mem_remaining > 0, "{seen:?}");
        let args = DomainGetJobStatsArgs { dom: dom.clone(), flags: 0 };
        let stats = daemon.driver.domain_get_job_stats(&daemon.client, args).expect("statistics");
        assert!(stats.kind == 2 && stats.params.iter().any(|param| param.field == "memory_page_size"));
        abort().expect("aborted");
        let told = saving.join().expect("a thread").expect_err("aborted").to_string();
        assert_eq!(told, "operation aborted: domain save job: canceled by client");
    });
    assert!(!Path::new(&to).exists());
    assert_eq!((daemon.state(&dom), info(&dom).kind), ((1, 7), 0));
    save(&daemon).expect("saved");
    let header = std::fs::read(&to).expect("the file");
    assert_eq!(header[28..32], 3_u32.to_ne_bytes());
    daemon.driver.domain_restore(&daemon.client, DomainRestoreArgs { from: to.clone() }).expect("restored");
    assert_eq!(daemon.state(&dom), (1, 3));
    daemon.destroy(&dom).expect("destroyed");
    // What is broken behind the header is the emulator's to refuse.
    std::fs::write(&to, &header[..header.len() / 2]).expect("written");
    assert!(daemon.driver.domain_restore(&daemon.client, DomainRestoreArgs { from: to }).is_err());
    assert!(scene.emulators().is_empty());
}
