//! The host's ends of guests' interfaces where others have a part in them: networks of devices on top of one of the
//! host, switches, filters.

#![forbid(unsafe_code)]

use blackbox::virtqemud::{self, Daemon};
use blackbox::{or_skip, paths};

/// A device of the host, and what it is connected to.
const DEVICES: &str =
    "ip link add lower type veth peer name far && ip link set far up && ip link set lower up";

fn network(mode: &str) -> String {
    format!("<network><name>{mode}</name><forward mode='{mode}'><interface dev='lower'/></forward></network>")
}

fn guest(interface: &str) -> String {
    format!(
        "<domain type='qemu'><name>guest</name><memory unit='MiB'>32</memory><vcpu>1</vcpu>\
         <os><type arch='x86_64' machine='pc'>hvm</type></os><devices><memballoon model='none'/>\
         {interface}</devices></domain>"
    )
}

struct Scene {
    daemon: Daemon,
}

impl Scene {
    fn new() -> Self {
        Self { daemon: Daemon::with_others(&virtqemud::program()) }
    }

    /// Runs a line of shell that succeeds, and answers what it prints.
    fn must(&self, line: &str) -> String {
        let output = self.daemon.shell(line);
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{line}: {text}{errors}\n{}", self.daemon.stderr());
        text
    }

    fn put(&self, name: &str, text: &str) {
        let files = paths::scratch(&format!("{}-{name}", blackbox::current_test()));
        std::fs::write(files.join(name), text).expect("write");
        self.daemon.put(&files);
    }

    /// What is there of a guest's interface: devices, and ports of the network.
    fn left(&self, network: &str) -> String {
        self.must(&format!(
            "ls /sys/class/net | grep -e macvtap -e vnet; virsh net-port-list {network} | grep -e - | grep -v -e ---; true"
        ))
    }
}

#[test]
fn a_network_may_be_a_device_of_the_host() {
    or_skip!(virtqemud::machines());
    or_skip!(virtqemud::original());
    let mut scene = Scene::new();
    scene.must(DEVICES);
    for mode in ["bridge", "vepa", "private", "passthrough"] {
        scene.put("network.xml", &network(mode));
        scene.must("virsh net-create network.xml");
        scene.put("guest.xml", &guest(&format!(
            "<interface type='network'><mac address='52:54:00:01:02:03'/><source network='{mode}'/></interface>"
        )));
        scene.must("virsh define guest.xml && virsh start guest");
        let xml = scene.must("virsh dumpxml guest");
        assert!(xml.contains("<interface type='direct'"), "{xml}");
        assert!(xml.contains(&format!("<source network='{mode}' portid='")), "{xml}");
        assert!(xml.contains(&format!("dev='lower' mode='{mode}'/>")), "{xml}");
        let inactive = scene.must("virsh dumpxml --inactive guest");
        assert!(inactive.contains(&format!("<interface type='network'>\n      <mac address='52:54:00:01:02:03'/>\n      <source network='{mode}'/>")), "{inactive}");
        let status = scene.must("cat /run/libvirt/qemu/guest.xml");
        assert!(status.contains("<actual type='direct'>"), "{status}");
        // One that comes after finds it, and ends it.
        scene.daemon.end("KILL");
        scene.daemon.follow(&virtqemud::program());
        assert_eq!(scene.must("virsh dumpxml guest"), xml);
        scene.must("virsh domif-setlink guest 52:54:00:01:02:03 down");
        assert_ne!(scene.left(mode), "");
        scene.must("virsh destroy guest && virsh undefine guest");
        assert_eq!(scene.left(mode), "", "{mode}");
        scene.must(&format!("virsh net-destroy {mode}"));
    }
}

/// At whatever moment the daemon is killed, a port and a device have a guest.
#[test]
fn ports_and_devices_are_never_nobodys() {
    or_skip!(virtqemud::machines());
    or_skip!(virtqemud::original());
    let mut scene = Scene::new();
    scene.must(DEVICES);
    scene.put("network.xml", &network("bridge"));
    scene.put("guest.xml", &guest("<interface type='network'><source network='bridge'/></interface>"));
    scene.must("virsh net-create network.xml && virsh define guest.xml");
    for delay in [0, 20, 40, 60, 80, 100, 130, 160] {
        scene.must(&format!(
            "pid=$(cat pid); virsh start guest >/dev/null 2>&1 & sleep 0.{delay:03}; kill -9 $pid; \
             while [ -e /proc/$pid ]; do sleep 0.02; done"
        ));
        scene.daemon.follow(&virtqemud::program());
        // Whoever is asked has waited for what was begun to be ended.
        scene.must("virsh domstate guest");
        if scene.must("virsh list --name").contains("guest") {
            scene.must("virsh destroy guest");
        }
        assert_eq!(scene.left("bridge"), "", "after {delay} ms");
    }
}

