//! Which kernel modules to load, and in which order: read from the modules themselves, because Debian's
//! packages come without an index (that is made when the package is installed).

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

/// The modules of one kernel by name (with `_` for `-`).
#[derive(Debug)]
pub struct Modules {
    files: BTreeMap<String, PathBuf>,
}

impl Modules {
    /// Finds all modules below `folder`.
    pub fn scan(folder: &Path) -> Result<Self> {
        let mut files = BTreeMap::new();
        let mut pending = vec![folder.to_owned()];
        while let Some(folder) = pending.pop() {
            let entries = folder.read_dir().with_context(|| format!("cannot list {}", folder.display()))?;
            for entry in entries {
                let entry = entry?;
                if entry.file_type()?.is_dir() {
                    pending.push(entry.path());
                } else if let Some(name) = module_name(&entry.file_name().to_string_lossy()) {
                    files.insert(name, entry.path());
                }
            }
        }
        Ok(Self { files })
    }

    /// The wanted modules after all those they need, as (name, uncompressed content). A wanted name without
    /// a file is taken to be built into the kernel; a *needed* one without a file is an error.
    pub fn load_order(&self, wanted: &[&str]) -> Result<Vec<(String, Vec<u8>)>> {
        let mut order = Vec::new();
        for name in wanted {
            if self.files.contains_key(*name) {
                self.visit(name, &mut order, 0)?;
            }
        }
        Ok(order)
    }

    fn visit(&self, name: &str, order: &mut Vec<(String, Vec<u8>)>, depth: usize) -> Result<()> {
        if order.iter().any(|(done, _)| done == name) {
            return Ok(());
        }
        if depth > 32 {
            bail!("modules need each other in a circle at {name}");
        }
        let path = self.files.get(name).with_context(|| format!("no module file for {name}"))?;
        let content = read_module(path)?;
        for needed in info(&content, "depends").flat_map(|list| list.split(',').collect::<Vec<_>>()) {
            if !needed.is_empty() {
                self.visit(&needed.replace('-', "_"), order, depth + 1)?;
            }
        }
        order.push((name.to_owned(), content));
        Ok(())
    }
}

fn module_name(file: &str) -> Option<String> {
    let stem = [".ko", ".ko.xz", ".ko.zst", ".ko.gz"].iter().find_map(|suffix| file.strip_suffix(suffix))?;
    Some(stem.replace('-', "_"))
}

/// The values of a key in a module's information section (`key=value` strings, each ended by a zero byte).
fn info<'a>(module: &'a [u8], key: &'a str) -> impl Iterator<Item = &'a str> {
    module
        .split(|&byte| byte == 0)
        .filter_map(move |text| std::str::from_utf8(text).ok()?.strip_prefix(key)?.strip_prefix('='))
}

fn read_module(path: &Path) -> Result<Vec<u8>> {
    let tool = match path.extension().and_then(|e| e.to_str()) {
        Some("xz") => "xz",
        Some("zst") => "zstd",
        Some("gz") => "gzip",
        _ => return std::fs::read(path).with_context(|| format!("cannot read {}", path.display())),
    };
    let output =
        Command::new(tool).arg("-dc").arg(path).output().with_context(|| format!("cannot run {tool}"))?;
    if !output.status.success() {
        bail!("{tool} -dc {}: {}", path.display(), String::from_utf8_lossy(&output.stderr));
    }
    Ok(output.stdout)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kernel_with(modules: &[(&str, &str)]) -> (PathBuf, Modules) {
        let folder = crate::paths::scratch(&crate::current_test());
        for (file, needs) in modules {
            std::fs::write(folder.join(file), format!("\x7fELF\0license=GPL\0depends={needs}\0name=x\0"))
                .unwrap();
        }
        let modules = Modules::scan(&folder).unwrap();
        (folder, modules)
    }

    fn names(order: Vec<(String, Vec<u8>)>) -> Vec<String> {
        order.into_iter().map(|(name, _)| name).collect()
    }

    #[test]
    fn needed_modules_come_first_and_once() {
        let (_folder, modules) = kernel_with(&[
            ("virtio.ko", ""),
            ("virtio_ring.ko", "virtio"),
            ("virtio_pci.ko", "virtio-ring,virtio"),
            ("virtio-blk.ko", "virtio_ring,virtio"),
        ]);
        let order = modules.load_order(&["virtio_pci", "virtio_blk", "ext4"]).unwrap();
        assert_eq!(names(order), ["virtio", "virtio_ring", "virtio_pci", "virtio_blk"]);
    }

    #[test]
    fn circles_and_gaps_are_errors() {
        let (_folder, modules) = kernel_with(&[("a.ko", "b"), ("b.ko", "a"), ("c.ko", "gone")]);
        assert!(modules.load_order(&["a"]).unwrap_err().to_string().contains("circle"));
        assert!(modules.load_order(&["c"]).unwrap_err().to_string().contains("gone"));
    }
}
