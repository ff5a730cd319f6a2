//! Guests of `virtqemud` as libvirt's client sees them, beside those of libvirt's own daemon.
#![forbid(unsafe_code)]

use blackbox::or_skip;
use blackbox::virtqemud::{Daemon, no_namespaces};
use std::path::Path;
use std::process::Command;

/// What must be there for these tests.
fn needed() -> Result<(), String> {
    if let Some(reason) = no_namespaces() {
        return Err(reason);
    }
    let emulator = "/usr/bin/qemu-system-x86_64";
    if !Path::new(emulator).exists() {
        return Err(format!("no {emulator}"));
    }
    Command::new("virsh").arg("--version").output().map(drop).map_err(|error| format!("virsh: {error}"))
}

/// Replaces the digits behind each of `marks`.
fn without_numbers(text: &str, marks: &[&str]) -> String {
    let mut out = text.to_owned();
    for mark in marks {
        let mut from = 0;
        while let Some(at) = out[from..].find(mark) {
            let start = from + at + mark.len();
            let length =
                out[start..].find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(out.len() - start);
            out.replace_range(start..start + length, "N");
            from = start + 1;
        }
    }
    out
}

/// What a client shows, without what is another moment's or another place's.
fn shown(daemon: &Daemon, words: &[&str]) -> String {
    let output = daemon.virsh(words);
    let text = format!(
        "{}{}{:?}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr),
        output.status.code()
    );
    let text = text.replace(&daemon.folder().display().to_string(), "FOLDER");
    let text = without_numbers(
        &text,
        &[
            "CPU time:       ",
            "/dev/pts/",
            "port='",
            "127.0.0.1:",
            "cpu.time=",
            "cpu.user=",
            "cpu.system=",
            "balloon.rss=",
            ".time=",
            ".wait=",
            ".delay=",
            ".times=",
            "rd_total_times ",
            "rss ",
            "CPU:            ",
            "\"id\": \"libvirt-",
        ],
    );
    // Counters of KVM, which these guests do not use; the times of vCPUs that have hardly run.
    let kept = |line: &&str| !line.contains("haltpoll") && !line.starts_with("CPU time");
    let mut lines: Vec<&str> = text.lines().filter(kept).collect();
    if words[0] == "capabilities" {
        lines.retain(|line| {
            !line.contains("<uuid>") && !line.contains("<memory ") && !line.contains("<pages unit")
        });
        lines.retain(|line| !line.contains("<counter "));
    }
    lines.join("\n")
}

/// A file with the definition of a small guest whose disk is in the daemon's folder.
fn definition(daemon: &Daemon) -> String {
    let folder = daemon.folder().display();
    std::fs::write(daemon.folder().join("disk"), vec![0; 1 << 20]).expect("disk");
    std::fs::write(daemon.folder().join("other"), vec![0; 1 << 20]).expect("disk");
    let xml = format!(
        "<domain type='qemu'><name>tiny</name><uuid>11111111-2222-3333-4444-555555555555</uuid>\
         <memory unit='MiB'>64</memory><vcpu>2</vcpu><os><type arch='x86_64' machine='pc'>hvm</type></os>\
         <features><acpi/></features><devices><disk type='file' device='disk'><driver name='qemu' type='raw'/>\
         <source file='{folder}/disk'/><target dev='vda' bus='virtio'/></disk><serial type='pty'/>\
         <channel type='unix'><target type='virtio' name='org.qemu.guest_agent.0'/></channel>\
         <graphics type='vnc'/><video><model type='vga'/></video></devices></domain>"
    );
    let path = daemon.folder().join("tiny.xml");
    std::fs::write(&path, xml).expect("definition");
    let disk = format!(
        "<disk type='file' device='disk'><driver name='qemu' type='raw'/><source file='{folder}/other'/>\
         <target dev='sda' bus='usb'/></disk>"
    );
    std::fs::write(daemon.folder().join("disk.xml"), disk).expect("device");
    path.display().to_string()
}

/// Runs the same commands with both daemons; words with `@` are files in the daemon's folder.
fn compare(daemons: &[&Daemon; 2], commands: &[&[&str]]) {
    let mut differences = String::new();
    for words in commands {
        let run = |daemon: &Daemon| {
            let folder = daemon.folder().display().to_string();
            let words: Vec<String> =
                words.iter().map(|word| word.replace('@', &format!("{folder}/"))).collect();
            let words: Vec<&str> = words.iter().map(String::as_str).collect();
            shown(daemon, &words)
        };
        let (ours, reference) = (run(daemons[0]), run(daemons[1]));
        if ours != reference {
            differences += &format!("\n{words:?}\nours:\n{ours}\nthe original's:\n{reference}\n");
        }
    }
    assert!(differences.is_empty(), "{differences}");
}

