//! Initial file systems for the guests: busybox, the modules that are needed, and a script.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result};

use crate::cpio::Archive;
use crate::emulator::Emulator;
use crate::guests::{self, Kernel};
use crate::modules::Modules;

/// The line that init prints before it does anything else.
pub const USERSPACE: &str = "TINAMOU: userspace";
/// The line that init prints after the last command of its script.
pub const DONE: &str = "TINAMOU: done";
/// What starts the line before a section's output; the section's name follows.
pub const BEGIN: &str = "TINAMOU: begin ";
/// What starts the line after a section's output; the section's name and exit status follow.
pub const END: &str = "TINAMOU: end ";

/// The modules for a disk with an ext4 file system behind virtio-blk (those not built in).
/// The file system needs the checksum by an alias, which no dependency names.
pub const DISK_MODULES: &[&str] = &["virtio_pci", "virtio_blk", "crc32c_generic", "ext4"];

/// The modules for what a guest sees that answers: disks, media, interfaces, channels, keys, sleep, panic.
const ANSWERING_MODULES: &[&str] = &[
    "virtio_pci",
    "virtio_blk",
    "virtio_scsi",
    "virtio_net",
    "virtio_console",
    "virtio_rng",
    "virtio_balloon",
    "virtio_input",
    "virtio_mem",
    "evdev",
    "button",
    "ata_piix",
    "sr_mod",
    "sd_mod",
    "pvpanic",
    "pvpanic_mmio",
    "pvpanic_pci",
    "crc32c_generic",
    "ext4",
    "isofs",
    "acpi_memhotplug",
];

/// What init does after its script.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Finish {
    /// Turns the machine off.
    PowerOff,
    /// Resets the machine.
    Reboot,
    /// Gives the console to a shell, and turns the machine off when that ends.
    Shell,
    /// Mounts this device and hands over to the init program on it.
    SwitchRoot(String),
}

/// The description of an initial file system.
#[derive(Debug, Clone)]
pub struct Initramfs {
    kernel: Kernel,
    modules: Vec<String>,
    script: String,
    trees: Vec<PathBuf>,
    finish: Finish,
}

impl Initramfs {
    /// One without modules and with an empty script, which turns the machine off.
    pub fn new(kernel: &Kernel) -> Self {
        Self {
            kernel: kernel.clone(),
            modules: Vec::new(),
            script: String::new(),
            trees: Vec::new(),
            finish: Finish::PowerOff,
        }
    }

    /// One that runs what the serial line says, and has QEMU's guest agent (`tests/guest/answering.sh`).
    ///
    /// # Errors
    ///
    /// The kernel or the agent is not there.
    pub fn answering() -> Result<Self, String> {
        let agent = guests::agent()?;
        let script = include_str!("../guest/answering.sh");
        Ok(Self::new(&guests::kernel("cloud")?).modules(ANSWERING_MODULES).tree(agent).script(script))
    }

    /// The kernel that it is for.
    pub fn kernel(&self) -> &Kernel {
        &self.kernel
    }

    /// Loads these modules and those they need first; the ones that the kernel has built in are passed over.
    pub fn modules(mut self, names: &[&str]) -> Self {
        self.modules.extend(names.iter().map(|name| (*name).to_owned()));
        self
    }

    /// Appends shell commands; `section NAME COMMAND...` runs one whose output is to be found again
    /// by [`sections`].
    pub fn script(mut self, commands: &str) -> Self {
        self.script.push_str(commands);
        self.script.push('\n');
        self
    }

    /// Puts a folder of the host on the root file system.
    pub fn tree(mut self, folder: PathBuf) -> Self {
        self.trees.push(folder);
        self
    }

    /// Chooses what comes after the script.
    pub fn then(mut self, finish: Finish) -> Self {
        self.finish = finish;
        self
    }

    /// Builds the archive.
    pub fn build(&self) -> Result<Vec<u8>> {
        let architecture = self.kernel.spec.architecture;
        let busybox = guests::busybox(architecture).map_err(anyhow::Error::msg)?;
        let mut archive = Archive::new();
        for folder in ["dev", "etc", "mnt", "proc", "root", "run", "sys", "tmp"] {
            archive.folder(folder, 0o755);
        }
        archive.character_device("dev/console", 0o600, 5, 1);
        archive.character_device("dev/null", 0o666, 1, 3);
        for tree in &self.trees {
            let skipped = |path: &str| {
                // Ours come first: a second entry of the same name would replace them.
                !["dev", "proc", "sys", "init"].contains(&path)
            };
            archive.tree(tree, "", &skipped).with_context(|| format!("cannot read {}", tree.display()))?;
        }
        let content =
            std::fs::read(&busybox).with_context(|| format!("cannot read {}", busybox.display()))?;
        archive.file("busybox/busybox", 0o755, &content);
        archive.link("busybox/sh", "busybox");

        let wanted: Vec<&str> = self.modules.iter().map(String::as_str).collect();
        let mut load = String::new();
        if !wanted.is_empty() {
            for (name, content) in Modules::scan(&self.kernel.modules)?.load_order(&wanted)? {
                archive.file(&format!("modules/{name}.ko"), 0o644, &content);
                load.push_str(&format!("insmod /modules/{name}.ko\n"));
            }
        }
        archive.file("init", 0o755, self.init(&load).as_bytes());
        Ok(archive.finish())
    }

