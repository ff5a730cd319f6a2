//! The kernel's BPF, as far as a filter of a control group's devices needs it (bpf(2), `linux/bpf.h`).

use std::ffi::CStr;
use std::io;
use std::os::fd::{AsFd, AsRawFd as _, BorrowedFd, FromRawFd as _, OwnedFd};

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

fn number(descriptor: BorrowedFd<'_>) -> u32 {
    descriptor.as_raw_fd().cast_unsigned()
}

fn address<T>(memory: *const T) -> u64 {
    memory.expose_provenance() as u64
}

/// A command with all that the kernel reads and writes for it, so that [`Command::run`] is safe whatever the command.
enum Command<'a> {
    MapCreate {
        entries: u32,
    },
    Lookup {
        map: &'a Map,
        key: &'a u64,
        value: &'a mut u32,
    },
    Update {
        map: &'a Map,
        key: &'a u64,
        value: &'a u32,
    },
    Delete {
        map: &'a Map,
        key: &'a u64,
    },
    /// No key asks for the first.
    NextKey {
        map: &'a Map,
        key: Option<&'a u64>,
        next: &'a mut u64,
    },
    ProgramLoad {
        instructions: &'a [u64],
        license: &'a CStr,
    },
    ProgramAttach {
        program: &'a DeviceProgram,
        group: BorrowedFd<'a>,
    },
    ProgramQuery {
        group: BorrowedFd<'a>,
        ids: &'a mut [u32; MAX_PROGRAMS],
    },
    ProgramById(u32),
    MapById(u32),
    /// `struct bpf_map_info`: type, id, size of keys, size of values, entries.
    MapInformation {
        map: BorrowedFd<'a>,
        information: &'a mut [u32; 24],
    },
    /// `struct bpf_prog_info`: the number of maps is word 13, the address for their ids words 14 and 15.
    ProgramInformation {
        program: BorrowedFd<'a>,
        information: &'a mut [u32; 32],
        map: &'a mut u32,
    },
}

/// What a command has yielded.
struct Outcome {
    result: libc::c_int,
    attributes: Attributes,
}

impl Command<'_> {
    /// The command's number and its attributes.
    fn encode(self) -> (libc::c_long, Attributes) {
        let mut attributes = Attributes::default();
        let words = attributes.as_mut_slice();
        let number_of_command = match self {
            Self::MapCreate { entries } => {
                words[..2].copy_from_slice(&[pair(MAP_TYPE_HASH, 8), pair(4, entries)]);
                0
            }
            Self::Lookup { map, key, value } => {
                words[..3].copy_from_slice(&[
                    number(map.as_fd()).into(),
                    address(key),
                    address(&raw mut *value),
                ]);
                1
            }
            Self::Update { map, key, value } => {
                words[..3].copy_from_slice(&[number(map.as_fd()).into(), address(key), address(value)]);
                2
            }
            Self::Delete { map, key } => {
                words[..2].copy_from_slice(&[number(map.as_fd()).into(), address(key)]);
                3
            }
            Self::NextKey { map, key, next } => {
                let key = key.map_or(0, |key| address(key));
                words[..3].copy_from_slice(&[number(map.as_fd()).into(), key, address(&raw mut *next)]);
                4
            }
            Self::ProgramLoad { instructions, license } => {
                let count = instructions.len().try_into().unwrap_or(u32::MAX);
                words[0] = pair(PROG_TYPE_CGROUP_DEVICE, count);
                words[1..3].copy_from_slice(&[address(instructions.as_ptr()), address(license.as_ptr())]);
                5
            }
            Self::ProgramAttach { program, group } => {
                words[0] = pair(number(group), number(program.descriptor.as_fd()));
                words[1] = CGROUP_DEVICE.into();
                8
            }
            Self::ProgramQuery { group, ids } => {
                words[0] = pair(number(group), CGROUP_DEVICE);
                words[2..4].copy_from_slice(&[address(ids.as_mut_ptr()), MAX_PROGRAMS as u64]);
                16
            }
            Self::ProgramById(id) => {
                words[0] = id.into();
                13
            }
            Self::MapById(id) => {
                words[0] = id.into();
                14
            }
            Self::MapInformation { map, information } => {
                words[0] = pair(number(map), size_of_val(information) as u32);
                words[1] = address(information.as_mut_ptr());
                15
            }
            Self::ProgramInformation { program, information, map } => {
                let ids = address(&raw mut *map);
                // Any other address within would have the kernel write more.
                information.fill(0);
                information[13..16].copy_from_slice(&[1, ids as u32, (ids >> 32) as u32]);
                words[0] = pair(number(program), size_of_val(information) as u32);
                words[1] = address(information.as_mut_ptr());
                15
            }
        };
        (number_of_command, attributes)
    }

    fn run(self) -> io::Result<Outcome> {
        let (command, mut attributes) = self.encode();
        // SAFETY: the kernel reads and writes the attributes' memory within the size given. The addresses in them are
        // of memory that the command borrowed until now, exclusively where the kernel writes, and of the length that
        // `encode` tells or the kernel knows: maps have the sizes of keys and values that they were made with or
        // checked for, a license ends with NUL.
        let result = unsafe {
            libc::syscall(libc::SYS_bpf, command, attributes.as_mut_ptr(), size_of::<Attributes>())
        };
        if result < 0 {
            return Err(io::Error::last_os_error());
        }
        Ok(Outcome { result: result as libc::c_int, attributes })
    }

    /// Runs a command that yields a descriptor.
    fn open(self) -> io::Result<OwnedFd> {
        debug_assert!(matches!(
            self,
            Self::MapCreate { .. } | Self::ProgramLoad { .. } | Self::ProgramById(_) | Self::MapById(_)
        ));
        let descriptor = self.run()?.result;
        // SAFETY: these commands yield a descriptor that is new, and nobody else's.
        Ok(unsafe { OwnedFd::from_raw_fd(descriptor) })
    }
}

