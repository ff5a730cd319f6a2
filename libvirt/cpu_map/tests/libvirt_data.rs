//! libvirt's own pairs of processors and descriptions (`tests/cputestdata` of its source) given to our map.

use cpu_map::{
    Bits, Comparison, Cpu, CpuError, Feature, Half, Kind, Map, Match, Mode, Offered, Place, Policy,
};
use std::fs;
use std::path::PathBuf;

fn number(text: &str) -> u32 {
    let digits = text.strip_prefix("0x").expect("hexadecimal");
    u32::from_str_radix(digits, 16).expect("a word")
}

fn bits(data: &str) -> Bits {
    let document = roxmltree::Document::parse(data).expect("XML");
    let mut bits = Bits::default();
    for node in document.root_element().children().filter(roxmltree::Node::is_element) {
        let get = |name| node.attribute(name).map_or(0, number);
        if node.has_tag_name("msr") {
            bits.set(Place::Msr(get("index"), Half::Eax), get("eax"));
            bits.set(Place::Msr(get("index"), Half::Edx), get("edx"));
        } else {
            bits.set_leaf(get("eax_in"), get("ecx_in"), ["eax", "ebx", "ecx", "edx"].map(get));
        }
    }
    bits
}

fn cpu(node: roxmltree::Node<'_, '_>) -> Cpu {
    let text = |name: &str| {
        let child = node.children().find(|c| c.has_tag_name(name));
        child.and_then(|c| c.text()).map(|t| t.trim().to_owned())
    };
    let model = node.children().find(|c| c.has_tag_name("model"));
    // A description without architecture, mode and kind of match in a host's form is a host's.
    let guest = node.has_attribute("match") || node.has_attribute("mode");
    let policy = |node: roxmltree::Node<'_, '_>| {
        guest.then(|| match node.attribute("policy").unwrap_or("require") {
            "force" => Policy::Force,
            "require" => Policy::Require,
            "optional" => Policy::Optional,
            "disable" => Policy::Disable,
            "forbid" => Policy::Forbid,
            other => panic!("policy {other}"),
        })
    };
    Cpu {
        kind: if guest { Kind::Guest } else { Kind::Host },
        arch: text("arch"),
        mode: match node.attribute("mode") {
            Some("host-model") => Mode::HostModel,
            Some("host-passthrough") => Mode::HostPassthrough,
            Some("maximum") => Mode::Maximum,
            _ => Mode::Custom,
        },
        matching: match node.attribute("match") {
            Some("minimum") => Match::Minimum,
            Some("strict") => Match::Strict,
            _ => Match::Exact,
        },
        model: text("model"),
        fallback: guest && model.and_then(|m| m.attribute("fallback")) != Some("forbid"),
        vendor: text("vendor"),
        vendor_id: model.and_then(|m| m.attribute("vendor_id")).map(str::to_owned),
        features: node
            .children()
            .filter(|c| c.has_tag_name("feature"))
            .map(|f| Feature { name: f.attribute("name").expect("a name").to_owned(), policy: policy(f) })
            .collect(),
        ..Cpu::default()
    }
}

/// A processor whose descriptions libvirt made without regard to the models that QEMU offers, which are recorded too.
const WITHOUT_MODELS: &str = "Core-i7-5600U-ibrs";

struct Data(PathBuf);

impl Data {
    fn text(&self, name: &str) -> String {
        fs::read_to_string(self.0.join(name)).unwrap_or_else(|e| panic!("{name}: {e}"))
    }

    fn cpu(&self, name: &str) -> Cpu {
        let text = self.text(&format!("x86_64-{name}.xml"));
        cpu(roxmltree::Document::parse(&text).expect("XML").root_element())
    }

    fn cpus(&self, name: &str) -> Vec<Cpu> {
        let text = self.text(&format!("x86_64-{name}.xml"));
        let document = roxmltree::Document::parse(&text).expect("XML");
        let nodes = document.root_element().children().filter(|c| c.has_tag_name("cpu"));
        nodes.map(|node| Cpu { kind: Kind::Host, ..cpu(node) }).collect()
    }