    fn init(&self, load: &str) -> String {
        let finish = match &self.finish {
            Finish::PowerOff => "poweroff -f".to_owned(),
            Finish::Reboot => "reboot -f".to_owned(),
            Finish::Shell => "echo 'poweroff -f or exit turns the machine off.'\n\
                 setsid cttyhack sh\n\
                 poweroff -f"
                .to_owned(),
            Finish::SwitchRoot(device) => format!(
                "tries=0\n\
                 until [ -b {device} ] || [ $tries = 300 ]; do tries=$((tries + 1)); usleep 100000; done\n\
                 mount -t ext4 {device} /mnt || poweroff -f\n\
                 mount --move /dev /mnt/dev\n\
                 mount --move /proc /mnt/proc\n\
                 mount --move /sys /mnt/sys\n\
                 exec switch_root /mnt /sbin/init"
            ),
        };
        format!(
            "#!/busybox/sh\n\
             echo '{USERSPACE}'\n\
             export PATH=/busybox:/usr/sbin:/usr/bin:/sbin:/bin HOME=/root TERM=\"${{TERM:-linux}}\"\n\
             busybox mount -t proc proc /proc\n\
             busybox --install -s /busybox\n\
             mount -t sysfs sysfs /sys\n\
             mount -t devtmpfs devtmpfs /dev\n\
             section() {{\n\
             \tname=$1; shift\n\
             \techo \"{BEGIN}$name\"\n\
             \t\"$@\" 2>&1\n\
             \techo \"{END}$name $?\"\n\
             }}\n\
             {load}{}echo '{DONE}'\n\
             {finish}\n",
            self.script
        )
    }
}

/// Boots an initial file system on the reference emulator, with further options of its command line; gives the sections
/// of its output, or why that cannot be done here. Panics when the guest does not get to its end.
pub fn run(
    initramfs: &Initramfs,
    folder: &Path,
    options: &[&str],
    within: Duration,
) -> Result<Vec<Section>, String> {
    let reference = Emulator::reference()?;
    let initrd = folder.join("initrd");
    let archive = initramfs.build().map_err(|error| format!("{error:#}"))?;
    std::fs::write(&initrd, archive).map_err(|error| error.to_string())?;
    let (image, initrd) = (initramfs.kernel.image.to_string_lossy(), initrd.to_string_lossy());
    let mut arguments = vec!["-nodefaults", "-display", "none", "-serial", "stdio", "-no-reboot"];
    arguments.extend(["-m", "512", "-kernel", &image, "-initrd", &initrd]);
    // On a busy host the emulated timer may seem not to work.
    arguments.extend(["-append", "console=ttyS0 quiet loglevel=1 no_timer_check"]);
    arguments.extend(options);
    let mut running = reference.start(&arguments)?;
    let result = running.expect(DONE, within);
    let log = running.console.log();
    // Shown when the test fails.
    println!("{log}");
    result.unwrap_or_else(|error| panic!("{error}"));
    Ok(sections(&log))
}

/// One section of a script's output.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Section {
    /// The name that the script gave it.
    pub name: String,
    /// The command's output, lines ended by a line feed alone.
    pub text: String,
    /// The command's exit status.
    pub status: i32,
}

/// The sections in what a guest printed on its console, in order. One whose end is missing is left out.
pub fn sections(console: &str) -> Vec<Section> {
    let mut found = Vec::new();
    let mut open: Option<(String, String)> = None;
    for line in console.lines() {
        let line = line.trim_end_matches('\r');
        if let Some((_, name)) = line.split_once(BEGIN) {
            open = Some((name.to_owned(), String::new()));
        } else if let Some((before, rest)) = line.split_once(END) {
            let Some((name, mut text)) = open.take() else { continue };
            // Output without a last line feed stands on the line of the mark.
            text.push_str(before);
            let status = rest.strip_prefix(&name).and_then(|status| status.trim().parse().ok());
            if let Some(status) = status {
                found.push(Section { name, text, status });
            }
        } else if let Some((_, text)) = &mut open {
            text.push_str(line);
            text.push('\n');
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sections_are_found_between_other_lines() {
        let console = "noise\r\nTINAMOU: begin a\r\none\r\ntwo\r\nTINAMOU: end a 0\r\nnoise\r\n\
                       TINAMOU: begin b\r\nno line feedTINAMOU: end b 3\r\nTINAMOU: begin c\r\ncut";
        assert_eq!(
            sections(console),
            [
                Section { name: "a".into(), text: "one\ntwo\n".into(), status: 0 },
                Section { name: "b".into(), text: "no line feed".into(), status: 3 },
            ]
        );
    }
}
