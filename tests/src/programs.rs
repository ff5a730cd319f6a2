//! Dynamic programs for a guest: their files and the libraries that the host's loader finds for them.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

/// A folder that becomes part of a guest's root file system.
pub struct Programs {
    folder: PathBuf,
    search: Vec<PathBuf>,
    libraries: BTreeSet<PathBuf>,
}

impl Programs {
    /// An empty folder; libraries are looked for in `search` before the host's own.
    pub fn new(folder: PathBuf, search: &[PathBuf]) -> Result<Self> {
        std::fs::create_dir_all(folder.join("bin"))?;
        std::fs::create_dir_all(folder.join("lib/x86_64-linux-gnu"))?;
        std::fs::create_dir_all(folder.join("lib64"))?;
        Ok(Self { folder, search: search.to_vec(), libraries: BTreeSet::new() })
    }

    /// Adds a program as `/bin/NAME`, with its libraries.
    pub fn program(&mut self, file: &Path, name: &str) -> Result<()> {
        copy(file, &self.folder.join("bin").join(name))?;
        self.needed(file)
    }

    /// Adds a library, with those that it needs.
    pub fn library(&mut self, file: &Path) -> Result<()> {
        self.place(file)?;
        self.needed(file)
    }

    fn needed(&mut self, file: &Path) -> Result<()> {
        let search = std::env::join_paths(&self.search)?;
        let output = Command::new("ldd").arg(file).env("LD_LIBRARY_PATH", search).output()?;
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        for line in text.lines() {
            if line.contains("not found") {
                bail!("{}: {}", file.display(), line.trim());
            }
            if let Some(path) = line.split_whitespace().find(|word| word.starts_with('/')) {
                self.place(Path::new(path))?;
            }
        }
        Ok(())
    }

    fn place(&mut self, library: &Path) -> Result<()> {
        if !self.libraries.insert(library.to_owned()) {
            return Ok(());
        }
        let name = library.file_name().context("a file")?;
        let folder =
            if name.to_string_lossy().starts_with("ld-linux") { "lib64" } else { "lib/x86_64-linux-gnu" };
        copy(library, &self.folder.join(folder).join(name))
    }

    /// Adds any file at that path of the guest.
    pub fn file(&mut self, file: &Path, path: &str) -> Result<()> {
        copy(file, &self.folder.join(path))
    }

    /// The folder.
    pub fn folder(&self) -> &Path {
        &self.folder
    }
}

fn copy(from: &Path, to: &Path) -> Result<()> {
    if let Some(parent) = to.parent() {
        std::fs::create_dir_all(parent)?;
    }
    std::fs::copy(from, to).with_context(|| format!("cannot copy {} to {}", from.display(), to.display()))?;
    Ok(())
}
