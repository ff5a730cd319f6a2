//! What a passed descriptor is.

use std::fs;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::sync::atomic::{AtomicU64, Ordering};

/// Major number of SCSI generic devices (Linux's devices.txt).
const SCSI_GENERIC: u32 = 21;

/// A kind of file, as far as it matters here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Device {
    /// A block or SCSI generic device with its number: commands may be sent to it.
    Scsi(u64),
    /// A device of the device mapper: if it is a multipath device, a command to one path is not enough.
    Mapped(u64),
    /// Anything else.
    Other,
}

fn status(fd: BorrowedFd<'_>) -> Option<libc::stat> {
    // SAFETY: all-zero is a valid stat.
    let mut stat: libc::stat = unsafe { std::mem::zeroed() };
    // SAFETY: `stat` is writable.
    (unsafe { libc::fstat(fd.as_raw_fd(), &raw mut stat) } == 0).then_some(stat)
}

/// The number of the device that the file behind `fd` is.
#[must_use]
pub fn number(fd: BorrowedFd<'_>) -> Option<u64> {
    status(fd).map(|stat| stat.st_rdev)
}

/// What the file behind `fd` is.
#[must_use]
pub fn classify(fd: BorrowedFd<'_>) -> Device {
    let Some(stat) = status(fd) else { return Device::Other };
    match stat.st_mode & libc::S_IFMT {
        libc::S_IFBLK if is_mapped(stat.st_rdev) => Device::Mapped(stat.st_rdev),
        libc::S_IFBLK => Device::Scsi(stat.st_rdev),
        libc::S_IFCHR if libc::major(stat.st_rdev) == SCSI_GENERIC => Device::Scsi(stat.st_rdev),
        _ => Device::Other,
    }
}

/// Whether `fd` was opened for reading only (fcntl tells without touching the device).
#[must_use]
pub fn is_read_only(fd: BorrowedFd<'_>) -> bool {
    // SAFETY: fcntl with F_GETFL takes integers.
    let flags = unsafe { libc::fcntl(fd.as_raw_fd(), libc::F_GETFL) };
    flags >= 0 && flags & libc::O_ACCMODE == libc::O_RDONLY
}

/// Block majors below 512 known not to be the device mapper's, one bit each.
static NOT_MAPPED: [AtomicU64; 8] = [const { AtomicU64::new(0) }; 8];

fn is_mapped(rdev: u64) -> bool {
    let major = libc::major(rdev);
    let word = NOT_MAPPED.get(major as usize / 64);
    let bit = 1u64 << (major % 64);
    if word.is_some_and(|w| w.load(Ordering::Relaxed) & bit != 0) {
        return false;
    }
    match fs::read_to_string("/proc/devices") {
        Ok(table) if !is_mapper(&table, major) => {
            if let Some(word) = word {
                word.fetch_or(bit, Ordering::Relaxed);
            }
            false
        }
        // Where the table cannot be read, the device mapper itself is asked.
        _ => true,
    }
}

/// Whether `/proc/devices` gives the block major to the device mapper.
fn is_mapper(table: &str, major: u32) -> bool {
    let blocks = table.split("Block devices:").nth(1).unwrap_or_default();
    blocks
        .lines()
        .filter_map(|l| l.trim().split_once(' '))
        .any(|(number, name)| number.parse() == Ok(major) && name.trim() == "device-mapper")
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::File;
    use std::os::fd::AsFd;

    #[test]
    fn other_files() {
        let null = File::open("/dev/null").unwrap();
        assert_eq!(classify(null.as_fd()), Device::Other);
        assert!(is_read_only(null.as_fd()));
        let null = File::options().write(true).read(true).open("/dev/null").unwrap();
        assert!(!is_read_only(null.as_fd()));
    }

    #[test]
    fn the_mappers_major() {
        let table =
            "Character devices:\n253 device-mapper\n\nBlock devices:\n  7 loop\n252 device-mapper\n254 mdp\n";
        assert!(is_mapper(table, 252));
        assert!(!is_mapper(table, 253));
        assert!(!is_mapper(table, 7));
        assert!(!is_mapper("", 7));
    }
}