#[test]
fn capabilities_beside_the_original() {
    or_skip!(needed());
    let reference = or_skip!(Daemon::reference());
    let ours = Daemon::ours("", &[]);
    for daemon in [&ours, &reference] {
        let file =
            |name: &str, text: &str| std::fs::write(daemon.folder().join(name), text).expect("a description");
        file("host.xml", &String::from_utf8_lossy(&daemon.virsh(&["capabilities"]).stdout));
        file("small.xml", "<cpu mode='custom' match='exact'><model>kvm64</model></cpu>");
        file("odd.xml", "<cpu mode='custom' match='exact'><model>nothing</model></cpu>");
        file("intel.xml", "<cpu match='exact'><model>Haswell</model><vendor>Intel</vendor></cpu>");
        file(
            "two.xml",
            "<cpus><cpu><arch>x86_64</arch><model>Haswell</model></cpu>\
                         <cpu><arch>x86_64</arch><model>Nehalem</model></cpu></cpus>",
        );
    }
    compare(
        &[&ours, &reference],
        &[
            &["cpu-compare", "@host.xml"],
            &["cpu-compare", "@small.xml"],
            &["cpu-compare", "@odd.xml"],
            &["cpu-compare", "@intel.xml", "--error"],
            &["cpu-baseline", "@host.xml"],
            &["cpu-baseline", "@two.xml"],
            &["cpu-baseline", "@two.xml", "--features"],
            &["hypervisor-cpu-compare", "@small.xml"],
            &["hypervisor-cpu-compare", "@intel.xml", "--virttype", "qemu"],
            &["hypervisor-cpu-baseline", "@two.xml", "--virttype", "qemu"],
            &["capabilities"],
            &["domcapabilities"],
            &["domcapabilities", "--virttype", "qemu"],
            &["domcapabilities", "--machine", "q35"],
            &["domcapabilities", "--machine", "nothing"],
            &["maxvcpus"],
            &["freepages", "--cellno", "7", "4"],
        ],
    );
}

#[test]
fn a_guest_beside_the_originals() {
    or_skip!(needed());
    let reference = or_skip!(Daemon::reference());
    let ours = Daemon::ours("", &[]);
    definition(&ours);
    definition(&reference);
    compare(
        &[&ours, &reference],
        &[
            &["define", "@tiny.xml"],
            &["dumpxml", "tiny"],
            &["dominfo", "tiny"],
            &["domstats", "tiny", "--state", "--vcpu", "--block"],
            &["domblklist", "tiny"],
            &["vcpucount", "tiny"],
            &["vcpupin", "tiny"],
            &["schedinfo", "tiny"],
            &["suspend", "tiny"],
            &["vcpuinfo", "tiny"],
            &["screenshot", "tiny", "@shot"],
            &["destroy", "tiny"],
            &["autostart", "tiny"],
            &["list", "--all", "--autostart"],
            &["autostart", "tiny", "--disable"],
            &["start", "tiny"],
            &["start", "tiny"],
            &["list"],
            &["dominfo", "tiny"],
            &["domstate", "tiny", "--reason"],
            &["dumpxml", "tiny"],
            &["dumpxml", "tiny", "--inactive"],
            &["domstats", "tiny"],
            &["domblkstat", "tiny", "vda"],
            &["domblkstat", "tiny", "nothing"],
            &["domblkinfo", "tiny", "vda"],
            &["dommemstat", "tiny"],
            &["vcpuinfo", "tiny"],
            &["vcpucount", "tiny"],
            &["vcpupin", "tiny"],
            &["emulatorpin", "tiny"],
            &["domjobinfo", "tiny"],
            &["domcontrol", "tiny"],
            &["domdisplay", "tiny"],
            &["ttyconsole", "tiny"],
            &["qemu-monitor-command", "tiny", "--hmp", "info status"],
            &["qemu-monitor-command", "tiny", "--pretty", "{\"execute\":\"query-status\"}"],
            &["qemu-monitor-command", "tiny", "{\"execute\":\"nothing\"}", "--pretty"],
            &["schedinfo", "tiny"],
            &["memtune", "tiny"],
            &["numatune", "tiny"],
            &["iothreadinfo", "tiny"],
            &["blkdeviotune", "tiny", "vda"],
            &["desc", "tiny", "--live", "words"],
            &["desc", "tiny"],
            &["domtime", "tiny"],
            &["domhostname", "tiny", "--source", "agent"],
            &["domfsfreeze", "tiny"],
            &["domfstrim", "tiny"],
            &["qemu-agent-command", "tiny", "{\"execute\":\"guest-ping\"}"],
            &["domifaddr", "tiny", "--source", "agent"],
            &["send-key", "tiny", "KEY_LEFTCTRL", "KEY_A"],
            &["suspend", "tiny"],
            &["domstate", "tiny", "--reason"],
            &["resume", "tiny"],
            &["resume", "tiny"],
            &["domstate", "tiny", "--reason"],
            &["reset", "tiny"],
            &["attach-device", "tiny", "@disk.xml", "--live", "--config"],
            &["domblklist", "tiny"],
            &["dumpxml", "tiny"],
            &["attach-device", "tiny", "@disk.xml"],
            &["detach-device", "tiny", "@disk.xml", "--live", "--config"],
            &["domblklist", "tiny"],
            &["dumpxml", "tiny", "--inactive"],
            &["managedsave", "tiny"],
            &["domstate", "tiny", "--reason"],
            &["list", "--all", "--managed-save"],
            &["undefine", "tiny"],
            &["start", "tiny"],
            &["domstate", "tiny", "--reason"],
            &["save", "tiny", "@state", "--paused"],
            &["restore", "@state"],
            &["domstate", "tiny", "--reason"],
            &["restore", "@nothing"],
            &["undefine", "tiny"],
            &["list", "--transient"],
            &["destroy", "tiny"],
            &["list", "--all"],
            &["create", "@tiny.xml", "--paused"],
            &["domstate", "tiny", "--reason"],
            &["destroy", "tiny"],
            &["destroy", "tiny"],
        ],
    );
}
