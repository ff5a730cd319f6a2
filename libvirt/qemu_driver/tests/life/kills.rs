//! Many guests, on each of which somebody works, and a daemon that is killed at any moment: nothing is lost, and nothing
//! is left that belongs to nobody.
//!
//! `TINAMOU_KILLS` is how often (a few times without), `TINAMOU_SEED` repeats the operations of another run.

use crate::{Daemon, QEMU, Scene};
use rpc::Hypervisor as _;
use rpc::protocol::device::*;
use rpc::protocol::domain::*;
use rpc::protocol::qemu::{Qemu as _, QemuDomainMonitorCommandArgs};
use rpc::protocol::save::*;
use rpc::protocol::tuning::*;
use std::fmt;
use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Who owns images.
const OWNER: u32 = 1234;

/// Where a guest is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    Undefined,
    Off,
    Running,
    Saved,
    InFile,
}

/// What is to be found of a guest.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Model {
    place: Place,
    /// The second disk is plugged in.
    plugged: bool,
    /// There is a medium in the drive.
    medium: bool,
    /// A network card is plugged in, with which no state can be saved.
    card: bool,
    autostart: bool,
    title: String,
}

impl fmt::Display for Model {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { place, plugged, medium, card, autostart, title } = self;
        write!(out, "{place:?} {plugged} {medium} {card} {autostart} {title}")
    }
}

const OPERATIONS: [&str; 18] = [
    "define",
    "undefine",
    "start",
    "start",
    "destroy",
    "save",
    "save",
    "file",
    "restore",
    "plug",
    "unplug",
    "insert",
    "eject",
    "card",
    "no-card",
    "autostart",
    "title",
    "pin",
];

impl Model {
    fn parse(text: &str) -> Self {
        let mut words = text.splitn(6, ' ');
        let mut word = || words.next().expect("a word").to_owned();
        let place = match word().as_str() {
            "Undefined" => Place::Undefined,
            "Off" => Place::Off,
            "Running" => Place::Running,
            "Saved" => Place::Saved,
            "InFile" => Place::InFile,
            other => panic!("{other}"),
        };
        let mut flag = || word() == "true";
        let (plugged, medium, card, autostart) = (flag(), flag(), flag(), flag());
        Self { place, plugged, medium, card, autostart, title: word() }
    }

    /// Whether it is what is to be found of the other; what a guest has plugged in is seen while it runs.
    fn fits(&self, expected: &Self) -> bool {
        let hidden = matches!(self.place, Place::Saved | Place::InFile);
        let seen = |there: bool| there && !hidden;
        let (plugged, medium, card) = (seen(expected.plugged), seen(expected.medium), seen(expected.card));
        *self == Self { plugged, medium, card, ..expected.clone() }
    }

    /// What becomes of it by the operation, which succeeds; `None`: the operation is not for such a guest.
    fn after(&self, operation: &str, step: u64) -> Option<Self> {
        use Place::{InFile, Off, Running, Saved, Undefined};
        let mut next = self.clone();
        next.place = match (operation, self.place) {
            ("define", Undefined) => Off,
            ("undefine", Off) => Undefined,
            ("start", Off | Saved) => Running,
            ("destroy", Running) => Off,
            ("save", Running) if !self.card => Saved,
            ("file", Running) if !self.card => InFile,
            ("restore", InFile) => Running,
            ("plug" | "unplug" | "insert" | "eject" | "card" | "no-card", Running) => {
                let (there, wanted) = match operation {
                    "plug" | "unplug" => (&mut next.plugged, operation == "plug"),
                    "insert" | "eject" => (&mut next.medium, operation == "insert"),
                    _ => (&mut next.card, operation == "card"),
                };
                if std::mem::replace(there, wanted) == wanted {
                    return None;
                }
                Running
            }
            ("autostart", Off | Saved | Running) => {
                next.autostart = !self.autostart;
                self.place
            }
            ("title", Off | Saved | Running) => {
                next.title = format!("t{step}");
                self.place
            }
            ("pin", Running) => Running,
            _ => return None,
        };
        match next.place {
            Undefined => next = Self { place: Undefined, ..Self::default() },
            Off => (next.plugged, next.medium, next.card) = (false, false, false),
            _ => {}
        }
        Some(next)
    }
}

