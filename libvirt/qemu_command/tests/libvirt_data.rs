//! libvirt's own pairs of domains and command lines (`tests/qemuxml2argvdata` of its source, with the capabilities of
//! its newest QEMU).

use domain_xml::interface::{Interface, InterfaceType};
use domain_xml::source::{Host as ServerHost, PoolMode, Protocol, Source, SourceType};
use qemu_caps::QemuCaps;
use qemu_command::{Host, HugePageMount, Sealed, Settings, Tap, Tls, Volume, prepare, processor};
use std::collections::BTreeSet;
use std::path::Path;

/// The cases that are compared whatever else is.
const CASES: &str = include_str!("../../qemu_domain/tests/cases.txt");

/// The domains that libvirt refuses and that are not refused with its words as yet.
const REFUSALS_PENDING: &str = include_str!("refusals_pending.txt");

/// A secret as libvirt's test program seals it.
const SEALED: &str = "9eao5F8qtkGt+seB1HYivWIxbtwUu6MQtg1zpj/oDtUsPr1q8wBYM91uEHCn6j/1";
/// Its cookies, sealed.
const COOKIES: &str = "DrPR9NA6GKJb7qi1KbjHaealKEMVtOWUl2h3yvO5lgIh6cyLHemmlg+h9fcgwREA";

/// The host that libvirt's test program pretends.
struct Pretended {
    files: u32,
    devices: u32,
}

type Result<T> = qemu_command::Result<T>;

impl Host for Pretended {
    fn listen(&mut self, _: &str, _: &str) -> Result<Option<String>> {
        Ok(Some("1729".to_owned()))
    }

    fn vhost_user(&mut self, _: &str) -> Result<String> {
        Ok("1729".to_owned())
    }

    fn output(&mut self, _: &str, _: &str, _: bool) -> Result<Option<String>> {
        self.files += 1;
        Ok(Some((1749 + self.files).to_string()))
    }

    fn tap(&mut self, interface: &Interface) -> Result<Tap> {
        let queues = interface.driver.as_ref().and_then(|d| d.queues).unwrap_or(1).max(1);
        let virtio = interface.model().starts_with("virtio");
        let qemu = interface.driver.as_ref().is_some_and(|d| d.name.as_deref() == Some("qemu"));
        let from = |first: u32| (first..first + queues).map(|fd| fd.to_string()).collect();
        let vhost = virtio && !qemu && interface.kind != InterfaceType::User;
        Ok(Tap { tap: from(3), vhost: if vhost { from(44) } else { Vec::new() } })
    }

    fn open(&mut self, path: &str, _: bool) -> Result<String> {
        if path.contains("vdpa") {
            return Ok("1732".to_owned());
        }
        self.devices += 1;
        Ok((1729 + self.devices).to_string())
    }

    fn group(&mut self, name: &str) -> Result<(Vec<String>, bool)> {
        let (fds, writable): (&[&str], bool) = match name {
            "testgroup2" => (&["700", "705"], false),
            "testgroup5" => (&["704"], true),
            "testgroup6" => (&["777", "778"], false),
            other => {
                return Err(qemu_command::Error::unsupported(format!("file descriptor group '{other}'")));
            }
        };
        Ok((fds.iter().map(|fd| (*fd).to_owned()).collect(), writable))
    }

    fn nodes_are_there(&mut self, nodes: &[u32]) -> Result<()> {
        match nodes.iter().find(|node| **node > 7) {
            Some(node) => Err(qemu_command::Error::internal(format!(
                "Mock: no numa node set is available at bit {node}"
            ))),
            None => Ok(()),
        }
    }

    fn vhost_scsi(&mut self) -> Result<String> {
        Ok("3".to_owned())
    }

    fn vhost_vsock(&mut self, _: &str) -> Result<(String, u32)> {
        Ok(("6789".to_owned(), 42))
    }

