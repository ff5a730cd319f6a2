//! The administrator's scripts are called as by libvirt's daemon: when, with which words, and with which definition.

#![forbid(unsafe_code)]

use blackbox::virtqemud::{self, Daemon};
use blackbox::{or_skip, paths};
use std::path::Path;

const GUEST: &str = "<domain type='qemu'><name>guest</name><uuid>11111111-2222-4333-8444-555555555555</uuid>
<memory unit='MiB'>16</memory><os><type arch='x86_64' machine='pc'>hvm</type></os><devices>
<disk type='file'><source file='/run/scene/disk.img'/><target dev='vda'/></disk>
<memballoon model='none'/></devices></domain>";

/// Notes the call, and what it finds of the definition; fails, prepares and answers as files tell it.
const SCRIPT: &str = r#"#!/bin/sh
cd /run/scene
cat >input.xml
ls /proc/$$/fd >descriptors
{
  echo "${0##*/} $*, descriptors" $(cat descriptors)
  sed -n "s/^<domain .*/  &/p; s/^  <name>.*/&/p; s/^ *<source file=.*/&/p; s/^ *<alias .*/&/p" input.xml
} >>calls
while [ -e "wait.$1" ]; do sleep 0.05; done
[ $2 = prepare ] && truncate -s 1M disk.img
[ -e "answer.$2" ] && cat "answer.$2"
if [ -e "fail.$2" ]; then
  echo "not $2, says ${0##*/}" >&2
  exit 3
fi
exit 0
"#;

/// What is done, a line of shell each, with a daemon that is started anew at each `restart`.
const LIFE: &[&str] = &[
    "virsh define guest.xml",
    "virsh start guest",
    "virsh destroy guest",
    "touch fail.prepare; virsh start guest",
    "virsh domstate --reason guest",
    "rm fail.*; touch fail.start; virsh start guest",
    "rm fail.*; touch fail.started; virsh start guest",
    "virsh domstate --reason guest",
    "rm fail.*; virsh start guest",
    "restart",
    "virsh domstate --reason guest",
    "virsh managedsave guest",
    "touch fail.restore; virsh start guest",
    "rm fail.*; virsh start guest",
    "virsh domstate --reason guest",
    "virsh save guest saved",
    "virsh save-image-dumpxml saved >answer.restore; virsh restore saved",
    "grep -o hook-script /run/libvirt/qemu/guest.xml",
    "sed -i /memballoon/s/none/virtio/ answer.restore; virsh destroy guest; virsh restore saved",
    "rm answer.restore; virsh start guest",
    "touch fail.reconnect",
    "restart",
    "virsh start guest",
    "rm fail.*; virsh start guest",
    "touch fail.stopped fail.release; virsh destroy guest",
    "rm fail.*; mv /etc/libvirt/hooks/qemu /etc/libvirt/hooks/qemu.d/20; virsh start guest",
    "virsh destroy guest",
    "virsh undefine guest; touch fail.prepare; virsh create guest.xml",
    "rm fail.* /etc/libvirt/hooks/qemu.d/*; virsh create guest.xml",
    "virsh destroy guest",
];

/// A machine with scripts, on which no daemon runs yet.
fn machine(program: &Path) -> Daemon {
    let daemon = Daemon::machine(program);
    let files = paths::scratch(&format!("hooks-{}", program.file_name().unwrap_or_default().display()));
    std::fs::write(files.join("guest.xml"), GUEST).expect("write");
    std::fs::write(files.join("script"), SCRIPT).expect("write");
    daemon.put(&files);
    let made = daemon.shell(
        "chmod 755 script && mkdir -p /etc/libvirt/hooks/qemu.d && cp script /etc/libvirt/hooks/qemu && \
         cp script /etc/libvirt/hooks/daemon && cp script /etc/libvirt/hooks/qemu.d/10 && \
         cp script /etc/libvirt/hooks/qemu.d/50 && chmod 644 /etc/libvirt/hooks/qemu.d/50",
    );
    assert!(made.status.success(), "{made:?}");
    daemon
}

/// What came of it.
fn live(program: &Path) -> String {
    let mut daemon = machine(program);
    daemon.follow(program);
    let mut told = String::new();
    for line in LIFE {
        told += &format!("# {line}\n");
        if *line == "restart" {
            daemon.end("TERM");
            daemon.follow(program);
            // It answers before its guests are taken up; what they wait for is their job.
            daemon.shell("virsh resume guest");
        } else {
            let output = daemon.shell(line);
            told += &String::from_utf8_lossy(&output.stdout);
            told += &String::from_utf8_lossy(&output.stderr);
        }
        told += &String::from_utf8_lossy(&daemon.shell("cat calls; rm -f calls").stdout);
    }
    told
}

#[test]
fn scripts_are_called_as_by_the_original() {
    or_skip!(virtqemud::machines());
    let original = or_skip!(virtqemud::original());
    let ours = virtqemud::program();
    let [theirs, ours] = std::thread::scope(|scope| {
        let theirs = scope.spawn(|| live(&original));
        let ours = live(&ours);
        [theirs.join().expect("the original's side"), ours]
    });
    for call in ["qemu guest prepare begin -, ", "10 guest release end -", "qemu guest reconnect begin -"] {
        assert!(theirs.contains(call), "{theirs}");
    }
    assert!(theirs.contains("unexpected exit status 3: not prepare, says 10"), "{theirs}");
    let differ = theirs.lines().zip(ours.lines()).find(|(theirs, ours)| theirs != ours);
    assert!(differ.is_none() && theirs == ours, "{differ:?}\n{theirs}\n-----\n{ours}");
}

#[test]
fn a_script_that_takes_long_holds_up_its_guest_alone() {
    or_skip!(virtqemud::machines());
    let program = virtqemud::program();
    let mut daemon = machine(&program);
    daemon.follow(&program);
    let must = |line: &str| {
        let output = daemon.shell(line);
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(output.status.success(), "{line}: {text}{}", String::from_utf8_lossy(&output.stderr));
        text
    };
    must("sed '/<disk/d; s/guest/slow/; s/11111111/22222222/' guest.xml >slow.xml");
    must("virsh define slow.xml && virsh define guest.xml");
    must("touch wait.slow; virsh start slow >started 2>&1 &");
    must("for i in $(seq 200); do grep -qs 'qemu slow prepare' calls && exit 0; sleep 0.05; done; exit 1");
    must("timeout 20 virsh start guest");
    let listed = must(
        "timeout 20 virsh list --name && timeout 20 virsh domstate slow && timeout 20 virsh destroy guest",
    );
    assert!(listed.starts_with("guest\n\nshut off\n"), "{listed}");
    must("[ ! -s started ]");
    must("rm wait.slow; for i in $(seq 200); do [ -s started ] && exit 0; sleep 0.05; done; exit 1");
    assert_eq!(must("cat started; virsh domstate slow"), "Domain 'slow' started\n\nrunning\n\n");
}
