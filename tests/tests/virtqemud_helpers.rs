//! Programs that run beside a guest's emulator: they come, are replaced and end with it, whatever becomes of the daemon.

#![forbid(unsafe_code)]

use blackbox::virtqemud::{self, Daemon, find};
use blackbox::{or_skip, paths};
use std::time::{Duration, Instant};

/// The guest's name is as long as names in paths may not be.
const NAME: &str = "guest-with-a-name-that-is-cut";
/// Its directory, by its number.
const FOLDER: &str = "/var/lib/libvirt/qemu/domain-*-guest-with-a-name-th";
/// What runs beside emulators.
const PROGRAMS: [&str; 4] = ["qemu-pr-helper", "virtiofsd", "passt", "swtpm"];

/// A reservation needs a SCSI device, which a host of tests has not: the emulator is told that a file is one.
const EMULATOR: &str = "#!/bin/sh\nfor word; do shift; set -- \"$@\" \"$(printf '%s' \"$word\" | sed \
    's/\"host_device\"/\"file\"/; s/\"scsi-block\"/\"scsi-hd\"/')\"; done\nexec qemu-system-x86_64 \"$@\"\n";

fn network(mac: &str) -> String {
    format!(
        "<interface type='user'><mac address='{mac}'/><model type='virtio'/><backend type='passt'/>\
         <portForward proto='tcp'><range start='80{}'/></portForward></interface>",
        &mac[mac.len() - 2..]
    )
}

fn share(tag: &str) -> String {
    format!(
        "<filesystem type='mount'><driver type='virtiofs'/><source dir='/run/scene'/>\
         <target dir='{tag}'/></filesystem>"
    )
}

fn guest(devices: &str) -> String {
    format!(
        "<domain type='qemu'><name>{NAME}</name><memory unit='MiB'>64</memory><vcpu>1</vcpu>\
         <memoryBacking><source type='memfd'/><access mode='shared'/></memoryBacking>\
         <os><type arch='x86_64' machine='q35'>hvm</type></os><devices><emulator>/run/scene/emulator</emulator>\
         <controller type='pci' index='0' model='pcie-root'/>\
         <controller type='pci' index='1' model='pcie-root-port'/><controller type='pci' index='2' model='pcie-root-port'/>\
         <controller type='pci' index='3' model='pcie-root-port'/><controller type='pci' index='4' model='pcie-root-port'/>\
         <controller type='pci' index='5' model='pcie-root-port'/><controller type='pci' index='6' model='pcie-root-port'/>\
         <controller type='scsi' model='virtio-scsi'/><memballoon model='none'/>\
         <disk type='block' device='lun'><driver name='qemu' type='raw'/><source dev='/run/scene/disk.img'>\
         <reservations managed='yes'/></source><target dev='sda' bus='scsi'/></disk>{}{devices}</devices></domain>",
        share("first")
    )
}

struct Scene {
    daemon: Daemon,
    devices: String,
    programs: Vec<&'static str>,
}

impl Scene {
    /// A machine with the programs that the host has.
    fn new() -> Self {
        let mut this = Self {
            daemon: Daemon::machine(&virtqemud::program()),
            devices: String::new(),
            programs: vec!["qemu-pr-helper", "virtiofsd"],
        };
        if find("passt").is_ok() {
            this.devices += &network("52:54:00:00:00:01");
            this.programs.push("passt");
        }
        if find("swtpm").is_ok() {
            this.devices += "<tpm model='tpm-crb'><backend type='emulator' version='2.0'/></tpm>";
            this.programs.push("swtpm");
        }
        // What leaves the machine does so somewhere.
        this.must(
            "ip link add out type veth peer name far && ip address add 10.98.0.1/24 dev out && ip link set out up \
             && ip link set far up && ip route add default via 10.98.0.2",
        );
        let helper = paths::program("qemu-pr-helper", "TINAMOU_PR_HELPER").expect("the program under test");
        this.must(&format!(
            "truncate -s 1M disk.img && printf 'user = \"libvirt-qemu\"\\ngroup = \"libvirt-qemu\"\\n\
             stdio_handler = \"file\"\\nsecurity_driver = \"none\"\\npr_helper = \"{}\"\\n' >/etc/libvirt/qemu.conf",
            helper.display()
        ));
        let files = paths::scratch(&blackbox::current_test());
        std::fs::write(files.join("guest.xml"), guest(&this.devices)).expect("write");
        std::fs::write(files.join("emulator"), EMULATOR).expect("write");
        std::fs::write(files.join("network.xml"), network("52:54:00:00:00:02")).expect("write");
        std::fs::write(files.join("share.xml"), share("second")).expect("write");
        this.daemon.put(&files);
        this.must("chmod 755 emulator");
        this.daemon.follow(&virtqemud::program());
        this.must("virsh define guest.xml");
        this
    }

