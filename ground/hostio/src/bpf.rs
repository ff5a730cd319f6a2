//! The kernel's BPF, as far as a filter of a control group's devices needs it (bpf(2), `linux/bpf.h`).

use std::io;
use std::os::fd::{AsFd, AsRawFd as _, FromRawFd as _, OwnedFd};

const MAP_CREATE: libc::c_long = 0;
const MAP_LOOKUP_ELEM: libc::c_long = 1;
const MAP_UPDATE_ELEM: libc::c_long = 2;
const MAP_DELETE_ELEM: libc::c_long = 3;
const MAP_GET_NEXT_KEY: libc::c_long = 4;
const PROG_LOAD: libc::c_long = 5;
const PROG_ATTACH: libc::c_long = 8;
const PROG_GET_FD_BY_ID: libc::c_long = 13;
const MAP_GET_FD_BY_ID: libc::c_long = 14;
const OBJ_GET_INFO_BY_FD: libc::c_long = 15;
const PROG_QUERY: libc::c_long = 16;

const MAP_TYPE_HASH: u32 = 1;
const PROG_TYPE_CGROUP_DEVICE: u32 = 15;
const CGROUP_DEVICE: u32 = 6;
/// More programs than a control group ever has for its devices (`BPF_CGROUP_MAX_PROGS`).
const MAX_PROGRAMS: usize = 64;

/// `union bpf_attr`, in 64-bit words, zero where a command has no field; the kernel accepts zeros that it does not know.
type Attributes = [u64; 16];

/// Two 32-bit fields of [`Attributes`].
fn pair(low: u32, high: u32) -> u64 {
    u64::from(low) | u64::from(high) << 32
}

fn number(descriptor: &impl AsFd) -> u32 {
    descriptor.as_fd().as_raw_fd().cast_unsigned()
}

/// # Safety
/// The addresses in `attributes` are of memory that the command may use as it does.
unsafe fn bpf(command: libc::c_long, attributes: &mut Attributes) -> io::Result<libc::c_int> {
    // SAFETY: the kernel reads and writes the attributes' memory within the size given; the rest is the caller's.
    let result = unsafe {
        libc::syscall(libc::SYS_bpf, command, attributes.as_mut_ptr(), std::mem::size_of::<Attributes>())
    };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result as libc::c_int) }
}

/// # Safety
/// As [`bpf`]; the command yields a new descriptor.
unsafe fn bpf_descriptor(command: libc::c_long, attributes: &mut Attributes) -> io::Result<OwnedFd> {
    // SAFETY: as the caller's; the descriptor is new, and nobody else's.
    unsafe { Ok(OwnedFd::from_raw_fd(bpf(command, attributes)?)) }
}

/// A table of 64-bit keys with 32-bit values, shared with programs.
#[derive(Debug)]
pub struct Map {
    descriptor: OwnedFd,
    entries: u32,
}

impl Map {
    /// An empty one for so many entries.
    ///
    /// # Errors
    /// `EPERM` without the right (`CAP_BPF`); `ENOMEM`; `ENOSYS` without BPF.
    pub fn create(entries: u32) -> io::Result<Self> {
        let mut attributes = Attributes::default();
        attributes[0] = pair(MAP_TYPE_HASH, 8);
        attributes[1] = pair(4, entries);
        // SAFETY: there are no addresses.
        let descriptor = unsafe { bpf_descriptor(MAP_CREATE, &mut attributes) }?;
        Ok(Self { descriptor, entries })
    }

