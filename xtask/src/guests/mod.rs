//! `cargo xtask guests`: the guest systems that tests and measurements boot, made from Debian packages.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use blackbox::guests as known;

mod apt;
mod disk;
mod sources;

use apt::Apt;
use sources::Content;

/// The parts of a kernel package that no guest of ours can use; they are most of it.
const WITHOUT: &[&str] = &[
    "./usr/share",
    "*/kernel/drivers/gpu",
    "*/kernel/drivers/media",
    "*/kernel/drivers/net/wireless",
    "*/kernel/drivers/net/ethernet",
    "*/kernel/drivers/infiniband",
    "*/kernel/drivers/staging",
    "*/kernel/drivers/iio",
    "*/kernel/drivers/hwmon",
    "*/kernel/drivers/hid",
    "*/kernel/drivers/isdn",
    "*/kernel/drivers/comedi",
    "*/kernel/sound",
    "./boot/System.map-*",
];

/// What programs the check of user space runs.
const PROGRAMS: &[&str] =
    &["python3-minimal", "libpython3-stdlib", "openssl", "perl-base", "coreutils", "bash"];

/// What the measurements run inside guests; the preprocessor's package has the C compiler proper.
const WORKLOADS: &[&str] = &[
    "python3-minimal",
    "libpython3-stdlib",
    "openssl",
    "perl-base",
    "coreutils",
    "bash",
    "sqlite3",
    "gzip",
    "xz-utils",
    "zstd",
    "stress-ng",
    "cpp-12",
];

/// What `cargo xtask suites` runs besides: others' tests, just-in-time compilers, a debugger.
const SUITES: &[&str] = &["libpython3.11-testsuite", "luajit", "nodejs", "gdb-minimal"];

/// What it builds with, what it traces system calls with, and what Perl's own tests need.
const BUILD: &[&str] =
    &["bash", "coreutils", "dash", "sed", "grep", "mawk", "gcc-12", "libc6-dev", "make", "strace", "perl"];

/// Sources that it builds, and tests that it runs: the package, the folder that they go to, and what of it.
const SOURCES: &[(&str, &str, &[&str])] = &[("lua5.4", "lua", &["*/src"]), ("perl", "perl-source", &["*/t"])];

/// A Java machine with its compiler.
const JAVA: &[&str] = &["bash", "coreutils", "openjdk-17-jdk-headless"];

/// The programs with which guests talk to SCSI disks, and their libraries that a small host may lack.
const SCSI_TOOLS: &[&str] = &[
    "sg3-utils",
    "libsgutils2-1.46-2",
    "multipath-tools",
    "kpartx",
    "dmsetup",
    "libdevmapper1.02.1",
    "libaio1",
    "libudev1",
    "liburcu8",
    "libjson-c5",
    "libsystemd0",
    "libselinux1",
    "libcap2",
    "libgcrypt20",
    "libgpg-error0",
    "liblz4-1",
    "liblzma5",
    "libzstd1",
    "libpcre2-8-0",
    "libedit2",
    "libbsd0",
    "libmd0",
    "libtinfo6",
];

/// Clients of libvirt that are used in place, without what else their packages want to be installed.
const LIBVIRT_CLIENTS: &[&str] = &["libvirt-dbus", "libvirt-glib-1.0-0", "prometheus-libvirt-exporter"];

/// The guest agent and its libraries.
const AGENT: &[&str] =
    &["qemu-guest-agent", "libc6", "libglib2.0-0", "libpcre2-8-0", "libudev1", "libnuma1", "liburing2"];

/// The names of the sets, as given on the command line.
const SETS: &[&str] = &[
    "basic",
    "kernels",
    "userspace",
    "workloads",
    "suites",
    "helpers",
    "disk",
    "oracle",
    "firmware",
    "libvirt",
    "nova",
];

