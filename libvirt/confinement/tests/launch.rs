//! Starts of real processes. Without a harness: this program is its own launcher, and that needs its `main`.

use std::collections::HashMap;
use std::io::{Read as _, Write as _};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::time::Duration;

use confinement::launch::{
    Child, CoreScheduling, Identity, Launch, Launcher, Limits, capability, run_if_asked,
};
use confinement::process::{MemoryMode, MemoryPolicy};
use nix::sys::signal::{SigSet, SigmaskHow};

const SHELL: &str = "/bin/sh";

struct Scene {
    folder: PathBuf,
}

impl Scene {
    fn new(name: &str) -> Self {
        let folder = std::env::temp_dir().join(format!("confinement-launch-{}-{name}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        Self { folder }
    }

    fn path(&self, name: &str) -> String {
        self.folder.join(name).display().to_string()
    }

    fn log(&self) -> OwnedFd {
        std::fs::OpenOptions::new().append(true).create(true).open(self.folder.join("log")).unwrap().into()
    }

    fn said(&self) -> String {
        std::fs::read_to_string(self.folder.join("log")).unwrap()
    }
}

impl Drop for Scene {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

fn ended(child: &Child) {
    assert!(child.wait(Duration::from_secs(20)).unwrap(), "the process did not end");
}

fn script(text: &str) -> Launch {
    Launch::new(SHELL).arguments(["-c", text]).environment("PATH", "/usr/bin:/bin")
}

/// The fields of /proc/self/status as the script copied them to the log.
fn status(text: &str) -> HashMap<&str, String> {
    text.lines()
        .filter_map(|line| line.split_once(":\t"))
        .map(|(name, value)| (name, value.split_whitespace().collect::<Vec<_>>().join(" ")))
        .collect()
}

fn runs_where_and_with_what_it_is_told() {
    let scene = Scene::new("basic");
    let (ours, theirs) = UnixStream::pair().unwrap();
    let text = "echo out; echo err >&2; env; pwd; umask; ls -l /proc/self/fd; read line <&9; echo got $line; \
                ps -o sid=,pid=,ppid= -p $$; ulimit -n; ulimit -c";
    let mut held = script(text)
        .environment("GUEST", "a b")
        .pass(theirs.into(), 9)
        .output(scene.log())
        .pid_file(&scene.path("pid"))
        .umask(0o027)
        .limits(Limits { files: Some(500), core: Some(0), ..Limits::default() })
        .start(&Launcher::default())
        .unwrap();
    let pid = held.pid();
    assert_eq!(std::fs::read_to_string(scene.path("pid")).unwrap(), pid.to_string());
    held.wait_ready().unwrap();
    held.wait_ready().unwrap();
    assert_eq!(scene.said(), "", "the program runs before it was let go");
    let child = held.release().unwrap();
    assert_eq!(child.pid(), pid);
    assert!(!child.wait(Duration::from_millis(300)).unwrap());
    // While it runs its file is locked, whoever looks.
    let file = std::fs::OpenOptions::new().write(true).open(scene.path("pid")).unwrap();
    let lock = rustix::fs::fcntl_lock(&file, rustix::fs::FlockOperation::NonBlockingLockExclusive);
    assert_eq!(lock, Err(rustix::io::Errno::AGAIN));
    let mut ours = ours;
    ours.write_all(b"hello\n").unwrap();
    ended(&child);
    let said = scene.said();
    for line in ["out", "err", "GUEST=a b", "/", "0027", "got hello", "501", "0"] {
        assert!(said.lines().any(|said| said == line), "no {line:?} in {said}");
    }
    assert!(!said.contains("CARGO"), "the environment is not the daemon's: {said}");
    let open: Vec<&str> = said.lines().filter(|line| line.contains(" -> ")).collect();
    assert!(open.iter().any(|line| line.contains(" 0 -> /dev/null")), "{said}");
    assert!(open.iter().any(|line| line.contains(" 9 -> socket:")), "{said}");
    // 0, 1, 2, 9, the PID file, and the directory that ls reads.
    assert_eq!(open.len(), 6, "{said}");
    let session = said.lines().find_map(|line| {
        let words: Vec<i32> = line.split_whitespace().filter_map(|word| word.parse().ok()).collect();
        (words.len() == 3 && words[1] == pid).then(|| (words[0], words[2]))
    });
    let (session, parent) = session.unwrap_or_else(|| panic!("no session in {said}"));
    let own = i32::try_from(std::process::id()).unwrap();
    assert_ne!(parent, own);
    assert_ne!(session, pid, "not the session's leader");
    // Zero where the session's leader is outside of the test's PID namespace, which is why not rustix's.
    assert_ne!(session, nix::unistd::getsid(None).unwrap().as_raw());
}

fn descriptors_come_at_their_numbers_in_any_order() {
    let scene = Scene::new("descriptors");
    // Bash, because dash has single digits only.
    let text = "for n in 3 4 5 6 40 200; do echo $n >&$n; done";
    let mut launch = Launch::new("/bin/bash").arguments(["-c", text]).output(scene.log());
    let mut ends = Vec::new();
    for number in [200, 5, 3, 40, 4, 6] {
        let (mine, theirs) = UnixStream::pair().unwrap();
        launch = launch.pass(theirs.into(), number);
        ends.push((number, mine));
    }
    let child = launch.start(&Launcher::default()).unwrap().release().unwrap();
    ended(&child);
    for (number, mut mine) in ends {
        let mut text = String::new();
        mine.read_to_string(&mut text).unwrap();
        assert_eq!(text, format!("{number}\n"), "{}", scene.said());
    }
}

fn many_descriptors_pass() {
    let scene = Scene::new("many");
    let mut launch =
        Launch::new("/bin/bash").arguments(["-c", "ls /proc/self/fd | wc -l"]).output(scene.log());
    launch = launch.environment("PATH", "/usr/bin:/bin");
    for number in 10..410 {
        launch = launch.pass(scene.log(), number);
    }
    let child = launch.start(&Launcher::default()).unwrap().release().unwrap();
    ended(&child);
    assert_eq!(scene.said().trim(), "404");
}

fn signals_mean_what_programs_expect() {
    let scene = Scene::new("signals");
    // As in a daemon that has its signals from a descriptor.
    let blocked = SigSet::all();
    let before = blocked.thread_swap_mask(SigmaskHow::SIG_BLOCK).unwrap();
    let child = script("grep -E 'Sig(Blk|Ign)' /proc/self/status").output(scene.log());
    let child = child.start(&Launcher::default()).unwrap().release().unwrap();
    before.thread_set_mask().unwrap();
    ended(&child);
    let said = scene.said();
    let fields = status(&said);
    // The C library keeps 32 and 33 for itself.
    const INTERNAL: u64 = 3 << 31;
    let signals = |name: &str| u64::from_str_radix(&fields[name], 16).unwrap() & !INTERNAL;
    assert_eq!((signals("SigBlk"), signals("SigIgn")), (0, 0));
}

fn failures_are_told_in_libvirts_words() {
    let scene = Scene::new("failures");
    let error = Launch::new("/nonexistent/x")
        .output(scene.log())
        .start(&Launcher::default())
        .unwrap()
        .release()
        .err()
        .unwrap();
    assert_eq!(error.message, "cannot execute binary /nonexistent/x: No such file or directory");
    assert_eq!(error.code.number(), 38);
    let line = "libvirt:  error : cannot execute binary /nonexistent/x: No such file or directory\n";
    assert_eq!(scene.said(), line);
    let error =
        Launch::new("/etc/passwd").start(&Launcher::default()).unwrap().release().err().unwrap().message;
    assert_eq!(error, "cannot execute binary /etc/passwd: Permission denied");
    let error = script("").pid_file("/nonexistent/pid").start(&Launcher::default()).err().unwrap().message;
    assert_eq!(error, "Failed to open pid file '/nonexistent/pid': No such file or directory");
    let held = script("").pid_file(&scene.path("pid")).start(&Launcher::default()).unwrap();
    let error = script("").pid_file(&scene.path("pid")).start(&Launcher::default()).err().unwrap().message;
    let expected =
        format!("Failed to acquire pid file '{}': Resource temporarily unavailable", scene.path("pid"));
    assert_eq!(error, expected);
    drop(held);
    let mut held = script("").directory("/nonexistent").start(&Launcher::default()).unwrap();
    let error = held.wait_ready().unwrap_err().message;
    assert_eq!(error, "Unable to change to /nonexistent: No such file or directory");
    let error = script("").apparmor("no-such-profile").start(&Launcher::default()).unwrap().wait_ready();
    let error = error.unwrap_err().message;
    assert!(error.starts_with("unable to set AppArmor profile 'no-such-profile' for '/bin/sh': "), "{error}");
    let error = script("").pass(scene.log(), 1).start(&Launcher::default()).err().unwrap().message;
    assert_eq!(error, "internal error: a standard descriptor cannot be passed");
    let error = script("")
        .pass(scene.log(), 7)
        .pass(scene.log(), 7)
        .start(&Launcher::default())
        .err()
        .unwrap()
        .message;
    assert_eq!(error, "internal error: two descriptors are to have the same number");
    let error = script("").start(&Launcher::at("/nonexistent/daemon".as_ref())).err().unwrap().message;
    assert_eq!(error, "cannot fork child process: No such file or directory");
    let error = script("").start(&Launcher::at("/bin/true".as_ref())).err().unwrap().message;
    assert_eq!(error, "internal error: Process exited prior to exec");
}

fn a_child_that_is_let_fall_ends() {
    let scene = Scene::new("dropped");
    let mut held = script("echo ran").output(scene.log()).start(&Launcher::default()).unwrap();
    held.wait_ready().unwrap();
    let child = Child::of_pid(held.pid()).unwrap();
    drop(held);
    ended(&child);
    assert_eq!(scene.said(), "libvirt:  error : libvirtd quit during handshake: Input/output error\n");
}

fn memory_comes_from_the_nodes_told() -> Option<String> {
    let scene = Scene::new("nodes");
    let policy = MemoryPolicy { mode: MemoryMode::Strict, nodes: vec![0] };
    let held = script("grep -m1 heap /proc/self/numa_maps; head -1 /proc/self/numa_maps")
        .memory_policy(policy)
        .output(scene.log())
        .start(&Launcher::default())
        .unwrap();
    match held.release() {
        Ok(child) => ended(&child),
        Err(error) => {
            // Kernels without nodes, containers that may not.
            let known = ["unsupported configuration: NUMA node 0", "Unable to set NUMA memory policy: "];
            assert!(known.iter().any(|text| error.message.starts_with(text)), "{error}");
            return Some(error.message);
        }
    }
    assert!(scene.said().contains(" bind:0 "), "{}", scene.said());
    None
}

fn root() -> bool {
    rustix::process::geteuid().is_root()
}

fn who_it_runs_as_and_what_it_may() {
    let scene = Scene::new("identity");
    let run = |launch: Launch| {
        std::fs::write(scene.folder.join("log"), "").unwrap();
        ended(&launch.output(scene.log()).start(&Launcher::default()).unwrap().release().unwrap());
        scene.said()
    };
    let nobody = Identity { user: 65534, group: 65534, groups: vec![65534, 4] };
    let said = run(script("cat /proc/self/status").identity(nobody.clone()));
    let fields = status(&said);
    assert_eq!(fields["Uid"], "65534 65534 65534 65534");
    assert_eq!(fields["Gid"], "65534 65534 65534 65534");
    assert_eq!(fields["Groups"], "4 65534");
    for set in ["CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"] {
        assert_eq!(fields[set], "0000000000000000", "{set}");
    }
    let raw = capability(17);
    let said = run(script("cat /proc/self/status").identity(nobody).capabilities(raw).clear_capabilities());
    let fields = status(&said);
    for set in ["CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"] {
        assert_eq!(fields[set], "0000000000020000", "{set}");
    }
    let superuser = Identity { user: 0, group: 0, groups: vec![0] };
    let said = run(script("cat /proc/self/status").identity(superuser.clone()).clear_capabilities());
    let fields = status(&said);
    assert_eq!((&*fields["Uid"], &*fields["CapEff"]), ("0 0 0 0", "0000000000000000"));
    let said = run(script("cat /proc/self/status").identity(superuser));
    let own = std::fs::read_to_string("/proc/self/status").unwrap();
    assert_eq!(status(&said)["CapEff"], status(&own)["CapEff"], "capabilities are not cleared unasked");
    let said = run(script("cat /proc/self/oom_score_adj").oom_score_adjust(321));
    assert_eq!(said, "321\n");
    let limits = Limits { locked_memory: Some(65536), processes: Some(4000), files: None, core: Some(8192) };
    let said = run(Launch::new("/bin/bash").arguments(["-c", "ulimit -l -u -c"]).limits(limits));
    let numbers: Vec<&str> = said.lines().filter_map(|line| line.split_whitespace().last()).collect();
    assert_eq!(numbers, ["64", "4000", "8"]);
}

/// All again as an ordinary user, in a process of its own.
fn as_an_ordinary_user() {
    let here = std::env::current_exe().unwrap();
    let scene = Scene::new("user");
    std::os::unix::fs::chown(&scene.folder, Some(65534), Some(65534)).unwrap();
    // The build directory may be closed to others.
    let copy = scene.folder.join("launch");
    std::fs::copy(here, &copy).unwrap();
    let identity = Identity { user: 65534, group: 65534, groups: vec![65534] };
    let child = Launch::new(copy.to_str().unwrap())
        .environment("PATH", "/usr/bin:/bin")
        .environment("TMPDIR", scene.folder.to_str().unwrap())
        .identity(identity)
        .output(scene.log())
        .start(&Launcher::default())
        .unwrap()
        .release()
        .unwrap();
    assert!(child.wait(Duration::from_secs(60)).unwrap());
    let said = scene.said();
    assert!(said.contains("SKIPPED who_it_runs_as_and_what_it_may: needs root"), "{said}");
    assert!(said.ends_with("all passed\n"), "{said}");
}

fn a_user_may_clear_what_he_does_not_have() {
    let scene = Scene::new("clear");
    let child = script("grep CapEff /proc/self/status")
        .clear_capabilities()
        .output(scene.log())
        .start(&Launcher::default())
        .unwrap()
        .release()
        .unwrap();
    ended(&child);
    assert_eq!(status(&scene.said())["CapEff"], "0000000000000000");
}

fn cores_are_shared_with_whom_it_is_told() -> Option<String> {
    let scene = Scene::new("cores");
    let start = |scheduling| {
        script("read line <&9")
            .core_scheduling(scheduling)
            .output(scene.log())
            .start(&Launcher::default())
            .unwrap()
    };
    let mut own = start(CoreScheduling::New);
    match own.wait_ready() {
        Ok(()) => {}
        Err(error) => {
            // Kernels without core scheduling, hosts without hyper-threads.
            assert!(error.message.starts_with("Unable to set SCHED_CORE: "), "{error}");
            return Some(error.message);
        }
    }
    let mut with = start(CoreScheduling::With(own.pid()));
    with.wait_ready().unwrap();
    None
}

fn main() {
    run_if_asked();
    let everywhere: [(&str, fn()); 7] = [
        ("runs_where_and_with_what_it_is_told", runs_where_and_with_what_it_is_told),
        ("descriptors_come_at_their_numbers_in_any_order", descriptors_come_at_their_numbers_in_any_order),
        ("many_descriptors_pass", many_descriptors_pass),
        ("signals_mean_what_programs_expect", signals_mean_what_programs_expect),
        ("failures_are_told_in_libvirts_words", failures_are_told_in_libvirts_words),
        ("a_child_that_is_let_fall_ends", a_child_that_is_let_fall_ends),
        ("a_user_may_clear_what_he_does_not_have", a_user_may_clear_what_he_does_not_have),
    ];
    let privileged: [(&str, fn()); 2] = [
        ("who_it_runs_as_and_what_it_may", who_it_runs_as_and_what_it_may),
        ("as_an_ordinary_user", as_an_ordinary_user),
    ];
    for (name, test) in everywhere {
        test();
        println!("ok {name}");
    }
    for (name, test) in privileged {
        if root() {
            test();
            println!("ok {name}");
        } else {
            println!("SKIPPED {name}: needs root");
        }
    }
    type Test = fn() -> Option<String>;
    let perhaps: [(&str, Test); 2] = [
        ("cores_are_shared_with_whom_it_is_told", cores_are_shared_with_whom_it_is_told),
        ("memory_comes_from_the_nodes_told", memory_comes_from_the_nodes_told),
    ];
    for (name, test) in perhaps {
        match test() {
            None => println!("ok {name}"),
            Some(reason) => println!("SKIPPED {name}: {reason}"),
        }
    }
    println!("all passed");
}