    fn bits(&self, name: &str) -> Bits {
        bits(&self.text(&format!("x86_64-cpuid-{name}.xml")))
    }

    fn has(&self, name: &str) -> bool {
        self.0.join(name).is_file()
    }

    /// The processors of which there is data.
    fn processors(&self) -> Vec<String> {
        let mut names: Vec<String> = fs::read_dir(&self.0)
            .expect("the data")
            .flatten()
            .filter_map(|entry| {
                let name = entry.file_name().to_string_lossy().into_owned();
                let name = name.strip_prefix("x86_64-cpuid-")?.strip_suffix("-host.xml")?;
                Some(name.to_owned())
            })
            .collect();
        names.sort();
        assert!(names.len() > 50, "{} processors", names.len());
        names
    }

    /// What QEMU said on the processor: the host's bits as it shows them, and the models that it offers.
    fn qemu(&self, name: &str) -> (Bits, Option<Vec<Offered>>) {
        let text = self.text(&format!("x86_64-cpuid-{name}.json"));
        let mut stream = serde_json::Deserializer::from_str(&text).into_iter::<serde_json::Value>();
        let first = stream.next().expect("an answer").expect("JSON");
        let props = first["return"]["model"]["props"].as_object().expect("properties");
        let on = props.iter().filter(|(_, v)| v.as_bool() == Some(true)).map(|(name, _)| name.as_str());
        let number = |name: &str| props.get(name).and_then(serde_json::Value::as_u64).unwrap_or(0) as u32;
        let vendor = props.get("vendor").and_then(serde_json::Value::as_str);
        let map = Map::get();
        let bits = map.bits_of_qemu(on, vendor, (number("family"), number("model"), number("stepping")));
        let models = stream.next().filter(|_| name != WITHOUT_MODELS).map(|answer| {
            let answer = answer.expect("JSON");
            let list = answer["return"].as_array().expect("models").clone();
            list.iter().map(offered).collect()
        });
        (bits, models)
    }
}

fn offered(model: &serde_json::Value) -> Offered {
    let blockers = model["unavailable-features"].as_array().cloned().unwrap_or_default();
    let ours = |name: &serde_json::Value| {
        let name = name.as_str().expect("a name");
        Map::get().feature_of_qemu(name).map_or(name, |f| f.name).to_owned()
    };
    Offered {
        name: model["name"].as_str().expect("a name").to_owned(),
        blockers: blockers.iter().map(ours).collect(),
        ..Offered::default()
    }
}

fn names(models: &[&str]) -> Vec<Offered> {
    models.iter().map(|name| Offered { name: (*name).to_owned(), ..Offered::default() }).collect()
}

/// Compares all pairs and says what differs, together.
fn all_equal(pairs: impl IntoIterator<Item = (String, Result<Cpu, CpuError>, Cpu)>) {
    let mut wrong = Vec::new();
    let mut count = 0;
    for (name, got, wanted) in pairs {
        count += 1;
        match got {
            Ok(got) if got == wanted => {}
            got => wrong.push(format!("{name}:\n  got    {got:?}\n  wanted {wanted:?}")),
        }
    }
    assert!(wrong.is_empty(), "{} of {count} differ\n{}", wrong.len(), wrong.join("\n"));
    assert!(count > 0);
}

#[test]
fn hosts_are_described_as_by_libvirt() {
    let data = Data(blackbox::or_skip!(blackbox::guests::libvirt_tests()).join("cputestdata"));
    all_equal(data.processors().into_iter().map(|name| {
        let wanted = data.cpu(&format!("cpuid-{name}-host"));
        let like = Cpu { kind: Kind::Host, arch: wanted.arch.clone(), ..Cpu::default() };
        let got = Map::get().decode(&like, &data.bits(&name), None, &[]);
        (name, got, wanted)
    }));
}