/// Runs the task: the arguments are names of sets, and `--refresh`.
pub fn main(arguments: &[String]) -> Result<()> {
    let mut refresh = false;
    let mut wanted: Vec<&str> = Vec::new();
    for argument in arguments {
        match argument.as_str() {
            "--refresh" => refresh = true,
            "all" => wanted.extend(SETS),
            set if SETS.contains(&set) => wanted.push(set),
            other => bail!("no set is named {other}; there are {} and all", SETS.join(", ")),
        }
    }
    if wanted.is_empty() {
        wanted.push("basic");
    }
    let mut guests = Guests { folder: known::folder(), refresh, apt: None };
    std::fs::create_dir_all(&guests.folder)
        .with_context(|| format!("cannot make {}", guests.folder.display()))?;
    for set in wanted {
        match set {
            "basic" => guests.basic()?,
            "kernels" => guests.kernels()?,
            "userspace" => guests.userspace()?,
            "workloads" => guests.workloads()?,
            "suites" => guests.suites()?,
            "helpers" => guests.helpers()?,
            "disk" => guests.disk()?,
            "oracle" => guests.newer_qemu()?,
            "firmware" => guests.firmware()?,
            "libvirt" => {
                guests.libvirt()?;
                guests.libvirt_clients()?;
                guests.agent()?;
            }
            "nova" => guests.nova()?,
            _ => unreachable!("the names were checked above"),
        }
    }
    if let Some(apt) = &guests.apt {
        apt.clean()?;
    }
    Ok(())
}

struct Guests {
    folder: PathBuf,
    refresh: bool,
    apt: Option<Apt>,
}

impl Guests {
    fn apt(&mut self) -> Result<&Apt> {
        let apt = match self.apt.take() {
            Some(apt) => apt,
            None => Apt::new(&self.folder.join("apt"), Content::Packages, self.refresh)?,
        };
        Ok(self.apt.insert(apt))
    }

    /// The kernels and busybox that the ordinary tests use.
    fn basic(&mut self) -> Result<()> {
        self.busybox("amd64")?;
        self.busybox("i386")?;
        self.kernel("cloud")?;
        self.kernel("686")
    }

    fn kernels(&mut self) -> Result<()> {
        self.basic()?;
        known::KERNELS.iter().try_for_each(|spec| self.kernel(spec.name))
    }

    /// Makes `target` by `fill`, which is given a folder that takes the target's name when all went well.
    fn make(
        &mut self,
        target: PathBuf,
        what: &str,
        fill: impl FnOnce(&mut Self, &Path) -> Result<Made>,
    ) -> Result<()> {
        if target.exists() && !self.refresh {
            return Ok(());
        }
        let start = std::time::Instant::now();
        let partial = target.with_extension("partial");
        let note = target.with_extension("unavailable");
        remove(&partial)?;
        remove(&note)?;
        std::fs::create_dir_all(&partial)?;
        match fill(self, &partial).with_context(|| format!("cannot make {what}"))? {
            Made::Folder => {
                remove(&target)?;
                std::fs::rename(&partial, &target)?;
                println!("guests: {what} ({:.1} s)", start.elapsed().as_secs_f32());
            }
            Made::Nothing(reason) => {
                remove(&partial)?;
                std::fs::write(note, &reason)?;
                println!("guests: {what}: {reason}");
            }
        }
        Ok(())
    }

    fn busybox(&mut self, architecture: &str) -> Result<()> {
        let target = self.folder.join("busybox").join(architecture);
        self.make(target, &format!("busybox for {architecture}"), |guests, folder| {
            let apt = guests.apt()?;
            match apt.find("busybox-static", architecture, false)? {
                Some(package) => {
                    apt::unpack(&apt.download(&package)?, folder, &["./usr/share"])?;
                    Ok(Made::Folder)
                }
                None => Ok(Made::Nothing(format!("the release has no busybox-static for {architecture}"))),
            }
        })
    }

    fn kernel(&mut self, name: &str) -> Result<()> {
        let spec = known::KERNELS.iter().find(|spec| spec.name == name).context("a known kernel")?;
        let target = self.folder.join("kernels").join(name);
        self.make(target, &format!("kernel {name}"), |guests, folder| {
            let apt = guests.apt()?;
            let Some(meta) = apt.find(spec.package, spec.architecture, spec.backports)? else {
                let suite = if spec.backports { "backports have" } else { "release has" };
                return Ok(Made::Nothing(format!(
                    "the {suite} no {} for {}",
                    spec.package, spec.architecture
                )));
            };
            let package = apt
                .dependency(&meta, "linux-image-")?
                .with_context(|| format!("{} names no kernel", meta.name))?;
            apt::unpack(&apt.download(&package)?, folder, WITHOUT)?;
            Ok(Made::Folder)
        })
    }

    fn userspace(&mut self) -> Result<()> {
        self.programs("userspace", "dynamic programs", PROGRAMS)
    }

    fn workloads(&mut self) -> Result<()> {
        self.programs("workloads", "workloads", WORKLOADS)
    }

