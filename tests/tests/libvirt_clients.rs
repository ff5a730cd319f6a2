//! libvirt's other clients, as Debian packages them, used on libvirt's daemon and on ours: both sides see the same.

#![forbid(unsafe_code)]

use blackbox::initramfs::Initramfs;
use blackbox::virtqemud::{self, Daemon};
use blackbox::{compare, guests, or_skip, paths};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Debian's own Python, which has Debian's modules.
const PYTHON: &str = "/usr/bin/python3";

fn folder() -> PathBuf {
    paths::repository().join("tests/clients")
}

/// That Python has a module.
fn module(name: &str) -> Result<(), String> {
    let found = Command::new(PYTHON).args(["-c", &format!("import {name}")]).output();
    match found {
        Ok(output) if output.status.success() => Ok(()),
        _ => Err(format!("{PYTHON} has no module {name}")),
    }
}

/// Runs a script where the daemon is: what it printed, by what stands before the colon of each line.
fn transcript(daemon: &Daemon, line: &str) -> BTreeMap<String, String> {
    daemon.put(&folder());
    daemon.put(&paths::repository().join("tests/virsh"));
    let output = daemon.shell(line);
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{line}: {:?}\n{said}\n{}", output.status, daemon.stderr());
    let mut found = BTreeMap::<String, String>::new();
    for line in String::from_utf8_lossy(&output.stdout).lines() {
        let (label, rest) = line.split_once(':').unwrap_or(("", line));
        let entry = found.entry(label.to_owned()).or_default();
        entry.push_str(rest);
        entry.push('\n');
    }
    found
}

/// What a script of `tests/clients` prints is equal, except where `tests/clients/different` gives a reason.
fn compare(script: &str, start: fn(&Path) -> Daemon, line: &str) {
    let original = or_skip!(virtqemud::original());
    let [theirs, mut ours] = virtqemud::on_both(&original, start, |daemon| transcript(daemon, line));
    let label = |label: &str| format!("{script} {label}");
    let mut outcomes: Vec<_> = theirs
        .into_iter()
        .map(|(name, text)| (label(&name), (text, ours.remove(&name).unwrap_or_default())))
        .collect();
    outcomes.extend(ours.into_iter().map(|(name, text)| (label(&name), (String::new(), text))));
    let different = std::fs::read_to_string(folder().join("different")).expect("a file of the repository");
    let known: Vec<String> =
        different.lines().filter(|line| line.starts_with(&format!("{script} "))).map(str::to_owned).collect();
    let wrong = compare::unexpected(&outcomes, &known);
    assert!(wrong.is_empty(), "{wrong}");
}

#[test]
fn python_bindings() {
    or_skip!(virtqemud::machines());
    or_skip!(module("libvirt"));
    compare("bindings", Daemon::alone, &format!("{PYTHON} bindings.py"));
}

#[test]
fn virt_install() {
    or_skip!(virtqemud::machines());
    or_skip!(virtqemud::find("virt-install"));
    compare("install", Daemon::with_others, "bash install.sh");
}

#[test]
fn virt_xml_and_virt_clone() {
    or_skip!(virtqemud::machines());
    or_skip!(virtqemud::find("virt-xml"));
    compare("edit", Daemon::with_others, "bash edit.sh");
}

#[test]
fn networks_storage_and_secrets_of_other_daemons() {
    or_skip!(virtqemud::machines());
    compare("others", Daemon::with_others, "bash others.sh");
}

#[test]
fn libvirt_on_d_bus() {
    or_skip!(virtqemud::machines());
    for program in ["dbus-daemon", "dbus-send", "dbus-monitor"] {
        or_skip!(virtqemud::find(program));
    }
    let clients = or_skip!(guests::libvirt_clients());
    compare("dbus", Daemon::alone, &format!("CLIENTS={} bash dbus.sh", clients.display()));
}

#[test]
fn prometheus_exporter() {
    or_skip!(virtqemud::machines());
    let clients = or_skip!(guests::libvirt_clients());
    compare("exporter", Daemon::alone, &format!("CLIENTS={} bash exporter.sh", clients.display()));
}

#[test]
fn kubevirt_launcher() {
    or_skip!(virtqemud::machines());
    or_skip!(module("libvirt"));
    compare("launcher", Daemon::alone, &format!("{PYTHON} launcher.py"));
}

