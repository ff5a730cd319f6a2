//! A guest's control group on this host.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use confinement::cgroup::{Access, Cgroup, Controllers, Device, Guest, Hierarchy, MEMORY_UNLIMITED, Thread};
use confinement::systemd::{Machine, Systemd};

struct Process(Child);

impl Process {
    fn start() -> Self {
        // Each line is a path to read; the answer is what comes of it.
        let script = "while read path; do if head -c 1 \"$path\" >/dev/null 2>&1; then echo yes; else echo no; fi; done";
        Self(
            Command::new("sh")
                .args(["-c", script])
                .stdin(Stdio::piped())
                .stdout(Stdio::piped())
                .spawn()
                .unwrap(),
        )
    }

    fn may_read(&mut self, path: &str) -> bool {
        use std::io::{Read as _, Write as _};
        writeln!(self.0.stdin.as_mut().unwrap(), "{path}").unwrap();
        let mut answer = Vec::new();
        while !answer.ends_with(b"\n") {
            let mut byte = [0];
            self.0.stdout.as_mut().unwrap().read_exact(&mut byte).unwrap();
            answer.push(byte[0]);
        }
        answer == b"yes\n"
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// No bus: control groups are made directly, as on a host without systemd.
fn no_bus() -> Systemd {
    Systemd::at("unix:path=/nonexistent/bus")
}

fn skip(test: &str) -> Option<Hierarchy> {
    let reason = if !rustix::process::geteuid().is_root() {
        "needs root"
    } else {
        match Hierarchy::find() {
            Some(hierarchy) => return Some(hierarchy),
            None => "no control groups of version 2",
        }
    };
    println!("SKIPPED {test}: {reason}");
    None
}

fn guest<'a>(name: &'a str, leader: u32, partition: &'a str) -> Guest<'a> {
    let machine = Machine { name, uuid: [0; 16], leader, interfaces: &[], partition, max_threads: None };
    Guest { machine, controllers: Controllers::ALL }
}

fn place(pid: u32) -> PathBuf {
    let text = std::fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap();
    PathBuf::from(text.lines().find_map(|line| line.strip_prefix("0::")).unwrap())
}

#[test]
fn a_guests_group_is_made_found_again_and_removed() {
    let test = "a_guests_group_is_made_found_again_and_removed";
    let Some(hierarchy) = skip(test) else { return };
    let existed =
        Path::new("/sys/fs/cgroup/unified/machine").exists() || Path::new("/sys/fs/cgroup/machine").exists();
    let mut process = Process::start();
    let name = format!("qemu-1-confinement{}", std::process::id());
    let made = Cgroup::make(Some(&hierarchy), &guest(&name, process.0.id(), "/machine"), no_bus()).unwrap();
    let Some(cgroup) = made else {
        println!("SKIPPED {test}: control groups cannot be written");
        return;
    };
    assert!(cgroup.controllers().has(Controllers::CPUACCT));
    assert_eq!(place(process.0.id()), Path::new("/machine").join(format!("{name}.libvirt-qemu")));
    let folder = cgroup.whole().folder().to_owned();
    while cgroup.whole().cpu_use().unwrap()[0] == 0 {
        assert!(process.may_read("/dev/zero"));
    }
    let pid = process.0.id().cast_signed();
    let emulator = cgroup.thread(Thread::Emulator).unwrap();
    let vcpu = cgroup.thread(Thread::Vcpu(0)).unwrap();
    assert_eq!(vcpu.folder(), folder.join("vcpu0"));
    emulator.add_thread(pid).unwrap();
    assert!(place(process.0.id()).ends_with("emulator"));
    vcpu.remove().unwrap();
    vcpu.remove().unwrap();
    let wanted = Controllers::ALL;
    assert!(Cgroup::of_running(Some(&hierarchy), pid, "qemu-1-other", wanted, no_bus()).is_none());
    let again = Cgroup::of_running(Some(&hierarchy), pid, &name, wanted, no_bus()).unwrap();
    assert_eq!((again.whole().folder(), again.controllers()), (&*folder, cgroup.controllers()));
    drop(process);
    again.remove();
    assert!(!folder.exists());
    if !existed {
        let _ = std::fs::remove_dir(folder.parent().unwrap());
    }
}

#[test]
fn partitions_are_the_administrators() {
    let Some(hierarchy) = skip("partitions_are_the_administrators") else { return };
    let process = Process::start();
    let text = |partition: &str| {
        let guest = guest("qemu-1-x", process.0.id(), partition);
        Cgroup::make(Some(&hierarchy), &guest, no_bus()).err().map(|error| error.message)
    };
    let error = text("machine").unwrap();
    assert_eq!(error, "unsupported configuration: Resource partition 'machine' must start with '/'");
    let error = text("/machine/nonexistent").unwrap();
    assert!(error.starts_with("Failed to create v2 cgroup '"), "{error}");
    assert!(
        error.ends_with("/machine/nonexistent.partition/': No such file or directory")
            || error.contains("/machine/'")
    );
    let none = Cgroup::make(None, &guest("x", process.0.id(), "/machine"), no_bus()).unwrap();
    assert!(none.is_none(), "guests start without control groups");
}

#[test]
fn devices_are_denied_and_allowed() {
    let test = "devices_are_denied_and_allowed";
    let Some(hierarchy) = skip(test) else { return };
    let mut process = Process::start();
    let name = format!("qemu-2-confinement{}", std::process::id());
    let made = Cgroup::make(Some(&hierarchy), &guest(&name, process.0.id(), "/machine"), no_bus()).unwrap();
    let Some(cgroup) = made else {
        println!("SKIPPED {test}: control groups cannot be written");
        return;
    };
    assert!(process.may_read("/dev/zero"));
    if !cgroup.deny_all_devices().unwrap() {
        println!("SKIPPED {test}: no BPF programs for devices");
        drop(process);
        cgroup.remove();
        return;
    }
    // The shell itself needs it to answer.
    assert_eq!(cgroup.allow_node("/dev/null", Access::BOTH, false), Ok(true));
    assert!(!process.may_read("/dev/zero") && !process.may_read("/dev/urandom"));
    cgroup.allow_node("/dev/zero", Access::READ, false).unwrap();
    assert!(process.may_read("/dev/zero") && !process.may_read("/dev/urandom"));
    cgroup.allow_device(Device { block: false, major: 1, minor: None }, Access::ALL).unwrap();
    assert!(process.may_read("/dev/urandom"));
    // Another daemon, after a restart, goes on with the same table.
    let pid = process.0.id().cast_signed();
    let again = Cgroup::of_running(Some(&hierarchy), pid, &name, Controllers::ALL, no_bus()).unwrap();
    again.deny_device(Device { block: false, major: 1, minor: None }, Access::ALL).unwrap();
    assert!(!process.may_read("/dev/urandom") && process.may_read("/dev/zero"));
    for minor in 0..200 {
        again.allow_device(Device { block: true, major: 250, minor: Some(minor) }, Access::BOTH).unwrap();
    }
    assert!(process.may_read("/dev/zero"), "the table has grown");
    again.deny_node("/dev/zero", Access::READ, false).unwrap();
    assert!(!process.may_read("/dev/zero"));
    assert_eq!(again.allow_node("/nonexistent", Access::READ, true), Ok(false));
    let error = again.allow_node("/nonexistent", Access::READ, false).unwrap_err();
    assert_eq!(error.message, "Path '/nonexistent' is not accessible: No such file or directory");
    assert_eq!(again.allow_node("/proc", Access::READ, false), Ok(false));
    drop(process);
    again.remove();
}

#[test]
fn limits_are_set_where_the_host_has_controllers() {
    let test = "limits_are_set_where_the_host_has_controllers";
    let Some(hierarchy) = skip(test) else { return };
    let process = Process::start();
    let name = format!("qemu-3-confinement{}", std::process::id());
    let made = Cgroup::make(Some(&hierarchy), &guest(&name, process.0.id(), "/machine"), no_bus()).unwrap();
    let Some(cgroup) = made else {
        println!("SKIPPED {test}: control groups cannot be written");
        return;
    };
    let whole = cgroup.whole();
    let has = |name: &str| {
        let has = cgroup.controllers().has(Controllers::named(name).unwrap());
        if !has {
            println!("SKIPPED {test}: the host lacks the controller {name}");
        }
        has
    };
    if has("memory") {
        whole.set_memory_hard_limit(65_536).unwrap();
        whole.set_memory_soft_limit(32_768).unwrap();
        assert_eq!(
            (whole.memory_hard_limit().unwrap(), whole.memory_soft_limit().unwrap()),
            (65_536, 32_768)
        );
        whole.set_memory_hard_limit(MEMORY_UNLIMITED).unwrap();
        assert_eq!(whole.memory_hard_limit().unwrap(), MEMORY_UNLIMITED);
        // What was used before the move is not counted here.
        whole.memory_usage().unwrap();
        whole.memory_use().unwrap();
    }
    if has("cpu") {
        whole.set_cpu_shares(cgroup.systemd(), 200).unwrap();
        assert_eq!(whole.cpu_shares().unwrap(), 200);
        whole.set_cpu_bandwidth(50_000, 25_000).unwrap();
        assert_eq!((whole.cpu_period().unwrap(), whole.cpu_quota().unwrap()), (50_000, 25_000));
        // The kernel refuses the share, and the group keeps what it had.
        let error = whole.set_cpu_shares(cgroup.systemd(), 200_000).unwrap_err().message;
        assert!(error.contains("cpu.weight"), "{error}");
        let vcpu = cgroup.thread(Thread::Vcpu(0)).unwrap();
        vcpu.set_cpu_bandwidth(0, 5000).unwrap();
        assert_eq!(vcpu.cpu_quota().unwrap(), 5000);
        vcpu.add_thread(process.0.id().cast_signed()).unwrap();
    }
    if has("cpuset") {
        let emulator = cgroup.thread(Thread::Emulator).unwrap();
        emulator.set_cpus("0").unwrap();
        emulator.set_memory_nodes("0").unwrap();
        assert_eq!((emulator.cpus().unwrap(), emulator.memory_nodes().unwrap()), ("0".into(), "0".into()));
    }
    if has("blkio") {
        whole.block_use().unwrap();
    }
    drop(process);
    cgroup.remove();
}
