//! Who is connected with a guest's consoles and channels: one client each.

use parking_lot::Mutex;
use rpc::call::Stream;
use rpc::server::{Attached, Direction};
use std::collections::HashMap;
use std::os::fd::OwnedFd;
use std::sync::Arc;

#[derive(Debug, Default)]
struct State {
    last: u64,
    /// By the path of the device.
    open: HashMap<String, (u64, Attached)>,
}

/// The connections with one guest's character devices.
#[derive(Debug, Default)]
pub struct Sessions(Arc<Mutex<State>>);

impl Sessions {
    /// Connects `stream` with the device at `path`, which `open` opens; with `force` whoever was connected is cut off.
    /// `false`: somebody is.
    ///
    /// # Errors
    /// The device cannot be opened.
    pub fn connect<E>(
        &self,
        path: &str,
        force: bool,
        stream: Stream,
        open: impl FnOnce() -> Result<OwnedFd, E>,
    ) -> Result<bool, E> {
        let mut state = self.0.lock();
        if state.open.contains_key(path) && !force {
            return Ok(false);
        }
        let descriptor = open()?;
        state.last += 1;
        let number = state.last;
        let (sessions, name) = (self.0.clone(), path.to_owned());
        let done = move |_: bool| {
            let mut state = sessions.lock();
            if state.open.get(&name).is_some_and(|(current, _)| *current == number) {
                state.open.remove(&name);
            }
        };
        let attached = stream.attach(descriptor, Direction::Both, Some(Box::new(done)));
        let old = state.open.insert(path.to_owned(), (number, attached));
        drop(state);
        if let Some((_, old)) = old {
            old.cut();
        }
        Ok(true)
    }
}
