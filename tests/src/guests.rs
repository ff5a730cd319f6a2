//! The guest systems that `cargo xtask guests` puts into the build directory.

use std::path::{Path, PathBuf};

/// A kernel known by a short name of ours; see [`KERNELS`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KernelSpec {
    /// Our name, and that of its folder.
    pub name: &'static str,
    /// The Debian package that depends on the newest kernel of its kind.
    pub package: &'static str,
    /// Debian's name of the architecture.
    pub architecture: &'static str,
    /// Taken from the backports suite rather than the machine's own.
    pub backports: bool,
}

/// The kernels that the tests boot.
pub const KERNELS: &[KernelSpec] = &[
    KernelSpec { name: "cloud", package: "linux-image-cloud-amd64", architecture: "amd64", backports: false },
    KernelSpec {
        name: "cloud-bpo",
        package: "linux-image-cloud-amd64",
        architecture: "amd64",
        backports: true,
    },
    KernelSpec { name: "generic", package: "linux-image-amd64", architecture: "amd64", backports: false },
    KernelSpec { name: "generic-bpo", package: "linux-image-amd64", architecture: "amd64", backports: true },
    KernelSpec { name: "686", package: "linux-image-686-pae", architecture: "i386", backports: false },
];

/// An unpacked kernel package.
#[derive(Debug, Clone)]
pub struct Kernel {
    /// Which kernel it is.
    pub spec: KernelSpec,
    /// The kernel's own version, as `uname -r` prints it.
    pub release: String,
    /// The compressed kernel image.
    pub image: PathBuf,
    /// The folder with the kernel's modules.
    pub modules: PathBuf,
}

/// The password of root on the Debian disk.
pub const ROOT_PASSWORD: &str = "tinamou";

/// The folder that holds all guests: `$TINAMOU_GUESTS`, else `guests` in the build directory.
pub fn folder() -> PathBuf {
    std::env::var_os("TINAMOU_GUESTS")
        .map_or_else(|| crate::paths::target_dir().join("guests"), PathBuf::from)
}

/// The unpacked kernel of that name, or the reason why it cannot be had.
pub fn kernel(name: &str) -> Result<Kernel, String> {
    let spec =
        *KERNELS.iter().find(|k| k.name == name).ok_or_else(|| format!("no kernel is named {name}"))?;
    let root = folder().join("kernels").join(name);
    let image = std::fs::read_dir(root.join("boot"))
        .ok()
        .and_then(|entries| {
            entries
                .flatten()
                .map(|e| e.path())
                .find(|p| p.file_name().and_then(|n| n.to_str()).is_some_and(|n| n.starts_with("vmlinuz-")))
        })
        .ok_or_else(|| missing(&root, "kernels"))?;
    let release =
        image.file_name().and_then(|n| n.to_str()).unwrap_or_default()["vmlinuz-".len()..].to_owned();
    let modules = ["lib", "usr/lib"]
        .iter()
        .map(|lib| root.join(lib).join("modules").join(&release))
        .find(|folder| folder.is_dir())
        .ok_or_else(|| format!("{} holds no modules of {release}", root.display()))?;
    Ok(Kernel { spec, release, image, modules })
}

/// Where libvirt's own test data and schemas are unpacked: `tests`, `src/conf/schemas`.
pub fn libvirt_folder() -> PathBuf {
    folder().join("libvirt-source")
}

/// Where clients of libvirt are unpacked.
pub fn libvirt_clients_folder() -> PathBuf {
    folder().join("libvirt-clients")
}

/// Clients of libvirt as their packages have them, or the reason why they cannot be had.
pub fn libvirt_clients() -> Result<PathBuf, String> {
    let clients = libvirt_clients_folder();
    if clients.is_dir() { Ok(clients) } else { Err(missing(&clients, "libvirt")) }
}

/// Where OpenStack Nova is installed.
pub fn nova_folder() -> PathBuf {
    folder().join("nova")
}

/// A Python that has OpenStack Nova, or the reason why it cannot be had.
pub fn nova() -> Result<PathBuf, String> {
    let folder = nova_folder();
    if folder.is_dir() { Ok(folder.join("bin/python")) } else { Err(missing(&folder, "nova")) }
}

