//! Guests' own `/dev`. Without a harness, as `launch`.

use std::os::fd::OwnedFd;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use confinement::dac::{Owner, Transaction};
use confinement::launch::{Child, Identity, Launch, Launcher, run_if_asked};
use confinement::namespace::{DEFAULT_NODES, PrivateDev, create_nodes, remove_nodes};

const QEMU: Owner = Owner { user: 64055, group: 994 };

struct Guest {
    child: Child,
    log: PathBuf,
}

impl Guest {
    /// A process with its own `/dev` that waits.
    fn start(name: &str, nodes: &[&str], text: &str) -> Self {
        let log = std::env::temp_dir().join(format!("confinement-dev-{}-{name}", std::process::id()));
        let file: OwnedFd =
            std::fs::OpenOptions::new().write(true).truncate(true).create(true).open(&log).unwrap().into();
        let nodes = nodes.iter().map(|node| (*node).to_owned()).collect();
        let identity = Identity { user: QEMU.user, group: QEMU.group, groups: vec![QEMU.group] };
        let child = Launch::new("/bin/sh")
            .arguments(["-c", &format!("{text}; exec sleep 60")])
            .environment("PATH", "/usr/bin:/bin")
            .umask(0o002)
            .identity(identity)
            .private_dev(PrivateDev { nodes, selinux_context: None })
            .output(file)
            .start(&Launcher::default())
            .unwrap()
            .release()
            .unwrap();
        let end = std::time::Instant::now() + Duration::from_secs(20);
        let busy = || {
            let name = std::fs::read_to_string(format!("/proc/{}/comm", child.pid())).unwrap();
            name != "sleep\n"
        };
        while busy() {
            assert!(std::time::Instant::now() < end);
            std::thread::sleep(Duration::from_millis(10));
        }
        Self { child, log }
    }

    fn said(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap()
    }

    /// What the guest finds at `path`, as seen through its process.
    fn path(&self, path: &str) -> PathBuf {
        Path::new(&format!("/proc/{}/root", self.child.pid())).join(path.trim_start_matches('/'))
    }

    fn names(&self, folder: &str) -> Vec<String> {
        let mut names: Vec<String> = std::fs::read_dir(self.path(folder))
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }
}

impl Drop for Guest {
    fn drop(&mut self) {
        let _ = self.child.signal(rustix::process::Signal::KILL);
        let _ = self.child.wait(Duration::from_secs(5));
        let _ = std::fs::remove_file(&self.log);
    }
}

fn it_holds_what_it_is_to_hold_and_no_more() {
    let host = std::fs::read_to_string("/proc/self/mounts").unwrap();
    let mut nodes = DEFAULT_NODES.to_vec();
    nodes.extend(["/dev/stdin", "/dev/loop0", "/dev/no-such"]);
    let guest =
        Guest::start("hold", &nodes, "echo x > /dev/null; echo -n ok; grep ' /dev ' /proc/self/mounts");
    let mut expected: Vec<String> = nodes
        .iter()
        .filter(|node| std::fs::symlink_metadata(node).is_ok())
        .map(|node| node.trim_start_matches("/dev/").to_owned())
        .collect();
    for line in host.lines() {
        if let Some(name) = line.split(' ').nth(1).and_then(|place| place.strip_prefix("/dev/")) {
            expected.push(name.split('/').next().unwrap().to_owned());
        }
    }
    expected.sort();
    expected.dedup();
    assert_eq!(guest.names("/dev"), expected);
    let said = guest.said();
    assert!(said.starts_with("okdevfs /dev tmpfs rw,nosuid,relatime,size=64k,mode=755"), "{said}");
    for name in ["null", "loop0"] {
        let (inside, outside) = (guest.path(&format!("/dev/{name}")), format!("/dev/{name}"));
        let Ok(outside) = std::fs::metadata(outside) else { continue };
        let inside = std::fs::metadata(inside).unwrap();
        let facts = |found: &std::fs::Metadata| (found.rdev(), found.mode(), found.uid(), found.gid());
        assert_eq!(facts(&inside), facts(&outside), "{name}");
        assert_ne!(inside.dev(), outside.dev());
    }
    if host.contains(" /dev/pts ") {
        assert!(guest.names("/dev/pts").contains(&"ptmx".to_owned()));
    }
    assert_eq!(std::fs::read_to_string("/proc/self/mounts").unwrap(), host, "the host's mounts changed");
}

