//! Numbers and counts that no machine has.

use super::*;
use qemu_caps::{Accelerator, MachineType};

struct Fixed;

impl Generate for Fixed {
    fn uuid(&mut self) -> String {
        "00010203-0405-4607-8809-0a0b0c0d0e0f".to_owned()
    }

    fn mac(&mut self) -> [u8; 3] {
        [1, 2, 3]
    }
}

fn emulator() -> QemuCaps {
    let machine = MachineType { name: "pc-i440fx-8.0".to_owned(), default: true, ..MachineType::default() };
    let accelerator = Accelerator { machines: vec![machine], ..Accelerator::default() };
    let flags = ["query-hotpluggable-cpus".to_owned()].into();
    QemuCaps { arch: "x86_64".to_owned(), kvm: Some(accelerator), flags, ..QemuCaps::default() }
}

fn settings() -> Settings {
    Settings {
        lib: "/lib".to_owned(),
        nvram: "/nvram".to_owned(),
        channels: "/channels".to_owned(),
        ..Settings::default()
    }
}

/// Whether what is complete makes sense.
fn checked(domain: &Domain) -> Result<()> {
    validate::domain(domain, &emulator(), &settings())
}

fn complete_text(parts: &str, devices: &str) -> Result<Domain> {
    let (caps, settings) = (emulator(), settings());
    let text = format!(
        "<domain type='kvm'><name>t</name><memory>65536</memory><os><type>hvm</type></os>{parts}\
         <devices>{devices}</devices></domain>"
    );
    let mut domain = domain_xml::parse(&text)?;
    let mut context = Context { caps: &caps, settings: &settings, update_abi: true, generate: &mut Fixed };
    complete(&mut domain, &mut context)?;
    Ok(domain)
}

fn refusal(parts: &str, devices: &str) -> String {
    complete_text(parts, devices).expect_err("it makes no sense").to_string()
}

#[test]
fn an_ordinary_domain_is_completed() {
    let domain = complete_text("", "").unwrap();
    assert_eq!(domain.machine(), "pc-i440fx-8.0");
}

#[test]
fn large_numbers_are_refused() {
    let topology =
        "<cpu><topology sockets='4294967295' dies='4294967295' cores='4294967295' threads='2'/></cpu>";
    assert!(refusal(topology, "").ends_with("CPU topology doesn't match maximum vcpu count"));
    let far = "<rng model='virtio'><backend model='builtin'/>\
               <address type='pci' bus='0xffffffffffffffff' slot='0xffffffffffffffff' function='0xff'/></rng>";
    assert!(refusal("", far).ends_with("Invalid PCI address bus='0xffffffffffffffff', must be <= 0xFF"));
    let slot = "<rng model='virtio'><backend model='builtin'/><address type='pci' slot='0x40'/></rng>";
    assert!(refusal("", slot).ends_with("Invalid PCI address slot='0x40', must be <= 0x1F"));
    let function =
        "<rng model='virtio'><backend model='builtin'/><address type='pci' slot='5' function='9'/></rng>";
    assert!(refusal("", function).ends_with("Invalid PCI address function=0x9, must be <= 7"));
}

#[test]
fn sums_do_not_overflow() {
    let cell = "<cell memory='18014398509481983'/>".repeat(1500);
    let cpu = format!("<cpu><numa>{cell}</numa></cpu>");
    assert!(complete_text(&cpu, "").is_ok());
    let cards = "<smartcard mode='host'><address type='ccid' controller='0' slot='4294967295'/></smartcard>\
                 <smartcard mode='host'/>";
    assert!(complete_text("", cards).is_ok());
}

#[test]
fn too_many_devices_are_refused_at_once() {
    let refused = refusal("", &"<controller type='usb'/>".repeat(100_000));
    assert!(refused.ends_with("more than 4096 devices of type 'controller'"));
    assert!(refusal("", "<disk><target dev='vda'/></disk>".repeat(5000).as_str()).contains("'disk'"));
}

