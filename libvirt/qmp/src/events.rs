//! Events on their way from the reader to the callback.

use crate::monitor::Error;
use crate::{Event, ProtocolError};
use parking_lot::{Condvar, Mutex};
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Instant;

/// How many events may wait. What comes beyond is dropped, and the callback is told so.
pub const EVENT_QUEUE: usize = 4096;

/// What a callback is told.
#[derive(Clone, Debug, PartialEq)]
pub enum Notice {
    /// An event.
    Event(Event),
    /// That many events were dropped here, because they came faster than they were handled: whoever keeps a picture
    /// of the emulator's state asks for it anew.
    Lost(usize),
    /// The last notice: the emulator closed the connection (`None`), or it did not speak the protocol.
    Closed(Option<ProtocolError>),
}

pub(crate) type Callback = Box<dyn Fn(Notice) + Send + Sync>;

struct Waiting {
    notices: VecDeque<Notice>,
    /// Whether a thread is handling notices.
    handled: bool,
    /// How many notices the callback has had.
    told: u64,
}

/// The queue, and the thread that exists while it is not empty.
pub(crate) struct Events {
    waiting: Mutex<Waiting>,
    told: Condvar,
    callback: Callback,
}

impl Events {
    pub(crate) fn new(callback: Callback) -> Arc<Self> {
        let waiting = Waiting { notices: VecDeque::new(), handled: false, told: 0 };
        Arc::new(Self { waiting: Mutex::new(waiting), told: Condvar::new(), callback })
    }

    /// Queues one more event.
    pub(crate) fn event(self: &Arc<Self>, event: Event) -> Result<(), Error> {
        let mut waiting = self.waiting.lock();
        if waiting.notices.len() < EVENT_QUEUE {
            waiting.notices.push_back(Notice::Event(event));
        } else if let Some(Notice::Lost(count)) = waiting.notices.back_mut() {
            *count += 1;
        } else {
            waiting.notices.push_back(Notice::Lost(1));
        }
        self.handle(&mut waiting)
    }

    /// Queues the end.
    pub(crate) fn closed(self: &Arc<Self>, reason: Option<ProtocolError>) {
        let mut waiting = self.waiting.lock();
        waiting.notices.push_back(Notice::Closed(reason));
        if self.handle(&mut waiting).is_err() {
            // No thread can be had: the reader's own, which is at its end, serves.
            waiting.handled = true;
            drop(waiting);
            self.drain();
        }
    }

    fn handle(self: &Arc<Self>, waiting: &mut Waiting) -> Result<(), Error> {
        if !waiting.handled {
            let events = self.clone();
            std::thread::Builder::new()
                .name("qmp-event".to_owned())
                .spawn(move || events.drain())
                .map_err(|error| Error::Connect(error.to_string()))?;
            waiting.handled = true;
        }
        Ok(())
    }

    /// Waits until the callback has had all that there is now, at the longest until `deadline`. Not to be called by it.
    pub(crate) fn settle(&self, deadline: Instant) {
        let mut waiting = self.waiting.lock();
        let in_hand = u64::from(waiting.handled);
        let all = waiting.told + waiting.notices.len() as u64 + in_hand;
        while waiting.handled && waiting.told < all {
            if self.told.wait_until(&mut waiting, deadline).timed_out() {
                return;
            }
        }
    }

    fn drain(&self) {
        loop {
            let notice = {
                let mut waiting = self.waiting.lock();
                let Some(notice) = waiting.notices.pop_front() else {
                    waiting.handled = false;
                    self.told.notify_all();
                    return;
                };
                notice
            };
            (self.callback)(notice);
            self.waiting.lock().told += 1;
            self.told.notify_all();
        }
    }
}
