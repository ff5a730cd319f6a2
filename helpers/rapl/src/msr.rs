//! Reading registers: through `/dev/cpu/N/msr`, opened at start, and at most once a millisecond for each package.

use crate::host::Cpu;
use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// A source of register values.
pub trait Registers: Send + Sync {
    /// Reads `msr` on `cpu`.
    ///
    /// # Errors
    /// `NotFound` for a CPU that was not there at start, else what the read reports.
    fn read(&self, cpu: u32, msr: u32) -> io::Result<u64>;
    /// The package `cpu` is part of.
    fn package(&self, cpu: u32) -> Option<u32>;
}

/// The host's register devices.
#[derive(Debug)]
pub struct Devices(BTreeMap<u32, (u32, File)>);

impl Devices {
    /// Opens the devices of `cpus`; one that cannot be opened (a CPU that is off) is left out.
    #[must_use]
    pub fn open(cpus: &[Cpu]) -> Self {
        let open = |cpu: &Cpu| File::open(&cpu.device).ok().map(|file| (cpu.number, (cpu.package, file)));
        Self(cpus.iter().filter_map(open).collect())
    }

    /// Whether none could be opened.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl Registers for Devices {
    fn read(&self, cpu: u32, msr: u32) -> io::Result<u64> {
        let (_, file) = self.0.get(&cpu).ok_or(io::ErrorKind::NotFound)?;
        let mut value = [0; 8];
        file.read_exact_at(&mut value, u64::from(msr))?;
        Ok(u64::from_ne_bytes(value))
    }

    fn package(&self, cpu: u32) -> Option<u32> {
        self.0.get(&cpu).map(|(package, _)| *package)
    }
}

/// How long a value serves all who ask for it: finer readings would tell what other programs do.
const AGE: Duration = Duration::from_millis(1);

/// Values by package and register, so that no client can sample faster than once in `AGE`.
#[derive(Debug)]
pub struct Cache<R> {
    registers: R,
    values: Mutex<BTreeMap<(u32, u32), (Instant, u64)>>,
}

impl<R: Registers> Cache<R> {
    /// A cache before `registers`.
    #[must_use]
    pub fn new(registers: R) -> Self {
        Self { registers, values: Mutex::new(BTreeMap::new()) }
    }

    /// The value of `msr` on `cpu`'s package, not older than `AGE`. All callers pass only allowed registers, so the
    /// cache has at most a handful of entries for each package.
    ///
    /// # Errors
    /// As [`Registers::read`].
    pub fn read(&self, cpu: u32, msr: u32) -> io::Result<u64> {
        let package = self.registers.package(cpu).ok_or(io::ErrorKind::NotFound)?;
        let mut values = self.values.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((at, value)) = values.get(&(package, msr))
            && at.elapsed() < AGE
        {
            return Ok(*value);
        }
        let value = self.registers.read(cpu, msr)?;
        values.insert((package, msr), (Instant::now(), value));
        Ok(value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicU64, Ordering};

    struct Fake(AtomicU64);
    impl Registers for Fake {
        fn read(&self, _: u32, msr: u32) -> io::Result<u64> {
            Ok(u64::from(msr) << 32 | self.0.fetch_add(1, Ordering::Relaxed))
        }
        fn package(&self, cpu: u32) -> Option<u32> {
            (cpu < 4).then_some(cpu / 2)
        }
    }

    #[test]
    fn one_real_read_a_millisecond_and_package() {
        let cache = Cache::new(Fake(AtomicU64::new(0)));
        let start = Instant::now();
        let mut reads = 0;
        while start.elapsed() < Duration::from_millis(20) {
            assert_eq!(cache.read(reads & 1, 0x611).unwrap() >> 32, 0x611);
            reads += 1;
        }
        assert!(cache.registers.0.load(Ordering::Relaxed) <= 21);
        cache.read(2, 0x611).unwrap();
        assert_eq!(cache.values.lock().unwrap().len(), 2);
        assert_eq!(cache.read(9, 0x611).unwrap_err().kind(), io::ErrorKind::NotFound);
    }

    #[test]
    fn devices_read_at_the_registers_offset() {
        let path = std::env::temp_dir().join(format!("rapl-msr-{}", std::process::id()));
        let mut image = vec![0; 0x620];
        image[0x611..0x619].copy_from_slice(&0x1122_3344_5566_7788u64.to_ne_bytes());
        std::fs::write(&path, image).unwrap();
        let cpu = |number, device| Cpu { number, package: 0, device };
        let devices = Devices::open(&[cpu(0, path.clone()), cpu(1, "/nonexistent".into())]);
        std::fs::remove_file(path).unwrap();
        assert_eq!(devices.read(0, 0x611).unwrap(), 0x1122_3344_5566_7788);
        assert!(devices.read(0, 0x61c).is_err(), "a short read is no value");
        assert!(devices.read(1, 0x611).is_err());
    }
}
