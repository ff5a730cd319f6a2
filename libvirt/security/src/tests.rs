//! Definitions and what they mean.

use super::*;
use confinement::cgroup::Thread;
use uses::Use;

const QEMU: Owner = Owner { user: 64055, group: 994 };

const GUEST: &str = "<domain type='qemu' id='7'><name>demo</name><uuid>12345678-1234-1234-1234-123456789abc</uuid>\
    <memory unit='KiB'>1048576</memory><vcpu cpuset='0'>1</vcpu><os><type arch='x86_64' machine='pc'>hvm</type>\
    <loader readonly='yes' type='pflash'>/fw/code.fd</loader><nvram>/fw/vars.fd</nvram><kernel>/k/vmlinuz</kernel></os>\
    <devices>\
    <disk type='file' device='disk'><source file='/i/top'/><backingStore type='file'><format type='qcow2'/>\
    <source file='/i/base'/><backingStore/></backingStore><target dev='vda' bus='virtio'/></disk>\
    <disk type='block' device='cdrom'><source dev='/dev/sr0'><seclabel model='dac' relabel='no'/></source>\
    <target dev='hda' bus='ide'/><readonly/></disk>\
    <disk type='network' device='disk'><source protocol='nbd' name='x'><host name='h'/></source>\
    <target dev='vdb' bus='virtio'/></disk>\
    <serial type='file'><source path='/l/serial.log'/><target port='0'/></serial>\
    <serial type='pty'><target port='1'/></serial>\
    <channel type='unix'><source mode='connect' path='/s/agent'/><target type='virtio' name='x'/></channel>\
    <channel type='unix'><source mode='bind' path='/s/bound'/><target type='virtio' name='y'/></channel>\
    <hostdev mode='subsystem' type='usb' managed='yes'><source><address bus='1' device='12'/></source></hostdev>\
    <tpm model='tpm-tis'><backend type='passthrough'><device path='/dev/tpm0'/></backend></tpm>\
    <rng model='virtio'><backend model='random'>/dev/urandom</backend></rng>\
    </devices></domain>";

fn domain(text: &str) -> Domain {
    domain_xml::parse(text).unwrap()
}

fn security(privileged: bool) -> Security {
    let bus = Systemd::at("unix:path=/nonexistent/bus");
    Security::new(Settings::new(privileged, QEMU), Launcher::default(), None, bus)
}

#[test]
fn what_a_domain_uses() {
    let used = uses::of(&domain(GUEST), false).unwrap();
    let paths: Vec<(String, bool)> = used.iter().flat_map(Use::paths).collect();
    let expected = [
        ("/i/top", false),
        ("/i/base", true),
        ("/dev/sr0", true),
        ("/dev/bus/usb/001/012", false),
        ("/l/serial.log", false),
        ("/s/agent", false),
        ("/dev/tpm0", false),
        ("/dev/urandom", false),
        ("/fw/code.fd", true),
        ("/fw/vars.fd", false),
        ("/k/vmlinuz", false),
    ];
    let expected: Vec<(String, bool)> =
        expected.iter().map(|(path, only)| ((*path).to_owned(), *only)).collect();
    assert_eq!(paths, expected);
    let Use::Images { chain, label } = &used[1] else { panic!("{used:?}") };
    assert!(chain[0].read_only && label.as_ref().is_some_and(|label| !label.relabel));
}

#[test]
fn labels_are_generated_as_libvirts() {
    let mut guest = domain(GUEST);
    security(true).label(&mut guest).unwrap();
    let text = domain_xml::format(&guest);
    let expected = "  <seclabel type='dynamic' model='dac' relabel='yes'>\n    <label>+64055:+994</label>\n    \
                    <imagelabel>+64055:+994</imagelabel>\n  </seclabel>\n";
    assert!(text.contains(expected), "{text}");
    let label = uses::domain_label(&guest).unwrap().unwrap();
    assert!(label.relabel && label.owner == Some(QEMU));
    let mut plain = domain(GUEST);
    security(false).label(&mut plain).unwrap();
    assert!(plain.seclabel.is_empty() && plain.resource.is_none());
    let with = |label: &str| domain(&GUEST.replace("</devices>", &format!("</devices>{label}")));
    let mut fixed = with("<seclabel type='static' model='dac' relabel='no'><label>+1:+2</label></seclabel>");
    security(true).label(&mut fixed).unwrap();
    let label = uses::domain_label(&fixed).unwrap().unwrap();
    assert_eq!((label.relabel, label.owner), (false, Some(Owner { user: 1, group: 2 })));
    let error = security(true).label(&mut with("<seclabel type='static' model='dac'/>")).unwrap_err();
    assert_eq!(error.message, "internal error: missing label for static security driver in domain demo");
    let strict = Settings { require_confined: true, ..Settings::new(true, QEMU) };
    let strict = Security::new(strict, Launcher::default(), None, Systemd::default());
    let error = strict.label(&mut with("<seclabel type='none' model='dac'/>")).unwrap_err();
    assert_eq!(error.message, "unsupported configuration: Unconfined guests are not allowed on this host");
    let models: Vec<_> =
        security(true).models().into_iter().map(|model| (model.name, model.base_label)).collect();
    assert_eq!(models, [("none", None), ("dac", Some("+64055:+994".to_owned()))]);
}