/// `None` where the kernel found no such key.
fn found<T>(result: io::Result<T>) -> io::Result<Option<T>> {
    match result {
        Err(error) if error.raw_os_error() == Some(libc::ENOENT) => Ok(None),
        result => result.map(Some),
    }
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
        Ok(Self { descriptor: Command::MapCreate { entries }.open()?, entries })
    }

    /// An existing one.
    ///
    /// # Errors
    /// `ENOENT`: there is none; `EINVAL`: it has other types of keys and values.
    pub fn by_id(id: u32) -> io::Result<Self> {
        let descriptor = Command::MapById(id).open()?;
        let mut information = [0; 24];
        Command::MapInformation { map: descriptor.as_fd(), information: &mut information }.run()?;
        let [_, _, 8, 4, entries, ..] = information else { return Err(io::ErrorKind::InvalidInput.into()) };
        Ok(Self { descriptor, entries })
    }

    /// How many entries fit.
    pub fn capacity(&self) -> u32 {
        self.entries
    }

    /// The value of a key.
    ///
    /// # Errors
    /// The kernel refuses; a key that is not there is none.
    pub fn get(&self, key: u64) -> io::Result<Option<u32>> {
        let mut value = 0;
        let lookup = Command::Lookup { map: self, key: &key, value: &mut value }.run();
        Ok(found(lookup)?.map(|_| value))
    }

    /// Sets the value of a key.
    ///
    /// # Errors
    /// `E2BIG`: it is full.
    pub fn set(&self, key: u64, value: u32) -> io::Result<()> {
        Command::Update { map: self, key: &key, value: &value }.run().map(drop)
    }

    /// Takes a key out; one that is not there is no error.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn remove(&self, key: u64) -> io::Result<()> {
        found(Command::Delete { map: self, key: &key }.run()).map(drop)
    }

    /// All keys, in no order.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn keys(&self) -> io::Result<Vec<u64>> {
        let mut keys = Vec::new();
        // Others may change the map meanwhile, so that it might never end.
        while keys.len() < self.entries as usize {
            let mut next = 0;
            if found(Command::NextKey { map: self, key: keys.last(), next: &mut next }.run())?.is_none() {
                break;
            }
            keys.push(next);
        }
        Ok(keys)
    }
}

impl AsFd for Map {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.descriptor.as_fd()
    }
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
        let descriptor = Command::ProgramLoad { instructions, license: c"Dual MIT/GPL" }.open()?;
        Ok(Self { descriptor })
    }

    /// Makes it the one program of the control group whose folder is `group`.
    ///
    /// # Errors
    /// `EPERM`: a group above has a program that does not allow others.
    pub fn attach(&self, group: &impl AsFd) -> io::Result<()> {
        Command::ProgramAttach { program: self, group: group.as_fd() }.run().map(drop)
    }

    /// The programs that a control group has for its devices itself, by their ids.
    ///
    /// # Errors
    /// `EPERM`; `EINVAL`, `ENOSYS`: the kernel has no such programs.
    pub fn attached(group: &impl AsFd) -> io::Result<Vec<u32>> {
        let mut ids = [0; MAX_PROGRAMS];
        let outcome = Command::ProgramQuery { group: group.as_fd(), ids: &mut ids }.run()?;
        let count = (outcome.attributes[3] as u32 as usize).min(MAX_PROGRAMS);
        Ok(ids[..count].to_vec())
    }

    /// The first map of an existing program; `None`: it has none.
    ///
    /// # Errors
    /// `ENOENT`: there is no such program.
    pub fn map_of(id: u32) -> io::Result<Option<Map>> {
        let program = Command::ProgramById(id).open()?;
        let (mut information, mut map) = ([0; 32], 0);
        Command::ProgramInformation {
            program: program.as_fd(),
            information: &mut information,
            map: &mut map,
        }
        .run()?;
        (information[13] != 0).then(|| Map::by_id(map)).transpose()
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
