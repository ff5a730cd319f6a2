//! Running guests go from our daemon to libvirt's and back: the files that one leaves are all that the other has.

#![forbid(unsafe_code)]

use blackbox::virtqemud::{self, Daemon};
use blackbox::{or_skip, paths};
use std::path::Path;

/// A guest with most kinds of devices; its images are not the emulators' user's.
const GUEST: &str = "<domain type='qemu'><name>guest</name><uuid>11111111-2222-4333-8444-555555555555</uuid>
<memory unit='MiB'>64</memory><vcpu>2</vcpu><os><type arch='x86_64' machine='pc'>hvm</type></os><features><acpi/></features>
<devices><disk type='file' device='disk'><driver name='qemu' type='raw'/><source file='/run/scene/disk.img'/>
<target dev='vda' bus='virtio'/></disk><disk type='file' device='cdrom'><source file='/run/scene/cd.img'/>
<target dev='hda' bus='ide'/><readonly/></disk><controller type='usb' model='qemu-xhci'/><interface type='user'>
<mac address='52:54:00:01:02:03'/><model type='virtio'/></interface><serial type='pty'/>
<channel type='unix'><target type='virtio' name='org.qemu.guest_agent.0'/></channel>
<graphics type='vnc' autoport='yes'/><video><model type='vga'/></video><input type='tablet' bus='usb'/>
<rng model='virtio'><backend model='random'>/dev/urandom</backend></rng></devices></domain>";

/// What a daemon prepares that has no guests yet.
const PREPARE: &str = "truncate -s 1M disk.img disk2.img cd.img more.img && chown 1234:1234 disk.img disk2.img && \
    printf 'user = \"libvirt-qemu\"\\ngroup = \"libvirt-qemu\"\\nstdio_handler = \"file\"\\nsecurity_driver = \"none\"\\n' \
    >/etc/libvirt/qemu.conf";

struct Scene {
    daemon: Daemon,
}

impl Scene {
    /// A daemon that has started the guest.
    fn new(program: &Path) -> Self {
        let this = Self { daemon: Daemon::alone(program) };
        this.must(PREPARE);
        // The configuration is read by the next one.
        let this = this.handed_to(program);
        let files = paths::scratch(&blackbox::current_test());
        std::fs::write(files.join("guest.xml"), GUEST).expect("write");
        this.daemon.put(&files);
        this.must("virsh define guest.xml && virsh start guest");
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

    /// The daemon ends, and another one takes its place.
    fn handed_to(mut self, program: &Path) -> Self {
        self.daemon.end("TERM");
        self.daemon.follow(program);
        self
    }

    /// The guest runs under its number, and its devices are what they were.
    fn finds(&self, xml: &str) {
        assert_eq!(self.must("virsh list --name").trim(), "guest", "{}", self.daemon.stderr());
        assert_eq!(self.must("virsh domid guest").trim(), "1");
        let found = self.must("virsh dumpxml --security-info guest");
        let differ = xml.lines().zip(found.lines()).find(|(before, now)| before != now);
        assert_eq!(differ, None, "{found}");
        self.must("virsh suspend guest");
        assert_eq!(self.must("virsh domstate --reason guest").trim(), "paused (user)");
        self.must("virsh resume guest");
        self.must(
            "virsh qemu-agent-command guest '{\"execute\":\"guest-ping\"}' 2>&1 | grep -q 'not connected'",
        );
    }

    fn xml(&self) -> String {
        self.must("virsh dumpxml --security-info guest")
    }

    fn owner(&self, file: &str) -> String {
        self.must(&format!("stat -c %u {file}")).trim().to_owned()
    }

    fn plug(&self) {
        self.must("virsh attach-disk guest /run/scene/disk2.img sda --targetbus usb");
        assert_eq!(self.owner("disk2.img"), "64055");
    }

    fn unplug(&self) {
        self.must("virsh detach-disk guest sda");
        self.must(
            "for i in $(seq 100); do virsh domblklist guest | grep -q sda || exit 0; sleep 0.1; done; exit 1",
        );
        assert_eq!(self.owner("disk2.img"), "1234");
    }

    fn change_media(&self, to: &str) {
        self.must(&format!("virsh change-media guest hda /run/scene/{to}"));
        self.must(&format!("virsh domblklist guest | grep -q /{to}"));
    }

    /// The end of the guest leaves nothing.
    fn ends(&self) {
        self.must("virsh destroy guest && virsh undefine guest --managed-save");
        assert_eq!((self.owner("disk.img"), self.owner("disk2.img")), ("1234".to_owned(), "1234".to_owned()));
        let left = self.must(
            "ls -d /run/libvirt/qemu/*.xml /run/libvirt/qemu/guest* /var/lib/libvirt/qemu/domain-* \
             /var/lib/libvirt/qemu/channel/target/* /var/lib/libvirt/qemu/save/* 2>/dev/null || true",
        );
        assert_eq!(left, "");
    }
}

/// Each takes the guest from the other, changes it and gives it back: images in the drive, a disk that one plugs and the
/// other unplugs, a saved state, and the owners that files had.
fn there_and_back(one: &Path, other: &Path) {
    let scene = Scene::new(one);
    assert_eq!(scene.owner("disk.img"), "64055");
    let xml = scene.xml();
    let scene = scene.handed_to(other);
    scene.finds(&xml);
    scene.change_media("more.img");
    scene.plug();
    scene.must("virsh blockresize guest vda 2M && virsh setmem guest 48M --live");
    let xml = scene.xml();
    let scene = scene.handed_to(one);
    scene.finds(&xml);
    scene.unplug();
    scene.change_media("cd.img");
    scene.plug();
    let xml = scene.xml();
    let scene = scene.handed_to(other);
    scene.finds(&xml);
    scene.unplug();
    scene.must("virsh managedsave guest");
    let scene = scene.handed_to(one);
    scene.must("virsh start guest");
    assert_eq!(scene.must("virsh domstate --reason guest").trim(), "running (restored)");
    let scene = scene.handed_to(other);
    scene.ends();
}

#[test]
fn guests_go_to_the_original_and_back() {
    or_skip!(virtqemud::machines());
    let original = or_skip!(virtqemud::original());
    let ours = virtqemud::program();
    there_and_back(&ours, &original);
}

#[test]
fn guests_come_from_the_original_and_go_back() {
    or_skip!(virtqemud::machines());
    let original = or_skip!(virtqemud::original());
    let ours = virtqemud::program();
    there_and_back(&original, &ours);
}