    /// Runs a line of shell that succeeds, and answers what it prints.
    fn must(&self, line: &str) -> String {
        let output = self.daemon.shell(line);
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{line}: {text}{errors}\n{}", self.daemon.stderr());
        text
    }

    /// How many of each of [`PROGRAMS`] run, and how many emulators.
    fn running(&self) -> Vec<usize> {
        // A process that ends meanwhile has no name.
        let names = self.must("cat /proc/[0-9]*/comm 2>/dev/null; true");
        let count = |program: &&str| {
            let short: String = program.chars().take(15).collect();
            names.lines().filter(|name| name.starts_with(&short)).count()
        };
        PROGRAMS.iter().chain(&["qemu-system-x86"]).map(count).collect()
    }

    /// The number of each program that one guest of this host has.
    fn expected(&self) -> Vec<usize> {
        // The program that serves files has a second process in its sandbox.
        let count = |program: &str| match self.programs.contains(&program) {
            true => 1 + usize::from(program == "virtiofsd"),
            false => 0,
        };
        PROGRAMS.iter().map(|program| count(program)).chain([1]).collect()
    }

    fn await_running(&self, wanted: &[usize]) {
        let begin = Instant::now();
        loop {
            let found = self.running();
            if found == wanted {
                return;
            }
            assert!(begin.elapsed() < Duration::from_secs(10), "{found:?}, not {wanted:?}: {}", self.log());
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    fn log(&self) -> String {
        self.must(&format!("cat /var/log/libvirt/qemu/{NAME}.log")) + &self.daemon.stderr()
    }

    fn connected(&self) -> bool {
        let answer =
            self.must(&format!("virsh qemu-monitor-command {NAME} '{{\"execute\":\"query-pr-managers\"}}'"));
        answer.contains("\"connected\":true")
    }

    /// Waits for another helper for reservations than that of the number.
    fn await_another(&self, before: &str) {
        let begin = Instant::now();
        let other = || self.must(&format!("cat {FOLDER}/pr-helper0.pid 2>/dev/null; true"));
        while [before, ""].contains(&other().as_str()) || !self.connected() {
            assert!(begin.elapsed() < Duration::from_secs(20), "{}", self.log());
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

fn needed() -> Result<(), String> {
    virtqemud::machines()?;
    find("qemu-system-x86_64")?;
    std::fs::metadata("/usr/lib/qemu/virtiofsd").map(drop).map_err(|error| format!("virtiofsd: {error}"))
}

#[test]
fn programs_come_and_go_with_their_guest() {
    or_skip!(needed());
    let mut scene = Scene::new();
    scene.must(&format!("virsh start {NAME}"));
    let expected = scene.expected();
    scene.await_running(&expected);
    assert!(scene.connected());
    let xml = scene.must(&format!("virsh dumpxml {NAME}"));
    assert!(xml.contains("<binary path='/usr/lib/qemu/virtiofsd'/>"), "{xml}");
    assert!(!scene.must(&format!("virsh dumpxml --inactive {NAME}")).contains("<binary"));
    // What reservations are asked of sees the guest's devices, not the host's.
    let helper = format!("$(cat {FOLDER}/pr-helper0.pid)");
    scene.must(&format!("! [ -e /proc/{helper}/root/dev/mem ] && [ -e /proc/{helper}/root/dev/null ]"));
    // It dies while no daemon looks: the guest gets another one. (The emulator itself notices it with the next reservation.)
    scene.daemon.end("KILL");
    let before = scene.must(&format!("cat {FOLDER}/pr-helper0.pid"));
    scene.must(&format!("kill -9 {helper}"));
    scene.daemon.follow(&virtqemud::program());
    scene.await_another(&before);
    scene.await_running(&expected);
    // Devices that come bring theirs, and take them along.
    let mut more = expected.clone();
    more[1] += 2;
    scene.must(&format!("virsh attach-device {NAME} share.xml --live"));
    scene.await_running(&more);
    if scene.programs.contains(&"passt") {
        more[2] += 1;
        scene.must(&format!("virsh attach-device {NAME} network.xml --live"));
        scene.await_running(&more);
    }
    assert!(!scene.must(&format!("virsh dumpxml --inactive {NAME}")).contains("second"));
    // One that is refused leaves nothing.
    let refused = scene.daemon.shell(&format!("virsh attach-device {NAME} share.xml --live"));
    assert!(!refused.status.success());
    scene.await_running(&more);
    scene.must(&format!("virsh destroy {NAME}"));
    scene.await_running(&[0; 5]);
    let left = scene.must(&format!("ls -d {FOLDER} /run/libvirt/qemu/passt/* 2>/dev/null; true"));
    assert_eq!(left, "");
}

#[test]
fn a_program_that_does_not_start_is_told() {
    or_skip!(needed());
    let scene = Scene::new();
    scene.must("printf '#!/bin/sh\\necho no luck >&2\\nexit 1\\n' >bad && chmod 755 bad");
    scene.must(&format!(
        "virsh dumpxml --inactive {NAME} | sed \"s|<driver type='virtiofs'/>|&<binary path='/run/scene/bad'/>|\" >bad.xml \
         && virsh define bad.xml"
    ));
    let refused = scene.daemon.shell(&format!("virsh start {NAME}"));
    let text = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(text.contains("Failed to start domain"), "{text}");
    assert!(scene.log().contains("no luck"), "{}", scene.log());
    scene.await_running(&[0; 5]);
    scene.must("sed 's|/run/scene/bad|/nowhere|' bad.xml >worse.xml && virsh define worse.xml");
    let refused = scene.daemon.shell(&format!("virsh start {NAME}"));
    let text = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(text.contains("virtiofsd binary '/nowhere' is not executable"), "{text}");
    scene.await_running(&[0; 5]);
}

/// At whatever moment of a start or a plug the daemon is killed: the guest runs with all that belongs to it, or nothing
/// is left.
#[test]
fn nothing_is_left_of_a_daemon_that_is_killed() {
    or_skip!(needed());
    let mut scene = Scene::new();
    let expected = scene.expected();
    for delay in [0, 60, 120, 180, 240, 320, 400, 500] {
        let begun = scene.daemon.shell(&format!(
            "pid=$(cat pid); virsh start {NAME} >/dev/null 2>&1 & sleep 0.{delay:03}; kill -9 $pid; \
             while [ -e /proc/$pid ]; do sleep 0.02; done"
        ));
        assert!(begun.status.success());
        scene.daemon.follow(&virtqemud::program());
        // The daemon that comes back ends what had not come far enough.
        scene.must(&format!("virsh domstate {NAME}"));
        if scene.must("virsh list --name").contains(NAME) {
            scene.await_running(&expected);
            scene.must(&format!("virsh destroy {NAME}"));
        }
        scene.await_running(&[0; 5]);
    }
    scene.must(&format!("virsh start {NAME}"));
    let mut more = expected.clone();
    more[1] += 2;
    for delay in [20, 60, 100, 150] {
        let begun = scene.daemon.shell(&format!(
            "pid=$(cat pid); virsh attach-device {NAME} share.xml --live >/dev/null 2>&1 & \
             sleep 0.{delay:03}; kill -9 $pid; while [ -e /proc/$pid ]; do sleep 0.02; done"
        ));
        assert!(begun.status.success());
        scene.daemon.follow(&virtqemud::program());
        let plugged = scene.must(&format!("virsh dumpxml {NAME}")).contains("second");
        scene.await_running(if plugged { &more } else { &expected });
        if plugged {
            // Without a system the guest does not let go of it.
            break;
        }
    }
    scene.must(&format!("virsh destroy {NAME}"));
    scene.await_running(&[0; 5]);
}
