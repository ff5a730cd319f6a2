//! Lives of real guests. Without a harness: this program is its own launcher, and that needs its `main`.

mod compressed;
mod hangs;
mod kills;

use parking_lot::Mutex;
use qemu_driver::{Config, Paths, QemuDriver};
use rpc::protocol::device::*;
use rpc::protocol::domain::*;
use rpc::protocol::save::*;
use rpc::protocol::stats::*;
use rpc::{ClientContext, Domain, DomainEvent, EventSink, Hypervisor as _, Identity, Uuid};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

const QEMU: &str = "/usr/bin/qemu-system-x86_64";

/// A root directory, and what ran below it.
struct Scene {
    root: PathBuf,
}

impl Scene {
    fn new(name: &str) -> Self {
        let root = std::env::temp_dir().join(format!("qd-{}-{name}", std::process::id()));
        std::fs::create_dir_all(&root).unwrap();
        for disk in ["disk", "disk2"] {
            std::fs::write(root.join(disk), vec![0; 1 << 20]).unwrap();
        }
        Self { root }
    }

    fn paths(&self) -> Paths {
        Paths::system(&self.root)
    }

    fn daemon(&self) -> Daemon {
        Daemon::start(&self.root)
    }

    fn xml(&self, name: &str) -> String {
        let disk = self.root.join(if name == "two" { "disk2" } else { "disk" });
        format!(
            "<domain type='qemu'><name>{name}</name><memory unit='MiB'>32</memory><vcpu>2</vcpu>\
             <os><type arch='x86_64' machine='pc'>hvm</type></os><features><acpi/></features><devices>\
             <disk type='file' device='disk'><driver name='qemu' type='raw'/><source file='{}'/>\
             <target dev='vda' bus='virtio'/></disk><serial type='pty'/>\
             </devices></domain>",
            disk.display()
        )
    }

    /// The emulators that run below this root.
    fn emulators(&self) -> Vec<i32> {
        let mark = format!("{}/", self.root.display());
        let mut found = Vec::new();
        for entry in std::fs::read_dir("/proc").unwrap().flatten() {
            let Ok(pid) = entry.file_name().to_string_lossy().parse::<i32>() else { continue };
            let line = std::fs::read(entry.path().join("cmdline")).unwrap_or_default();
            let text = String::from_utf8_lossy(&line);
            if text.starts_with(QEMU) && text.contains(&mark) {
                found.push(pid);
            }
        }
        found
    }
}

/// Runs this program as `role`, and kills it so many milliseconds after it has said that it begins.
fn killed_after(scene: &Scene, role: &str, delay: u64) {
    let mut daemon = Command::new("/proc/self/exe")
        .args([role, &scene.root.to_string_lossy()])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut byte = [0];
    std::io::Read::read_exact(daemon.stdout.as_mut().unwrap(), &mut byte).unwrap();
    std::thread::sleep(Duration::from_millis(delay));
    daemon.kill().unwrap();
    daemon.wait().unwrap();
}

impl Drop for Scene {
    fn drop(&mut self) {
        for pid in self.emulators() {
            let _ = rustix::process::kill_process(
                rustix::process::Pid::from_raw(pid).unwrap(),
                rustix::process::Signal::KILL,
            );
        }
        let _ = std::fs::remove_dir_all(&self.root);
    }
}

#[derive(Default)]
struct Events(Mutex<Vec<(String, String)>>);

impl EventSink for Events {
    fn domain_event(&self, event: DomainEvent) {
        let text = match &event {
            DomainEvent::Lifecycle(it) => format!("{}/{}", it.event, it.detail),
            other => format!("#{}", other.id()),
        };
        self.0.lock().push((event.domain().name.clone(), text));
    }

    fn monitor_event(&self, _: &Domain, event: &str, _: i64, _: u32, _: Option<&str>) {
        assert!(event.chars().all(|c| c.is_ascii_uppercase() || c == '_'), "{event}");
    }
}

struct Daemon {
    driver: QemuDriver,
    client: ClientContext,
    events: Arc<Events>,
}

impl Daemon {
    fn start(root: &Path) -> Self {
        let log = Box::new(|_, text: &str| println!("log: {text}"));
        let driver = QemuDriver::new(Paths::system(root), Config::default(), Uuid::default(), log);
        let events = Arc::new(Events::default());
        driver.set_events(events.clone());
        driver.start().unwrap();
        let client = ClientContext::new(1, Identity::default(), false);
        Self { driver, client, events }
    }