    /// An existing one.
    ///
    /// # Errors
    /// `ENOENT`: there is none; `EINVAL`: it has other types of keys and values.
    pub fn by_id(id: u32) -> io::Result<Self> {
        let mut attributes = Attributes::default();
        attributes[0] = pair(id, 0);
        // SAFETY: there are no addresses.
        let descriptor = unsafe { bpf_descriptor(MAP_GET_FD_BY_ID, &mut attributes) }?;
        // struct bpf_map_info: type, id, size of keys, size of values, entries.
        let mut info = [0_u32; 24];
        information(&descriptor, &mut info)?;
        if (info[2], info[3]) != (8, 4) {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        Ok(Self { descriptor, entries: info[4] })
    }

    /// How many entries fit.
    pub fn capacity(&self) -> u32 {
        self.entries
    }

    fn attributes(&self) -> Attributes {
        let mut attributes = Attributes::default();
        attributes[0] = pair(number(&self.descriptor), 0);
        attributes
    }

    /// The value of a key.
    ///
    /// # Errors
    /// The kernel refuses; a key that is not there is none.
    pub fn get(&self, key: u64) -> io::Result<Option<u32>> {
        let mut value = 0_u32;
        let mut attributes = self.attributes();
        attributes[1] = (&raw const key).expose_provenance() as u64;
        attributes[2] = (&raw mut value).expose_provenance() as u64;
        // SAFETY: key and value have the sizes that the map was made with, or checked for, and live.
        match unsafe { bpf(MAP_LOOKUP_ELEM, &mut attributes) } {
            // SAFETY: `value` is a live local that the kernel has written.
            Ok(_) => Ok(Some(unsafe { (&raw const value).read_volatile() })),
            Err(error) if error.raw_os_error() == Some(libc::ENOENT) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Sets the value of a key.
    ///
    /// # Errors
    /// `E2BIG`: it is full.
    pub fn set(&self, key: u64, value: u32) -> io::Result<()> {
        let mut attributes = self.attributes();
        attributes[1] = (&raw const key).expose_provenance() as u64;
        attributes[2] = (&raw const value).expose_provenance() as u64;
        // SAFETY: as in `get`; both are only read.
        unsafe { bpf(MAP_UPDATE_ELEM, &mut attributes) }.map(drop)
    }

    /// Takes a key out; one that is not there is no error.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn remove(&self, key: u64) -> io::Result<()> {
        let mut attributes = self.attributes();
        attributes[1] = (&raw const key).expose_provenance() as u64;
        // SAFETY: as in `get`; the key is only read.
        match unsafe { bpf(MAP_DELETE_ELEM, &mut attributes) } {
            Err(error) if error.raw_os_error() != Some(libc::ENOENT) => Err(error),
            _ => Ok(()),
        }
    }

    /// All keys, in no order.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn keys(&self) -> io::Result<Vec<u64>> {
        let mut keys = Vec::new();
        let mut last: Option<u64> = None;
        // Others may change the map meanwhile, so that it might never end.
        while keys.len() < self.entries as usize {
            let mut next = 0_u64;
            let mut attributes = self.attributes();
            attributes[1] = last.as_ref().map_or(0, |key| (&raw const *key).expose_provenance() as u64);
            attributes[2] = (&raw mut next).expose_provenance() as u64;
            // SAFETY: as in `get`; no address for the key asks for the first.
            match unsafe { bpf(MAP_GET_NEXT_KEY, &mut attributes) } {
                Ok(_) => {
                    // SAFETY: `next` is a live local that the kernel has written.
                    let next = unsafe { (&raw const next).read_volatile() };
                    keys.push(next);
                    last = Some(next);
                }
                Err(error) if error.raw_os_error() == Some(libc::ENOENT) => break,
                Err(error) => return Err(error),
            }
        }
        Ok(keys)
    }
}

impl AsFd for Map {
    fn as_fd(&self) -> std::os::fd::BorrowedFd<'_> {
        self.descriptor.as_fd()
    }
}

/// What the kernel tells of an object, in 32-bit words.
fn information(object: &OwnedFd, info: &mut [u32]) -> io::Result<()> {
    let mut attributes = Attributes::default();
    attributes[0] = pair(number(object), std::mem::size_of_val(info) as u32);
    attributes[1] = info.as_mut_ptr().expose_provenance() as u64;
    // SAFETY: the kernel writes at most the length given. Of the addresses within the information, which tell it
    // where to write more, those that the caller did not set are zero.
    unsafe { bpf(OBJ_GET_INFO_BY_FD, &mut attributes) }.map(drop)
}

/// A program that decides which devices the processes of a control group may use.
#[derive(Debug)]
pub struct DeviceProgram {
    descriptor: OwnedFd,
}

