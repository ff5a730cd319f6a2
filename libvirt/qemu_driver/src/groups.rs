//! Descriptors of images that clients leave for the start of a guest, by names that its definition uses.

use crate::error::{Result, error};
use parking_lot::Mutex;
use rpc::{Code, Uuid};
use std::collections::HashMap;
use std::os::fd::OwnedFd;

/// Most groups of one guest.
const MOST: usize = 64;

/// What a client left under a name.
struct Group {
    client: u64,
    descriptors: Vec<OwnedFd>,
    writable: bool,
}

/// All groups, by guest and name. They last as long as their clients' connections.
#[derive(Default)]
pub struct Groups(Mutex<HashMap<(Uuid, String), Group>>);

impl Groups {
    /// Keeps descriptors of a client; those that had the name go.
    ///
    /// # Errors
    /// There are too many groups.
    pub fn put(
        &self,
        (guest, name): (Uuid, String),
        client: u64,
        descriptors: Vec<OwnedFd>,
        writable: bool,
    ) -> Result<()> {
        let mut all = self.0.lock();
        let others = all.keys().filter(|(owner, other)| *owner == guest && *other != name).count();
        if others >= MOST {
            return Err(error(Code::OperationFailed, format!("more than {MOST} groups of file descriptors")));
        }
        all.insert((guest, name), Group { client, descriptors, writable });
        Ok(())
    }

    /// Copies of the descriptors, and whether the guest may write; none without such a group.
    pub fn get(&self, guest: Uuid, name: &str) -> Option<std::io::Result<(Vec<OwnedFd>, bool)>> {
        let all = self.0.lock();
        let group = all.get(&(guest, name.to_owned()))?;
        let copies: std::io::Result<Vec<OwnedFd>> =
            group.descriptors.iter().map(OwnedFd::try_clone).collect();
        Some(copies.map(|copies| (copies, group.writable)))
    }

    /// The client has gone.
    pub fn client_gone(&self, client: u64) {
        self.0.lock().retain(|_, group| group.client != client);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::File;

    #[test]
    fn groups_last_as_long_as_their_clients() {
        let groups = Groups::default();
        let guest = Uuid::default();
        let put = |name: &str, client| {
            let null = File::open("/dev/null").expect("a device");
            groups.put((guest, name.to_owned()), client, vec![null.into()], client == 2)
        };
        put("a", 1).expect("room");
        put("b", 2).expect("room");
        assert!(groups.get(guest, "c").is_none());
        let (copies, writable) = groups.get(guest, "b").expect("there").expect("copied");
        assert_eq!((copies.len(), writable), (1, true));
        groups.client_gone(1);
        assert!(groups.get(guest, "a").is_none() && groups.get(guest, "b").is_some());
        (1..MOST).for_each(|number| put(&number.to_string(), 3).expect("room"));
        assert!(put("more", 3).is_err());
        put("b", 3).expect("the name is there");
    }
}