impl Default for Model {
    fn default() -> Self {
        Self {
            place: Place::Undefined,
            plugged: false,
            medium: false,
            card: false,
            autostart: false,
            title: String::new(),
        }
    }
}

struct Random(u64);

impl Random {
    fn new(seed: u64) -> Self {
        let mut this = Self(seed | 1 << 63);
        // The first numbers resemble the seed.
        for _ in 0..20 {
            this.below(2);
        }
        this
    }

    fn below(&mut self, limit: u64) -> u64 {
        // xorshift64
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) % limit
    }
}

/// One of the guests.
#[derive(Clone)]
struct Guest {
    root: PathBuf,
    name: String,
}

impl Guest {
    fn of(scene: &Scene, number: usize) -> Self {
        // A control group is named after it, on a host that others use too.
        let tag = scene.root.file_name().expect("a name").to_string_lossy().replace('-', "");
        let this = Self { root: scene.root.clone(), name: format!("{tag}{number}") };
        for path in [this.disk(), this.second_disk(), this.medium()] {
            if !path.exists() {
                std::fs::write(&path, vec![0; 1 << 16]).expect("an image");
                std::os::unix::fs::chown(&path, Some(OWNER), Some(OWNER)).expect("root");
            }
        }
        this
    }

    fn disk(&self) -> PathBuf {
        self.root.join(format!("{}.disk", self.name))
    }

    fn second_disk(&self) -> PathBuf {
        self.root.join(format!("{}.disk2", self.name))
    }

    fn medium(&self) -> PathBuf {
        self.root.join(format!("{}.iso", self.name))
    }

    fn file(&self) -> PathBuf {
        self.root.join(format!("{}.state", self.name))
    }

    fn xml(&self) -> String {
        format!(
            "<domain type='qemu'><name>{}</name><memory unit='MiB'>32</memory><vcpu>1</vcpu>\
             <os><type arch='x86_64' machine='pc'>hvm</type></os><devices>\
             <controller type='usb' model='qemu-xhci'/><disk type='file' device='disk'>\
             <driver name='qemu' type='raw'/><source file='{}'/><target dev='vda' bus='virtio'/></disk>\
             <disk type='file' device='cdrom'><target dev='hda' bus='ide'/></disk>\
             <video><model type='none'/></video><memballoon model='none'/></devices></domain>",
            self.name,
            self.disk().display()
        )
    }

    fn second_disk_xml(&self) -> String {
        format!(
            "<disk type='file' device='disk'><driver name='qemu' type='raw'/><source file='{}'/>\
             <target dev='sda' bus='usb'/></disk>",
            self.second_disk().display()
        )
    }

    fn drive_xml(&self, medium: bool) -> String {
        let source = format!("<source file='{}'/>", self.medium().display());
        format!(
            "<disk type='file' device='cdrom'><driver name='qemu' type='raw'/>{}<target dev='hda' bus='ide'/>\
             <readonly/></disk>",
            if medium { source.as_str() } else { "" }
        )
    }