#[test]
fn a_switch_without_a_state_is_on() {
    let features = |text: &str| complete_text(&format!("<features>{text}</features>"), "").unwrap().features;
    assert_eq!(
        features("<pmu/><smm/><vmcoreinfo/>"),
        features("<pmu state='on'/><smm state='on'/><vmcoreinfo state='on'/>")
    );
    assert_ne!(features("<pmu/>"), features("<pmu state='off'/>"));
}

#[test]
fn names_that_users_give_are_unique() {
    let disk = |dev: &str, alias: &str| {
        format!(
            "<disk type='block'><source dev='/{dev}'/><target dev='{dev}' bus='virtio'/><alias name='{alias}'/></disk>"
        )
    };
    let check = |first: &str, second: &str| {
        let domain = complete_text("", &(disk("vda", first) + &disk("vdb", second))).unwrap();
        let elsewhere = domain.devices.clone();
        (checked(&domain).is_ok(), each::names_are_unique(&[&domain.devices, &elsewhere]).is_ok())
    };
    assert_eq!(check("ua-a", "ua-b"), (true, false));
    assert_eq!(check("ua-a", "ua-a"), (false, false));
    // Other names are the driver's to give.
    assert_eq!(check("a", "a"), (true, true));
}

#[test]
fn listed_processors_are_those_that_are_there() {
    let list = "<vcpu current='2'>4</vcpu><vcpus><vcpu id='3' enabled='yes' hotpluggable='yes'/>\
                <vcpu id='0' enabled='yes' hotpluggable='no'/><vcpu id='1' enabled='yes' hotpluggable='yes'/></vcpus>";
    let domain = complete_text(list, "").unwrap();
    assert_eq!(domain.vcpu.unwrap().current, Some(3));
    let states: Vec<_> = domain
        .vcpus
        .unwrap()
        .vcpu
        .iter()
        .map(|state| (state.id, state.enabled == domain_xml::words::YesNo::Yes))
        .collect();
    assert_eq!(states, [(0, true), (1, true), (2, false), (3, true)]);
}

#[test]
fn the_system_has_the_domains_uuid() {
    let system = |entries: &str| format!("<sysinfo type='smbios'><system>{entries}</system></sysinfo>");
    let entry = "<entry name='sku'>s</entry><entry name='uuid'>00112233445566778899AABBCCDDEEFF</entry>";
    let domain = complete_text(&system(entry), "").unwrap();
    assert_eq!(domain.uuid.as_deref(), Some("00112233-4455-6677-8899-aabbccddeeff"));
    let entries = &domain.sysinfo[0].system.as_ref().unwrap().entry;
    let shown: Vec<_> = entries.iter().map(|entry| entry.value.as_deref().unwrap()).collect();
    assert_eq!(shown, ["00112233-4455-6677-8899-aabbccddeeff", "s"]);
    let other = "<uuid>00000000-0000-4000-8000-000000000001</uuid>".to_owned() + &system(entry);
    assert_eq!(refusal(&other, ""), "UUID mismatch between <uuid> and <sysinfo>");
    let malformed = refusal(&system("<entry name='uuid'>x</entry>"), "");
    assert_eq!(malformed, "malformed <sysinfo> uuid element");
}

#[test]
fn only_virtio_disks_have_models() {
    let disk = |bus: &str| {
        let disk = format!(
            "<disk type='block' model='virtio-transitional'><source dev='/d'/><target dev='vda' bus='{bus}'/></disk>"
        );
        checked(&complete_text("", &disk).unwrap()).map_err(|error| error.to_string())
    };
    assert_eq!(disk("virtio"), Ok(()));
    let refused = "unsupported configuration: disk model 'virtio-transitional' not supported for bus 'usb'";
    assert_eq!(disk("usb"), Err(refused.to_owned()));
}
