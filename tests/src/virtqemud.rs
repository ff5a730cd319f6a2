//! Our daemon and libvirt's own, each in namespaces where `/etc/libvirt`, `/run/libvirt` and the rest are its own.
//!
//! [`Daemon::ours`] is for clients that speak the protocol themselves: its sockets are in the test's folder, its processes
//! have the numbers that the test sees. [`Daemon::alone`] is a machine of its own (processes, network, `/run`) with
//! everything in the standard places, so that what ours prints and the original prints can be equal; guests end with it.

use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use crate::paths;

/// A user's program on a daemon's machine may take so long.
const COMMAND_SECONDS: &str = "120";
/// A daemon under load of other tests may take so long to listen.
const START: Duration = Duration::from_secs(60);
/// Where a daemon that is alone has its user's files, in memory.
pub const SCENE: &str = "/run/scene";

/// What the namespaces begin with: folders of their own, and the user that libvirt's daemon insists on.
const PREPARE: &str = r#"
set -e
mount --make-rprivate /
if [ "$ALONE" = yes ]; then
  ip link set lo up
  mount -t tmpfs -o mode=755 none /run
  mkdir -p /run/lock /run/scene
  cp "$FOLDER/conf" /run/scene/
  # When the host booted (utmp(5)): reckoned from the clock it is another second now and then, and the original then
  # takes for another boot's what is noted on files of their owners.
  { printf '\002\000'; head -c 338 /dev/zero; printf '\001\002\003\140'; head -c 40 /dev/zero; } >/run/utmp
fi
for folder in /etc/libvirt /run/libvirt /var/lib/libvirt /var/cache/libvirt /var/log/libvirt; do
  mkdir -p $folder
  mount -t tmpfs none $folder
done
mkdir -p /var/lib/libvirt/qemu
if ! grep -q ^libvirt-qemu: /etc/passwd; then
  { cat /etc/passwd; echo 'libvirt-qemu:x:64055:64055::/var/lib/libvirt:/bin/false'; } >$FOLDER/passwd
  { cat /etc/group; echo 'libvirt-qemu:x:64055:'; } >$FOLDER/group
  if ! grep -q ^tss: $FOLDER/passwd; then
    echo 'tss:x:64056:64056::/:/bin/false' >>$FOLDER/passwd
    echo 'tss:x:64056:' >>$FOLDER/group
  fi
  mount --bind $FOLDER/passwd /etc/passwd
  mount --bind $FOLDER/group /etc/group
fi
printf 'user = "root"\ngroup = "root"\nstdio_handler = "file"\nsecurity_driver = "none"\n' >/etc/libvirt/qemu.conf
"#;
/// Then the daemon takes the shell's place,
const BECOME: &str = r#"
exec "$@"
"#;
/// or runs beside it. Ours serves QEMU alone, other daemons what is theirs: without them the original has no other driver
/// either; with them it has all, and another one, without the driver for QEMU, stands beside ours.
const ACCOMPANY: &str = r#"
cd /run/scene
for drivers in /usr/lib/*/libvirt/connection-driver; do
  [ -e "$drivers/libvirt_driver_qemu.so" ] || continue
  cp -r "$drivers" /run/drivers
  mount -t tmpfs none "$drivers"
  if [ "$OTHERS" = yes ]; then
    cp /run/drivers/* "$drivers/"
    [ "${1##*/}" = libvirtd ] || rm "$drivers/libvirt_driver_qemu.so"
  else
    cp /run/drivers/libvirt_driver_qemu.so "$drivers/"
  fi
done
if [ "$OTHERS" = yes ] && [ "${1##*/}" != libvirtd ]; then
  for name in interface network nodedev nwfilter secret storage; do
    for suffix in "" -ro; do
      ln -s libvirt-sock$suffix /run/libvirt/virt${name}d-sock$suffix
    done
  done
  libvirtd -f conf -p others.pid &
  while ! [ -S /run/libvirt/libvirt-sock ]; do sleep 0.05; done
fi
# One daemon after the other. What they leave behind is this shell's.
mkfifo /run/next
set +e
while :; do
  read -r program </run/next && "$program" -f conf -p pid