#[test]
fn guests_are_described_as_by_libvirt() {
    let data = Data(blackbox::or_skip!(blackbox::guests::libvirt_tests()).join("cputestdata"));
    all_equal(data.processors().into_iter().map(|name| {
        let wanted = data.cpu(&format!("cpuid-{name}-guest"));
        let models = data.has(&format!("x86_64-cpuid-{name}.json")).then(|| data.qemu(&name).1).flatten();
        let got = Map::get().decode(&Cpu::default(), &data.bits(&name), models.as_deref(), &[]);
        (name, got, wanted)
    }));
}

#[test]
fn what_qemu_says_is_described_as_by_libvirt() {
    let data = Data(blackbox::or_skip!(blackbox::guests::libvirt_tests()).join("cputestdata"));
    let known = data.processors().into_iter().filter(|n| data.has(&format!("x86_64-cpuid-{n}-json.xml")));
    all_equal(known.map(|name| {
        let wanted = data.cpu(&format!("cpuid-{name}-json"));
        let (bits, models) = data.qemu(&name);
        let got = Map::get().decode(&Cpu::default(), &bits, models.as_deref(), &[]);
        (name, got, wanted)
    }));
}

#[test]
fn running_guests_are_described_by_what_the_hypervisor_did() {
    let data = Data(blackbox::or_skip!(blackbox::guests::libvirt_tests()).join("cputestdata"));
    let map = Map::get();
    for name in data.processors() {
        if !data.has(&format!("x86_64-cpuid-{name}-enabled.xml")) {
            continue;
        }
        let (mut cpu, mut wanted) =
            (data.cpu(&format!("cpuid-{name}-guest")), data.cpu(&format!("cpuid-{name}-json")));
        if cpu.model != wanted.model {
            let models = data.qemu(&name).1.unwrap_or_default();
            let only = wanted.model.clone().expect("a model");
            let offer = models.into_iter().find(|m| m.name == only);
            let offer = offer.unwrap_or_else(|| names(&[&only]).remove(0));
            cpu.fallback = true;
            map.translate(&mut cpu, Some(&[offer])).expect("translated");
            cpu.fallback = false;
        }
        let (enabled, disabled) =
            (data.bits(&format!("{name}-enabled")), data.bits(&format!("{name}-disabled")));
        map.update_live(&mut cpu, &enabled, &disabled).expect("known names");
        map.expand(&mut cpu).expect("a known model");
        map.expand(&mut wanted).expect("a known model");
        let shown = |cpu: &Cpu| -> Vec<String> {
            let required = cpu.features.iter().filter(|f| f.policy == Some(Policy::Require));
            required.map(|f| f.name.clone()).collect()
        };
        assert_eq!((&cpu.model, shown(&cpu)), (&wanted.model, shown(&wanted)), "{name}");
    }
}

