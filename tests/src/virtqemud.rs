//! Our daemon, and libvirt's own to compare with: each in a mount namespace where `/etc/libvirt`, `/run/libvirt` and the
//! rest are its own, its sockets in a folder that the test sees.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use crate::paths;

/// A daemon that runs; it ends with this value.
pub struct Daemon {
    child: Child,
    folder: PathBuf,
    prefix: &'static str,
}

/// What the namespaces begin with: folders of their own, and the user that libvirt's daemon insists on.
pub(crate) const PREPARE: &str = r#"
set -e
mount --make-rprivate /
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

/// Why namespaces of their own are not to be had; `None`: they are.
pub fn no_namespaces() -> Option<String> {
    let made = Command::new("unshare").args(["-m", "mount", "--make-rprivate", "/"]).output();
    match made {
        Ok(output) if output.status.success() => None,
        Ok(output) => Some(String::from_utf8_lossy(&output.stderr).trim().to_owned()),
        Err(error) => Some(format!("unshare: {error}")),
    }
}

impl Daemon {
    /// Ours, with lines of configuration and options beside the sockets' folder.
    pub fn ours(config: &str, options: &[&str]) -> Self {
        let folder = folder("vq");
        let config = format!("unix_sock_dir = \"{}\"\n{config}", folder.display());
        std::fs::write(folder.join("conf"), config).expect("write");
        let program = program();
        Self::start(folder, &program, "virtqemud", options)
    }

    /// The original, where it is installed.
    pub fn reference() -> Result<Self, String> {
        let program = Path::new("/usr/sbin/libvirtd");
        if !program.exists() {
            return Err("libvirtd is not installed".to_owned());
        }
        let folder = folder("lv");
        let config = format!(
            "unix_sock_dir = \"{}\"\nauth_unix_rw = \"none\"\nauth_unix_ro = \"none\"\n",
            folder.display()
        );
        std::fs::write(folder.join("conf"), config).expect("write");
        Ok(Self::start(folder, program, "libvirt", &[]))
    }

    fn start(folder: PathBuf, program: &Path, prefix: &'static str, options: &[&str]) -> Self {
        let script = format!("{PREPARE}\nexec \"$@\"");
        let child = Command::new("unshare")
            .args(["-m", "sh", "-c", &script, "sh"])
            .arg(program)
            .arg("-f")
            .arg(folder.join("conf"))
            .arg("-p")
            .arg(folder.join("pid"))
            .args(options)
            .env("FOLDER", &folder)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(std::fs::File::create(folder.join("stderr")).expect("a file"))
            .spawn()
            .expect("unshare");
        let mut this = Self { child, folder, prefix };
        let deadline = Instant::now() + Duration::from_secs(60);
        while UnixStream::connect(this.socket("-sock")).is_err() {
            if let Some(status) = this.child.try_wait().expect("wait") {
                panic!("{}: {status}: {}", program.display(), this.stderr());
            }
            assert!(Instant::now() < deadline, "{} does not listen: {}", program.display(), this.stderr());
            std::thread::sleep(Duration::from_millis(20));
        }
        this
    }

    /// What it has said.
    pub fn stderr(&self) -> String {
        std::fs::read_to_string(self.folder.join("stderr")).unwrap_or_default()
    }

    /// Its process.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// The folder of its sockets.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// The path of a socket: `-sock`, `-sock-ro` or `-admin-sock`.
    pub fn socket(&self, suffix: &str) -> PathBuf {
        self.folder.join(format!("{}{suffix}", self.prefix))
    }

    /// Runs `virsh` with words of its command line.
    pub fn virsh(&self, words: &[&str]) -> Output {
        let uri = format!("qemu:///system?socket={}", self.socket("-sock").display());
        Command::new("virsh").args(["-c", &uri]).args(words).env("LC_ALL", "C").output().expect("virsh")
    }

    /// Runs `virt-admin`.
    pub fn virt_admin(&self, words: &[&str]) -> Output {
        let uri = format!("libvirtd:///system?socket={}", self.socket("-admin-sock").display());
        Command::new("virt-admin")
            .args(["-c", &uri])
            .args(words)
            .env("LC_ALL", "C")
            .output()
            .expect("virt-admin")
    }