done
"#;

/// The configuration of a daemon that is alone.
const ALONE: &str = "auth_unix_rw = \"none\"\nauth_unix_ro = \"none\"\n\
                     host_uuid = \"01234567-89ab-4def-8123-456789abcdef\"\n";

/// Where a daemon runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    /// Among the test's processes.
    Here,
    /// On a machine of its own.
    Alone,
    /// On one with libvirt's other drivers.
    WithOthers,
}

/// A daemon that runs; it ends with this value.
#[derive(Debug)]
pub struct Daemon {
    /// The daemon itself, or what its machine ends with.
    process: Child,
    folder: PathBuf,
    /// The folder of its sockets, as its clients see it.
    sockets: PathBuf,
    /// Its program's name.
    name: String,
    alone: bool,
}

/// A folder of the calling test's own with a short path, because sockets' paths must be.
pub fn folder(which: &str) -> PathBuf {
    let name = crate::current_test().replace("::", ".");
    let folder = std::env::temp_dir().join(format!("{which}-{}-{name}", std::process::id()));
    let _ = std::fs::remove_dir_all(&folder);
    std::fs::create_dir_all(&folder).expect("a temporary folder");
    folder
}

/// Our daemon's program.
pub fn program() -> PathBuf {
    paths::program("virtqemud", "TINAMOU_VIRTQEMUD").expect("the program under test")
}

/// libvirt's own daemon.
///
/// # Errors
///
/// The machine lacks it.
pub fn original() -> Result<PathBuf, String> {
    find("libvirtd")
}

/// A program that is installed.
///
/// # Errors
///
/// Names it, if it is not.
pub fn find(program: &str) -> Result<PathBuf, String> {
    let folders = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&folders)
        .chain(["/usr/sbin".into()])
        .map(|folder| folder.join(program))
        .find(|path| path.is_file())
        .ok_or_else(|| format!("the machine has no {program} program"))
}

/// What [`Daemon::ours`] needs.
///
/// # Errors
///
/// Says what is missing.
pub fn namespaces() -> Result<(), String> {
    unshared(&["-m", "mount", "--make-rprivate", "/"])
}

/// What [`Daemon::alone`] needs, and the clients that are in every comparison.
///
/// # Errors
///
/// Names the missing program or privilege.
pub fn machines() -> Result<(), String> {
    for program in ["unshare", "nsenter", "ip", "virsh", "virt-admin", "qemu-system-x86_64"] {
        find(program)?;
    }
    unshared(&["--mount", "--net", "--pid", "--fork", "true"])
}

fn unshared(words: &[&str]) -> Result<(), String> {
    match Command::new("unshare").args(words).output() {
        Ok(output) if output.status.success() => Ok(()),
        Ok(output) => Err(String::from_utf8_lossy(&output.stderr).trim().to_owned()),
        Err(error) => Err(format!("unshare: {error}")),
    }
}

/// Does the same with the original and with ours at the same time: what came of it there, and here. `start` is
/// [`Daemon::alone`], say.
pub fn on_both<T: Send>(
    original: &Path,
    start: fn(&Path) -> Daemon,
    work: impl Fn(&Daemon) -> T + Sync,
) -> [T; 2] {
    let (original, ours) = (start(original), start(&program()));
    std::thread::scope(|scope| {
        let theirs = scope.spawn(|| work(&original));
        let ours = work(&ours);
        [theirs.join().expect("the original's side"), ours]
    })
}

impl Daemon {
    /// Ours, with lines of configuration and options; its sockets are in [`Self::folder`].
    pub fn ours(config: &str, options: &[&str]) -> Self {
        Self::start(&program(), config, options, Place::Here)
    }

    /// A daemon on a machine of its own, where root need not show who he is; its user's files are in [`SCENE`].
    pub fn alone(program: &Path) -> Self {
        let mut this = Self::machine(program);
        this.follow(program);
        this
    }

    /// A machine for [`Self::alone`] on which nothing runs yet.
    pub fn machine(program: &Path) -> Self {
        Self::start(program, ALONE, &[], Place::Alone)
    }