#[test]
fn comparisons_come_out_as_libvirts() {
    let data = Data(blackbox::or_skip!(blackbox::guests::libvirt_tests()).join("cputestdata"));
    let cases = [
        ("host", "host", "identical"),
        ("host", "host-better", "incompatible"),
        ("host", "host-worse", "superset"),
        ("host", "host-amd-fake", "incompatible"),
        ("host", "host-incomp-arch", "incompatible"),
        ("host", "host-no-vendor", "identical"),
        ("host-no-vendor", "host", "incompatible"),
        ("host", "bogus-model", "error"),
        ("host", "bogus-feature", "error"),
        ("host", "min", "superset"),
        ("host", "pentium3", "superset"),
        ("host", "exact", "superset"),
        ("host", "exact-forbid", "incompatible"),
        ("host", "exact-forbid-extra", "superset"),
        ("host", "exact-disable", "superset"),
        ("host", "exact-disable2", "superset"),
        ("host", "exact-disable-extra", "superset"),
        ("host", "exact-require", "superset"),
        ("host", "exact-require-extra", "incompatible"),
        ("host", "exact-force", "superset"),
        ("host", "strict", "incompatible"),
        ("host", "strict-full", "identical"),
        ("host", "strict-disable", "identical"),
        ("host", "strict-force-extra", "identical"),
        ("host", "guest", "superset"),
        ("host", "pentium3-amd", "incompatible"),
        ("host-amd", "pentium3-amd", "superset"),
        ("host-worse", "penryn-force", "identical"),
        ("host-SandyBridge", "exact-force-Haswell", "identical"),
    ];
    for (host, guest, wanted) in cases {
        let host_cpu = Cpu { kind: Kind::Host, ..data.cpu(host) };
        let got = match Map::get().compare(Some(&host_cpu), &data.cpu(guest)) {
            Err(_) => "error",
            Ok(Comparison::Incompatible(_)) => "incompatible",
            Ok(Comparison::Identical) => "identical",
            Ok(Comparison::Superset) => "superset",
        };
        assert_eq!(got, wanted, "{guest} on {host}");
    }
}

#[test]
fn baselines_come_out_as_libvirts() {
    let data = Data(blackbox::or_skip!(blackbox::guests::libvirt_tests()).join("cputestdata"));
    let map = Map::get();
    assert!(map.baseline(&data.cpus("baseline-incompatible-vendors"), None, None, false).is_err());
    let plain = ["no-vendor", "some-vendors", "simple", "features", "Westmere+Nehalem"];
    all_equal(plain.into_iter().map(|name| {
        let cpus = data.cpus(&format!("baseline-{name}"));
        (
            name.to_owned(),
            map.baseline(&cpus, None, None, false),
            data.cpu(&format!("baseline-{name}-result")),
        )
    }));
    all_equal(["simple", "features"].into_iter().map(|name| {
        let cpus = data.cpus(&format!("baseline-{name}"));
        let got =
            map.baseline(&cpus, None, None, false).and_then(|mut cpu| map.expand(&mut cpu).map(|()| cpu));
        (name.to_owned(), got, data.cpu(&format!("baseline-{name}-expanded")))
    }));
    let cpus = data.cpus("baseline-Westmere+Nehalem");
    let got = map.baseline(&cpus, None, None, true);
    all_equal([("migratable".to_owned(), got, data.cpu("baseline-Westmere+Nehalem-migratable"))]);

    let of_processors = [
        ("Ryzen+Rome", "Ryzen-7-1800X-Eight-Core", "Ryzen-9-3900X-12-Core"),
        ("EPYC+Rome", "EPYC-7601-32-Core", "EPYC-7502-32-Core"),
        ("Haswell-noTSX-IBRS+Skylake", "Xeon-E5-2609-v3", "Xeon-Gold-6148"),
        ("Haswell-noTSX-IBRS+Skylake-IBRS", "Xeon-E5-2609-v3", "Xeon-Gold-6130"),
        ("Broadwell-IBRS+Cascadelake", "Xeon-E5-2623-v4", "Xeon-Platinum-8268"),
        ("Cascadelake+Skylake-IBRS", "Xeon-Platinum-8268", "Xeon-Gold-6130"),
        ("Cascadelake+Skylake", "Xeon-Platinum-9242", "Xeon-Gold-6148"),
        ("Cascadelake+Icelake", "Xeon-Platinum-9242", "Ice-Lake-Server"),
        ("Cooperlake+Icelake", "Cooperlake", "Ice-Lake-Server"),
        ("Cooperlake+Cascadelake", "Cooperlake", "Xeon-Platinum-9242"),
        ("Skylake-Client+Server", "Core-i5-6600", "Xeon-Gold-6148"),
        ("Haswell-noTSX-IBRS+Broadwell", "Xeon-E5-2609-v3", "Xeon-E5-2650-v4"),
        ("Haswell+Skylake", "Xeon-E7-8890-v3", "Xeon-Gold-5115"),
    ];
    all_equal(of_processors.into_iter().map(|(name, first, second)| {
        let cpus = [first, second].map(|cpu| data.cpu(&format!("cpuid-{cpu}-json")));
        let wanted = data.cpu(&format!("cpuid-baseline-{name}"));
        (name.to_owned(), map.baseline(&cpus, None, None, false), wanted)
    }));
}