fn nodes_come_and_go_while_it_runs() {
    let guest = Guest::start("plug", &["/dev/null"], "true");
    let pid = guest.child.pid();
    let launcher = Launcher::default();
    // Deep, behind a link, a socket, and a file.
    let base = format!("/dev/confinement-{}", std::process::id());
    std::fs::create_dir_all(format!("{base}/deep")).unwrap();
    std::os::unix::fs::symlink("../../zero", format!("{base}/deep/link")).unwrap();
    let socket = std::os::unix::net::UnixListener::bind(format!("{base}/socket")).unwrap();
    std::fs::write(format!("{base}/file"), "content").unwrap();
    let result = std::panic::catch_unwind(|| {
        let paths = ["deep/link", "socket", "file"].map(|name| format!("{base}/{name}"));
        let mut made = create_nodes(&launcher, pid, &paths).unwrap();
        made.sort();
        assert_eq!(made.len(), 4, "{made:?}");
        assert!(guest.path("/dev/zero").metadata().unwrap().file_type().is_char_device());
        // Absolute inside: seen from outside, it leads to our own.
        let link = std::fs::read_link(guest.path(&paths[0])).unwrap();
        assert_eq!(link, Path::new(&format!("{base}/deep/../../zero")));
        assert!(guest.path(&paths[1]).metadata().unwrap().file_type().is_socket());
        assert_eq!(std::fs::read_to_string(guest.path(&paths[2])).unwrap(), "content");
        assert_eq!(create_nodes(&launcher, pid, &["/dev/zero".to_owned()]).unwrap(), [""; 0]);
        let both = ["/dev/zero".to_owned(), "/dev/null".to_owned(), "/etc/passwd".to_owned()];
        remove_nodes(&launcher, pid, &both, &["/dev/null".to_owned()]).unwrap();
        assert!(guest.path("/dev/null").exists() && !guest.path("/dev/zero").exists());
        assert!(Path::new("/dev/zero").exists() && Path::new("/etc/passwd").exists());
        let error = create_nodes(&launcher, i32::MAX, &both).unwrap_err();
        assert_eq!(error.message, "Failed to read /proc/2147483647/mounts: No such file or directory");
    });
    drop(socket);
    std::fs::remove_dir_all(&base).unwrap();
    result.unwrap();
}

fn a_guests_node_is_given_to_it_and_the_hosts_is_not() {
    let before = std::fs::metadata("/dev/zero").unwrap().uid();
    let guest = Guest::start("own", &["/dev/zero"], "true");
    let mut transaction = Transaction::new();
    transaction.set("/dev/zero", QEMU, true);
    transaction.commit(&Launcher::default(), Some(guest.child.pid()), true, None).unwrap();
    let inside = guest.path("/dev/zero").metadata().unwrap();
    assert_eq!((inside.uid(), inside.gid()), (QEMU.user, QEMU.group));
    assert_eq!(std::fs::metadata("/dev/zero").unwrap().uid(), before);
}

fn main() {
    run_if_asked();
    let tests: [(&str, fn()); 3] = [
        ("it_holds_what_it_is_to_hold_and_no_more", it_holds_what_it_is_to_hold_and_no_more),
        ("nodes_come_and_go_while_it_runs", nodes_come_and_go_while_it_runs),
        (
            "a_guests_node_is_given_to_it_and_the_hosts_is_not",
            a_guests_node_is_given_to_it_and_the_hosts_is_not,
        ),
    ];
    let missing = if !PrivateDev::is_available() {
        Some("needs root")
    } else if unsharing_is_forbidden() {
        Some("mount namespaces are forbidden here")
    } else {
        None
    };
    for (name, test) in tests {
        match missing {
            Some(reason) => println!("SKIPPED {name}: {reason}"),
            None => {
                test();
                println!("ok {name}");
            }
        }
    }
}

/// In most containers even root may not.
fn unsharing_is_forbidden() -> bool {
    !std::process::Command::new("unshare").args(["-m", "true"]).status().is_ok_and(|status| status.success())
}