/// The folder of libvirt's own tests, or the reason why it cannot be had.
pub fn libvirt_tests() -> Result<PathBuf, String> {
    let tests = libvirt_folder().join("tests");
    if tests.is_dir() { Ok(tests) } else { Err(missing(&libvirt_folder(), "libvirt")) }
}

/// The static busybox executable for that Debian architecture, or the reason why it cannot be had.
pub fn busybox(architecture: &str) -> Result<PathBuf, String> {
    let root = folder().join("busybox").join(architecture);
    ["bin/busybox", "usr/bin/busybox"]
        .iter()
        .map(|path| root.join(path))
        .find(|path| path.is_file())
        .ok_or_else(|| missing(&root, "basic"))
}

/// The unpacked dynamic programs (C library, Python, Perl, OpenSSL), or the reason why they cannot be had.
pub fn userspace() -> Result<PathBuf, String> {
    existing(folder().join("userspace"), "userspace")
}

/// The unpacked guest agent with what it needs, or the reason why it cannot be had.
pub fn agent() -> Result<PathBuf, String> {
    existing(folder().join("agent"), "libvirt")
}

/// The unpacked programs that measurements run, or the reason why they cannot be had.
pub fn workloads() -> Result<PathBuf, String> {
    existing(folder().join("workloads"), "workloads")
}

/// The unpacked programs that test the translator, or the reason why they cannot be had.
pub fn suites() -> Result<PathBuf, String> {
    existing(folder().join("suites"), "suites")
}

/// The unpacked Java machine, or the reason why it cannot be had.
pub fn java() -> Result<PathBuf, String> {
    existing(folder().join("suites-java"), "suites")
}

/// Unpacked compilers, tracers and sources, or the reason why they cannot be had.
pub fn build() -> Result<PathBuf, String> {
    existing(folder().join("suites-build"), "suites")
}

/// The unpacked SCSI tools (sg3-utils, multipath-tools and their libraries), or the reason why they cannot be had.
pub fn scsi_tools() -> Result<PathBuf, String> {
    existing(folder().join("scsi-tools"), "helpers")
}

/// The original `qemu-vmsr-helper` of the backports suite, or the reason why it cannot be had.
pub fn vmsr_original() -> Result<PathBuf, String> {
    let root = folder().join("vmsr-original");
    existing(root.clone(), "helpers").map(|_| root.join("usr/bin/qemu-vmsr-helper"))
}

/// The raw disk image with a whole Debian system on one ext4 file system, or the reason why it cannot be had.
pub fn disk() -> Result<PathBuf, String> {
    let folder = folder().join("disk");
    let image = folder.join("debian.raw");
    if image.is_file() { Ok(image) } else { Err(missing(&folder, "disk")) }
}

fn existing(path: PathBuf, set: &str) -> Result<PathBuf, String> {
    if path.exists() { Ok(path) } else { Err(missing(&path, set)) }
}

/// Why something is not there: what `cargo xtask guests` noted when it could not make it, else how to make it.
fn missing(path: &Path, set: &str) -> String {
    let note = path.with_extension("unavailable");
    std::fs::read_to_string(note)
        .map(|reason| reason.trim().to_owned())
        .unwrap_or_else(|_| format!("{} is not there: cargo xtask guests {set}", path.display()))
}

/// A second reference emulator, newer than the machine's own: executable, library folder and data folder.
#[derive(Debug, Clone)]
pub struct NewerQemu {
    /// The executable.
    pub program: PathBuf,
    /// What `LD_LIBRARY_PATH` must name.
    pub libraries: PathBuf,
    /// What `-L` must name.
    pub data: PathBuf,
}

/// The newer reference emulator from the backports suite, or the reason why it cannot be had.
pub fn newer_qemu() -> Result<NewerQemu, String> {
    let root = folder().join("qemu-backports");
    let found = NewerQemu {
        program: root.join("usr/bin/qemu-system-x86_64"),
        libraries: root.join("usr/lib/x86_64-linux-gnu"),
        data: root.join("usr/share/qemu"),
    };
    if found.program.is_file() { Ok(found) } else { Err(missing(&root, "oracle")) }
}