    fn suites(&mut self) -> Result<()> {
        self.programs("suites", "test suites", &[WORKLOADS, SUITES].concat())?;
        self.programs("suites-java", "Java", JAVA)?;
        self.make(self.folder.join("suites-build"), "what is built and traced", |guests, folder| {
            guests.fill(folder, BUILD)?;
            let sources = Apt::new(&guests.folder.join("apt-sources"), Content::Sources, guests.refresh)?;
            for (package, name, parts) in SOURCES {
                let archive = sources.source(package)?;
                unpack_source(&archive, &folder.join(name), parts)?;
            }
            sources.clean()?;
            Ok(Made::Folder)
        })
    }

    fn programs(&mut self, name: &str, what: &str, packages: &[&str]) -> Result<()> {
        self.make(self.folder.join(name), what, |guests, folder| {
            guests.fill(folder, packages)?;
            Ok(Made::Folder)
        })
    }

    /// Unpacks packages with everything that they depend on.
    fn fill(&mut self, folder: &Path, packages: &[&str]) -> Result<()> {
        for package in self.apt()?.download_closure(packages, false)? {
            let documents = ["./usr/share/doc", "./usr/share/man", "./usr/share/locale", "./usr/share/info"];
            apt::unpack(&package, folder, &documents)?;
        }
        Ok(())
    }

    /// What the tests of the privileged helpers run beside them.
    fn helpers(&mut self) -> Result<()> {
        let target = self.folder.join("vmsr-original");
        self.make(target, "original qemu-vmsr-helper", |guests, folder| {
            let apt = guests.apt()?;
            match apt.find("qemu-system-common", "amd64", true)? {
                Some(package) => {
                    apt::unpack(&apt.download(&package)?, folder, &["./usr/share", "./usr/lib"])?;
                    Ok(Made::Folder)
                }
                None => Ok(Made::Nothing("the backports have no qemu-system-common".to_owned())),
            }
        })?;
        self.packages("scsi-tools", "SCSI tools", SCSI_TOOLS)
    }

    fn newer_qemu(&mut self) -> Result<()> {
        self.make(self.folder.join("qemu-backports"), "newer reference emulator", |guests, folder| {
            let apt = guests.apt()?;
            if apt.find("qemu-system-x86", "amd64", true)?.is_none() {
                return Ok(Made::Nothing("the backports have no qemu-system-x86".to_owned()));
            }
            // The machine's own C library is used: a second one would need its own loader.
            for package in apt.download_closure(&["qemu-system-x86", "seabios", "ipxe-qemu"], true)? {
                let name = package.file_name().unwrap_or_default().to_string_lossy().into_owned();
                if !name.starts_with("libc6_") {
                    apt::unpack(
                        &package,
                        folder,
                        &["./usr/share/doc", "./usr/share/man", "./usr/share/locale"],
                    )?;
                }
            }
            // Libraries of both spellings of the library folder in one place.
            let (old, new) = (folder.join("lib/x86_64-linux-gnu"), folder.join("usr/lib/x86_64-linux-gnu"));
            if old.is_dir() && !folder.join("lib").is_symlink() {
                for entry in old.read_dir()?.flatten() {
                    let target = new.join(entry.file_name());
                    if !target.exists() {
                        std::fs::rename(entry.path(), target)?;
                    }
                }
            }
            // SeaBIOS and the option ROMs lie in folders of their own; one search path holds them all.
            let data = folder.join("usr/share/qemu");
            for other in ["usr/share/seabios", "usr/lib/ipxe/qemu"] {
                let Ok(entries) = folder.join(other).read_dir() else { continue };
                for entry in entries.flatten().filter(|entry| entry.path().is_file()) {
                    let place = data.join(entry.file_name());
                    if !place.exists() {
                        // A link to where the package would lie when installed leads nowhere here.
                        remove(&place)?;
                        std::fs::copy(entry.path(), place)?;
                    }
                }
            }
            Ok(Made::Folder)
        })
    }

    fn firmware(&mut self) -> Result<()> {
        self.make(self.folder.join("firmware"), "firmware", |guests, folder| {
            let apt = guests.apt()?;
            for name in ["seabios", "ovmf"] {
                let package =
                    apt.find(name, "amd64", false)?.with_context(|| format!("there is no {name}"))?;
                apt::unpack(&apt.download(&package)?, folder, &["./usr/share/doc"])?;
            }
            Ok(Made::Folder)
        })
    }

