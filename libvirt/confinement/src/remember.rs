//! What a file was like before the first guest used it, in extended attributes of the file.
//!
//! libvirt's: for the driver `dac` they are `trusted.libvirt.security.dac` (the label), `.ref_dac` (how many guests
//! use the file, decimal) and `.timestamp_dac` (when the host booted, seconds since 1970: what an earlier boot left
//! says nothing). Whoever changes them holds the file's metadata lock.

use std::path::Path;
use std::sync::OnceLock;
use std::time::{SystemTime, UNIX_EPOCH};

use rustix::fs::XattrFlags;
use rustix::io::Errno;

use crate::{Error, Result};

/// Longest value of ours; a longer one is none.
const LONGEST: usize = 4096;
/// The boot time is computed from the clock where no record of it exists, and may be off by rounding.
const TOLERANCE: u64 = 2;

/// What became of the attributes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Recalled {
    /// The last user is gone; this was the label.
    Label(String),
    /// Others use the file.
    InUse,
    /// Nothing is remembered, or the file system cannot.
    Nothing,
}

/// The attributes of one driver.
pub(crate) struct Names {
    label: String,
    count: String,
    timestamp: String,
}

impl Names {
    pub(crate) fn of(driver: &str) -> Self {
        Self {
            label: format!("trusted.libvirt.security.{driver}"),
            count: format!("trusted.libvirt.security.ref_{driver}"),
            timestamp: format!("trusted.libvirt.security.timestamp_{driver}"),
        }
    }
}

/// A value, or `None` without the attribute; `Err(NOTSUP)` without the facility.
fn get(path: &str, name: &str) -> Result<Option<String>, Errno> {
    let mut value = vec![0; LONGEST];
    match rustix::fs::getxattr(path, name, &mut value[..]) {
        Ok(length) => {
            value.truncate(length);
            Ok(Some(String::from_utf8_lossy(&value).into_owned()))
        }
        Err(Errno::NODATA) => Ok(None),
        // To ordinary users these attributes do not exist.
        Err(Errno::NOSYS) => Err(Errno::NOTSUP),
        Err(other) => Err(other),
    }
}

fn cannot_get(name: &str, path: &str) -> impl FnOnce(Errno) -> Error {
    move |error| Error::system(format!("Unable to get XATTR {name} on {path}"), error)
}

fn set(path: &str, name: &str, value: &str) -> Result<()> {
    rustix::fs::setxattr(path, name, value.as_bytes(), XattrFlags::empty())
        .map_err(|error| Error::system(format!("Unable to set XATTR {name} on {path}"), error))
}

fn remove(path: &str, name: &str) -> Result<()> {
    rustix::fs::removexattr(path, name)
        .map_err(|error| Error::system(format!("Unable to remove XATTR {name} on {path}"), error))
}

/// How many use the file, by a record of this boot. `None`: nobody, so far as we know; `Err(None)`: the file system
/// cannot tell.
fn count(names: &Names, path: &str) -> Result<Option<u32>, Option<Error>> {
    let value = match get(path, &names.count) {
        Ok(None) => return Ok(None),
        Ok(Some(value)) => value,
        Err(Errno::NOTSUP) => return Err(None),
        Err(error) => return Err(Some(cannot_get(&names.count, path)(error))),
    };
    let stamp = get(path, &names.timestamp).map_err(cannot_get(&names.timestamp, path)).map_err(Some)?;
    let now = boot_time().map_err(Some)?;
    let valid = stamp.and_then(|stamp| stamp.parse::<u64>().ok());
    if valid.is_none_or(|stamp| stamp.abs_diff(now) > TOLERANCE) {
        forget(names, path).map_err(Some)?;
        return Ok(None);
    }
    let malformed = || Some(Error::internal(format!("malformed refcount {value} on {path}")));
    value.parse().map(Some).map_err(|_| malformed())
}

/// Notes one more user of the file, and for the first one what the file was like. The number of users, or `None`
/// where the file system cannot remember.
pub(crate) fn remember(names: &Names, path: &str, label: &str) -> Result<Option<u32>> {
    let users = match count(names, path) {
        Ok(users) => users.unwrap_or(0).saturating_add(1),
        Err(None) => return Ok(None),
        Err(Some(error)) => return Err(error),
    };
    if users == 1 {
        match rustix::fs::setxattr(path, &*names.label, label.as_bytes(), XattrFlags::empty()) {
            // Such as a tmpfs of a kernel that only reads them as absent.
            Err(Errno::NOTSUP) => return Ok(None),
            Err(error) => {
                return Err(Error::system(format!("Unable to set XATTR {} on {path}", names.label), error));
            }
            Ok(()) => {}
        }
        set(path, &names.timestamp, &boot_time()?.to_string())?;
    }
    set(path, &names.count, &users.to_string())?;
    Ok(Some(users))
}

