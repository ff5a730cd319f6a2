//! The virtio entropy device (Virtio 1.2, section 5.4) and where its bytes come from.

use crate::device::{QueueAccess, VirtioDevice};
use crate::forms::forms;
use crate::queue::scatter;
use crate::transport::{Family, VirtioPci, VirtioProperties};
use parking_lot::Mutex;
use pci::{PciSlot, take_properties};
use qdev::{Category, Device, DeviceError, Properties};
use std::any::Any;
use std::fs::File;
use std::io::{self, Read};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Bytes fetched at once.
const CHUNK: u64 = 4096;
/// Requests of one call of `process`.
const BATCH: usize = 64;

/// A source of random bytes.
trait Source: Send + Sync {
    fn fill(&self, buf: &mut [u8]) -> io::Result<usize>;
}

/// `rng-random`: a file of the host's.
pub struct RngRandom(Mutex<File>);

impl RngRandom {
    /// Opens `path` (`/dev/urandom` is usual).
    ///
    /// # Errors
    /// The file cannot be opened: QEMU's text.
    pub fn open(path: &str) -> Result<Self, DeviceError> {
        let file = File::open(path).map_err(|e| {
            let text = e.to_string();
            let text = text.split(" (os error").next().unwrap_or_default();
            DeviceError::new(format!("Could not open '{path}': {text}"))
        })?;
        Ok(Self(Mutex::new(file)))
    }
}

impl Source for RngRandom {
    fn fill(&self, buf: &mut [u8]) -> io::Result<usize> {
        self.0.lock().read(buf)
    }
}

/// `rng-builtin`: the host kernel's generator.
pub struct RngBuiltin(RngRandom);

impl RngBuiltin {
    /// The generator.
    ///
    /// # Errors
    /// The host has none.
    pub fn new() -> Result<Self, DeviceError> {
        RngRandom::open("/dev/urandom").map(Self)
    }
}

impl Source for RngBuiltin {
    fn fill(&self, buf: &mut [u8]) -> io::Result<usize> {
        self.0.fill(buf)
    }
}

/// A back end as `rng=` names it; `-object rng-random` and `rng-builtin` make one known by its id.
pub struct RngSource(Box<dyn Source>);

impl RngSource {
    /// From a file.
    pub fn random(source: RngRandom) -> Self {
        Self(Box::new(source))
    }

    /// From the host kernel.
    pub fn builtin(source: RngBuiltin) -> Self {
        Self(Box::new(source))
    }
}

/// Properties of the entropy device.
#[derive(Properties)]
struct RngProperties {
    /// Where the bytes come from (none: rng-builtin)
    #[prop(part)]
    rng: String,
    /// Most bytes in a period
    #[prop(part, default = i64::MAX as u64)]
    max_bytes: u64,
    /// Period in milliseconds
    #[prop(part, default = 65536u32)]
    period: u32,
    /// Properties of all virtio devices.
    #[prop(flatten)]
    virtio: VirtioProperties,
}

/// What is left of the present period.
struct Quota {
    left: u64,
    until: Instant,
}

struct Rng {
    source: Arc<RngSource>,
    max_bytes: u64,
    period: Duration,
    quota: Mutex<Quota>,
}

impl Rng {
    /// How many of `wanted` bytes may be given now; sleeps over the rest of a period that is used up, a little at a time.
    fn allowance(&self, wanted: u64) -> u64 {
        let mut quota = self.quota.lock();
        let now = Instant::now();
        if now >= quota.until {
            *quota = Quota { left: self.max_bytes, until: now + self.period };
        }
        if quota.left == 0 {
            let rest = quota.until.saturating_duration_since(now).min(Duration::from_millis(10));
            drop(quota);
            std::thread::sleep(rest);
            return 0;
        }
        let given = wanted.min(quota.left);
        quota.left -= given;
        given
    }
}

impl VirtioDevice for Rng {
    fn id(&self) -> u16 {
        4
    }

    fn features(&self) -> u64 {
        0
    }

    fn queues(&self) -> Vec<u16> {
        vec![8]
    }

    fn config(&self) -> Vec<u8> {
        Vec::new()
    }

    fn write_config(&self, _offset: usize, _data: &[u8]) {}

    fn set_features(&self, _features: u64) {}

    fn process(&self, _index: usize, queue: &mut QueueAccess<'_>) -> bool {
        for _ in 0..BATCH {
            let Some(chain) = queue.pop() else { return false };
            let wanted = chain.writable_len().min(CHUNK);
            let given = self.allowance(wanted);
            if given == 0 && wanted != 0 {
                queue.unpop();
                return true;
            }
            let mut buf = vec![0; given as usize];
            let n = self.source.0.fill(&mut buf).unwrap_or(0);
            let n = scatter(&chain.writable, 0, &buf[..n]);
            queue.push(&chain, n as u32);
            queue.notify();
        }
        true
    }

    fn reset(&self) {}
}

fn realize(
    name: &'static str,
    family: Family,
    properties: Box<dyn Properties>,
    slot: &mut dyn Any,
) -> Result<Arc<dyn Device>, DeviceError> {
    let properties = take_properties::<RngProperties>(properties)?;
    let slot = PciSlot::from_any(slot)?;
    if properties.period == 0 {
        return Err(DeviceError::new("'period' parameter expects a positive integer"));
    }
    if i64::try_from(properties.max_bytes).is_err() {
        return Err(DeviceError::new("'max-bytes' parameter must be non-negative, and less than 2^63"));
    }
    let source = if properties.rng.is_empty() {
        Arc::new(RngSource::builtin(RngBuiltin::new()?))
    } else {
        slot.context()
            .links
            .get::<RngSource>(&properties.rng)
            .ok_or_else(|| DeviceError::new(format!("Device '{}' not found", properties.rng)))?
    };
    let rng = Rng {
        source,
        max_bytes: properties.max_bytes,
        period: Duration::from_millis(properties.period.into()),
        quota: Mutex::new(Quota { left: 0, until: Instant::now() }),
    };
    Ok(VirtioPci::new(slot, name, family, &properties.virtio, 0x00ff, 2, Arc::new(rng))?)
}

forms! {
    /// `virtio-rng-pci` and its two forms.
    RNG_SPECS, "virtio-rng", Category::Misc, RngProperties::default, realize
}