    fn secret(&mut self, _: &str) -> Result<Sealed> {
        Ok(Sealed { data: SEALED.to_owned(), iv: "AAECAwQFBgcICQoLDA0ODw==".to_owned() })
    }

    fn seal(&mut self, _: &str) -> Result<Sealed> {
        Ok(Sealed { data: COOKIES.to_owned(), iv: "AAECAwQFBgcICQoLDA0ODw==".to_owned() })
    }

    fn port(&mut self, kind: &str) -> Result<u16> {
        Ok(match kind {
            "websocket" => 5700,
            "spice" => 5901,
            "spice-tls" => 5902,
            _ => 5900,
        })
    }

    fn scsi_generic(&mut self, _: &str, _: u32, _: u32, _: u64) -> Result<String> {
        Ok("/dev/sg0".to_owned())
    }

    fn volume(&mut self, pool: &str, volume: &str, mode: Option<PoolMode>) -> Result<Volume> {
        if pool.starts_with("pool-iscsi") && mode != Some(PoolMode::Host) {
            let unit = volume.rsplit(':').next().unwrap_or("0");
            let host = ServerHost { name: Some("iscsi.example.com".to_owned()), ..ServerHost::default() };
            let source = Source {
                protocol: Some(Protocol::Iscsi),
                name: Some(format!("demo-target/{unit}")),
                host: vec![host],
                ..Source::default()
            };
            return Ok(Volume { kind: SourceType::Network, source, auth: None });
        }
        let (kind, name) = volume.split_once('+').unwrap_or(("block", volume));
        let path = Some(format!("/some/{kind}/device/{name}"));
        let (kind, source) = match kind {
            "file" => (SourceType::File, Source { file: path, ..Source::default() }),
            "dir" => (SourceType::Dir, Source { dir: path, ..Source::default() }),
            _ => (SourceType::Block, Source { dev: path, ..Source::default() }),
        };
        Ok(Volume { kind, source, auth: None })
    }

    fn render_node(&mut self) -> Result<String> {
        Ok("/dev/dri/foo".to_owned())
    }

    fn is_cdrom(&mut self, path: &str) -> bool {
        path == "/dev/cdrom"
    }

    fn now(&mut self) -> (i64, i64) {
        (1_234_567_890, 0)
    }

    fn tpm_cancel(&mut self, _: &str) -> Result<String> {
        Ok("/sys/class/misc/tpm0/device/cancel".to_owned())
    }

    fn tpm_socket(&mut self, _: &str) -> Result<String> {
        Ok("/dev/test".to_owned())
    }
}

struct Fixed;

impl qemu_domain::Generate for Fixed {
    fn uuid(&mut self) -> String {
        "00010203-0405-4607-8809-0a0b0c0d0e0f".to_owned()
    }

    fn mac(&mut self) -> [u8; 3] {
        [0, 0, 0]
    }
}

/// libvirt's test program: what it has set in the driver's configuration before a case.
struct Program<'a>(&'a str);