/// Notes one user less.
pub(crate) fn recall(names: &Names, path: &str) -> Result<Recalled> {
    let users = match count(names, path) {
        Ok(Some(users)) => users,
        Ok(None) | Err(None) => return Ok(Recalled::Nothing),
        Err(Some(error)) => return Err(error),
    };
    if users > 1 {
        set(path, &names.count, &(users - 1).to_string())?;
        return Ok(Recalled::InUse);
    }
    remove(path, &names.count)?;
    let label = get(path, &names.label).and_then(|label| label.ok_or(Errno::NODATA));
    let label = label.map_err(cannot_get(&names.label, path))?;
    remove(path, &names.label)?;
    remove(path, &names.timestamp)?;
    Ok(Recalled::Label(label))
}

/// Removes the record.
fn forget(names: &Names, path: &str) -> Result<()> {
    for name in [&names.count, &names.label, &names.timestamp] {
        match get(path, name) {
            Ok(Some(_)) => remove(path, name)?,
            Ok(None) | Err(Errno::NOTSUP) => {}
            Err(error) => return Err(cannot_get(name, path)(error)),
        }
    }
    Ok(())
}

/// Gives the record of `from` to `to`, which takes its place in a guest; without `to` it is removed.
pub(crate) fn transfer(names: &Names, from: &str, to: Option<&str>) -> Result<()> {
    let Some(to) = to else { return forget(names, from) };
    let mut values = Vec::new();
    for name in [&names.count, &names.label, &names.timestamp] {
        match get(from, name) {
            Ok(Some(value)) => values.push((name, value)),
            Ok(None) => {}
            Err(Errno::NOTSUP) => return Ok(()),
            Err(error) => return Err(cannot_get(name, from)(error)),
        }
    }
    forget(names, from)?;
    for (at, (name, value)) in values.iter().enumerate() {
        if let Err(error) = set(to, name, value) {
            for (name, _) in &values[..at] {
                // The first error is the one to tell.
                let _ = remove(to, name);
            }
            return Err(error);
        }
    }
    Ok(())
}

/// When the host booted, seconds since 1970.
pub(crate) fn boot_time() -> Result<u64> {
    static TIME: OnceLock<Result<u64>> = OnceLock::new();
    TIME.get_or_init(|| {
        let record = ["/var/run/utmp", "/run/utmp"].iter().find_map(|path| recorded(Path::new(path)));
        match record {
            Some(time) => Ok(time),
            None => computed(),
        }
    })
    .clone()
}

/// The boot record of utmp(5): records of 384 bytes, of type `BOOT_TIME` (2) in the first 16 bits, the seconds in 32
/// bits at 340.
fn recorded(path: &Path) -> Option<u64> {
    const RECORD: usize = 384;
    const SECONDS: usize = 340;
    let text = std::fs::read(path).ok()?;
    let record = text.chunks_exact(RECORD).find(|record| record[..2] == [2, 0])?;
    let seconds = i32::from_le_bytes(record[SECONDS..SECONDS + 4].try_into().ok()?);
    u64::try_from(seconds).ok().filter(|seconds| *seconds != 0)
}

fn computed() -> Result<u64> {
    let text = std::fs::read_to_string("/proc/uptime")
        .map_err(|error| Error::system("Unable to get host boot time", error))?;
    let up: f64 = text
        .split(' ')
        .next()
        .and_then(|word| word.parse().ok())
        .ok_or_else(|| Error::internal(format!("uptime file has unexpected format '{text}'")))?;
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_secs());
    Ok((now as f64 - up).round() as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_boot_record_is_found() {
        let path = std::env::temp_dir().join(format!("confinement-utmp-{}", std::process::id()));
        let mut text = vec![0; 2 * 384];
        text[0] = 7;
        text[384] = 2;
        text[384 + 340..384 + 344].copy_from_slice(&1_700_000_000_i32.to_le_bytes());
        std::fs::write(&path, &text).unwrap();
        assert_eq!(recorded(&path), Some(1_700_000_000));
        std::fs::write(&path, &text[..384]).unwrap();
        assert_eq!(recorded(&path), None);
        std::fs::remove_file(&path).unwrap();
        let stat = std::fs::read_to_string("/proc/stat").unwrap();
        let kernel: u64 = stat.lines().find_map(|line| line.strip_prefix("btime ")).unwrap().parse().unwrap();
        assert!(computed().unwrap().abs_diff(kernel) <= TOLERANCE);
    }
}