    /// As [`Self::alone`], with networks, storage and all else that libvirt's daemon has beside QEMU.
    pub fn with_others(program: &Path) -> Self {
        let mut this = Self::start(program, ALONE, &[], Place::WithOthers);
        this.follow(program);
        this
    }

    fn start(program: &Path, config: &str, options: &[&str], place: Place) -> Self {
        let alone = place != Place::Here;
        let name = program.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let folder = folder(if name == "libvirtd" { "lv" } else { "vq" });
        let sockets = if alone { PathBuf::from("/run/libvirt") } else { folder.clone() };
        let config = format!("unix_sock_dir = \"{}\"\n{config}", sockets.display());
        std::fs::write(folder.join("conf"), config).expect("write");
        let seen = if alone { Path::new(SCENE) } else { &folder };
        let (namespaces, then) = if alone {
            (&["--mount", "--net", "--pid", "--fork", "--kill-child", "--mount-proc"][..], ACCOMPANY)
        } else {
            (&["--mount"][..], BECOME)
        };
        let messages = std::fs::File::create(folder.join("stderr")).expect("a file");
        let process = Command::new("unshare")
            .args(namespaces)
            .args(["sh", "-c", &format!("{PREPARE}{then}"), "sh"])
            .arg(program)
            .arg("-f")
            .arg(seen.join("conf"))
            .arg("-p")
            .arg(seen.join("pid"))
            .args(options)
            .env("FOLDER", &folder)
            .env("ALONE", if alone { "yes" } else { "no" })
            .env("OTHERS", if place == Place::WithOthers { "yes" } else { "no" })
            // It would be handed on to guests, and shown.
            .env_remove("LD_LIBRARY_PATH")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(messages)
            .spawn()
            .expect("unshare");
        let mut this = Self { process, folder, sockets, name, alone };
        this.await_readiness(program, |this| match alone {
            true => this.inside("/run/next").exists(),
            false => UnixStream::connect(this.socket("-sock")).is_ok(),
        });
        this
    }

    /// A path on its machine, as seen from outside.
    pub fn inside(&self, path: &str) -> PathBuf {
        // The first process is in the daemon's mount namespace too.
        format!("/proc/{}/root{path}", self.process.id()).into()
    }

    /// Starts a daemon on what the one before it, which has ended or is about to, has left on its machine.
    pub fn launch(&mut self, program: &Path) {
        self.name = program.file_name().unwrap_or_default().to_string_lossy().into_owned();
        std::fs::write(self.inside("/run/next"), format!("{}\n", program.display())).expect("its machine");
    }

    /// As [`Self::launch`], and waits until the daemon answers.
    pub fn follow(&mut self, program: &Path) {
        self.launch(program);
        self.await_readiness(program, |this| this.virsh("version").status.success());
    }

    /// Sends a daemon that is alone a signal that ends it, and waits until it has; its guests live on.
    pub fn end(&self, signal: &str) {
        let ended = self.shell(&format!(
            "pid=$(cat pid) && kill -{signal} $pid && while [ -e /proc/$pid ]; do sleep 0.02; done"
        ));
        assert!(ended.status.success(), "{}", String::from_utf8_lossy(&ended.stderr));
    }

