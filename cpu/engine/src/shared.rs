//! What the vCPUs of one machine tell each other.

use irq::{CpuSignals, Event};
use parking_lot::Mutex;
use std::sync::Arc;

/// One vCPU as the others see it.
struct Peer {
    index: u32,
    signals: Arc<CpuSignals>,
    /// Host pages whose fast write translations have to go.
    pages: Vec<u64>,
}

/// The list of all vCPUs.
#[derive(Default)]
pub(crate) struct Peers {
    list: Mutex<Vec<Peer>>,
}

impl Peers {
    pub(crate) fn add(&self, index: u32, signals: Arc<CpuSignals>) {
        self.list.lock().push(Peer { index, signals, pages: Vec::new() });
    }

    /// Asks all but `own` to report writes to the page at host address `host`.
    pub(crate) fn protect(&self, own: u32, host: u64) {
        let mut list = self.list.lock();
        for peer in list.iter_mut().filter(|p| p.index != own) {
            peer.pages.push(host);
            peer.signals.raise(Event::Accel);
        }
    }

    /// What was asked of `own`.
    pub(crate) fn take(&self, own: u32) -> Vec<u64> {
        let mut list = self.list.lock();
        list.iter_mut().find(|p| p.index == own).map(|p| std::mem::take(&mut p.pages)).unwrap_or_default()
    }
}