    fn card_xml(&self) -> &'static str {
        "<interface type='user'><mac address='52:54:00:00:00:01'/><model type='usb-net'/>\
         <address type='usb' bus='0' port='4'/></interface>"
    }

    fn perform(&self, daemon: &Daemon, operation: &str, model: &Model) -> Result<(), rpc::Error> {
        let (driver, client) = (&daemon.driver, &daemon.client);
        if operation == "define" {
            return driver.domain_define_xml(client, DomainDefineXmlArgs { xml: self.xml() }).map(drop);
        }
        let from = self.file().display().to_string();
        if operation == "restore" {
            driver.domain_restore(client, DomainRestoreArgs { from })?;
            return Ok(());
        }
        let dom = daemon.find(&self.name).expect("it is defined");
        match operation {
            "undefine" => driver.domain_undefine(client, DomainUndefineArgs { dom }),
            "start" => daemon.create(&dom),
            "destroy" => daemon.destroy(&dom),
            "save" => driver.domain_managed_save(client, DomainManagedSaveArgs { dom, flags: 0 }),
            "file" => driver.domain_save(client, DomainSaveArgs { dom, to: from }),
            "plug" => driver.domain_attach_device_flags(
                client,
                DomainAttachDeviceFlagsArgs { dom, xml: self.second_disk_xml(), flags: 1 },
            ),
            "unplug" => driver.domain_detach_device_flags(
                client,
                DomainDetachDeviceFlagsArgs { dom, xml: self.second_disk_xml(), flags: 1 },
            ),
            "insert" | "eject" => driver.domain_update_device_flags(
                client,
                DomainUpdateDeviceFlagsArgs { dom, xml: self.drive_xml(operation == "insert"), flags: 1 },
            ),
            "card" => driver.domain_attach_device_flags(
                client,
                DomainAttachDeviceFlagsArgs { dom, xml: self.card_xml().to_owned(), flags: 1 },
            ),
            "no-card" => driver.domain_detach_device_flags(
                client,
                DomainDetachDeviceFlagsArgs { dom, xml: self.card_xml().to_owned(), flags: 1 },
            ),
            "autostart" => driver.domain_set_autostart(
                client,
                DomainSetAutostartArgs { dom, autostart: i32::from(model.autostart) },
            ),
            "title" => driver.domain_set_metadata(
                client,
                DomainSetMetadataArgs {
                    dom,
                    kind: 1,
                    metadata: Some(model.title.clone()),
                    key: None,
                    uri: None,
                    flags: 2,
                },
            ),
            "pin" => driver.domain_pin_vcpu(client, DomainPinVcpuArgs { dom, vcpu: 0, cpumap: vec![1] }),
            other => panic!("{other}"),
        }
    }

    /// What a daemon finds of it. Whoever asks for what changes a guest waits until it is taken up again.
    fn found(&self, daemon: &Daemon) -> Model {
        let Some(dom) = daemon.find(&self.name) else { return Model::default() };
        let suspended = daemon.driver.domain_suspend(&daemon.client, DomainSuspendArgs { dom: dom.clone() });
        let running = suspended.is_ok();
        if running {
            daemon
                .driver
                .domain_resume(&daemon.client, DomainResumeArgs { dom: dom.clone() })
                .expect("resumed");
        }
        let saved = daemon.driver.domain_has_managed_save_image(
            &daemon.client,
            DomainHasManagedSaveImageArgs { dom: dom.clone(), flags: 0 },
        );
        let in_file = std::fs::read(self.file()).is_ok_and(|text| text.starts_with(b"LibvirtQemudSave"));
        let place = match (running, saved.expect("an answer").result != 0) {
            (true, false) => Place::Running,
            (true, true) => panic!("{} runs, and its saved state is still there", self.name),
            (false, true) => Place::Saved,
            (false, false) if in_file => Place::InFile,
            (false, false) => Place::Off,
        };
        let autostart = daemon
            .driver
            .domain_get_autostart(&daemon.client, DomainGetAutostartArgs { dom: dom.clone() })
            .expect("an answer");
        let xml = daemon.xml(&dom, 2);
        let title = xml.split("<title>").nth(1).and_then(|rest| rest.split('<').next());
        let live = if running { daemon.xml(&dom, 0) } else { String::new() };
        let plugged = live.contains(".disk2'");
        let (medium, card) = (live.contains(".iso'"), live.contains("usb-net"));
        let title = title.unwrap_or_default().to_owned();
        Model { place, plugged, medium, card, autostart: autostart.autostart != 0, title }
    }

    /// Of what it writes: who owned what it only reads is not remembered.
    fn owners(&self) -> (u32, u32) {
        let owner = |path: PathBuf| std::fs::metadata(path).expect("an image").uid();
        (owner(self.disk()), owner(self.second_disk()))
    }

    /// What the emulator answers.
    fn ask(&self, daemon: &Daemon, cmd: &str, flags: u32) -> String {
        let dom = daemon.find(&self.name).expect("it runs");
        let args = QemuDomainMonitorCommandArgs { dom, cmd: cmd.to_owned(), flags };
        let reply = daemon.driver.domain_monitor_command(&daemon.client, args);
        reply.expect("an answer").result.replace(' ', "")
    }

    /// The host's ends of its network cards, as the emulator has them.
    fn net_ends(&self, daemon: &Daemon) -> usize {
        self.ask(daemon, "info network", 1).matches("hostnet").count()
    }

    /// Its disks as the emulator has them.
    fn images(&self, daemon: &Daemon) -> usize {
        let text = self.ask(daemon, "{\"execute\":\"query-named-block-nodes\"}", 0);
        text.matches("\"node-name\":\"libvirt-").count()
    }
}

