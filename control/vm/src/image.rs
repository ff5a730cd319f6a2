//! What the machine boots: a kernel with what goes with it.
//!
//! The files stay open rather than in memory: a reset loads them again, also when they have been unlinked meanwhile.

use crate::Failed;
use crate::accels::reason;
use boot::{BootRequest, Module};
use cmdline::Plan;
use pc::Pc;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use x86::X86State;

/// A file that is read anew at every reset.
struct Source {
    name: String,
    file: File,
    command_line: String,
}

impl Source {
    fn open(name: &str) -> io::Result<Self> {
        Ok(Self { name: name.to_owned(), file: File::open(name)?, command_line: name.to_owned() })
    }

    fn read(&self) -> io::Result<Vec<u8>> {
        let length = self.file.metadata()?.len();
        let mut bytes = vec![0; usize::try_from(length).map_err(|_| io::ErrorKind::FileTooLarge)?];
        self.file.read_exact_at(&mut bytes, 0)?;
        Ok(bytes)
    }
}

/// A kernel to be started directly.
pub(crate) struct Image {
    kernel: Source,
    modules: Vec<Source>,
    command_line: String,
    long_mode: bool,
}

impl Image {
    /// Opens what the plan names; `None` without `-kernel`.
    ///
    /// # Errors
    /// A file cannot be opened.
    pub(crate) fn open(plan: &Plan, long_mode: bool) -> Result<Option<Self>, Failed> {
        let Some(name) = &plan.kernel else { return Ok(None) };
        let kernel = Source::open(name).map_err(|error| {
            Failed::because(format!("qemu: could not open kernel file '{name}': {}", reason(&error)))
        })?;
        let start = kernel.read().map_err(|error| {
            Failed::because(format!("qemu: could not load kernel '{name}': {}", reason(&error)))
        })?;
        let mut modules = Vec::new();
        if let Some(initrd) = &plan.initrd {
            let multiboot = boot::identify(&start) == Some(boot::ImageKind::Multiboot);
            let files = match multiboot {
                true => boot::split_modules(initrd),
                false => vec![(initrd.clone(), initrd.clone())],
            };
            for (path, command_line) in files {
                let mut source = Source::open(&path).map_err(|error| {
                    Failed::because(if multiboot {
                        format!("Failed to open file '{path}'")
                    } else {
                        let reason = reason(&error);
                        format!(
                            "qemu: error reading initrd {path}: Failed to open file “{path}”: open() failed: {reason}"
                        )
                    })
                })?;
                source.command_line = command_line;
                modules.push(source);
            }
        }
        Ok(Some(Self { kernel, modules, command_line: plan.append.clone().unwrap_or_default(), long_mode }))
    }

    /// Everything as it is in the files now.
    ///
    /// # Errors
    /// A file cannot be read.
    pub(crate) fn request(&self) -> Result<BootRequest, String> {
        let read = |source: &Source| {
            source.read().map_err(|error| format!("could not read '{}': {}", source.name, reason(&error)))
        };
        let mut modules = Vec::new();
        for source in &self.modules {
            modules.push(Module { data: read(source)?, command_line: source.command_line.clone() });
        }
        Ok(BootRequest {
            kernel: read(&self.kernel)?,
            kernel_name: self.kernel.name.clone(),
            command_line: self.command_line.clone(),
            modules,
            rsdp: 0,
            long_mode: self.long_mode,
        })
    }

    /// Puts everything into guest memory; returns how the first processor starts. `rsdp` is where ACPI's tables begin, or 0.
    ///
    /// # Errors
    /// A file cannot be read, or the kernel cannot be started.
    pub(crate) fn load(&self, board: &Pc, rsdp: u64) -> Result<X86State, String> {
        let map = board.memory_map();
        let request = BootRequest { rsdp, ..self.request()? };
        boot::load(&board.memory.memory, &map, &request).map_err(|error| error.to_string())
    }
}
