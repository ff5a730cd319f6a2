//! Which devices a guest may use: a program of the kernel's BPF that looks them up in a table.
//!
//! The table is libvirt's: the key is the major number in the upper 32 bits and the minor one in the lower, all ones
//! for any; the value holds the kinds of access (1 to make nodes, 2 to read, 4 to write) in the upper 16 bits and the
//! kinds of device (1 block, 2 character) in the lower. So either daemon can go on with the other's.

use std::fs::File;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
use std::path::Path;
use std::sync::PoisonError;

use hostio::bpf::{DeviceProgram, Map};

use super::{Cgroup, Controllers};
use crate::{Error, Result};

/// What may be done with a device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Access {
    /// Reading.
    pub read: bool,
    /// Writing.
    pub write: bool,
    /// Making nodes.
    pub make: bool,
}

impl Access {
    /// Reading only.
    pub const READ: Self = Self { read: true, write: false, make: false };
    /// Reading and writing.
    pub const BOTH: Self = Self { read: true, write: true, make: false };
    /// All.
    pub const ALL: Self = Self { read: true, write: true, make: true };

    fn bits(self) -> u32 {
        u32::from(self.make) | u32::from(self.read) << 1 | u32::from(self.write) << 2
    }
}

/// A device, or several.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Device {
    /// A block device; else a character device.
    pub block: bool,
    /// The major number.
    pub major: u32,
    /// The minor number; `None`: all of them.
    pub minor: Option<u32>,
}

const BLOCK: u32 = 1;
const CHARACTER: u32 = 2;
/// So many devices at first; the table doubles as needed.
const FIRST_SIZE: u32 = 64;

impl Device {
    /// Pseudo-terminals.
    pub const TERMINALS: Self = Self { block: false, major: 136, minor: None };
    /// Sound devices.
    pub const SOUND: Self = Self { block: false, major: 116, minor: None };

    /// The device of a node.
    fn of_node(path: &str) -> std::io::Result<Option<Self>> {
        let found = std::fs::metadata(path)?;
        let kind = found.file_type();
        if !kind.is_block_device() && !kind.is_char_device() {
            return Ok(None);
        }
        let number = found.rdev();
        let (major, minor) = (rustix::fs::major(number), rustix::fs::minor(number));
        Ok(Some(Self { block: kind.is_block_device(), major, minor: Some(minor) }))
    }

    fn key(self) -> u64 {
        u64::from(self.major) << 32 | u64::from(self.minor.unwrap_or(u32::MAX))
    }

    fn value(self, access: Access) -> u32 {
        access.bits() << 16 | if self.block { BLOCK } else { CHARACTER }
    }
}

/// Whether the kernel has such programs, and we may use them.
pub(super) fn available(mount: &Path) -> bool {
    File::open(mount).is_ok_and(|folder| DeviceProgram::attached(&folder).is_ok())
}

/// A table that a program of the guest's group looks up.
#[derive(Debug)]
pub(super) struct Filter {
    map: Map,
    entries: u32,
}