/// The daemon that is killed: a thread a guest works on it, and tells before and after each operation.
pub fn child(root: &std::path::Path, seed: u64) {
    let scene = std::mem::ManuallyDrop::new(Scene { root: root.to_owned() });
    let daemon = Arc::new(Daemon::start(root));
    let models: Vec<Model> =
        std::io::stdin().lines().map(|line| Model::parse(&line.expect("a line"))).collect();
    let tell = |line: String| {
        // In one piece, so that what the parent reads is whole lines.
        let _ = std::io::stdout().write_all(line.as_bytes());
        let _ = std::io::stdout().flush();
    };
    tell("ready\n".to_owned());
    std::thread::scope(|scope| {
        for (number, mut model) in models.into_iter().enumerate() {
            let (guest, daemon) = (Guest::of(&scene, number), daemon.clone());
            let mut random = Random::new(seed ^ ((number as u64 + 1) << 32));
            let tell = &tell;
            scope.spawn(move || {
                for step in 0.. {
                    let operation = OPERATIONS[random.below(OPERATIONS.len() as u64) as usize];
                    let Some(next) = model.after(operation, step) else { continue };
                    tell(format!("> {number} {operation} {next}\n"));
                    match guest.perform(&daemon, operation, &next) {
                        Ok(()) => {
                            if operation == "restore" {
                                let _ = std::fs::remove_file(guest.file());
                            }
                            tell(format!("< {number}\n"));
                            model = next;
                        }
                        Err(error) => tell(format!("! {number} {error}\n")),
                    }
                }
            });
        }
    });
}