    fn await_readiness(&mut self, program: &Path, mut ready: impl FnMut(&Self) -> bool) {
        let deadline = Instant::now() + START;
        while !ready(self) {
            if let Some(status) = self.process.try_wait().expect("wait") {
                panic!("{}: {status}: {}", program.display(), self.stderr());
            }
            assert!(Instant::now() < deadline, "{} does not answer: {}", program.display(), self.stderr());
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// What it has said.
    pub fn stderr(&self) -> String {
        std::fs::read_to_string(self.folder.join("stderr")).unwrap_or_default()
    }

    /// Its process, if it is not alone.
    pub fn pid(&self) -> u32 {
        self.process.id()
    }

    /// The test's folder.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// The path of a socket as the test sees it: `-sock`, `-sock-ro` or `-admin-sock`.
    pub fn socket(&self, suffix: &str) -> PathBuf {
        let path = self.own_socket(suffix);
        if self.alone { self.inside(&path.to_string_lossy()) } else { path }
    }

    /// The path of a socket as it is where the daemon is.
    fn own_socket(&self, suffix: &str) -> PathBuf {
        let prefix = if self.name == "libvirtd" { "libvirt" } else { &self.name };
        self.sockets.join(format!("{prefix}{suffix}"))
    }

    /// Runs a line of shell where the daemon is, in [`SCENE`] if it is alone: `virsh` and `virt-admin` find it, and
    /// `$SERVER` is the name of its server.
    pub fn shell(&self, line: &str) -> Output {
        let mut command = if self.alone {
            let mut command = Command::new("nsenter");
            let first = self.process.id();
            command.arg(format!("--target={first}")).args(["--mount", "--net"]);
            command.arg(format!("--pid=/proc/{first}/ns/pid_for_children"));
            command.args(["timeout", COMMAND_SECONDS, "sh", "-c", &format!("cd {SCENE} && {line}")]);
            command.env("HOME", SCENE);
            command
        } else {
            let mut command = Command::new("timeout");
            command.args([COMMAND_SECONDS, "sh", "-c", line]).current_dir(&self.folder);
            command
        };
        let admin = if self.name == "libvirtd" { "libvirtd" } else { "virtqemud" };
        let uri = |driver: &str, suffix: &str| {
            format!("{driver}+unix:///system?socket={}", self.own_socket(suffix).display())
        };
        command
            .env("LC_ALL", "C.UTF-8")
            .env("LIBVIRT_DEFAULT_URI", uri("qemu", "-sock"))
            .env("LIBVIRT_ADMIN_DEFAULT_URI", uri(admin, "-admin-sock"))
            .env("SERVER", admin)
            .env_remove("LD_LIBRARY_PATH")
            .env_remove("DISPLAY")
            .env_remove("WAYLAND_DISPLAY")
            .stdin(Stdio::null())
            .output()
            .expect("a shell")
    }

    /// Runs `virsh` with these words.
    pub fn virsh(&self, words: &str) -> Output {
        self.shell(&format!("virsh {words}"))
    }

    /// Runs `virt-admin` with these words.
    pub fn virt_admin(&self, words: &str) -> Output {
        self.shell(&format!("virt-admin {words}"))
    }

    /// Copies the files of a folder to [`SCENE`].
    pub fn put(&self, files: &Path) {
        let copied = self.shell(&format!("cp '{}'/* .", files.display()));
        assert!(copied.status.success(), "{}", String::from_utf8_lossy(&copied.stderr));
    }

    /// Sends a signal.
    pub fn signal(&self, signal: nix::sys::signal::Signal) {
        let pid = nix::unistd::Pid::from_raw(self.process.id().cast_signed());
        nix::sys::signal::kill(pid, signal).expect("kill");
    }

    /// Waits for its end and answers its exit status.
    pub fn wait(&mut self, limit: Duration) -> Option<i32> {
        let deadline = Instant::now() + limit;
        while Instant::now() < deadline {
            if let Some(status) = self.process.try_wait().expect("wait") {
                return status.code();
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        panic!("it still runs after {limit:?}: {}", self.stderr());
    }

    /// Its resident memory in KiB.
    pub fn memory(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.pid())).expect("status");
        let line = status.lines().find(|line| line.starts_with("VmRSS")).expect("VmRSS");
        line.split_whitespace().nth(1).and_then(|word| word.parse().ok()).expect("a number")
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        if self.alone {
            // With the machine's first process everything on it ends.
            let _ = self.process.kill();
        } else if self.process.try_wait().is_ok_and(|status| status.is_none()) {
            self.signal(nix::sys::signal::Signal::SIGTERM);
            let deadline = Instant::now() + Duration::from_secs(10);
            while self.process.try_wait().is_ok_and(|status| status.is_none()) {
                if Instant::now() > deadline {
                    let _ = self.process.kill();
                    break;
                }
                std::thread::sleep(Duration::from_millis(10));
            }
        }
        let _ = self.process.wait();
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}