impl Program<'_> {
    /// The last assignment to `key` before the case, unless it was freed since. In a chain `a = b = c = 0` the last
    /// part counts for all.
    fn value(&self, name: &str, key: &str) -> Option<&str> {
        let at = self.0.find(&format!("(\"{name}\""))?;
        let before = &self.0[..at];
        let set = before.rfind(&format!("driver.config->{key} = "))?;
        let freed = before.rfind(&format!("VIR_FREE(driver.config->{key})"));
        if freed.is_some_and(|freed| freed > set) {
            return None;
        }
        let text = before[set..].split(';').next()?.rsplit(" = ").next()?;
        Some(text.trim().trim_start_matches("g_strdup(\"").trim_end_matches("\")"))
    }

    /// The capabilities with what a case adds to those of the newest emulator.
    fn more_capabilities(&self, name: &str, caps: &QemuCaps) -> Option<QemuCaps> {
        let call = &self.0[self.0.find(&format!("LATEST_FULL(\"{name}\""))?..];
        let added = call.split(';').next()?.contains("QEMU_CAPS_SEV_GUEST");
        added.then(|| {
            let mut caps = caps.clone();
            caps.flags.insert("sev-guest".to_owned());
            caps
        })
    }

    /// A variable of its environment.
    fn environment(&self, name: &str, variable: &str) -> Option<&str> {
        let before = &self.0[..self.0.find(&format!("(\"{name}\""))?];
        let set = before.rfind(&format!("g_setenv(\"{variable}\", \""))?;
        let unset = before.rfind(&format!("g_unsetenv(\"{variable}\")"));
        if unset.is_some_and(|unset| unset > set) {
            return None;
        }
        before[set..].split('"').nth(3)
    }

    fn on(&self, name: &str, key: &str) -> bool {
        matches!(self.value(name, key), Some("1" | "true"))
    }

    fn tls(&self, name: &str, kind: &str, directory: &str) -> Tls {
        Tls {
            enabled: self.on(name, &format!("{kind}TLS")),
            directory: self.value(name, &format!("{kind}TLSx509certdir")).unwrap_or(directory).to_owned(),
            verify: self.on(name, &format!("{kind}TLSx509verify")),
            secret: self.value(name, &format!("{kind}TLSx509secretUUID")).map(str::to_owned),
        }
    }

    fn settings(&self, name: &str, domain: &str) -> Settings {
        let short: String = domain.chars().take(20).collect();
        let sasl = |kind: &str| {
            self.on(name, &format!("{kind}SASL"))
                .then(|| self.value(name, &format!("{kind}SASLdir")).map(str::to_owned))
        };
        let mount = |directory: &str, size| HugePageMount {
            directory: directory.to_owned(),
            size,
            default: size == 2048,
        };
        Settings {
            privileged: true,
            guest_folder: format!("/tmp/lib/domain--1-{short}"),
            nvram_folder: "/var/lib/libvirt/qemu/nvram".to_owned(),
            channel_folder: format!("/tmp/lib/channel/target/domain--1-{short}"),
            passt_folder: "/bad-test-used-env-xdg-runtime-dir/libvirt/qemu/run/passt".to_owned(),
            memory_folder: format!("/var/lib/libvirt/qemu/ram/-1-{short}"),
            huge_page_part: format!("libvirt/qemu/-1-{short}"),
            huge_pages: vec![mount("/dev/hugepages2M", 2048), mount("/dev/hugepages1G", 1_048_576)],
            dump_guest_core: self.on(name, "dumpGuestCore"),
            log_timestamp: true,
            sandbox: true,
            gluster_debug: 4,
            vnc_tls: self.tls(name, "vnc", "/etc/pki/libvirt-vnc"),
            vnc_sasl: sasl("vnc"),
            spice_tls: Tls {
                enabled: true,
                directory: "/etc/pki/libvirt-spice".to_owned(),
                ..Tls::default()
            },
            spice_password: true,
            spice_sasl: sasl("spice"),
            chardev_tls: self.tls(name, "chardev", "/etc/pki/libvirt-chardev"),
            nbd_tls: self.tls(name, "nbd", "/etc/pki/libvirt-nbd/dummy,path"),
            host_arch: "x86_64".to_owned(),
            ..Settings::default()
        }
    }
}

/// The words of a command as a shell reads it.
fn words(text: &str) -> Vec<String> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            '\'' => {
                let word = word.get_or_insert_default();
                word.extend(chars.by_ref().take_while(|c| *c != '\''));
            }
            '\\' if chars.peek() == Some(&'\n') => {
                chars.next();
            }
            '\\' => word.get_or_insert_default().extend(chars.next()),
            c if c.is_whitespace() => words.extend(word.take()),
            c => word.get_or_insert_default().push(c),
        }
    }
    words.extend(word);
    words
}