pub fn a_daemon_that_is_killed_loses_nothing_and_leaves_nothing() {
    if !rustix::process::geteuid().is_root() {
        println!("SKIPPED a_daemon_that_is_killed_loses_nothing_and_leaves_nothing: needs root");
        return;
    }
    let number = |name: &str| std::env::var(name).ok().and_then(|value| value.parse::<u64>().ok());
    let kills = number("TINAMOU_KILLS").unwrap_or(8);
    let count = if kills > 20 { 10 } else { 4 };
    let seed = number("TINAMOU_SEED").unwrap_or_else(|| u64::from(std::process::id()) << 20 | 0x5eed);
    println!("TINAMOU_SEED={seed} TINAMOU_KILLS={kills}");
    let mut random = Random::new(seed);
    let scene = Scene::new("kills");
    let guests: Vec<Guest> = (0..count).map(|number| Guest::of(&scene, number)).collect();
    let remembers = remembers(&guests[0]);
    let mut models = vec![Model::default(); count];
    // What the emulator can do is asked once; that takes as long as all the rest.
    let daemon = scene.daemon();
    for operation in ["define", "undefine"] {
        guests[0].perform(&daemon, operation, &models[0]).expect("it is known what the emulator can do");
    }
    daemon.driver.stop();
    drop(daemon);
    let mut operations = 0;
    for round in 0..kills {
        let delay = 20 + random.below(900);
        let before = models.clone();
        let (told, pending) =
            let_work(&scene, &mut models, random.below(u64::MAX), Duration::from_millis(delay));
        operations += told.lines().filter(|line| line.starts_with('<')).count();
        let context = |number: usize| {
            let its: Vec<&str> =
                told.lines().filter(|line| line.split(' ').nth(1) == Some(&number.to_string())).collect();
            format!("seed {seed}, round {round}, after {delay} ms: was {}: {its:#?}", before[number])
        };
        let daemon = scene.daemon();
        for (number, guest) in guests.iter().enumerate() {
            let found = guest.found(&daemon);
            let expected = [Some(&models[number]), pending[number].as_ref()];
            let is = expected.iter().flatten().find(|expected| found.fits(expected));
            let is = is.unwrap_or_else(|| panic!("{found}, not {expected:?}: {}", context(number)));
            models[number] = Model::clone(is);
            if models[number].place != Place::InFile {
                // The one who restored it may not have come to do that.
                let _ = std::fs::remove_file(guest.file());
            }
        }
        nothing_is_left(&scene, &guests, &models, &daemon, remembers, &context);
        daemon.driver.stop();
    }
    println!("{operations} operations, {kills} kills");
    assert!(operations as u64 > kills);
    let daemon = scene.daemon();
    for (guest, model) in guests.iter().zip(&mut models) {
        if model.place == Place::Running {
            guest.perform(&daemon, "destroy", model).expect("destroyed");
            model.place = Place::Off;
            (model.plugged, model.medium, model.card) = (false, false, false);
        }
    }
    nothing_is_left(&scene, &guests, &models, &daemon, remembers, &|_| format!("seed {seed}, at the end"));
}

/// Whether files remember whose they were.
fn remembers(guest: &Guest) -> bool {
    let flags = rustix::fs::XattrFlags::empty();
    let remembers = rustix::fs::setxattr(guest.disk(), "trusted.probe", b"1", flags).is_ok();
    if !remembers {
        println!(
            "SKIPPED a_daemon_that_is_killed_loses_nothing_and_leaves_nothing, owners: no trusted attributes"
        );
    }
    remembers
}

/// Has a daemon work on the guests, and kills it: what it told, and what each guest may have become beside its model.
fn let_work(scene: &Scene, models: &mut [Model], seed: u64, delay: Duration) -> (String, Vec<Option<Model>>) {
    let mut child = Command::new("/proc/self/exe")
        .args(["daemon-kills", &scene.root.to_string_lossy(), &seed.to_string()])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("a child");
    {
        let mut input = child.stdin.take().expect("a pipe");
        models.iter().for_each(|model| writeln!(input, "{model}").expect("written"));
    }
    let mut output = BufReader::new(child.stdout.take().expect("a pipe"));
    let mut line = String::new();
    while line.trim() != "ready" {
        line.clear();
        assert!(output.read_line(&mut line).expect("a line") > 0, "the daemon ended");
    }
    let reader = std::thread::spawn(move || {
        let mut told = String::new();
        for line in output.lines().map_while(Result::ok) {
            told += &format!("{line}\n");
        }
        told
    });
    std::thread::sleep(delay);
    child.kill().expect("killed");
    child.wait().expect("ended");
    let told = reader.join().expect("told");
    let mut pending: Vec<Option<Model>> = vec![None; models.len()];
    for line in told.lines() {
        let mut words = line.splitn(4, ' ');
        let (mark, number) = (words.next(), words.next().and_then(|word| word.parse::<usize>().ok()));
        let Some(number) = number.filter(|number| *number < models.len()) else { continue };
        match mark {
            Some(">") => pending[number] = words.nth(1).map(Model::parse),
            Some("<") => models[number] = pending[number].take().expect("it was begun"),
            Some("!") => panic!("{line}\n{told}"),
            _ => {}
        }
    }
    (told, pending)
}