/// A program that stands for a switch's: it says what it was asked.
const SWITCH: &str = "#!/bin/sh\necho \"$@\" >>/run/scene/asked\n";

#[test]
fn switches_are_told_who_is_there() {
    or_skip!(virtqemud::machines());
    or_skip!(virtqemud::original());
    let scene = Scene::new();
    scene.put("ovs-vsctl", SWITCH);
    scene.must("mount -t tmpfs none /usr/local/sbin && install -m 755 ovs-vsctl /usr/local/sbin/");
    scene.must("ip link add name br0 type bridge && ip link set br0 up");
    scene.put(
        "guest.xml",
        &guest(
            "<interface type='bridge'><mac address='52:54:00:01:02:03'/><source bridge='br0'/>\
         <virtualport type='openvswitch'/><vlan><tag id='5'/></vlan><target dev='port'/>\
         <coalesce><rx><frames max='7'/></rx></coalesce></interface>\
         <interface type='ethernet'><source><ip address='10.9.0.1' prefix='24'/>\
         <route family='ipv4' address='10.8.0.0' prefix='16' gateway='10.9.0.2'/></source>\
         <target dev='alone'/></interface>",
        ),
    );
    scene.must("virsh define guest.xml && virsh start guest");
    let asked = scene.must("cat asked");
    assert!(
        asked.starts_with("--timeout=5 -- --may-exist add-port br0 port tag=5 -- set Interface port "),
        "{asked}"
    );
    let xml = scene.must("virsh dumpxml --inactive guest");
    let id = xml.split("interfaceid='").nth(1).and_then(|rest| rest.split('\'').next()).expect("a name");
    assert!(asked.contains(&format!("external-ids:iface-id=\"{id}\"")), "{asked}");
    assert!(scene.must("ip address show dev alone").contains("10.9.0.1/24"));
    assert!(scene.must("ip route").contains("10.8.0.0/16 via 10.9.0.2 dev alone"));
    scene.must("virsh destroy guest");
    assert!(scene.must("cat asked").ends_with("--timeout=5 -- --if-exists del-port port\n"));
    // One that refuses is told of, and leaves nothing.
    scene.must("printf '#!/bin/sh\\necho no such bridge >&2; exit 1\\n' >/usr/local/sbin/ovs-vsctl");
    let refused = scene.daemon.shell("virsh start guest");
    let text = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(text.contains("Unable to add port port to OVS bridge br0"), "{text}");
    assert!(!scene.must("ls /sys/class/net").contains("port"));
}

#[test]
fn filters_are_bound_by_their_daemon() {
    or_skip!(virtqemud::machines());
    or_skip!(virtqemud::original());
    let scene = Scene::new();
    scene.must("ip link add name br0 type bridge && ip link set br0 up");
    scene.put("filter.xml", "<filter name='nothing'/>");
    scene.put(
        "guest.xml",
        &guest(
            "<interface type='bridge'><mac address='52:54:00:01:02:03'/><source bridge='br0'/>\
         <filterref filter='nothing'/></interface>",
        ),
    );
    scene.must("virsh nwfilter-define filter.xml && virsh define guest.xml");
    let started = scene.daemon.shell("virsh start guest");
    if !started.status.success() {
        // Without its programs the daemon of filters refuses: nothing is left of the attempt.
        let text = String::from_utf8_lossy(&started.stderr).into_owned();
        assert!(text.contains("filter") || text.contains("tables"), "{text}");
        assert!(!scene.must("ls /sys/class/net").contains("vnet"));
        return;
    }
    assert!(scene.must("virsh nwfilter-binding-list").contains("nothing"));
    scene.must("virsh destroy guest");
    assert!(!scene.must("virsh nwfilter-binding-list").contains("nothing"));
}
