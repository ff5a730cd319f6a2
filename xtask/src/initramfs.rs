//! `cargo xtask initramfs`: what `./run` boots.

use std::path::PathBuf;

use anyhow::{Context, Result, bail};
use blackbox::guests;
use blackbox::initramfs::{DISK_MODULES, Finish, Initramfs};
use blackbox::paths;

/// Runs the task: build profile, kernel name, and what the guest does in the end.
pub fn main(arguments: &[String]) -> Result<()> {
    let [profile, kernel, finish] = arguments else { bail!("needs a profile, a kernel and an ending") };
    let kernel = guests::kernel(kernel).map_err(anyhow::Error::msg)?;
    let initramfs = Initramfs::new(&kernel).modules(DISK_MODULES).script("uname -a");
    let initramfs = match finish.as_str() {
        "shell" => initramfs.then(Finish::Shell),
        "poweroff" => initramfs,
        "answering" => Initramfs::answering().map_err(anyhow::Error::msg)?,
        other => bail!("no ending is named {other}"),
    };
    let file = guests::folder().join(format!("{}-{finish}.cpio", kernel.spec.name));
    std::fs::write(&file, initramfs.build()?).with_context(|| format!("cannot write {}", file.display()))?;
    let program = std::env::var_os("TINAMOU_QEMU")
        .map_or_else(|| paths::target_dir().join(profile).join("qemu-system-x86_64"), PathBuf::from);
    println!("{}\n{}\n{}", program.display(), kernel.image.display(), file.display());
    Ok(())
}
