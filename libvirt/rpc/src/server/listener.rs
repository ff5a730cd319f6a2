//! Sockets on which clients come, and what they may do then.

use super::connection::Auth;
use rustix::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::Arc;

/// What the clients of a socket may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Access {
    /// Look only.
    pub read_only: bool,
    /// How they show who they are.
    pub auth: Auth,
}

/// A listening socket.
#[derive(Debug)]
pub struct Listener {
    /// The socket.
    pub socket: Arc<OwnedFd>,
    /// What its clients may do.
    pub access: Access,
    /// The path that goes with it; `None`: somebody else's.
    pub path: Option<PathBuf>,
}

impl Drop for Listener {
    fn drop(&mut self) {
        if let Some(path) = &self.path {
            // Gone already: somebody wanted it so.
            let _ = std::fs::remove_file(path);
        }
    }
}