/// What takes minutes, or hangs on how busy the machine is, is run where somebody asks for it.
fn asked_for() -> Result<(), String> {
    let asked = std::env::var_os("TINAMOU_LONG_TESTS").is_some();
    asked.then_some(()).ok_or_else(|| "TINAMOU_LONG_TESTS is not set".to_owned())
}

/// What a guest of Linux and libvirt's clients see of each other.
fn guest(part: &str) {
    or_skip!(asked_for());
    or_skip!(virtqemud::machines());
    or_skip!(module("libvirt"));
    let initramfs = or_skip!(Initramfs::answering());
    let initrd = paths::scratch(&blackbox::current_test()).join("initrd");
    std::fs::write(&initrd, initramfs.build().expect("an archive")).expect("write");
    let (kernel, initrd) = (initramfs.kernel().image.display(), initrd.display());
    let line = format!("cp '{kernel}' kernel && cp '{initrd}' initrd && {PYTHON} guest.py {part}");
    compare(&format!("guest-{part}"), Daemon::alone, &line);
}

#[test]
fn guest_and_its_agent() {
    guest("agent");
}

#[test]
fn guest_and_what_is_plugged() {
    guest("plug");
}

#[test]
fn guest_and_its_power() {
    guest("power");
}

#[test]
fn guest_and_its_watchdog() {
    guest("watchdogs");
}

/// Builds the program that speaks the protocol by go-libvirt, which Debian has as source.
fn go_client() -> Result<PathBuf, String> {
    let compiler = virtqemud::find("go")?;
    let sources = Path::new("/usr/share/gocode");
    if !sources.join("src/github.com/digitalocean/go-libvirt").is_dir() {
        return Err("the machine has no golang-github-digitalocean-go-libvirt-dev".to_owned());
    }
    let target = paths::target_dir().join("go_client");
    let built = Command::new(compiler)
        .args(["build", "-o"])
        .arg(target.join("client"))
        .arg(folder().join("pure.go"))
        .env("GO111MODULE", "off")
        .env("GOPATH", sources)
        .env("GOCACHE", target.join("cache"))
        .output()
        .map_err(|error| format!("go: {error}"))?;
    assert!(built.status.success(), "{}", String::from_utf8_lossy(&built.stderr));
    Ok(target.join("client"))
}

#[test]
fn go_libvirt() {
    or_skip!(asked_for());
    or_skip!(virtqemud::machines());
    let client = or_skip!(go_client());
    compare("go", Daemon::alone, &format!("truncate -s 1M disk.img && {}", client.display()));
}

#[test]
fn collectd() {
    or_skip!(virtqemud::machines());
    or_skip!(virtqemud::find("collectd"));
    compare("collectd", Daemon::alone, "bash collectd.sh");
}

/// Builds the program that uses libvirt's Rust bindings. It is not of the workspace, which needs no libvirt.
fn rust_client() -> Result<PathBuf, String> {
    let found = Command::new("pkg-config").args(["--exists", "libvirt"]).status();
    if !found.is_ok_and(|status| status.success()) {
        return Err("the machine has no libvirt-dev".to_owned());
    }
    let target = paths::target_dir().join("rust_client");
    let built = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
        .args(["build", "--quiet", "--locked", "--manifest-path"])
        .arg(paths::repository().join("tests/rust_client/Cargo.toml"))
        .arg("--target-dir")
        .arg(&target)
        .output()
        .map_err(|error| format!("cargo: {error}"))?;
    assert!(built.status.success(), "{}", String::from_utf8_lossy(&built.stderr));
    Ok(target.join("debug/client"))
}

#[test]
fn rust_bindings() {
    or_skip!(virtqemud::machines());
    let client = or_skip!(rust_client());
    compare("rust", Daemon::alone, &format!("CLIENT={} bash rust.sh", client.display()));
}

#[test]
fn openstack_nova() {
    or_skip!(virtqemud::machines());
    or_skip!(module("libvirt"));
    or_skip!(virtqemud::find("qemu-img"));
    let python = or_skip!(guests::nova());
    // Nova looks for its interfaces among those of the network that `/sys` was mounted in.
    let line = format!("unshare --mount sh -c 'mount -t sysfs none /sys && {} compute.py'", python.display());
    compare("compute", Daemon::with_others, &line);
}
