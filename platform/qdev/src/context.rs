//! What every device is given besides its bus: named back ends, the clock, the machine's attention.

use clock::Clock;
use parking_lot::RwLock;
use std::any::{Any, TypeId};
use std::collections::HashMap;
use std::sync::Arc;

/// Back ends by type and id: what a property such as `chardev=c0` or `drive=d0` names.
#[derive(Default)]
pub struct Links {
    entries: RwLock<HashMap<(TypeId, String), Arc<dyn Any + Send + Sync>>>,
}

impl Links {
    /// Makes `target` known as `id` among the things of its type; false when the id is taken.
    pub fn insert<T: Any + Send + Sync>(&self, id: &str, target: Arc<T>) -> bool {
        let mut entries = self.entries.write();
        let key = (TypeId::of::<T>(), id.to_owned());
        if entries.contains_key(&key) {
            return false;
        }
        entries.insert(key, target);
        true
    }

    /// The thing of type `T` called `id`.
    pub fn get<T: Any + Send + Sync>(&self, id: &str) -> Option<Arc<T>> {
        let entry = self.entries.read().get(&(TypeId::of::<T>(), id.to_owned())).cloned()?;
        entry.downcast().ok()
    }

    /// Forgets the thing of type `T` called `id`.
    pub fn remove<T: Any + Send + Sync>(&self, id: &str) -> Option<Arc<T>> {
        self.entries.write().remove(&(TypeId::of::<T>(), id.to_owned()))?.downcast().ok()
    }

    /// The ids of all things of type `T`, sorted.
    pub fn ids<T: Any + Send + Sync>(&self) -> Vec<String> {
        let wanted = TypeId::of::<T>();
        let mut ids: Vec<_> =
            self.entries.read().keys().filter(|(of, _)| *of == wanted).map(|(_, id)| id.clone()).collect();
        ids.sort();
        ids
    }
}

/// What a device can ask of the whole machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SystemRequest {
    /// Reset everything (keyboard controller, port 0xcf9, ACPI reset register).
    Reset,
    /// Power off (ACPI S5).
    Shutdown,
    /// Sleep in memory (ACPI S3).
    Suspend,
    /// The guest says that it panicked (pvpanic).
    GuestPanicked,
    /// The guest says that it has loaded a crash kernel (pvpanic).
    GuestCrashLoaded,
    /// A watchdog ran out: what becomes of it is the user's choice (`-action watchdog=`).
    Watchdog,
    /// Stop: the host cannot read or write a disk, and the user wants it repaired first (`werror=stop`).
    IoError,
    /// End the process with this status (isa-debug-exit).
    Exit(i32),
}

/// The machine's attention, for devices. Calls return at once; the request is carried out by the main loop.
pub trait SystemControl: Send + Sync {
    /// Asks for `request`.
    fn request(&self, request: SystemRequest);
}

/// What a device is made with, on any bus.
#[derive(Clone)]
pub struct Context {
    /// `id=` of the device, if it has one.
    pub id: Option<String>,
    /// Back ends by name.
    pub links: Arc<Links>,
    /// Guest time.
    pub clock: Clock,
    /// The machine's attention.
    pub system: Arc<dyn SystemControl>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_are_found_by_type_and_id() {
        let links = Links::default();
        assert!(links.insert("a", Arc::new(5u32)));
        assert!(links.insert("a", Arc::new("text")));
        assert!(!links.insert("a", Arc::new(6u32)));
        assert_eq!(links.get::<u32>("a").as_deref(), Some(&5));
        assert_eq!(links.get::<u64>("a"), None);
        assert_eq!(links.ids::<u32>(), ["a"]);
        assert!(links.remove::<u32>("a").is_some() && links.get::<u32>("a").is_none());
    }
}