/// Only what belongs to guests that run, and to definitions.
fn nothing_is_left(
    scene: &Scene,
    guests: &[Guest],
    models: &[Model],
    daemon: &Daemon,
    remembers: bool,
    context: &dyn Fn(usize) -> String,
) {
    let names = |directory: PathBuf, wanted: &dyn Fn(&str) -> bool| -> Vec<String> {
        let entries = std::fs::read_dir(directory).into_iter().flatten().flatten();
        let mut names: Vec<String> = entries
            .map(|entry| entry.file_name().to_string_lossy().into_owned())
            .filter(|name| wanted(name))
            .collect();
        names.sort();
        names
    };
    let running: Vec<usize> =
        (0..guests.len()).filter(|number| models[*number].place == Place::Running).collect();
    let one = || running.first().map_or_else(|| context(0), |number| context(*number));
    let begin = Instant::now();
    // A launcher whose daemon is gone ends by itself.
    while scene.emulators().len() != running.len() && begin.elapsed() < Duration::from_secs(10) {
        std::thread::sleep(Duration::from_millis(5));
    }
    assert_eq!(scene.emulators().len(), running.len(), "{QEMU}: {}", one());
    let mut expected: Vec<String> = running.iter().map(|number| guests[*number].name.clone()).collect();
    expected.sort();
    let paths = scene.paths();
    let of = |end: &str| expected.iter().map(|name| format!("{name}{end}")).collect::<Vec<_>>();
    // What this daemon is just writing is its own.
    let being_written = format!(".{}-", std::process::id());
    let not_daemons = |name: &str| {
        !name.contains(&being_written)
            && !["autostarted", "dbus", "driver.pid", "passt", "slirp"].contains(&name)
            && !name.ends_with(".pid")
    };
    assert_eq!(names(paths.state.clone(), &not_daemons), of(".xml"), "{}", one());
    let pids = |name: &str| name.ends_with(".pid") && name != "driver.pid";
    assert_eq!(names(paths.state.clone(), &pids), of(".pid"), "{}", one());
    for directory in [paths.lib.clone(), paths.data.join("channel/target")] {
        let found = names(directory.clone(), &|name| name.starts_with("domain-"));
        assert_eq!(found.len(), running.len(), "{}: {found:?}, {}", directory.display(), one());
    }
    let mut defined: Vec<String> = guests
        .iter()
        .zip(models)
        .filter(|(_, model)| model.place != Place::Undefined)
        .map(|(guest, _)| format!("{}.xml", guest.name))
        .collect();
    defined.sort();
    let definitions = |name: &str| name != "autostart" && name != "networks";
    assert_eq!(names(paths.config.clone(), &definitions), defined, "{}", one());
    for (number, guest) in guests.iter().enumerate() {
        let model = &models[number];
        let link = std::fs::symlink_metadata(paths.autostart_link(&guest.name)).is_ok();
        assert_eq!(link, model.autostart, "{}", context(number));
        assert_eq!(
            paths.managed_save(&guest.name).exists(),
            model.place == Place::Saved,
            "{}",
            context(number)
        );
        let its = |uses: bool| if uses { 0 } else { OWNER };
        let is_running = model.place == Place::Running;
        if remembers {
            assert_eq!(
                guest.owners(),
                (its(is_running), its(is_running && model.plugged)),
                "{}",
                context(number)
            );
        }
        if is_running {
            let images = 2 + 2 * usize::from(model.plugged) + 2 * usize::from(model.medium);
            assert_eq!(guest.images(daemon), images, "nodes: {}", context(number));
            assert_eq!(guest.net_ends(daemon), usize::from(model.card), "cards: {}", context(number));
        }
        let groups = groups(&guest.name);
        assert!(groups.len() <= usize::from(is_running), "{groups:?}: {}", context(number));
    }
}

/// The control groups of a guest.
fn groups(name: &str) -> Vec<PathBuf> {
    let machines = std::fs::read_dir("/sys/fs/cgroup/machine").into_iter().flatten().flatten();
    let own = std::fs::read_dir("/sys/fs/cgroup").into_iter().flatten().flatten();
    let all = machines.chain(own).map(|entry| entry.path());
    all.filter(|path| path.to_string_lossy().contains(&format!("-{name}."))).collect()
}