impl DeviceProgram {
    /// Loads one: 64-bit instructions, which the kernel checks before anything else.
    ///
    /// # Errors
    /// `EPERM`; `EACCES`, `EINVAL`: the kernel does not take the program.
    pub fn load(instructions: &[u64]) -> io::Result<Self> {
        let license = c"Dual MIT/GPL";
        let mut attributes = Attributes::default();
        attributes[0] = pair(PROG_TYPE_CGROUP_DEVICE, instructions.len() as u32);
        attributes[1] = instructions.as_ptr().expose_provenance() as u64;
        attributes[2] = license.as_ptr().expose_provenance() as u64;
        // SAFETY: both are read within their length, the license up to its NUL.
        let descriptor = unsafe { bpf_descriptor(PROG_LOAD, &mut attributes) }?;
        Ok(Self { descriptor })
    }

    /// Makes it the one program of the control group whose folder is `group`.
    ///
    /// # Errors
    /// `EPERM`: a group above has a program that does not allow others.
    pub fn attach(&self, group: &impl AsFd) -> io::Result<()> {
        let mut attributes = Attributes::default();
        attributes[0] = pair(number(group), number(&self.descriptor));
        attributes[1] = pair(CGROUP_DEVICE, 0);
        // SAFETY: there are no addresses.
        unsafe { bpf(PROG_ATTACH, &mut attributes) }.map(drop)
    }

    /// The programs that a control group has for its devices itself, by their ids.
    ///
    /// # Errors
    /// `EPERM`; `EINVAL`, `ENOSYS`: the kernel has no such programs.
    pub fn attached(group: &impl AsFd) -> io::Result<Vec<u32>> {
        let mut ids = [0_u32; MAX_PROGRAMS];
        let mut attributes = Attributes::default();
        attributes[0] = pair(number(group), CGROUP_DEVICE);
        attributes[2] = ids.as_mut_ptr().expose_provenance() as u64;
        attributes[3] = pair(MAX_PROGRAMS as u32, 0);
        // SAFETY: the kernel writes at most so many ids as it was told.
        unsafe { bpf(PROG_QUERY, &mut attributes) }?;
        let count = (attributes[3] as u32 as usize).min(MAX_PROGRAMS);
        Ok(ids[..count].to_vec())
    }

    /// The first map of an existing program; `None`: it has none.
    ///
    /// # Errors
    /// `ENOENT`: there is no such program.
    pub fn map_of(id: u32) -> io::Result<Option<Map>> {
        let mut attributes = Attributes::default();
        attributes[0] = pair(id, 0);
        // SAFETY: there are no addresses.
        let descriptor = unsafe { bpf_descriptor(PROG_GET_FD_BY_ID, &mut attributes) }?;
        // struct bpf_prog_info: the number of maps is word 13, the address for their ids words 14 and 15.
        let mut info = [0_u32; 32];
        let mut maps = [0_u32; 1];
        let address = maps.as_mut_ptr().expose_provenance() as u64;
        info[13] = 1;
        info[14] = address as u32;
        info[15] = (address >> 32) as u32;
        information(&descriptor, &mut info)?;
        if info[13] == 0 {
            return Ok(None);
        }
        // SAFETY: `maps` is a live local that the kernel has written.
        Map::by_id(unsafe { maps.as_ptr().read_volatile() }).map(Some)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn maps_keep_what_they_are_given() {
        let map = match Map::create(4) {
            Ok(map) => map,
            Err(error) => {
                println!("SKIPPED maps_keep_what_they_are_given: {error}");
                return;
            }
        };
        for key in [7, 8, u64::MAX] {
            map.set(key, key as u32).unwrap();
        }
        map.remove(8).unwrap();
        map.remove(8).unwrap();
        assert_eq!((map.get(7).unwrap(), map.get(8).unwrap()), (Some(7), None));
        let mut keys = map.keys().unwrap();
        keys.sort_unstable();
        assert_eq!((keys, map.capacity()), (vec![7, u64::MAX], 4));
        for key in 10..12 {
            map.set(key, 1).unwrap();
        }
        assert_eq!(map.set(12, 1).unwrap_err().raw_os_error(), Some(libc::E2BIG));
        // "r0 = 1; exit" is taken, "r0 = r9; exit" is not: r9 was never set.
        let exit = 0x95;
        assert!(DeviceProgram::load(&[0x0000_0001_0000_00b7, exit]).is_ok());
        let refused = DeviceProgram::load(&[0x0000_0000_0000_90bf, exit]).unwrap_err();
        assert_eq!(refused.raw_os_error(), Some(libc::EACCES));
    }
}
