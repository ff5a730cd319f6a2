//! With the emulator that is installed.

use crate::{Error, QemuCaps, Settings, Sev, Stamp, Store, VirtType, cache_name, format, parse, probe};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

const QEMU: &str = "/usr/bin/qemu-system-x86_64";

/// A directory of one test.
struct Scratch(PathBuf);

impl Scratch {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("qemu-caps-{name}-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&path);
        std::fs::create_dir_all(&path).expect("directory");
        Self(path)
    }

    fn settings(&self) -> Settings {
        Settings { directory: self.0.join("lib"), owner: None }
    }

    fn script(&self, name: &str, text: &str) -> PathBuf {
        let path = self.0.join(name);
        std::fs::write(&path, text).expect("script");
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).expect("mode");
        path
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

#[test]
fn the_installed_emulator() {
    if !Path::new(QEMU).exists() {
        println!("SKIPPED the_installed_emulator: no {QEMU}");
        return;
    }
    let scratch = Scratch::new("probe");
    let caps = probe(Path::new(QEMU), &scratch.settings()).expect("probe");
    assert_eq!(caps.arch, "x86_64");
    assert!(caps.version >= 7_000_000);
    for flag in ["virtio-blk-pci.scsi", "piix3-usb-uhci", "blockdev-reopen", "tcg", "device.json+hotplug"] {
        assert!(caps.has(flag), "{flag}");
    }
    let machine = caps.machine(VirtType::Qemu, "pc").expect("pc");
    assert!(machine.name.starts_with("pc-i440fx-") && machine.default && machine.max_cpus == 255);
    let tcg = caps.tcg.as_ref().expect("tcg");
    assert!(tcg.cpus.iter().any(|cpu| cpu.name == "qemu64"));
    assert!(tcg.host.as_ref().is_some_and(|host| host.properties.len() > 100));
    assert_eq!(parse(&format(&caps)).expect("our file"), caps);
    // Neither a process nor a directory is left.
    assert_eq!(std::fs::read_dir(scratch.0.join("lib")).expect("directory").count(), 0);
}

#[test]
fn one_run_for_all_callers_and_one_for_the_next_start() {
    if !Path::new(QEMU).exists() {
        println!("SKIPPED one_run_for_all_callers_and_one_for_the_next_start: no {QEMU}");
        return;
    }
    let scratch = Scratch::new("store");
    let count = scratch.0.join("count");
    let binary =
        scratch.script("qemu", &std::format!("#!/bin/sh\necho >>{}\nexec {QEMU} \"$@\"\n", count.display()));
    let runs = || std::fs::read_to_string(&count).unwrap_or_default().len();
    let store = || Store::new(scratch.0.join("cache"), scratch.settings());
    let first = store();
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| first.get(&binary).expect("caps"));
        }
    });
    let asked = runs();
    assert!((1..=2).contains(&asked), "{asked} runs");
    let again = store().get(&binary).expect("from disk");
    assert_eq!(runs(), asked);
    assert!(again.has("tcg"));
    let file = scratch.0.join("cache").join(cache_name(&binary));
    assert_eq!(std::fs::metadata(&file).expect("file").permissions().mode() & 0o777, 0o600);
    // Another binary at that place is asked anew.
    let stamp = Stamp::now(&binary);
    std::thread::sleep(Duration::from_millis(1100));
    std::fs::set_permissions(&binary, std::fs::Permissions::from_mode(0o700)).expect("mode");
    assert_ne!(Stamp::now(&binary), stamp);
    first.get(&binary).expect("caps");
    assert!(runs() > asked);
    // A broken file is as none.
    std::fs::write(&file, "<qemuCaps><version>x</version>").expect("write");
    store().get(&binary).expect("caps");
}

#[test]
fn what_is_no_emulator() {
    let scratch = Scratch::new("bad");
    let settings = scratch.settings();
    assert!(matches!(probe(Path::new("/nonexistent"), &settings), Err(Error::Missing(_))));
    let script = scratch.script("fails", "#!/bin/sh\necho oh no >&2\nexit 3\n");
    assert_eq!(
        probe(&script, &settings).expect_err("fails").to_string(),
        std::format!("Failed to start QEMU binary {} for probing: oh no", script.display())
    );
    let file = scratch.0.join("text");
    std::fs::write(&file, "x").expect("written");
    assert!(matches!(probe(&file, &settings), Err(Error::NotExecutable(_))));
    let script = scratch.script("nothing", "#!/bin/sh\nexit 0\n");
    assert!(matches!(probe(&script, &settings), Err(Error::Run(..))));
    // No storm of attempts.
    let count = scratch.0.join("count");
    let script = scratch.script("counts", &std::format!("#!/bin/sh\necho >>{}\nexit 1\n", count.display()));
    let store = Store::new(scratch.0.join("cache"), settings);
    for _ in 0..5 {
        assert!(store.get(&script).is_err());
    }
    assert_eq!(std::fs::read_to_string(&count).expect("count").len(), 1);
}

#[test]
fn names_of_files() {
    assert_eq!(
        cache_name(Path::new(QEMU)),
        "926803a9278e445ec919c2b6cbd8c1c449c75b26dcb1686b774314180376c725.xml"
    );
}

#[test]
fn what_encrypts_guests_is_kept() {
    let sev = Sev {
        cbitpos: 51,
        reduced_phys_bits: 1,
        pdh: "AAA+/=".into(),
        cert_chain: "BBB".into(),
        cpu0_id: Some("id".into()),
    };
    let mut caps = QemuCaps { sev: Some(sev), ..QemuCaps::default() };
    let text = format(&caps);
    assert!(text.contains("  <sev>\n    <cbitpos>51</cbitpos>\n    <reducedPhysBits>1</reducedPhysBits>\n"));
    assert_eq!(parse(&text).expect("our file"), caps);
    caps.sev.as_mut().expect("there").cpu0_id = None;
    assert_eq!(parse(&format(&caps)).expect("our file"), caps);
    assert!(parse(&text.replace("<pdh>", "<other>").replace("</pdh>", "</other>")).is_err());
}
