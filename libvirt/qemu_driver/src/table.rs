//! All domains.

use crate::error::{Result, error, failed};
use crate::guest::Guest;
use parking_lot::RwLock;
use rpc::{Code, Domain, Uuid};
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

#[derive(Default)]
struct Rows {
    by_uuid: HashMap<Uuid, Arc<Guest>>,
    by_name: BTreeMap<String, Arc<Guest>>,
    by_id: HashMap<i32, Arc<Guest>>,
}

/// The domains by UUID, name and number.
///
/// Names here are kept equal to the guests' own by whoever renames; lock order: the table's lock is never taken while
/// a guest's is held.
#[derive(Default)]
pub struct Table {
    rows: RwLock<Rows>,
}

impl Table {
    /// All, by name.
    pub fn all(&self) -> Vec<Arc<Guest>> {
        self.rows.read().by_name.values().cloned().collect()
    }

    /// By number.
    ///
    /// # Errors
    /// There is none.
    pub fn by_id(&self, id: i32) -> Result<Arc<Guest>> {
        let found = self.rows.read().by_id.get(&id).cloned();
        found.ok_or_else(|| error(Code::NoDomain, format!("no domain with matching id {id}")))
    }

    /// By name.
    ///
    /// # Errors
    /// There is none.
    pub fn by_name(&self, name: &str) -> Result<Arc<Guest>> {
        let found = self.rows.read().by_name.get(name).cloned();
        found.ok_or_else(|| error(Code::NoDomain, format!("no domain with matching name '{name}'")))
    }

    /// By UUID.
    ///
    /// # Errors
    /// There is none.
    pub fn by_uuid(&self, uuid: &Uuid) -> Result<Arc<Guest>> {
        self.find(uuid).ok_or_else(|| error(Code::NoDomain, format!("no domain with matching uuid '{uuid}'")))
    }

    /// By UUID, if there is one.
    pub fn find(&self, uuid: &Uuid) -> Option<Arc<Guest>> {
        self.rows.read().by_uuid.get(uuid).cloned()
    }

    /// The one that a client refers to.
    ///
    /// # Errors
    /// There is none (any more).
    pub fn get(&self, dom: &Domain) -> Result<Arc<Guest>> {
        self.find(&dom.uuid).ok_or_else(|| {
            let detail = format!("no domain with matching uuid '{}' ({})", dom.uuid, dom.name);
            error(Code::NoDomain, detail)
        })
    }

    /// The domain of that UUID, or a new one that `make` makes and that is in the table then.
    ///
    /// # Errors
    /// The name belongs to another domain, or the domain has another name.
    pub fn get_or_insert(
        &self,
        uuid: Uuid,
        name: &str,
        make: impl FnOnce() -> Arc<Guest>,
    ) -> Result<(Arc<Guest>, bool)> {
        let mut rows = self.rows.write();
        if let Some(guest) = rows.by_uuid.get(&uuid) {
            let same = rows.by_name.get(name).is_some_and(|other| Arc::ptr_eq(other, guest));
            if !same {
                let old = guest.lock().name.clone();
                return Err(failed(format!("domain '{old}' is already defined with uuid {uuid}")));
            }
            return Ok((guest.clone(), false));
        }
        if let Some(other) = rows.by_name.get(name) {
            return Err(failed(format!("domain '{name}' already exists with uuid {}", other.uuid)));
        }
        let guest = make();
        rows.by_uuid.insert(uuid, guest.clone());
        rows.by_name.insert(name.to_owned(), guest.clone());
        Ok((guest, true))
    }

    /// The domain has this number from now on.
    pub fn set_id(&self, guest: &Arc<Guest>, id: i32) {
        self.rows.write().by_id.insert(id, guest.clone());
    }

    /// Nobody has this number any more.
    pub fn clear_id(&self, id: i32) {
        self.rows.write().by_id.remove(&id);
    }

    /// Takes the domain out.
    pub fn remove(&self, guest: &Arc<Guest>, name: &str) {
        let mut rows = self.rows.write();
        rows.by_uuid.remove(&guest.uuid);
        if rows.by_name.get(name).is_some_and(|other| Arc::ptr_eq(other, guest)) {
            rows.by_name.remove(name);
        }
    }

    /// Gives the domain another name.
    ///
    /// # Errors
    /// It is taken.
    pub fn rename(&self, guest: &Arc<Guest>, old: &str, new: &str) -> Result<()> {
        let mut rows = self.rows.write();
        if rows.by_name.contains_key(new) {
            let detail = format!("domain with name '{new}' already exists");
            return Err(error(Code::OperationInvalid, detail));
        }
        rows.by_name.remove(old);
        rows.by_name.insert(new.to_owned(), guest.clone());
        Ok(())
    }

    /// How many run.
    pub fn running(&self) -> usize {
        self.rows.read().by_id.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_uuids_are_unique() {
        let table = Table::default();
        let (one, two) = (Uuid([1; 16]), Uuid([2; 16]));
        let add = |uuid, name: &str| {
            table.get_or_insert(uuid, name, || Guest::new(uuid, name.to_owned())).map(|(_, new)| new)
        };
        assert_eq!(add(one, "a"), Ok(true));
        assert_eq!(add(one, "a"), Ok(false));
        assert_eq!(
            add(two, "a").expect_err("taken").to_string(),
            format!("operation failed: domain 'a' already exists with uuid {one}")
        );
        assert_eq!(
            add(one, "b").expect_err("taken").to_string(),
            format!("operation failed: domain 'a' is already defined with uuid {one}")
        );
        assert_eq!(add(two, "b"), Ok(true));
        let guest = table.by_name("b").expect("b");
        assert!(table.rename(&guest, "b", "a").is_err());
        table.rename(&guest, "b", "c").expect("free");
        assert!(table.by_name("b").is_err() && table.by_name("c").is_ok());
        table.set_id(&guest, 7);
        assert_eq!((table.running(), table.by_id(7).expect("7").uuid), (1, two));
        table.clear_id(7);
        table.remove(&guest, "c");
        assert_eq!(table.by_uuid(&two).err().map(|error| error.code), Some(42));
        assert_eq!(table.all().len(), 1);
    }
}
