//! What the device mapper says about a device (linux/dm-ioctl.h).

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;

/// `DM_TABLE_STATUS`.
pub const DM_TABLE_STATUS: u32 = 0xc138_fd0c;
/// Where the device mapper takes its commands.
pub const CONTROL: &str = "/dev/mapper/control";

/// Bytes of `struct dm_ioctl`.
const HEADER: usize = 312;
/// Room for the header and the first target's line.
const BUFFER: usize = 2048;
/// The first target's type within `struct dm_target_spec`, and its size.
const TYPE_AT: usize = 24;
const TYPE_SIZE: usize = 16;
/// `DM_NOFLUSH_FLAG`: do not wait for the device.
const NOFLUSH: u32 = 1 << 11;

/// A device mapper to ask.
pub trait Mapper {
    /// Whether the device of that number is a multipath device: whether the first target of its table is.
    ///
    /// # Errors
    /// When the device mapper cannot be asked.
    fn is_multipath(&mut self, device: u64) -> io::Result<bool>;
}

/// The kernel's.
#[derive(Debug, Default)]
pub struct Kernel {
    control: Option<File>,
}

impl Mapper for Kernel {
    fn is_multipath(&mut self, device: u64) -> io::Result<bool> {
        let control = match &self.control {
            Some(control) => control,
            None => self.control.insert(File::options().read(true).write(true).open(CONTROL)?),
        };
        let mut buffer = query(device);
        // SAFETY: the buffer begins with a dm_ioctl that tells its size, and the kernel stays within that.
        let result = unsafe {
            libc::ioctl(
                control.as_raw_fd(),
                libc::c_ulong::from(DM_TABLE_STATUS),
                buffer.as_mut_ptr().cast::<u8>(),
            )
        };
        if result < 0 {
            let err = io::Error::last_os_error();
            // The number is not a mapped device's.
            return if err.raw_os_error() == Some(libc::ENXIO) { Ok(false) } else { Err(err) };
        }
        let bytes: Vec<u8> = buffer.iter().flat_map(|word| word.to_ne_bytes()).collect();
        Ok(first_target(&bytes) == Some(&b"multipath"[..]))
    }
}

/// A `dm_ioctl` that asks for a table's status, in a buffer aligned for it.
fn query(device: u64) -> [u64; BUFFER / 8] {
    let mut bytes = [0; BUFFER];
    let mut put = |at: usize, value: u32| bytes[at..at + 4].copy_from_slice(&value.to_ne_bytes());
    // Version 4.0.0, the size of the buffer, where the data begin, flags.
    put(0, 4);
    put(12, BUFFER as u32);
    put(16, HEADER as u32);
    put(28, NOFLUSH);
    bytes[40..48].copy_from_slice(&device.to_ne_bytes());
    let mut words = [0; BUFFER / 8];
    for (word, bytes) in words.iter_mut().zip(bytes.chunks_exact(8)) {
        *word = u64::from_ne_bytes(bytes.try_into().unwrap_or_default());
    }
    words
}

/// The type of the first target in an answer, if there is one.
fn first_target(bytes: &[u8]) -> Option<&[u8]> {
    let word = |at: usize| Some(u32::from_ne_bytes(bytes.get(at..at + 4)?.try_into().ok()?));
    if word(20)? == 0 {
        return None;
    }
    let start = usize::try_from(word(16)?).ok()?.checked_add(TYPE_AT)?;
    let name = bytes.get(start..start.checked_add(TYPE_SIZE)?)?;
    name.split(|&b| b == 0).next()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes(words: &[u64]) -> Vec<u8> {
        words.iter().flat_map(|w| w.to_ne_bytes()).collect()
    }

    #[test]
    fn the_first_targets_type() {
        let mut answer = bytes(&query(0xfd03));
        assert_eq!(answer[40..48], 0xfd03u64.to_ne_bytes());
        assert_eq!(first_target(&answer), None, "no targets");
        answer[20] = 1;
        answer[HEADER + TYPE_AT..][..9].copy_from_slice(b"multipath");
        assert_eq!(first_target(&answer), Some(&b"multipath"[..]));
        answer[HEADER + TYPE_AT..][..9].copy_from_slice(b"linear\0\0\0");
        assert_eq!(first_target(&answer), Some(&b"linear"[..]));
        answer[16..20].copy_from_slice(&u32::MAX.to_ne_bytes());
        assert_eq!(first_target(&answer), None, "beyond the buffer");
    }
}