#[test]
fn guests_are_updated_as_by_libvirt() {
    let data = Data(blackbox::or_skip!(blackbox::guests::libvirt_tests()).join("cputestdata"));
    let map = Map::get();
    let cases = [
        ("host", "min"),
        ("host", "pentium3"),
        ("host", "guest"),
        ("host", "host-model"),
        ("host", "host-model-nofallback"),
        ("host-invtsc", "host-model"),
        ("host", "host-passthrough"),
    ];
    all_equal(cases.into_iter().map(|(host, guest)| {
        let host_cpu = map.migratable(&Cpu { kind: Kind::Host, ..data.cpu(host) });
        let mut cpu = data.cpu(guest);
        let got = map.update(&mut cpu, Some(&host_cpu)).map(|()| cpu);
        (format!("{host}+{guest}"), got, data.cpu(&format!("{host}+{guest}")))
    }));
}

#[test]
fn guests_are_translated_as_by_libvirt() {
    let data = Data(blackbox::or_skip!(blackbox::guests::libvirt_tests()).join("cputestdata"));
    let map = Map::get();
    let lists: [(&str, &[&str]); 4] = [
        ("486", &["486"]),
        ("models", &["qemu64", "core2duo", "Nehalem"]),
        ("nomodel", &["nomodel"]),
        ("haswell", &["SandyBridge", "Haswell"]),
    ];
    let cases = [
        ("host", "guest", "", true),
        ("host-better", "pentium3", "", true),
        ("host-worse", "guest", "", true),
        ("host", "strict-force-extra", "", true),
        ("host", "penryn-force", "", true),
        ("host", "guest", "486", true),
        ("host", "guest", "models", true),
        ("host", "guest", "nomodel", false),
        ("host", "guest-nofallback", "models", false),
        ("host", "host+host-model", "models", true),
        ("host", "host+host-model-nofallback", "models", false),
        ("host-Haswell-noTSX", "Haswell", "haswell", true),
        ("host-Haswell-noTSX", "Haswell-noTSX", "haswell", true),
        ("host-Haswell-noTSX", "Haswell-noTSX-nofallback", "haswell", false),
        ("host-Haswell-noTSX", "Haswell-noTSX", "", true),
    ];
    let run = |host: &str, guest: &str, list: &str| -> Result<Cpu, CpuError> {
        let host_cpu = Cpu { kind: Kind::Host, ..data.cpu(host) };
        let mut cpu = data.cpu(guest);
        let models = lists.iter().find(|(name, _)| *name == list).map(|(_, models)| names(models));
        if let Comparison::Incompatible(why) = map.compare(Some(&host_cpu), &cpu)? {
            return Err(CpuError::Failed(why.unwrap_or_default()));
        }
        map.update(&mut cpu, Some(&host_cpu))?;
        map.translate(&mut cpu, models.as_deref())?;
        Ok(cpu)
    };
    for (host, guest, list, _) in cases.iter().filter(|case| !case.3) {
        assert!(run(host, guest, list).is_err(), "{guest} on {host} with {list}");
    }
    all_equal(cases.iter().filter(|case| case.3).map(|(host, guest, list, _)| {
        let suffix = match *list {
            "" => String::new(),
            "486" => ",model486".to_owned(),
            list => format!(",{list}"),
        };
        let wanted = data.cpu(&format!("{host}+{guest}{suffix}-result"));
        (format!("{host}+{guest}{suffix}"), run(host, guest, list), wanted)
    }));
}