    /// libvirt's own test data and schemas, which tests compare with.
    fn libvirt(&mut self) -> Result<()> {
        self.make(known::libvirt_folder(), "libvirt's test data", |guests, folder| {
            let apt = Apt::new(&guests.folder.join("apt-sources"), Content::Sources, guests.refresh)?;
            let archive = match apt.source("libvirt") {
                Ok(archive) => archive,
                Err(error) => return Ok(Made::Nothing(format!("{error:#}"))),
            };
            unpack_source(&archive, folder, &["libvirt-*/tests", "libvirt-*/src/conf/schemas"])?;
            apt.clean()?;
            Ok(Made::Folder)
        })
    }

    /// Clients of libvirt that tests use.
    fn libvirt_clients(&mut self) -> Result<()> {
        self.make(known::libvirt_clients_folder(), "libvirt's clients", |guests, folder| {
            let apt = guests.apt()?;
            let packages = match apt.find_all(LIBVIRT_CLIENTS, "amd64")? {
                Ok(packages) => packages,
                Err(reason) => return Ok(Made::Nothing(reason)),
            };
            for file in apt.download_all(&packages)? {
                apt::unpack(&file, folder, &["./usr/share/doc", "./usr/share/man", "./etc", "./lib"])?;
            }
            Ok(Made::Folder)
        })
    }

    /// QEMU's guest agent, which runs in guests that libvirt's daemons ask things of.
    fn agent(&mut self) -> Result<()> {
        self.packages("agent", "guest agent", AGENT)
    }

    /// The packages alone, without what else they want to be installed.
    fn packages(&mut self, name: &str, what: &str, packages: &[&str]) -> Result<()> {
        self.make(self.folder.join(name), what, |guests, folder| {
            let apt = guests.apt()?;
            let packages = match apt.find_all(packages, "amd64")? {
                Ok(packages) => packages,
                Err(reason) => return Ok(Made::Nothing(reason)),
            };
            for file in apt.download_all(&packages)? {
                // Conversions between character sets are most of the C library.
                let unused =
                    ["./usr/share/doc", "./usr/share/man", "./usr/share/locale", "./usr/lib/*/gconv"];
                apt::unpack(&file, folder, &unused)?;
            }
            Ok(Made::Folder)
        })
    }

    /// OpenStack's compute service, from Python's package index, beside the machine's own bindings of libvirt.
    fn nova(&mut self) -> Result<()> {
        self.make(known::nova_folder(), "OpenStack Nova", |_, folder| {
            let pip = folder.join("bin/pip");
            let steps: [(&Path, &[&str]); 2] = [
                (Path::new("/usr/bin/python3"), &["-m", "venv", "--system-site-packages"]),
                // The machine's own pyOpenSSL may be too old for the other packages.
                (&pip, &["install", "--quiet", "--upgrade", "nova", "pyOpenSSL"]),
            ];
            for (program, words) in steps {
                let mut command = std::process::Command::new(program);
                command.args(words);
                if program != pip {
                    command.arg(folder);
                }
                match command.status() {
                    Ok(status) if status.success() => {}
                    Ok(status) => return Ok(Made::Nothing(format!("{}: {status}", program.display()))),
                    Err(error) => return Ok(Made::Nothing(format!("{}: {error}", program.display()))),
                }
            }
            Ok(Made::Folder)
        })
    }

    fn disk(&mut self) -> Result<()> {
        self.make(self.folder.join("disk"), "Debian disk", |guests, folder| {
            let apt = guests.apt()?;
            disk::build(apt, folder)
        })
    }
}

/// What came of making a guest.
enum Made {
    /// The folder was filled.
    Folder,
    /// It cannot be had here, for this reason.
    Nothing(String),
}

/// Unpacks those files of an archive of sources that match one of `parts`, without the folder that holds them all.
fn unpack_source(archive: &Path, folder: &Path, parts: &[&str]) -> Result<()> {
    std::fs::create_dir_all(folder)?;
    let status = std::process::Command::new("tar")
        .args([
            "-x",
            "--no-same-owner",
            "--strip-components=1",
            "--wildcards",
            "--no-wildcards-match-slash",
            "-C",
        ])
        .arg(folder)
        .arg("-f")
        .arg(archive)
        .args(parts)
        .status()
        .context("cannot run tar")?;
    if !status.success() {
        bail!("cannot unpack {}", archive.display());
    }
    Ok(())
}

fn remove(path: &Path) -> Result<()> {
    let result = if path.is_dir() && !path.is_symlink() {
        std::fs::remove_dir_all(path)
    } else {
        std::fs::remove_file(path)
    };
    match result {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("cannot remove {}", path.display()))
        }
        _ => Ok(()),
    }
}
