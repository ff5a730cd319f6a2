//! The bus's own daemon, and services that we play: polkit, machined, logind.

use std::io::{BufRead as _, BufReader};
use std::os::fd::AsFd as _;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use confinement::dbus::{Bus, Failure, Message, Value};
use confinement::polkit::{MANAGE, Polkit, Subject};
use confinement::systemd::{Inhibitor, Machine, Sleep, Systemd};

struct Daemon {
    child: Child,
    folder: PathBuf,
    address: String,
}

impl Daemon {
    /// A bus of our own, where `activatable` services are known; `None`, having said why, without the daemon.
    fn start(test: &str, activatable: &[&str]) -> Option<Self> {
        let folder = std::env::temp_dir().join(format!("confinement-bus-{}-{test}", std::process::id()));
        std::fs::create_dir_all(folder.join("services")).unwrap();
        for name in activatable {
            let text = format!("[D-BUS Service]\nName={name}\nExec=/bin/false\n");
            std::fs::write(folder.join(format!("services/{name}.service")), text).unwrap();
        }
        let text = format!(
            "<busconfig><type>session</type><listen>unix:path={0}/bus</listen><servicedir>{0}/services</servicedir>\
             <policy context='default'><allow send_destination='*' eavesdrop='true'/><allow eavesdrop='true'/>\
             <allow own='*'/></policy></busconfig>",
            folder.display()
        );
        std::fs::write(folder.join("bus.conf"), text).unwrap();
        let child = Command::new("dbus-daemon")
            .arg(format!("--config-file={}", folder.join("bus.conf").display()))
            .args(["--nofork", "--nopidfile", "--nosyslog", "--print-address"])
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn();
        let mut child = match child {
            Ok(child) => child,
            Err(error) => {
                println!("SKIPPED {test}: no dbus-daemon: {error}");
                return None;
            }
        };
        let mut address = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut address).unwrap();
        let address = address.trim().to_owned();
        Some(Self { child, folder, address })
    }

    /// Plays a service: `answer` does what it does with each call. The calls' members and arguments can be read.
    fn serve(
        &self,
        name: &str,
        answer: impl Fn(&mut Bus, &Message) -> Result<(), Failure> + Send + 'static,
    ) -> Receiver<(String, Vec<Value>)> {
        let mut bus = Bus::connect(&self.address).unwrap();
        let answered = bus.call_bus("RequestName", &[name.into(), Value::U32(0)]).unwrap();
        assert_eq!(answered.body, [Value::U32(1)], "the name is ours");
        let (told, calls) = channel();
        std::thread::spawn(move || {
            while let Ok(message) = bus.receive(Duration::from_secs(60)) {
                if message.is_call() {
                    let member = message.member.clone().unwrap_or_default();
                    if told.send((member, message.body.clone())).is_err()
                        || answer(&mut bus, &message).is_err()
                    {
                        break;
                    }
                }
            }
        });
        calls
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

#[test]
fn we_and_the_bus_understand_each_other() {
    let Some(daemon) = Daemon::start("we_and_the_bus_understand_each_other", &[]) else { return };
    let mut bus = Bus::connect(&format!("unix:path=/nonexistent;{}", daemon.address)).unwrap();
    assert!(bus.name().starts_with(":1."), "{}", bus.name());
    let names = bus.call_bus("ListNames", &[]).unwrap();
    assert!(names.body[0].items().unwrap().contains(&bus.name().into()));
    let missing = bus.call("org.example.None", "/", "org.example.None", "Do", &[]).unwrap_err();
    let text = "GDBus.Error:org.freedesktop.DBus.Error.ServiceUnknown: The name org.example.None was not provided by \
                any .service files";
    assert_eq!(missing.to_string(), text);
    // A large answer, in pieces, and back.
    let echoed = daemon.serve("org.example.Echo", |bus, call| bus.answer(call, &call.body));
    let long = "x".repeat(300_000);
    let arguments = [Value::from(&*long), Value::texts([("a", "b")]), Value::Bool(true)];
    let answer = bus.call("org.example.Echo", "/", "org.example.Echo", "Echo", &arguments).unwrap();
    assert_eq!(answer.body, arguments);
    assert_eq!(echoed.recv().unwrap(), ("Echo".to_owned(), arguments.to_vec()));
}

/// polkit's answer to a question: authorized, challenge, details.
fn polkit(authorized: bool, challenge: bool, details: Value) -> Vec<Value> {
    vec![Value::Struct(vec![Value::Bool(authorized), Value::Bool(challenge), details])]
}

#[test]
fn polkit_decides() {
    let Some(daemon) = Daemon::start("polkit_decides", &[]) else { return };
    let nobody =
        Polkit::at(&daemon.address).check(MANAGE, Subject { pid: 1, start_time: 2, uid: 3 }, &[], true);
    let error = nobody.unwrap_err();
    assert_eq!(error.code.number(), 89);
    assert!(
        error
            .message
            .starts_with("error from service: GDBus.Error:org.freedesktop.DBus.Error.ServiceUnknown: ")
    );
    let calls = daemon.serve("org.freedesktop.PolicyKit1", |bus, call| {
        let answer = match call.body[1].as_str().unwrap() {
            "yes" | "org.libvirt.api.domain.start" => polkit(true, false, Value::texts([])),
            "dismissed" => polkit(false, true, Value::texts([("polkit.dismissed", "true")])),
            "challenge" => polkit(false, true, Value::texts([])),
            "odd" => vec![Value::Bool(true)],
            _ => polkit(false, false, Value::texts([("polkit.result", "no")])),
        };
        bus.answer(call, &answer)
    });
    let subject = Subject { pid: 4242, start_time: 1 << 40, uid: 4_294_967_294 };
    let authority = Polkit::at(&daemon.address);
    let ask = |action: &str| authority.check(action, subject, &[("domain_name", "demo")], true);
    ask("yes").unwrap();
    let (member, arguments) = calls.recv().unwrap();
    assert_eq!(member, "CheckAuthorization");
    let process = Value::properties([
        ("pid", Value::U32(4242)),
        ("start-time", Value::U64(1 << 40)),
        ("uid", Value::I32(-2)),
    ]);
    let expected = [
        Value::Struct(vec!["unix-process".into(), process]),
        "yes".into(),
        Value::texts([("domain_name", "demo")]),
        Value::U32(1),
        "".into(),
    ];
    assert_eq!(arguments, expected);
    let told = |action: &str| {
        let error = ask(action).unwrap_err();
        (error.code.number(), error.message)
    };
    let text = "authentication cancelled: user cancelled authentication process";
    assert_eq!(told("dismissed"), (79, text.into()));
    let text = "authentication unavailable: no polkit agent available to authenticate action 'challenge'";
    assert_eq!(told("challenge"), (94, text.into()));
    assert_eq!(told("no"), (45, "authentication failed: access denied by policy".into()));
    assert_eq!(told("odd").0, 89);
    let access = |permission: &str| {
        authority.check_access("QEMU", "domain", permission, subject, &[("domain_name", "x")])
    };
    access("start").unwrap();
    let (error, reason) = access("getattr").unwrap_err();
    assert_eq!(error.message, "access denied: 'QEMU' denied access");
    assert_eq!(reason.code.number(), 45);
    let details: Vec<_> =
        calls.try_iter().map(|(_, arguments)| (arguments[2].clone(), arguments[3].clone())).collect();
    let expected = (Value::texts([("connect_driver", "QEMU"), ("domain_name", "x")]), Value::U32(0));
    assert_eq!(details.last(), Some(&expected));
}

const SERVICES: [&str; 3] =
    ["org.freedesktop.machine1", "org.freedesktop.systemd1", "org.freedesktop.login1"];

#[test]
fn machined_makes_the_scope() {
    let Some(daemon) = Daemon::start("machined_makes_the_scope", &SERVICES) else { return };
    let machine = Machine {
        name: "qemu-1-demo",
        uuid: *b"0123456789abcdef",
        leader: 77,
        interfaces: &[4, 5],
        partition: "/machine",
        max_threads: Some(100),
    };
    let systemd = Systemd::at(&daemon.address);
    assert_eq!(systemd.create_machine(&machine), Ok(false), "systemd does not run");
    let units = daemon.serve("org.freedesktop.systemd1", |bus, call| bus.answer(call, &[]));
    let machines = daemon.serve("org.freedesktop.machine1", |bus, call| match call.member.as_deref() {
        Some("CreateMachineWithNetwork") => {
            bus.refuse(call, "org.freedesktop.DBus.Error.UnknownMethod", "too old")
        }
        Some("CreateMachine" | "GetMachineByPID") => bus.answer(call, &[Value::Path("/m/1".into())]),
        Some("Get") => bus.answer(call, &[Value::variant("qemu-1-demo")]),
        _ => bus.refuse(call, "org.freedesktop.machine1.NoSuchMachine", "no"),
    });
    assert_eq!(systemd.create_machine(&machine), Ok(true));
    let (member, arguments) = machines.recv().unwrap();
    assert_eq!((member.as_str(), arguments.len()), ("CreateMachineWithNetwork", 8));
    assert_eq!(arguments[6], Value::Array("i".into(), vec![Value::I32(4), Value::I32(5)]));
    let (member, arguments) = machines.recv().unwrap();
    assert_eq!((member.as_str(), arguments.len()), ("CreateMachine", 7));
    let texts: Vec<_> = [0, 2, 3].map(|at| arguments[at].as_str().unwrap().to_owned()).to_vec();
    assert_eq!(texts, ["qemu-1-demo", "libvirt-qemu", "vm"]);
    assert_eq!(arguments[4], Value::U32(77));
    let properties = arguments[6].items().unwrap();
    let slice = Value::Struct(vec!["Slice".into(), Value::variant("machine.slice")]);
    assert_eq!((properties.len(), &properties[0]), (3, &slice));
    let (member, arguments) = units.recv().unwrap();
    let scope = "machine-qemu\\x2d1\\x2ddemo.scope";
    assert_eq!((member.as_str(), arguments[0].as_str()), ("SetUnitProperties", Some(scope)));
    assert_eq!(systemd.machine_of(77).as_deref(), Some("qemu-1-demo"));
    systemd.terminate_machine("qemu-1-demo").unwrap();
}

#[test]
fn logind_puts_the_host_to_sleep() {
    let Some(daemon) = Daemon::start("logind_puts_the_host_to_sleep", &SERVICES) else { return };
    let systemd = Systemd::at(&daemon.address);
    assert_eq!(systemd.can_sleep(Sleep::Memory), Ok(false), "there is no logind");
    let calls = daemon.serve("org.freedesktop.login1", |bus, call| match call.member.as_deref() {
        Some("CanSuspend") => bus.answer(call, &["yes".into()]),
        Some("CanHibernate") => bus.answer(call, &["na".into()]),
        Some("Suspend") => bus.answer(call, &[]),
        _ => bus.refuse(call, "org.freedesktop.DBus.Error.AccessDenied", "no"),
    });
    assert_eq!(systemd.can_sleep(Sleep::Memory), Ok(true));
    assert_eq!(systemd.can_sleep(Sleep::Disk), Ok(false));
    assert!(systemd.can_sleep(Sleep::Both).is_err());
    assert_eq!(systemd.sleep(Sleep::Memory), Ok(()));
    assert!(systemd.sleep(Sleep::Both).is_err());
    let (member, arguments) = calls.try_iter().nth(3).unwrap();
    assert_eq!((member.as_str(), arguments), ("Suspend", vec![Value::Bool(false)]));
}

#[test]
fn a_shutdown_waits_for_guests() {
    let Some(daemon) = Daemon::start("a_shutdown_waits_for_guests", &SERVICES) else { return };
    let inhibitor = Inhibitor::new(Systemd::at(&daemon.address));
    inhibitor.guest_started();
    assert!(!inhibitor.is_held(), "there is no logind");
    inhibitor.guest_ended();
    // What logind gives is a pipe's end; whether we close it is seen at the other.
    let (reader, writer) = rustix::pipe::pipe().unwrap();
    let writer = std::sync::Mutex::new(Some(writer));
    let calls = daemon.serve("org.freedesktop.login1", move |bus, call| {
        let writer = writer.lock().unwrap().take();
        bus.answer_with(call, &[Value::Descriptor(0)], &[writer.unwrap().as_fd()])
    });
    inhibitor.guest_started();
    inhibitor.guest_started();
    assert!(inhibitor.is_held());
    let (member, arguments) = calls.recv().unwrap();
    assert_eq!(member, "Inhibit");
    let texts = ["shutdown", "Libvirt", "Virtual machines need to be saved", "delay"].map(Value::from);
    assert_eq!(arguments, texts);
    let closed = || {
        let mut poll = [rustix::event::PollFd::new(&reader, rustix::event::PollFlags::IN)];
        let limit = rustix::event::Timespec { tv_sec: 0, tv_nsec: 200_000_000 };
        rustix::event::poll(&mut poll, Some(&limit)).unwrap() > 0
    };
    inhibitor.guest_ended();
    assert!(!closed());
    inhibitor.guest_ended();
    assert!(closed() && !inhibitor.is_held());
    assert!(calls.try_recv().is_err(), "asked once");
}