fn built(
    tests: &Path,
    text: &str,
    caps: &QemuCaps,
    program: &Program<'_>,
    name: &str,
) -> std::result::Result<Vec<String>, String> {
    let error = |error: qemu_command::Error| error.to_string();
    let mut domain = domain_xml::parse(text).map_err(error)?;
    let settings = program.settings(name, domain.name());
    let definition = qemu_domain::Settings {
        host_audio: program.environment(name, "QEMU_AUDIO_DRV").and_then(|word| xml::Value::parse(word).ok()),
        sdl_audio: program.environment(name, "SDL_AUDIODRIVER").map(str::to_owned),
        spice_tls: true,
        label_model: Some("none".to_owned()),
        lib: "/tmp/lib".to_owned(),
        nvram: "/var/lib/libvirt/qemu/nvram".to_owned(),
        channels: settings.channel_folder.clone(),
        vnc_auto_unix_socket: program.on(name, "vncAutoUnixSocket"),
        spice_auto_unix_socket: program.on(name, "spiceAutoUnixSocket"),
        vnc_allow_host_audio: program.on(name, "vncAllowHostAudio"),
        nographics_allow_host_audio: program.on(name, "nogfxAllowHostAudio"),
    };
    let mut context =
        qemu_domain::Context { caps, settings: &definition, update_abi: false, generate: &mut Fixed };
    qemu_domain::complete(&mut domain, &mut context).map_err(error)?;
    qemu_domain::validate::domain(&domain, caps, &definition).map_err(error)?;
    // The folders with descriptions of firmware that libvirt's test program pretends, the user's first.
    let firmware = tests.join("qemufirmwaredata");
    let folders = ["home/user/.config/qemu/firmware", "etc/qemu/firmware", "usr/share/qemu/firmware"];
    let folders = folders.map(|folder| firmware.join(folder));
    let descriptions = qemu_domain::firmware::read(&folders.each_ref().map(|folder| folder.as_path()));
    qemu_domain::firmware::select(&mut domain, &descriptions, &definition.nvram).map_err(error)?;
    qemu_domain::address::assign(&mut domain, caps, true).map_err(error)?;
    qemu_domain::alias::assign(&mut domain).map_err(error)?;
    processor::update(&mut domain, caps, None).map_err(error)?;
    let mut host = Pretended { files: 0, devices: 0 };
    let displays = prepare::Displays {
        vnc: "127.0.0.1".to_owned(),
        vnc_socket: definition.vnc_auto_unix_socket,
        spice: "127.0.0.1".to_owned(),
        spice_socket: definition.spice_auto_unix_socket,
    };
    prepare::all(&mut domain, &displays, &settings, &mut host).map_err(error)?;
    let command = qemu_command::build(&domain, caps, &settings, &mut host, None).map_err(error)?;
    let mut words: Vec<String> = command.env.iter().map(|(name, value)| format!("{name}={value}")).collect();
    words.push(command.program);
    words.extend(command.args);
    Ok(words)
}

fn check(
    tests: &Path,
    program: &Program<'_>,
    name: &str,
    caps: &QemuCaps,
) -> std::result::Result<(), String> {
    let folder = tests.join("qemuxml2argvdata");
    let read = |file: String| std::fs::read_to_string(folder.join(&file)).map_err(|e| format!("{file}: {e}"));
    let text = read(format!("{name}.xml"))?;
    let more = program.more_capabilities(name, caps);
    let caps = more.as_ref().unwrap_or(caps);
    let wanted = read(format!("{name}.x86_64-latest.args"));
    if let (Err(_), Ok(refusal)) = (&wanted, read(format!("{name}.x86_64-latest.err"))) {
        return match built(tests, &text, caps, program, name) {
            Err(error) if error.contains(refusal.trim()) => Ok(()),
            other => Err(format!("expected {}\n      found {other:?}", refusal.trim())),
        };
    }
    let expected = words(&wanted?);
    // What every program that libvirt starts gets.
    let common = ["LC_ALL=", "PATH=", "USER=", "LOGNAME="];
    let expected: Vec<String> =
        expected.into_iter().filter(|w| !common.iter().any(|c| w.starts_with(c))).collect();
    let found = built(tests, &text, caps, program, name)?;
    if found == expected {
        return Ok(());
    }
    let same = found.iter().zip(&expected).take_while(|(a, b)| a == b).count();
    let show = |words: &[String]| words.iter().skip(same).take(2).cloned().collect::<Vec<_>>().join(" ");
    Err(format!("expected {}\n      found {}", show(&expected), show(&found)))
}