    fn define(&self, xml: &str) -> Domain {
        self.driver.domain_define_xml(&self.client, DomainDefineXmlArgs { xml: xml.to_owned() }).unwrap().dom
    }

    fn create(&self, dom: &Domain) -> Result<(), rpc::Error> {
        self.driver.domain_create(&self.client, DomainCreateArgs { dom: dom.clone() })
    }

    fn destroy(&self, dom: &Domain) -> Result<(), rpc::Error> {
        self.driver.domain_destroy(&self.client, DomainDestroyArgs { dom: dom.clone() })
    }

    fn attach(&self, dom: &Domain, xml: &str, flags: u32) -> Result<(), rpc::Error> {
        let args = DomainAttachDeviceFlagsArgs { dom: dom.clone(), xml: xml.to_owned(), flags };
        self.driver.domain_attach_device_flags(&self.client, args)
    }

    fn detach(&self, dom: &Domain, xml: &str, flags: u32) -> Result<(), rpc::Error> {
        let args = DomainDetachDeviceFlagsArgs { dom: dom.clone(), xml: xml.to_owned(), flags };
        self.driver.domain_detach_device_flags(&self.client, args)
    }

    fn state(&self, dom: &Domain) -> (i32, i32) {
        let args = DomainGetStateArgs { dom: dom.clone(), flags: 0 };
        let ret = self.driver.domain_get_state(&self.client, args).unwrap();
        (ret.state, ret.reason)
    }

