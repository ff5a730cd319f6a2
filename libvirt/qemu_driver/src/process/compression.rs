//! Compressed states of guests: programs of the host's do it, between the emulator and the file.

use crate::error::{Result, failed};
use std::io;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

/// How a state is compressed, with the number of the file's header.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Compression {
    /// Not at all.
    #[default]
    Raw = 0,
    /// `gzip`
    Gzip = 1,
    /// `bzip2`
    Bzip2 = 2,
    /// `xz`
    Xz = 3,
    /// `lzop`
    Lzop = 4,
    /// `zstd`, which libvirt knows since 11.2.
    Zstd = 5,
}

impl Compression {
    const ALL: [(Self, &str); 6] = [
        (Self::Raw, "raw"),
        (Self::Gzip, "gzip"),
        (Self::Bzip2, "bzip2"),
        (Self::Xz, "xz"),
        (Self::Lzop, "lzop"),
        (Self::Zstd, "zstd"),
    ];

    /// The word of the configuration, which is the program's name.
    fn name(self) -> &'static str {
        Self::ALL[self as usize].1
    }

    /// The one of a file's header.
    ///
    /// # Errors
    /// There is none of that number.
    pub(super) fn from_number(number: u32) -> Result<Self> {
        let found = usize::try_from(number).ok().and_then(|number| Self::ALL.get(number));
        let unknown = || failed(format!("Invalid compressed save format {number}"));
        found.map(|(compression, _)| *compression).ok_or_else(unknown)
    }

    /// What the word of the configuration means, if the host has the program. `style` is `save` or `dump`.
    ///
    /// # Errors
    /// No such format; the program is missing.
    pub fn configured(word: &str, style: &str) -> Result<Self> {
        let found = Self::ALL.iter().find(|(_, name)| *name == word);
        let Some((compression, _)) = found else {
            return Err(failed(format!("Invalid {style} image format specified in configuration file")));
        };
        if *compression != Self::Raw && compression.program().is_none() {
            return Err(failed(format!(
                "Compression program for {style} image format in configuration file isn't available"
            )));
        }
        Ok(*compression)
    }

    fn program(self) -> Option<PathBuf> {
        let folders = std::env::var_os("PATH").unwrap_or_else(|| "/usr/bin:/bin".into());
        let mut candidates = std::env::split_paths(&folders).map(|folder| folder.join(self.name()));
        candidates.find(|candidate| crate::core::is_executable(candidate))
    }

    /// Runs the program between two ends.
    fn run(self, arguments: &[&str], from: OwnedFd, to: OwnedFd) -> io::Result<Child> {
        let missing =
            || io::Error::new(io::ErrorKind::NotFound, format!("Cannot find '{}' in path", self.name()));
        Command::new(self.program().ok_or_else(missing)?)
            .args(arguments)
            .stdin(from)
            .stdout(to)
            .stderr(Stdio::null())
            .spawn()
    }

    /// Compresses what comes from the one end to the other.
    ///
    /// # Errors
    /// The program cannot be started.
    pub(super) fn compress(self, from: OwnedFd, to: OwnedFd) -> io::Result<Child> {
        let arguments: &[&str] = if self == Self::Xz { &["-c", "-3"] } else { &["-c"] };
        self.run(arguments, from, to)
    }

    /// The decompressed stream of a compressed one.
    ///
    /// # Errors
    /// The program cannot be started.
    pub(super) fn decompressed(self, from: OwnedFd) -> io::Result<OwnedFd> {
        if self == Self::Raw {
            return Ok(from);
        }
        let (end, pipe) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC)?;
        let arguments: &[&str] = if self == Self::Lzop { &["-dc", "--ignore-warn"] } else { &["-dc"] };
        let mut child = self.run(arguments, from, pipe)?;
        std::thread::Builder::new().name("decompress".to_owned()).spawn(move || {
            // Of a stream that ends early the emulator complains.
            let _ = child.wait();
        })?;
        Ok(end)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::File;
    use std::io::{Read as _, Write as _};

    #[test]
    fn words_and_numbers() {
        assert_eq!(Compression::configured("raw", "save"), Ok(Compression::Raw));
        assert_eq!(
            Compression::configured("lha", "save").expect_err("unknown").to_string(),
            "operation failed: Invalid save image format specified in configuration file"
        );
        assert_eq!(Compression::from_number(4), Ok(Compression::Lzop));
        assert_eq!(
            Compression::from_number(6).expect_err("unknown").to_string(),
            "operation failed: Invalid compressed save format 6"
        );
        for (at, (compression, name)) in Compression::ALL.into_iter().enumerate() {
            assert_eq!((compression as usize, compression.name()), (at, name));
        }
    }

    #[test]
    fn what_is_compressed_is_what_it_was() {
        let path = std::env::temp_dir().join(format!("compressed-{}", std::process::id()));
        let data: Vec<u8> = (0..300_000_u32).flat_map(|at| (at / 7).to_le_bytes()).collect();
        for (compression, name) in Compression::ALL.into_iter().skip(1) {
            if compression.program().is_none() {
                println!("not here: {name}");
                continue;
            }
            let flags = rustix::pipe::PipeFlags::CLOEXEC;
            let (from, pipe) = rustix::pipe::pipe_with(flags).expect("a pipe");
            let file = File::create(&path).expect("a file");
            let mut child = compression.compress(from, file.into()).expect("a program");
            File::from(pipe).write_all(&data).expect("written");
            assert!(child.wait().expect("ended").success());
            assert!(std::fs::metadata(&path).expect("a file").len() < data.len() as u64 / 2, "{name}");
            let mut found = Vec::new();
            let end = compression.decompressed(File::open(&path).expect("a file").into()).expect("a program");
            File::from(end).read_to_end(&mut found).expect("read");
            assert!(found == data, "{name}");
        }
        std::fs::remove_file(&path).expect("removed");
    }
}
