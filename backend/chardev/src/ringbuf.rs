//! `ringbuf`: keeps the last bytes in memory for the monitor to read.

use crate::core::Backend;
use crate::frontend::OnceCall;
use eventloop::LoopHandle;
use parking_lot::Mutex;
use std::collections::VecDeque;
use std::io;

/// The buffer; when it is full the oldest bytes go.
pub(crate) struct RingBuf {
    pub(crate) handle: LoopHandle,
    pub(crate) size: usize,
    pub(crate) bytes: Mutex<VecDeque<u8>>,
}

impl RingBuf {
    /// Takes up to `max` of the oldest bytes.
    pub(crate) fn read(&self, max: usize) -> Vec<u8> {
        let mut bytes = self.bytes.lock();
        let n = max.min(bytes.len());
        bytes.drain(..n).collect()
    }
}

impl Backend for RingBuf {
    fn write(&self, bytes: &[u8]) -> io::Result<usize> {
        let mut kept = self.bytes.lock();
        for &byte in bytes {
            if kept.len() == self.size {
                kept.pop_front();
            }
            kept.push_back(byte);
        }
        Ok(bytes.len())
    }
    fn on_writable(&self, call: OnceCall) {
        self.handle.defer(call);
    }
    fn wait_writable(&self) {}
    fn accept_input(&self) {}
    fn ringbuf(&self) -> Option<&RingBuf> {
        Some(self)
    }
}