#[test]
fn locked_memory_by_definition() {
    let with = |more: &str| locked_memory(&domain(&GUEST.replace("<vcpu", &format!("{more}<vcpu"))));
    assert_eq!(with(""), None);
    assert_eq!(with("<memtune><hard_limit unit='MiB'>3</hard_limit></memtune>"), Some(3 << 20));
    assert_eq!(with("<memoryBacking><locked/></memoryBacking>"), Some(u64::MAX));
    let assigned = "<hostdev mode='subsystem' type='pci'><source><address domain='0' bus='1' slot='2' function='0'/>\
                    </source></hostdev><tpm";
    let guest = domain(&GUEST.replace("<tpm", assigned));
    assert_eq!(locked_memory(&guest), Some(2 << 30));
}

#[test]
fn lists_of_processors() {
    assert_eq!(parse_list("0-3,^2,7").unwrap(), [0, 1, 3, 7]);
    for bad in ["", "3-1", "x", "1,", "^1", "99999"] {
        let error = parse_list(bad).unwrap_err().message;
        assert_eq!(error, format!("invalid argument: Failed to parse bitmap '{bad}'"));
    }
}

#[test]
fn tuning_that_the_host_cannot_do_is_refused() {
    // A session has no control groups, whatever the host has.
    let security = security(false);
    let guest = |more: &str| domain(&GUEST.replace("<vcpu", &format!("{more}<vcpu")));
    let own = std::process::id().cast_signed();
    let refused = |more: &str| security.confine(&guest(more), own, &[], None).unwrap_err().message;
    let prefix = "unsupported configuration: ";
    let blkio = refused("<blkiotune><weight>200</weight></blkiotune>");
    assert_eq!(blkio, format!("{prefix}Block I/O tuning is not available on this host"));
    let memory = refused("<memtune><hard_limit unit='MiB'>3</hard_limit></memtune>");
    assert_eq!(memory, format!("{prefix}Memory cgroup is not available on this host"));
    let shares = GUEST.replace("<os>", "<cputune><shares>3</shares></cputune><os>");
    let error = security.confine(&domain(&shares), own, &[], None).unwrap_err().message;
    assert_eq!(error, format!("{prefix}CPU tuning is not available on this host"));
    let quota = GUEST.replace("<os>", "<cputune><emulator_quota>3000</emulator_quota></cputune><os>");
    let error = security.confine(&domain(&quota), own, &[], None).unwrap_err().message;
    assert_eq!(error, format!("{prefix}cgroup cpu is required for scheduler tuning"));
}

#[test]
fn threads_are_put_where_the_definition_says() {
    let security = security(false);
    let mut child = std::process::Command::new("sleep").arg("30").spawn().unwrap();
    let pid = child.id().cast_signed();
    let text = GUEST.replace(
        "<os>",
        "<cputune><vcpupin vcpu='0' cpuset='0'/><vcpusched vcpus='0-3' scheduler='batch'/></cputune><os>",
    );
    let guest = domain(&text);
    let result = std::panic::catch_unwind(|| {
        let confined = security.confine(&guest, pid, &[], None).unwrap();
        assert_eq!(confinement::process::affinity(pid).unwrap(), [0], "by the vcpu element's list");
        confined.place(&guest, Thread::Vcpu(0), pid).unwrap();
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
        let policy = stat.rsplit(')').next().unwrap().split_whitespace().nth(38).unwrap().to_owned();
        assert_eq!(policy, "3", "SCHED_BATCH");
        assert_eq!(security.release(&guest, Given::By(&confined), false), []);
    });
    child.kill().unwrap();
    child.wait().unwrap();
    result.unwrap();
}

#[test]
fn memory_nodes_by_mode() {
    let security = security(false);
    let policy = |mode: &str| {
        let tune = format!("<numatune><memory mode='{mode}' nodeset='0,2'/></numatune><os>");
        security.memory_policy(&domain(&GUEST.replace("<os>", &tune)))
    };
    for (word, mode) in [
        ("strict", MemoryMode::Strict),
        ("preferred", MemoryMode::Preferred),
        ("interleave", MemoryMode::Interleave),
    ] {
        assert_eq!(policy(word), Ok(Some(MemoryPolicy { mode, nodes: vec![0, 2] })));
    }
    let error = policy("restrictive").unwrap_err().message;
    assert_eq!(
        error,
        "unsupported configuration: restrictive memory mode requires the cgroup controller cpuset"
    );
    assert_eq!(security.memory_policy(&domain(GUEST)), Ok(None));
}