/// The program: for each of four keys, from the device's own to "any", whether the table allows the access.
fn program(map: i32) -> Vec<u64> {
    // Fields of an instruction (kernel documentation, "BPF Instruction Set"): operation, registers, offset, value.
    let one = |operation: u8, to: u8, from: u8, offset: i16, value: i32| {
        u64::from_le_bytes({
            let [o0, o1] = offset.to_le_bytes();
            let [v0, v1, v2, v3] = value.to_le_bytes();
            [operation, from << 4 | to, o0, o1, v0, v1, v2, v3]
        })
    };
    const LOAD_WORD: u8 = 0x61;
    const STORE_DOUBLE: u8 = 0x7b;
    const MOVE: u8 = 0xbf;
    const MOVE_VALUE: u8 = 0xb7;
    const ADD_VALUE: u8 = 0x07;
    const SHIFT_LEFT_VALUE: u8 = 0x67;
    const OR: u8 = 0x4f;
    const AND: u8 = 0x5f;
    const LOAD_WIDE: u8 = 0x18;
    const CALL: u8 = 0x85;
    const JUMP_IF_VALUE: u8 = 0x15;
    const JUMP_UNLESS_EQUAL: u8 = 0x5d;
    const EXIT: u8 = 0x95;
    const LOOK_UP: i32 = 1;
    const MAP_BY_DESCRIPTOR: u8 = 1;
    const STACK: u8 = 10;
    // The context: access and kind, major, minor; 32 bits each. They are kept in 7, 8 and 9 over the calls.
    let mut code = vec![
        one(LOAD_WORD, 7, 1, 0, 0),
        one(LOAD_WORD, 8, 1, 4, 0),
        one(SHIFT_LEFT_VALUE, 8, 0, 0, 32),
        one(LOAD_WORD, 9, 1, 8, 0),
    ];
    for (any_major, any_minor) in [(false, false), (false, true), (true, false), (true, true)] {
        // The key, in register 2.
        let constant = match (any_major, any_minor) {
            (false, false) => 0,
            (false, true) => u64::from(u32::MAX),
            (true, false) => u64::from(u32::MAX) << 32,
            (true, true) => u64::MAX,
        };
        code.push(one(LOAD_WIDE, 2, 0, 0, constant as u32 as i32));
        code.push(one(0, 0, 0, 0, (constant >> 32) as u32 as i32));
        if !any_major {
            code.push(one(OR, 2, 8, 0, 0));
        }
        if !any_minor {
            code.push(one(OR, 2, 9, 0, 0));
        }
        code.extend([
            one(STORE_DOUBLE, STACK, 2, -8, 0),
            one(MOVE, 2, STACK, 0, 0),
            one(ADD_VALUE, 2, 0, 0, -8),
            one(LOAD_WIDE, 1, MAP_BY_DESCRIPTOR, 0, map),
            one(0, 0, 0, 0, 0),
            one(CALL, 0, 0, 0, LOOK_UP),
            // Not there: the next key.
            one(JUMP_IF_VALUE, 0, 0, 5, 0),
            one(LOAD_WORD, 1, 0, 0, 0),
            one(AND, 1, 7, 0, 0),
            one(JUMP_UNLESS_EQUAL, 1, 7, 2, 0),
            one(MOVE_VALUE, 0, 0, 0, 1),
            one(EXIT, 0, 0, 0, 0),
        ]);
    }
    code.extend([one(MOVE_VALUE, 0, 0, 0, 0), one(EXIT, 0, 0, 0, 0)]);
    code
}

fn create_map(size: u32) -> Result<Map> {
    Map::create(size).map_err(|error| {
        let mut text = "failed to initialize device BPF map".to_owned();
        if error.kind() == std::io::ErrorKind::PermissionDenied {
            text.push_str("; locked memory limit for libvirtd probably needs to be raised");
        }
        Error::system(text, error)
    })
}

impl Filter {
    /// The filter that the group has already, or a new one that allows nothing.
    fn of(folder: &Path) -> Result<Self> {
        let shown = folder.display();
        let group =
            File::open(folder).map_err(|error| Error::system(format!("unable to open '{shown}'"), error))?;
        let programs = DeviceProgram::attached(&group)
            .map_err(|error| Error::system("unable to query cgroup BPF progs", error))?;
        if let Some(first) = programs.first() {
            let map = DeviceProgram::map_of(*first)
                .map_err(|error| Error::system("failed to get cgroup BPF prog info", error))?
                .ok_or_else(|| Error::internal("no map for cgroup BPF prog"))?;
            let entries = map
                .keys()
                .map_err(|error| Error::system("failed to count cgroup BPF map items", error))?
                .len();
            return Ok(Self { map, entries: entries as u32 });
        }
        let map = create_map(FIRST_SIZE)?;
        attach(&map, &group)?;
        Ok(Self { map, entries: 0 })
    }

    /// Makes room for one more.
    fn grow(&mut self, folder: &Path) -> Result<()> {
        if self.entries < self.map.capacity() {
            return Ok(());
        }
        let larger = create_map(self.map.capacity().saturating_mul(2))?;
        let copied = |error| Error::system("failed to copy all device rules", error);
        for key in self.map.keys().map_err(copied)? {
            if let Some(value) = self.map.get(key).map_err(copied)? {
                larger.set(key, value).map_err(copied)?;
            }
        }
        let shown = folder.display();
        let group =
            File::open(folder).map_err(|error| Error::system(format!("unable to open '{shown}'"), error))?;
        // The new program takes the place of the old one at once.
        attach(&larger, &group)?;
        self.map = larger;
        Ok(())
    }
}

fn attach(map: &Map, group: &File) -> Result<()> {
    use std::os::fd::{AsFd as _, AsRawFd as _};
    DeviceProgram::load(&program(map.as_fd().as_raw_fd()))
        .map_err(|error| Error::system("failed to load cgroup BPF prog", error))?
        .attach(group)
        .map_err(|error| Error::system("failed to attach cgroup BPF prog", error))
}