/// The capabilities of the newest emulator that libvirt has recorded.
fn newest(tests: &Path) -> QemuCaps {
    let text = std::fs::read_to_string(tests.join("qemucapabilitiesdata/caps_8.0.0.x86_64.xml"));
    let mut caps = qemu_caps::parse(&text.expect("capabilities")).expect("capabilities");
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

/// All that libvirt has for the newest emulator of this architecture, and cases that it has come to refuse.
#[test]
fn command_lines_are_libvirts() {
    let tests = blackbox::or_skip!(blackbox::guests::libvirt_tests());
    let caps = newest(&tests);
    let program = std::fs::read_to_string(tests.join("qemuxml2argvtest.c")).expect("libvirt's test program");
    let program = Program(&program);
    let folder = tests.join("qemuxml2argvdata").read_dir().expect("libvirt's data");
    let recorded = folder.filter_map(|file| {
        Some(file.ok()?.file_name().to_str()?.strip_suffix(".x86_64-latest.args")?.to_owned())
    });
    let names: BTreeSet<String> = CASES.lines().map(str::to_owned).chain(recorded).collect();
    let wrong: Vec<String> = names
        .iter()
        .filter_map(|name| Some(format!("{name}: {}", check(&tests, &program, name, &caps).err()?)))
        .collect();
    println!("{} passed, {} failed", names.len() - wrong.len(), wrong.len());
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn refusals_are_libvirts() {
    let tests = blackbox::or_skip!(blackbox::guests::libvirt_tests());
    let caps = newest(&tests);
    let program = std::fs::read_to_string(tests.join("qemuxml2argvtest.c")).expect("libvirt's test program");
    let program = Program(&program);
    let pending: BTreeSet<&str> = REFUSALS_PENDING.lines().collect();
    let folder = tests.join("qemuxml2argvdata");
    let files = folder.read_dir().expect("libvirt's data").map(|entry| entry.expect("an entry").file_name());
    let mut names: Vec<String> = files
        .filter_map(|file| Some(file.to_str()?.strip_suffix(".x86_64-latest.err")?.to_owned()))
        .filter(|name| folder.join(format!("{name}.xml")).is_file())
        .collect();
    names.sort();
    assert!(!names.is_empty(), "libvirt's data has refusals");
    let (mut passed, mut failed, mut wrong) = (0, 0, Vec::new());
    for name in &names {
        let read =
            |ending: &str| std::fs::read_to_string(folder.join(format!("{name}.{ending}"))).expect("a file");
        let (text, wanted) = (read("xml"), read("x86_64-latest.err"));
        let found = match built(&tests, &text, &caps, &program, name) {
            Ok(_) => "no refusal".to_owned(),
            Err(error) => error,
        };
        let listed = pending.contains(name.as_str());
        if found.contains(wanted.trim()) {
            passed += 1;
            if listed {
                wrong.push(format!("{name} passes: it is to leave the list"));
            }
        } else {
            failed += 1;
            println!("FAILED {name}: expected {}\n      found {found}", wanted.trim());
            if !listed {
                wrong.push(format!("{name}: {found}"));
            }
        }
    }
    println!("{passed} passed, {failed} failed");
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
