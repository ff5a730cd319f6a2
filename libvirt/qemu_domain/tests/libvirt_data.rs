//! libvirt's own pairs of domains, as given and as completed (`tests/qemuxml2xmloutdata` of its source).

use std::collections::BTreeSet;
use std::path::Path;

use qemu_caps::QemuCaps;
use qemu_domain::{Context, Generate, Settings};

/// The cases whose command lines are compared; those of them that have an output are compared here.
const CASES: &str = include_str!("cases.txt");

/// The domains beyond the cases that are refused or differ as yet.
const REST_PENDING: &str = include_str!("rest_pending.txt");

/// The cases that differ as yet.
const PENDING: &str = include_str!("pending.txt");

struct Fixed;

impl Generate for Fixed {
    fn uuid(&mut self) -> String {
        "00000000-0000-0000-0000-000000000000".to_owned()
    }

    fn mac(&mut self) -> [u8; 3] {
        [0, 0, 0]
    }
}

/// The settings that the test program has in force for a case.
fn settings(program: &str, name: &str) -> Settings {
    let before = &program[..program.find(&format!("(\"{name}\"")).unwrap_or(0)];
    let on = |word: &str| {
        before
            .rfind(&format!("{word} = "))
            .is_some_and(|at| before[at..].starts_with(&format!("{word} = true")))
    };
    let environment = |variable: &str| {
        let set = before.rfind(&format!("g_setenv(\"{variable}\", \""))?;
        let unset = before.rfind(&format!("g_unsetenv(\"{variable}\")"));
        before[set..].split('"').nth(3).filter(|_| unset.is_none_or(|unset| unset < set))
    };
    Settings {
        host_audio: environment("QEMU_AUDIO_DRV").and_then(|word| xml::Value::parse(word).ok()),
        sdl_audio: environment("SDL_AUDIODRIVER").map(str::to_owned),
        spice_tls: true,
        label_model: Some("none".to_owned()),
        lib: "/tmp/lib".to_owned(),
        nvram: "/bad-test-used-env-home/.config/libvirt/qemu/nvram".to_owned(),
        channels: "/tmp/lib/channel/target".to_owned(),
        vnc_auto_unix_socket: on("vncAutoUnixSocket"),
        spice_auto_unix_socket: on("spiceAutoUnixSocket"),
        vnc_allow_host_audio: on("vncAllowHostAudio"),
        nographics_allow_host_audio: on("nogfxAllowHostAudio"),
    }
}

/// The capabilities that libvirt's test program gives to a case without those of an emulator. Only those that change
/// a definition count; the machines have no other names and no default processors.
fn made_up(program: &str, name: &str) -> QemuCaps {
    let names = [
        ("QEMU_CAPS_DEVICE_CIRRUS_VGA", "cirrus-vga"),
        ("QEMU_CAPS_VIRTIO_SCSI", "virtio-scsi-pci"),
        ("QEMU_CAPS_SCSI_LSI", "lsi"),
        ("QEMU_CAPS_PIIX3_USB_UHCI", "piix3-usb-uhci"),
        ("QEMU_CAPS_NEC_USB_XHCI", "nec-usb-xhci"),
        ("QEMU_CAPS_ICH9_USB_EHCI1", "ich9-usb-ehci1"),
        ("QEMU_CAPS_DEVICE_IOH3420", "ioh3420"),
        ("QEMU_CAPS_DEVICE_PCIE_ROOT_PORT", "pcie-root-port"),
        ("QEMU_CAPS_VFIO_PCI_DISPLAY", "vfio-pci.display"),
    ];
    let call = ["DO_TEST", "DO_TEST_MACOS"].map(|word| program.find(&format!("{word}(\"{name}\",")));
    let start = call.into_iter().flatten().next().map_or("", |at| &program[at..]);
    let call = &start[..start.find(';').unwrap_or(0)];
    let flags = names.iter().filter(|(word, _)| call.contains(word)).map(|(_, flag)| (*flag).to_owned());
    QemuCaps { flags: flags.collect(), arch: "x86_64".to_owned(), ..QemuCaps::default() }
}

fn complete(text: &str, caps: &QemuCaps, settings: &Settings) -> Result<String, String> {
    let mut domain = domain_xml::parse(text).map_err(|error| error.to_string())?;
    let mut context = Context { caps, settings, update_abi: false, generate: &mut Fixed };
    qemu_domain::complete(&mut domain, &mut context).map_err(|error| error.to_string())?;
    assert_eq!(xml::unpack(&xml::pack(&domain)).as_ref(), Some(&domain), "packed and unpacked");
    Ok(domain_xml::format(&domain))
}