    /// Sends a signal.
    pub fn signal(&self, signal: nix::sys::signal::Signal) {
        let pid = nix::unistd::Pid::from_raw(self.child.id().cast_signed());
        nix::sys::signal::kill(pid, signal).expect("kill");
    }

    /// Waits for its end and answers its exit status.
    pub fn wait(&mut self, limit: Duration) -> Option<i32> {
        let deadline = Instant::now() + limit;
        while Instant::now() < deadline {
            if let Some(status) = self.child.try_wait().expect("wait") {
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
        if self.child.try_wait().is_ok_and(|status| status.is_none()) {
            self.signal(nix::sys::signal::Signal::SIGTERM);
            let deadline = Instant::now() + Duration::from_secs(10);
            while self.child.try_wait().is_ok_and(|status| status.is_none()) {
                if Instant::now() > deadline {
                    let _ = self.child.kill();
                    break;
                }
                std::thread::sleep(Duration::from_millis(10));
            }
            let _ = self.child.wait();
        }
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

/// A client that says what it likes.
pub struct Raw {
    /// The socket.
    pub socket: UnixStream,
}

/// The number of the REMOTE program.
pub const REMOTE: u32 = 0x2000_8086;

/// A message that came: program, version, procedure, type, serial, status; and the payload.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// The header.
    pub header: [u32; 6],
    /// The rest.
    pub payload: Vec<u8>,
}

impl Message {
    /// The code and the text of the error that it carries.
    pub fn error(&self) -> (u32, String) {
        assert_eq!(self.header[5], 1, "an error: {self:?}");
        let word = |at: usize| u32::from_be_bytes(self.payload[at..at + 4].try_into().expect("four bytes"));
        let length = word(12) as usize;
        (word(0), String::from_utf8_lossy(&self.payload[16..16 + length]).into_owned())
    }
}

impl Raw {
    /// Connects, and says nothing.
    pub fn connect(socket: &Path) -> Self {
        let socket = UnixStream::connect(socket).expect("connect");
        socket.set_read_timeout(Some(Duration::from_secs(10))).expect("a timeout");
        Self { socket }
    }

    /// Connects, and opens the connection.
    pub fn open(socket: &Path) -> Self {
        let mut this = Self::connect(socket);
        assert_eq!(this.call(REMOTE, 66, &[]).header[5], 0);
        assert_eq!(this.call(REMOTE, 1, &[0; 8]).header[5], 0);
        this
    }

    /// Sends a message.
    pub fn send(&mut self, header: [u32; 6], payload: &[u8]) {
        let length = 28 + payload.len() as u32;
        let mut bytes = length.to_be_bytes().to_vec();
        bytes.extend(header.iter().flat_map(|word| word.to_be_bytes()));
        bytes.extend_from_slice(payload);
        self.socket.write_all(&bytes).expect("write");
    }

    /// Waits for a message; `None`: the connection has ended.
    pub fn receive(&mut self) -> Option<Message> {
        let mut length = [0; 4];
        self.socket.read_exact(&mut length).ok()?;
        let mut bytes = vec![0; u32::from_be_bytes(length) as usize - 4];
        self.socket.read_exact(&mut bytes).ok()?;
        let mut header = [0; 6];
        for (word, bytes) in header.iter_mut().zip(bytes.chunks_exact(4)) {
            *word = u32::from_be_bytes(bytes.try_into().expect("four bytes"));
        }
        Some(Message { header, payload: bytes[24..].to_vec() })
    }

    /// Calls a procedure and waits for the answer.
    pub fn call(&mut self, program: u32, procedure: u32, payload: &[u8]) -> Message {
        self.send([program, 1, procedure, 0, 7, 0], payload);
        self.receive().expect("an answer")
    }

    /// Whether the daemon still answers this client.
    pub fn alive(&mut self) -> bool {
        self.call(REMOTE, 66, &[]).header == [REMOTE, 1, 66, 1, 7, 0]
    }

    /// Whether the daemon has ended the connection.
    pub fn ended(&mut self) -> bool {
        matches!(self.socket.read(&mut [0]), Ok(0)) || self.receive().is_none()
    }
}
