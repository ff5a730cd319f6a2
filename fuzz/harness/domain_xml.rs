//! Domain XML: any text. What is read is written so that it is read again as the same; what is completed for a small
//! emulator stays readable.

use qemu_caps::{Accelerator, MachineType, QemuCaps};
use qemu_domain::{Context, Generate, Settings};
use std::sync::LazyLock;

static CAPS: LazyLock<QemuCaps> = LazyLock::new(|| {
    let machine = |name: &str, default| MachineType {
        name: name.to_owned(),
        default_cpu: Some("qemu64-x86_64-cpu".to_owned()),
        default,
        ..MachineType::default()
    };
    let machines = vec![machine("pc-i440fx-8.0", true), machine("pc-q35-8.0", false)];
    let accelerator = Accelerator { machines, ..Accelerator::default() };
    let flags = ["piix3-usb-uhci", "qemu-xhci", "pcie-root-port", "pcie-pci-bridge", "lsi", "cirrus-vga"];
    QemuCaps {
        flags: flags.map(str::to_owned).into_iter().collect(),
        arch: "x86_64".to_owned(),
        kvm: Some(accelerator.clone()),
        tcg: Some(accelerator),
        ..QemuCaps::default()
    }
});

static SETTINGS: LazyLock<Settings> = LazyLock::new(|| Settings {
    lib: "/lib".to_owned(),
    nvram: "/nvram".to_owned(),
    channels: "/channels".to_owned(),
    label_model: Some("none".to_owned()),
    ..Settings::default()
});

struct Fixed;

impl Generate for Fixed {
    fn uuid(&mut self) -> String {
        "00010203-0405-4607-8809-0a0b0c0d0e0f".to_owned()
    }

    fn mac(&mut self) -> [u8; 3] {
        [1, 2, 3]
    }
}

/// The input: the text.
pub fn run(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    let mut domain = match domain_xml::parse(&text) {
        Ok(domain) => domain,
        Err(refused) => return assert!(!refused.to_string().is_empty(), "a refusal says why"),
    };
    let written = domain_xml::format(&domain);
    if let Ok(again) = domain_xml::parse(&written) {
        assert_eq!(domain_xml::format(&again), written, "what is read again is written alike");
    }
    let mut context = Context { caps: &CAPS, settings: &SETTINGS, update_abi: true, generate: &mut Fixed };
    if qemu_domain::complete(&mut domain, &mut context).is_ok() {
        let _ = qemu_domain::alias::assign(&mut domain);
        let written = domain_xml::format(&domain);
        domain_xml::parse(&written).expect("a completed domain can be read");
        let _ = qemu_domain::validate::domain(&domain, &CAPS, &SETTINGS);
    }
}