fn check(tests: &Path, program: &str, name: &str, caps: &QemuCaps) -> Option<Result<(), String>> {
    let outputs = tests.join("qemuxml2xmloutdata");
    let latest = std::fs::read_to_string(outputs.join(format!("{name}.x86_64-latest.xml"))).ok();
    let made_up = made_up(program, name);
    let caps = if latest.is_some() { caps } else { &made_up };
    let expected = latest.or_else(|| std::fs::read_to_string(outputs.join(format!("{name}.xml"))).ok())?;
    let input = std::fs::read_to_string(tests.join(format!("qemuxml2argvdata/{name}.xml"))).ok()?;
    Some(complete(&input, caps, &settings(program, name)).and_then(|found| {
        if found == expected {
            return Ok(());
        }
        let mut wanted: Vec<&str> = expected.lines().collect();
        let mut got: Vec<&str> = found.lines().collect();
        while wanted.first() == got.first() && !wanted.is_empty() {
            wanted.remove(0);
            got.remove(0);
        }
        let head = |lines: &[&str]| lines.iter().take(3).map(|l| l.trim()).collect::<Vec<_>>().join(" ");
        Err(format!("expected {} found {}", head(&wanted), head(&got)))
    }))
}

/// What libvirt has for this architecture beyond the cases.
#[test]
fn other_completed_domains_are_libvirts_or_refused() {
    let tests = blackbox::or_skip!(blackbox::guests::libvirt_tests());
    let caps = newest(&tests);
    let program = std::fs::read_to_string(tests.join("qemuxml2xmltest.c")).expect("libvirt's test program");
    let cases: BTreeSet<&str> = CASES.lines().collect();
    let pending: BTreeSet<&str> = REST_PENDING.lines().collect();
    let folder = tests.join("qemuxml2xmloutdata").read_dir().expect("libvirt's data");
    let names: BTreeSet<String> = folder
        .filter_map(|file| {
            let file = file.ok()?.file_name().to_str()?.strip_suffix(".xml")?.to_owned();
            let name = file.strip_suffix(".x86_64-latest").unwrap_or(&file);
            // Other architectures, versions, and forms of the same.
            (!name.contains('.') && !name.ends_with("-active") && !name.ends_with("-inactive"))
                .then(|| name.to_owned())
        })
        .filter(|name| !cases.contains(name.as_str()))
        .collect();
    let (mut passed, mut refused, mut differ, mut wrong) = (0, 0, 0, Vec::new());
    for name in &names {
        let listed = pending.contains(name.as_str());
        match check(&tests, &program, name, &caps) {
            None => {}
            Some(Ok(())) => {
                passed += 1;
                if listed {
                    wrong.push(format!("{name} passes: it is to leave the list"));
                }
            }
            Some(Err(difference)) => {
                *if difference.starts_with("expected ") { &mut differ } else { &mut refused } += 1;
                println!("FAILED {name}: {difference}");
                if !listed {
                    wrong.push(format!("{name}: {difference}"));
                }
            }
        }
    }
    println!("{passed} passed, {refused} refused, {differ} differ");
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// The capabilities of the newest emulator that libvirt has recorded.
fn newest(tests: &Path) -> QemuCaps {
    let caps = std::fs::read_to_string(tests.join("qemucapabilitiesdata/caps_8.0.0.x86_64.xml"));
    let mut caps = qemu_caps::parse(&caps.expect("capabilities")).expect("capabilities");
    // libvirt's test program gives machines their other names for good, so that its outputs name no version.
    for accelerator in [&mut caps.kvm, &mut caps.tcg].into_iter().flatten() {
        for machine in &mut accelerator.machines {
            if let Some(alias) = machine.alias.take() {
                machine.name = alias;
            }
        }
    }
    caps
}

#[test]
fn completed_domains_are_libvirts() {
    let tests = blackbox::or_skip!(blackbox::guests::libvirt_tests());
    let caps = newest(&tests);
    let program = std::fs::read_to_string(tests.join("qemuxml2xmltest.c")).expect("libvirt's test program");
    let pending: BTreeSet<&str> = PENDING.lines().collect();
    let (mut passed, mut failed, mut wrong) = (0, 0, Vec::new());
    for name in CASES.lines() {
        match check(&tests, &program, name, &caps) {
            None => {}
            Some(Ok(())) => {
                passed += 1;
                if pending.contains(name) {
                    wrong.push(format!("{name} passes: it is to leave the list"));
                }
            }
            Some(Err(difference)) => {
                failed += 1;
                println!("FAILED {name}: {difference}");
                if !pending.contains(name) {
                    wrong.push(format!("{name}: {difference}"));
                }
            }
        }
    }
    println!("{passed} passed, {failed} failed");
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