impl Cgroup {
    fn with_filter<T>(&self, work: impl FnOnce(&mut Filter, &Path) -> Result<T>) -> Result<T> {
        let mut slot = self.filter.lock().unwrap_or_else(PoisonError::into_inner);
        let folder = &self.inner.folder;
        if slot.is_none() {
            *slot = Some(Filter::of(folder)?);
        }
        match slot.as_mut() {
            Some(filter) => work(filter, folder),
            None => Err(Error::internal("no device filter")),
        }
    }

    /// From now on the guest may use those devices only that are allowed. False: the host cannot do that here, so that
    /// it may use all (which its `/dev` and its user limit).
    ///
    /// # Errors
    /// `failed to load cgroup BPF prog: ...` and the like, for other reasons than missing rights.
    pub fn deny_all_devices(&self) -> Result<bool> {
        if !self.inner.controllers.has(Controllers::DEVICES) {
            return Ok(false);
        }
        match self.with_filter(|_, _| Ok(())) {
            Ok(()) => Ok(true),
            Err(error) if error.message.ends_with(": Operation not permitted") => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Allows a device. Without a filter all are.
    ///
    /// # Errors
    /// `failed to update device in BPF cgroup map: ...`
    pub fn allow_device(&self, device: Device, access: Access) -> Result<()> {
        if !self.inner.controllers.has(Controllers::DEVICES) {
            return Ok(());
        }
        self.with_filter(|filter, folder| {
            let failed = |error| Error::system("failed to update device in BPF cgroup map", error);
            let known = filter.map.get(device.key()).map_err(failed)?.is_some();
            if !known {
                filter.grow(folder)?;
            }
            filter.map.set(device.key(), device.value(access)).map_err(failed)?;
            filter.entries += u32::from(!known);
            Ok(())
        })
    }

    /// Takes back what was allowed.
    ///
    /// # Errors
    /// `failed to remove device from BPF cgroup map: ...`
    pub fn deny_device(&self, device: Device, access: Access) -> Result<()> {
        if !self.inner.controllers.has(Controllers::DEVICES) {
            return Ok(());
        }
        self.with_filter(|filter, _| {
            let failed = |error| Error::system("failed to remove device from BPF cgroup map", error);
            let Some(value) = filter.map.get(device.key()).map_err(failed)? else { return Ok(()) };
            match value & !device.value(access) {
                0 => {
                    filter.map.remove(device.key()).map_err(failed)?;
                    filter.entries = filter.entries.saturating_sub(1);
                    Ok(())
                }
                left => filter.map.set(device.key(), left).map_err(failed),
            }
        })
    }

    /// Allows the device of a node. False: the path is none, or, with `lenient`, does not exist or is hidden.
    ///
    /// # Errors
    /// `Path 'PATH' is not accessible: ...`, and those of [`Cgroup::allow_device`].
    pub fn allow_node(&self, path: &str, access: Access, lenient: bool) -> Result<bool> {
        self.at_node(path, lenient, |device| self.allow_device(device, access))
    }

    /// Takes back [`Cgroup::allow_node`].
    ///
    /// # Errors
    /// As there.
    pub fn deny_node(&self, path: &str, access: Access, lenient: bool) -> Result<bool> {
        self.at_node(path, lenient, |device| self.deny_device(device, access))
    }

    fn at_node(&self, path: &str, lenient: bool, work: impl FnOnce(Device) -> Result<()>) -> Result<bool> {
        if !self.inner.controllers.has(Controllers::DEVICES) {
            return Ok(false);
        }
        match Device::of_node(path) {
            Ok(Some(device)) => work(device).map(|()| true),
            Ok(None) => Ok(false),
            Err(error) if lenient && matches!(error.raw_os_error(), Some(libc::EACCES | libc::ENOENT)) => {
                Ok(false)
            }
            Err(error) => Err(Error::system(format!("Path '{path}' is not accessible"), error)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_and_values_are_libvirts() {
        let null = Device::of_node("/dev/null").unwrap().unwrap();
        assert_eq!(null, Device { block: false, major: 1, minor: Some(3) });
        assert_eq!(null.key(), 0x1_0000_0003);
        assert_eq!(Device::TERMINALS.key(), 0x88_ffff_ffff);
        assert_eq!(null.value(Access::BOTH), 0x6_0002);
        let disk = Device { block: true, major: 8, minor: Some(0) };
        assert_eq!((disk.value(Access::READ), disk.value(Access::ALL)), (0x2_0001, 0x7_0001));
        assert_eq!(Device::of_node("/etc").unwrap(), None);
    }
}