    fn await_state(&self, dom: &Domain, wanted: (i32, i32)) {
        let begin = Instant::now();
        while self.state(dom) != wanted {
            assert!(begin.elapsed() < Duration::from_secs(20), "{:?}, not {wanted:?}", self.state(dom));
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    fn find(&self, name: &str) -> Option<Domain> {
        let args = DomainLookupByNameArgs { name: name.to_owned() };
        Some(self.driver.domain_lookup_by_name(&self.client, args).ok()?.dom)
    }

    /// The emulator's word for what a call did may come after the call's answer.
    fn next_events(&self) -> Vec<String> {
        let begin = Instant::now();
        while self.events.0.lock().is_empty() {
            assert!(begin.elapsed() < Duration::from_secs(20), "no event");
            std::thread::sleep(Duration::from_millis(5));
        }
        self.take_events()
    }

    fn take_events(&self) -> Vec<String> {
        // Those of an end come a moment after the state.
        std::thread::sleep(Duration::from_millis(50));
        std::mem::take(&mut *self.events.0.lock()).into_iter().map(|(_, text)| text).collect()
    }

    fn xml(&self, dom: &Domain, flags: u32) -> String {
        let args = DomainGetXmlDescArgs { dom: dom.clone(), flags };
        self.driver.domain_get_xml_desc(&self.client, args).unwrap().xml
    }
}

fn define_list_and_undefine() {
    let scene = Scene::new("define");
    let daemon = scene.daemon();
    let dom = daemon.define(&scene.xml("one"));
    assert_eq!(dom.id, -1);
    let path = scene.paths().definition("one");
    assert!(std::fs::read_to_string(&path).unwrap().contains("virsh edit one"));
    assert!(daemon.xml(&dom, 0).contains("<vcpu placement='static'>2</vcpu>"));
    let set = |autostart| DomainSetAutostartArgs { dom: dom.clone(), autostart };
    daemon.driver.domain_set_autostart(&daemon.client, set(1)).unwrap();
    assert_eq!(std::fs::read_link(scene.paths().autostart_link("one")).unwrap(), path);
    assert_eq!(daemon.take_events(), ["0/0"]);
    daemon.define(&scene.xml("one").replace("<memory", &format!("<uuid>{}</uuid><memory", dom.uuid)));
    assert_eq!(daemon.take_events(), ["0/1"]);
    let refused =
        daemon.driver.domain_define_xml(&daemon.client, DomainDefineXmlArgs { xml: scene.xml("one") });
    assert_eq!(
        refused.unwrap_err().to_string(),
        format!("operation failed: domain 'one' already exists with uuid {}", dom.uuid)
    );
    let xml = daemon.xml(&dom, 0);
    drop(daemon);
    // A second daemon reads what the first one wrote, and starts what is to be started.
    std::fs::remove_file(scene.paths().autostarted()).unwrap();
    let daemon = scene.daemon();
    assert_eq!(daemon.xml(&dom, 2), xml);
    daemon.await_state(&dom, (1, 1));
    daemon.destroy(&dom).unwrap();
    daemon.take_events();
    let undefine = DomainUndefineArgs { dom: dom.clone() };
    daemon.driver.domain_undefine(&daemon.client, undefine).unwrap();
    assert_eq!(daemon.take_events(), ["1/0"]);
    assert!(!path.exists() && std::fs::symlink_metadata(scene.paths().autostart_link("one")).is_err());
    assert_eq!(daemon.find("one"), None);
}

fn a_life() {
    let scene = Scene::new("life");
    let daemon = scene.daemon();
    let dom = daemon.define(&scene.xml("guest"));
    daemon.take_events();
    let begin = Instant::now();
    daemon.create(&dom).unwrap();
    println!("start: {:?}", begin.elapsed());
    assert_eq!(daemon.state(&dom), (1, 1));
    assert_eq!(daemon.take_events(), ["4/0", "2/0"]);
    let running = daemon.find("guest").unwrap();
    assert_eq!(running.id, 1);
    assert_eq!(
        daemon.create(&dom).unwrap_err().to_string(),
        "Requested operation is not valid: domain is already running"
    );
    let status = std::fs::read_to_string(scene.paths().status("guest")).unwrap();
    assert!(status.contains("<domstatus state='running' reason='booted' pid='"));
    let pid = std::fs::read_to_string(scene.paths().pid_file("guest")).unwrap();
    assert_eq!(scene.emulators(), [pid.parse::<i32>().unwrap()]);
    let live = daemon.xml(&dom, 0);
    assert!(live.contains("id='1'") && live.contains("/dev/pts/"), "{live}");
    assert!(!daemon.xml(&dom, 2).contains("/dev/pts/"));
    let info = daemon.driver.domain_get_info(&daemon.client, DomainGetInfoArgs { dom: dom.clone() }).unwrap();
    assert_eq!((info.state, info.max_mem, info.nr_virt_cpu), (1, 32 << 10, 2));
    assert!(info.cpu_time > 0);

    let args = DomainMemoryPeekArgs { dom: dom.clone(), offset: 0xffff0, size: 16, flags: 2 };
    let peeked = daemon.driver.domain_memory_peek(&daemon.client, args).unwrap().buffer;
    // The firmware begins with a far jump.
    assert_eq!((peeked.len(), peeked[0]), (16, 0xea));
    let peek = |offset| {
        let args =
            DomainBlockPeekArgs { dom: dom.clone(), path: "vda".to_owned(), offset, size: 512, flags: 0 };
        daemon.driver.domain_block_peek(&daemon.client, args)
    };
    assert_eq!(peek(512).unwrap().buffer, [0; 512]);
    assert_eq!(
        peek((1 << 20) - 1).unwrap_err().to_string(),
        "invalid argument: 'vda' starting from 1048575 has only 1 bytes available"
    );

    daemon.driver.domain_suspend(&daemon.client, DomainSuspendArgs { dom: dom.clone() }).unwrap();
    assert_eq!((daemon.state(&dom), daemon.next_events()), ((3, 1), vec!["3/0".to_owned()]));
    daemon.driver.domain_resume(&daemon.client, DomainResumeArgs { dom: dom.clone() }).unwrap();
    assert_eq!((daemon.state(&dom), daemon.next_events()), ((1, 5), vec!["4/0".to_owned()]));
    daemon.driver.domain_reset(&daemon.client, DomainResetArgs { dom: dom.clone(), flags: 0 }).unwrap();
    assert!(daemon.take_events().iter().all(|event| event == "#1"));

    let begin = Instant::now();
    daemon.destroy(&dom).unwrap();
    let took = begin.elapsed();
    println!("destroy: {took:?}");
    assert!(took < Duration::from_secs(1), "{took:?}");
    // The word of the reset may be late.
    let events: Vec<_> = daemon.take_events().into_iter().filter(|event| event != "#1").collect();
    assert_eq!((daemon.state(&dom), events), ((5, 2), vec!["6/2".to_owned(), "5/1".to_owned()]));
    assert!(scene.emulators().is_empty());
    assert!(!scene.paths().status("guest").exists() && !scene.paths().pid_file("guest").exists());
    assert!(!scene.paths().guest(1, "guest").exists() && !scene.paths().channels(1, "guest").exists());
    let log = std::fs::read_to_string(scene.paths().log_file("guest")).unwrap();
    assert!(
        log.contains("starting up libvirt version: 10.0.0")
            && log.contains("shutting down, reason=destroyed")
    );
    assert_eq!(
        daemon.destroy(&dom).unwrap_err().to_string(),
        "Requested operation is not valid: domain is not running"
    );
}

fn what_cannot_start_leaves_nothing() {
    let scene = Scene::new("refused");
    let daemon = scene.daemon();
    let dom = daemon.define(&scene.xml("guest"));
    std::fs::remove_file(scene.root.join("disk")).unwrap();
    let error = daemon.create(&dom).unwrap_err().to_string();
    assert!(
        error.starts_with("Cannot access storage file '") && error.ends_with("No such file or directory"),
        "{error}"
    );
    assert_eq!(daemon.state(&dom), (5, 6));
    // A directory is there, but no disk: the emulator says so.
    std::fs::create_dir(scene.root.join("disk")).unwrap();
    let error = daemon.create(&dom).unwrap_err().to_string();
    assert!(error.starts_with("internal error: process exited while connecting to monitor: "), "{error}");
    assert!(error.contains("disk"), "{error}");
    assert_eq!(daemon.state(&dom), (5, 6));
    assert!(scene.emulators().is_empty());
    assert!(!scene.paths().status("guest").exists());
    assert_eq!(
        std::fs::read_dir(scene.paths().lib)
            .unwrap()
            .flatten()
            .filter(|it| it.file_name().to_string_lossy().starts_with("domain-"))
            .count(),
        0
    );
    // A transient domain that does not start was never there.
    let xml_desc = scene.xml("other");
    assert!(
        daemon.driver.domain_create_xml(&daemon.client, DomainCreateXmlArgs { xml_desc, flags: 0 }).is_err()
    );
    assert_eq!(daemon.find("other"), None);
}

fn an_emulator_that_ends_is_noticed() {
    let scene = Scene::new("ends");
    let daemon = scene.daemon();
    let args = DomainCreateXmlArgs { xml_desc: scene.xml("guest"), flags: 0 };
    let dom = daemon.driver.domain_create_xml(&daemon.client, args).unwrap().dom;
    daemon.take_events();
    let pid = rustix::process::Pid::from_raw(scene.emulators()[0]).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
    let begin = Instant::now();
    while daemon.find("guest").is_some() {
        assert!(begin.elapsed() < Duration::from_secs(10));
        std::thread::sleep(Duration::from_millis(5));
    }
    assert_eq!(daemon.take_events(), ["5/5"]);
    assert!(!scene.paths().status("guest").exists());
    assert!(daemon.destroy(&dom).unwrap_err().to_string().starts_with("Domain not found: "));
}

fn a_guest_lives_through_a_restart_of_the_daemon() {
    let scene = Scene::new("restart");
    let daemon = scene.daemon();
    let (one, two) = (daemon.define(&scene.xml("one")), daemon.define(&scene.xml("two")));
    daemon.create(&one).unwrap();
    daemon.create(&two).unwrap();
    let xml = daemon.xml(&one, 0);
    daemon.driver.stop();
    drop(daemon);
    let emulators = scene.emulators();
    assert_eq!(emulators.len(), 2);
    // One of them ends while nobody looks.
    let status = std::fs::read_to_string(scene.paths().pid_file("two")).unwrap();
    let pid = rustix::process::Pid::from_raw(status.parse().unwrap()).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
    std::thread::sleep(Duration::from_millis(300));
    let daemon = scene.daemon();
    assert_eq!(daemon.state(&two), (5, 3));
    daemon.driver.domain_suspend(&daemon.client, DomainSuspendArgs { dom: one.clone() }).unwrap();
    assert_eq!(daemon.state(&one), (3, 1));
    assert_eq!(daemon.xml(&one, 0), xml);
    assert_eq!(daemon.find("one").unwrap().id, 1);
    daemon.destroy(&one).unwrap();
    assert!(scene.emulators().is_empty());
    daemon.create(&two).unwrap();
    assert_eq!(daemon.find("two").unwrap().id, 3);
    daemon.destroy(&two).unwrap();
}

/// Kills the daemon at ever later moments of a start, and looks what the next one makes of it.
fn a_daemon_that_is_killed_during_a_start_leaves_a_guest_or_nothing() {
    let scene = Scene::new("killed");
    drop(scene.daemon().define(&scene.xml("guest")));
    let (mut running, mut nothing) = (0, 0);
    let mut delay = 0;
    // A busy host takes longer for a start.
    while delay < 280 || running == 0 && delay < 5000 {
        delay += if delay < 280 { 7 } else { 150 };
        killed_after(&scene, "daemon", delay);
        let next = scene.daemon();
        let dom = next.find("guest").unwrap();
        // What changes a domain waits until it is taken up again.
        let destroyed = next.destroy(&dom);
        match next.state(&dom) {
            (5, 2) => running += 1,
            (5, 0 | 3 | 6) => nothing += 1,
            other => panic!("after {delay} ms: {other:?}, {destroyed:?}"),
        }
        // A launcher whose daemon is gone ends by itself.
        let begin = Instant::now();
        while !scene.emulators().is_empty() {
            assert!(begin.elapsed() < Duration::from_secs(10), "after {delay} ms");
            std::thread::sleep(Duration::from_millis(5));
        }
        assert!(!scene.paths().status("guest").exists(), "after {delay} ms");
        assert!(!scene.paths().pid_file("guest").exists() || nothing > 0, "after {delay} ms");
        next.driver.stop();
    }
    println!("killed: {running} guests lived on, {nothing} were gone");
    assert!(running > 0 && nothing > 0);
}

fn devices_come_and_go() {
    const LIVE_AND_CONFIG: u32 = 3;
    let scene = Scene::new("plug");
    let daemon = scene.daemon();
    let dom = daemon.define(&scene.xml("guest"));
    daemon.create(&dom).unwrap();
    daemon.take_events();
    let disk = |dev: &str, bus: &str| {
        format!(
            "<disk type='file' device='disk'><driver name='qemu' type='raw'/><source file='{}'/>\
             <target dev='{dev}' bus='{bus}'/></disk>",
            scene.root.join("disk2").display()
        )
    };
    let attach = |xml: &str, flags| daemon.attach(&dom, xml, flags);
    let detach = |xml: &str, flags| daemon.detach(&dom, xml, flags);
    // The file is another user's, who has it back afterwards, where the file system remembers.
    let image = scene.root.join("disk2");
    let owner = || std::os::unix::fs::MetadataExt::uid(&std::fs::metadata(&image).unwrap());
    let flags = rustix::fs::XattrFlags::empty();
    let remembers = rustix::process::geteuid().is_root()
        && rustix::fs::setxattr(&image, "trusted.probe", b"1", flags).is_ok();
    if remembers {
        std::os::unix::fs::chown(&image, Some(1234), Some(5678)).unwrap();
    } else {
        println!("SKIPPED devices_come_and_go, owners: no trusted attributes");
    }
    // Twice, so that nothing is left behind of the first time. A USB device goes without the guest's help.
    for _ in 0..2 {
        attach(&disk("sda", "usb"), LIVE_AND_CONFIG).unwrap();
        assert_eq!(daemon.take_events(), ["#19"]);
        assert!(!remembers || owner() == 0);
        let (live, config) = (daemon.xml(&dom, 0), daemon.xml(&dom, 2));
        assert!(
            live.contains("<target dev='sda' bus='usb'/>") && live.contains("<alias name='usb-disk0'/>"),
            "{live}"
        );
        assert!(
            config.contains("<target dev='sda' bus='usb'/>") && !config.contains("usb-disk0"),
            "{config}"
        );
        assert!(attach(&disk("sda", "usb"), 1).unwrap_err().to_string().contains("target 'sda' duplicated"));
        detach(&disk("sda", "usb"), LIVE_AND_CONFIG).unwrap();
        assert_eq!(daemon.take_events(), ["#15"]);
        assert!(!remembers || owner() == 1234);
        assert!(!daemon.xml(&dom, 0).contains("sda") && !daemon.xml(&dom, 2).contains("sda"));
        assert!(detach(&disk("sda", "usb"), 1).is_err());
    }
    attach("<input type='tablet' bus='usb'/>", 1).unwrap();
    assert!(
        daemon.xml(&dom, 0).contains("<input type='tablet' bus='usb'>")
            && !daemon.xml(&dom, 2).contains("tablet")
    );
    let alias =
        |alias: &str| DomainDetachDeviceAliasArgs { dom: dom.clone(), alias: alias.to_owned(), flags: 1 };
    daemon.driver.domain_detach_device_alias(&daemon.client, alias("input2")).unwrap();
    assert!(!daemon.xml(&dom, 0).contains("tablet"));
    assert!(daemon.driver.domain_detach_device_alias(&daemon.client, alias("input2")).is_err());
    // What the emulator refuses leaves nothing: the same image cannot be written twice.
    let twice = disk("sda", "usb").replace("disk2", "disk");
    let refused = attach(&twice, 1).unwrap_err().to_string();
    assert!(refused.contains("unable to execute QEMU command"), "{refused}");
    attach(&disk("sda", "usb"), 1).unwrap();
    daemon.destroy(&dom).unwrap();
}

/// Of each kind what needs no help of the guest, in which nothing runs.
fn devices_of_many_kinds_come_and_go() {
    let scene = Scene::new("kinds");
    let daemon = scene.daemon();
    let xml = scene
        .xml("guest")
        .replace("<memory unit", "<maxMemory slots='4' unit='MiB'>1024</maxMemory><memory unit");
    let xml = xml.replace(
        "<features>",
        "<cpu><numa><cell id='0' cpus='0-1' memory='64' unit='MiB'/></numa></cpu><features>",
    );
    let dom = daemon.define(&xml.replace(
        "<devices>",
        "<devices><controller type='usb' model='qemu-xhci'/><controller type='virtio-serial'/>",
    ));
    daemon.create(&dom).unwrap();
    daemon.take_events();
    let attach = |xml: &str, flags| daemon.attach(&dom, xml, flags);
    let detach = |xml: &str, flags| daemon.detach(&dom, xml, flags);
    let socket = scene.root.join("socket");
    let channel = format!(
        "<channel type='unix'><source mode='bind' path='{}'/><target type='virtio' name='org.a.0'/></channel>",
        socket.display()
    );
    let gone = [
        ("<input type='tablet' bus='usb'/>", "<alias name='input2'/>", 1),
        ("<serial type='pty'><target type='usb-serial'/></serial>", "<alias name='serial1'/>", 1),
        (
            "<channel type='null'><target type='virtio' name='org.b.0'/></channel>",
            "<alias name='channel0'/>",
            3,
        ),
        (channel.as_str(), "path='", 3),
    ];
    for _ in 0..2 {
        for (device, shown, flags) in gone {
            attach(device, flags).unwrap_or_else(|error| panic!("{device}: {error}"));
            assert!(daemon.xml(&dom, 0).contains(shown), "{}", daemon.xml(&dom, 0));
            let (live, config) = (daemon.xml(&dom, 0), daemon.xml(&dom, 2));
            assert!(!shown.contains("alias") || !config.contains(shown), "{config}");
            if device == channel {
                std::os::unix::net::UnixStream::connect(&socket).unwrap();
            }
            assert!(!live.contains("serial1") || live.matches("/dev/pts/").count() > 2, "{live}");
            daemon.take_events();
            detach(device, flags).unwrap_or_else(|error| panic!("{device}: {error}"));
            assert_eq!(daemon.take_events(), ["#15"], "{device}");
            assert!(!daemon.xml(&dom, 0).contains(shown) || shown == "path='");
            assert!(detach(device, 1).is_err(), "{device}");
        }
        assert!(!daemon.xml(&dom, 0).contains("org.a.0") && !daemon.xml(&dom, 2).contains("org."));
    }
    // Those that stay keep their names, and a new one has its own.
    for _ in 0..2 {
        attach("<input type='tablet' bus='usb'/>", 1).unwrap();
    }
    let alias = DomainDetachDeviceAliasArgs { dom: dom.clone(), alias: "input2".to_owned(), flags: 1 };
    daemon.driver.domain_detach_device_alias(&daemon.client, alias).unwrap();
    attach("<input type='mouse' bus='usb'/>", 1).unwrap();
    assert!(daemon.xml(&dom, 0).contains("<alias name='input4'/>"));
    // Into slots, which a guest would have to empty.
    let memory = |live: bool| {
        let xml = daemon.xml(&dom, if live { 0 } else { 2 });
        xml.split("<memory unit='KiB'>").nth(1).unwrap().split('<').next().unwrap().parse::<u64>().unwrap()
    };
    let module = "<memory model='dimm'><target><size unit='MiB'>128</size><node>0</node></target></memory>";
    attach(module, 3).unwrap();
    assert_eq!((memory(true), memory(false)), (192 << 10, 192 << 10));
    assert!(daemon.xml(&dom, 0).contains("<alias name='dimm0'/>"));
    detach(module, 2).unwrap();
    assert_eq!((memory(true), memory(false)), (192 << 10, 64 << 10));
    attach("<watchdog model='i6300esb' action='none'/>", 1).unwrap();
    attach("<rng model='virtio'><backend model='random'>/dev/urandom</backend></rng>", 1).unwrap();
    attach("<controller type='scsi' model='virtio-scsi'/>", 1).unwrap();
    assert!(daemon.xml(&dom, 0).contains("<alias name='watchdog0'/>"));
    let refused = |xml: &str| attach(xml, 1).unwrap_err().to_string();
    assert!(refused("<watchdog model='i6300esb'/>").ends_with("domain already has a watchdog"));
    assert!(refused("<sound model='ac97'/>").ends_with("live attach of device 'sound' is not supported"));
    assert!(
        refused("<serial type='pty'/>").ends_with("Unsupported address type for character device"),
        "{}",
        refused("<serial type='pty'/>")
    );
    daemon.destroy(&dom).unwrap();
}

fn state_is_saved_and_restored() {
    let scene = Scene::new("saved");
    let daemon = scene.daemon();
    let dom = daemon.define(&scene.xml("guest"));
    let path = scene.paths().managed_save("guest");
    let save = || {
        daemon
            .driver
            .domain_managed_save(&daemon.client, DomainManagedSaveArgs { dom: dom.clone(), flags: 0 })
    };
    assert_eq!(save().unwrap_err().to_string(), "Requested operation is not valid: domain is not running");
    daemon.create(&dom).unwrap();
    daemon.take_events();
    let begin = Instant::now();
    save().unwrap();
    println!("save: {:?}", begin.elapsed());
    let mut events = daemon.take_events();
    // As often as memory was gone through.
    events.dedup_by(|one, other| one == "#20" && other == "#20");
    assert_eq!((daemon.state(&dom), events.join(" ")), ((5, 5), "3/0 #20 #21 5/4".to_owned()));
    assert!(scene.emulators().is_empty() && path.exists());
    let shown = daemon.driver.domain_managed_save_get_xml_desc(
        &daemon.client,
        DomainManagedSaveGetXmlDescArgs { dom: dom.clone(), flags: 0 },
    );
    assert!(shown.unwrap().xml.contains("<name>guest</name>"));
    let refused = daemon.driver.domain_undefine(&daemon.client, DomainUndefineArgs { dom: dom.clone() });
    assert!(refused.unwrap_err().to_string().contains("managed save image exists"));
    daemon.create(&dom).unwrap();
    assert_eq!(
        (daemon.state(&dom), daemon.take_events()),
        ((1, 3), vec!["2/2".to_owned(), "4/2".to_owned()])
    );
    assert!(!path.exists());

    let to = scene.root.join("state").to_string_lossy().into_owned();
    let args = DomainSaveFlagsArgs { dom: dom.clone(), to: to.clone(), dxml: None, flags: 4 };
    daemon.driver.domain_save_flags(&daemon.client, args).unwrap();
    daemon.take_events();
    daemon.driver.domain_restore(&daemon.client, DomainRestoreArgs { from: to.clone() }).unwrap();
    assert_eq!(
        (daemon.state(&dom), daemon.take_events()),
        ((3, 2), vec!["2/2".to_owned(), "3/4".to_owned()])
    );
    let refused = daemon.driver.domain_restore(&daemon.client, DomainRestoreArgs { from: to.clone() });
    assert!(refused.unwrap_err().to_string().contains("already active"));
    // What cannot be written lets the guest go on.
    let args = DomainSaveArgs { dom: dom.clone(), to: "/nonexistent/x".to_owned() };
    assert!(daemon.driver.domain_save(&daemon.client, args).is_err());
    assert_eq!(daemon.state(&dom), (3, 2));
    daemon.driver.domain_resume(&daemon.client, DomainResumeArgs { dom: dom.clone() }).unwrap();
    let args = DomainSaveArgs { dom: dom.clone(), to: "/nonexistent/x".to_owned() };
    assert!(daemon.driver.domain_save(&daemon.client, args).is_err());
    assert_eq!(daemon.state(&dom), (1, 7));
    daemon.destroy(&dom).unwrap();
}

/// Kills the daemon at ever later moments of a managed save.
fn a_daemon_that_is_killed_during_a_save_leaves_the_guest_or_its_state() {
    let scene = Scene::new("killed-save");
    drop(scene.daemon().define(&scene.xml("guest")));
    let (mut running, mut saved) = (0, 0);
    for delay in (0..160).step_by(8) {
        killed_after(&scene, "daemon-save", delay);
        let next = scene.daemon();
        let dom = next.find("guest").unwrap();
        let suspended = next.driver.domain_suspend(&next.client, DomainSuspendArgs { dom: dom.clone() });
        if suspended.is_ok() {
            running += 1;
            // What was written of its state is gone.
            next.destroy(&dom).unwrap();
            assert!(!scene.paths().managed_save("guest").exists(), "after {delay} ms");
        } else {
            saved += 1;
            assert!(matches!(next.state(&dom), (5, _)), "after {delay} ms: {:?}", next.state(&dom));
            next.create(&dom).unwrap();
            assert_eq!(next.state(&dom), (1, 3), "after {delay} ms");
            next.destroy(&dom).unwrap();
        }
        assert!(scene.emulators().is_empty(), "after {delay} ms");
        next.driver.stop();
    }
    println!("killed: {running} guests lived on, {saved} were saved");
    assert!(running > 0);
}

fn child(root: &Path, save: bool) {
    let daemon = Daemon::start(root);
    let dom = daemon.find("guest").unwrap();
    if save {
        daemon.create(&dom).unwrap();
    }
    std::io::Write::write_all(&mut std::io::stdout(), b"!").unwrap();
    std::io::Write::flush(&mut std::io::stdout()).unwrap();
    if save {
        let _ = daemon.driver.domain_managed_save(&daemon.client, DomainManagedSaveArgs { dom, flags: 0 });
    } else {
        let _ = daemon.create(&dom);
    }
    std::thread::sleep(Duration::from_secs(20));
}

fn main() {
    confinement::launch::run_if_asked();
    // As the daemon does, whose guests must get theirs all the same.
    nix::sys::signal::SigSet::all().thread_block().unwrap();
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if let [word, root] = arguments.as_slice()
        && (word == "daemon" || word == "daemon-save")
    {
        return child(Path::new(root), word == "daemon-save");
    }
    if let [word, root] = arguments.as_slice()
        && word == "compressed"
    {
        return compressed::child(Path::new(root));
    }
    if let [word, root, seed] = arguments.as_slice()
        && word == "daemon-kills"
    {
        return kills::child(Path::new(root), seed.parse().unwrap());
    }
    if !Path::new(QEMU).exists() {
        println!("SKIPPED life: no {QEMU}");
        return;
    }
    let wanted = arguments.iter().find(|word| !word.starts_with('-'));
    let tests: &[(&str, fn())] = &[
        ("define_list_and_undefine", define_list_and_undefine),
        ("a_life", a_life),
        ("what_cannot_start_leaves_nothing", what_cannot_start_leaves_nothing),
        ("an_emulator_that_ends_is_noticed", an_emulator_that_ends_is_noticed),
        ("a_guest_lives_through_a_restart_of_the_daemon", a_guest_lives_through_a_restart_of_the_daemon),
        (
            "a_daemon_that_is_killed_during_a_start_leaves_a_guest_or_nothing",
            a_daemon_that_is_killed_during_a_start_leaves_a_guest_or_nothing,
        ),
        (
            "a_guest_that_hangs_is_waited_for_by_the_next_daemon",
            hangs::a_guest_that_hangs_is_waited_for_by_the_next_daemon,
        ),
        ("a_guest_that_hangs_blocks_nobody_else", hangs::a_guest_that_hangs_blocks_nobody_else),
        ("devices_come_and_go", devices_come_and_go),
        ("devices_of_many_kinds_come_and_go", devices_of_many_kinds_come_and_go),
        ("state_is_saved_and_restored", state_is_saved_and_restored),
        (
            "states_are_compressed_looked_at_and_aborted",
            compressed::states_are_compressed_looked_at_and_aborted,
        ),
        (
            "a_daemon_that_is_killed_during_a_save_leaves_the_guest_or_its_state",
            a_daemon_that_is_killed_during_a_save_leaves_the_guest_or_its_state,
        ),
        (
            "a_daemon_that_is_killed_loses_nothing_and_leaves_nothing",
            kills::a_daemon_that_is_killed_loses_nothing_and_leaves_nothing,
        ),
    ];
    let mut passed = 0;
    for (name, test) in tests {
        if wanted.is_none_or(|wanted| name.contains(wanted.as_str())) {
            test();
            println!("test {name} ... ok");
            passed += 1;
        }
    }
    println!("\ntest result: ok. {passed} passed; 0 failed; 0 ignored; 0 measured; 0 filtered out");
}
