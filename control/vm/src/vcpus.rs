//! The processors' threads, and the gate that stops them.
//!
//! A thread passes the [`Gate`] before it runs guest code. Whoever wants the processors to stand closes the gate, posts
//! [`Event::Exit`], and waits until all have parked. Nothing here is called from a processor's own thread, except
//! [`Gate::hold`].

use crate::life::Life;
use accel::{Exit, Vcpu};
use irq::{CpuSignals, Event};
use parking_lot::{Condvar, Mutex, MutexGuard};
use std::sync::Arc;
use std::sync::atomic::{AtomicI32, Ordering};
use std::thread::JoinHandle;

/// One thread's place at the gate.
struct Place {
    /// It stands before the gate (or has not started yet).
    parked: bool,
    /// How many want to look at the processor.
    visitors: u32,
    /// A debugger lets others run, but not this one.
    frozen: bool,
}

struct State {
    /// The machine runs.
    running: bool,
    /// Something was asked of the main loop; nobody goes on before it is done.
    held: bool,
    /// The machine ends.
    quit: bool,
    places: Vec<Place>,
}

/// What stands between the processors and guest code.
pub(crate) struct Gate {
    signals: Vec<Arc<CpuSignals>>,
    state: Mutex<State>,
    news: Condvar,
}

impl Gate {
    /// A closed gate in front of the owners of `signals`.
    pub(crate) fn new(signals: Vec<Arc<CpuSignals>>) -> Arc<Self> {
        let places = signals.iter().map(|_| Place { parked: true, visitors: 0, frozen: false }).collect();
        Arc::new(Self {
            signals,
            state: Mutex::new(State { running: false, held: false, quit: false, places }),
            news: Condvar::new(),
        })
    }

    fn kick(&self) {
        for signals in &self.signals {
            signals.raise(Event::Exit);
        }
    }

    fn wait_parked(&self, mut state: MutexGuard<'_, State>) {
        while !state.places.iter().all(|place| place.parked) {
            self.news.wait(&mut state);
        }
    }

    /// Closes the gate; returns when every processor stands.
    pub(crate) fn pause(&self) {
        let mut state = self.state.lock();
        state.running = false;
        self.kick();
        self.wait_parked(state);
    }

    /// Opens the gate.
    pub(crate) fn resume(&self) {
        self.state.lock().running = true;
        self.news.notify_all();
    }

    /// Lets no processor pass until [`Gate::release`]; does not wait, so that a processor's thread may call it.
    pub(crate) fn hold(&self) {
        self.state.lock().held = true;
        self.kick();
    }

    /// Ends [`Gate::hold`].
    pub(crate) fn release(&self) {
        self.state.lock().held = false;
        self.news.notify_all();
    }

    /// Sends every thread home.
    pub(crate) fn quit(&self) {
        self.state.lock().quit = true;
        self.kick();
        self.news.notify_all();
    }

    /// A processor's thread wants to run guest code; false: the machine ends.
    fn pass(&self, index: usize) -> bool {
        let mut state = self.state.lock();
        // Under the lock: whoever posts the event has changed the state before.
        self.signals[index].take(Event::Exit);
        let kept = |place: &Place| place.visitors > 0 || place.frozen;
        while !state.quit && (!state.running || state.held || kept(&state.places[index])) {
            if !state.places[index].parked {
                state.places[index].parked = true;
                self.news.notify_all();
            }
            self.news.wait(&mut state);
            self.signals[index].take(Event::Exit);
        }
        state.places[index].parked = state.quit;
        !state.quit
    }

    /// Keeps processor `index` from passing, or not any longer; does not wait.
    fn set_frozen(&self, index: usize, frozen: bool) {
        self.state.lock().places[index].frozen = frozen;
        self.news.notify_all();
    }

    /// Keeps processor `index` standing while `look` runs.
    fn visit<R>(&self, index: usize, look: impl FnOnce() -> R) -> R {
        {
            let mut state = self.state.lock();
            state.places[index].visitors += 1;
            self.signals[index].raise(Event::Exit);
            while !state.places[index].parked {
                self.news.wait(&mut state);
            }
        }
        let result = look();
        self.state.lock().places[index].visitors -= 1;
        self.news.notify_all();
        result
    }
}

struct Processor {
    vcpu: Mutex<Box<dyn Vcpu>>,
    thread: AtomicI32,
}

/// All processors of a machine.
pub(crate) struct Vcpus {
    gate: Arc<Gate>,
    processors: Vec<Arc<Processor>>,
    threads: Mutex<Vec<JoinHandle<()>>>,
}

impl Vcpus {
    pub(crate) fn new(gate: Arc<Gate>, vcpus: Vec<Box<dyn Vcpu>>) -> Self {
        let processors = vcpus
            .into_iter()
            .map(|vcpu| Arc::new(Processor { vcpu: Mutex::new(vcpu), thread: AtomicI32::new(0) }))
            .collect();
        Self { gate, processors, threads: Mutex::default() }
    }

    /// Starts the threads, which stand before the gate until it opens. With `names` they are called as QEMU calls
    /// them (`CPU 0/TCG`).
    ///
    /// # Errors
    /// The host has no room for a thread.
    pub(crate) fn spawn(&self, life: &Arc<Life>, accelerator: &str, names: bool) -> Result<(), String> {
        for (index, processor) in self.processors.iter().enumerate() {
            let (gate, processor, life) = (self.gate.clone(), processor.clone(), life.clone());
            let mut builder = std::thread::Builder::new();
            if names {
                builder = builder.name(format!("CPU {index}/{}", accelerator.to_uppercase()));
            }
            let thread = builder
                .spawn(move || {
                    let id = rustix::thread::gettid();
                    processor.thread.store(id.as_raw_nonzero().get(), Ordering::Relaxed);
                    work(&gate, index, &processor.vcpu, &life);
                })
                .map_err(|error| format!("qemu_thread_create: {error}"))?;
            self.threads.lock().push(thread);
        }
        Ok(())
    }

    pub(crate) fn count(&self) -> usize {
        self.processors.len()
    }

    /// The host's id of a processor's thread, once it has started.
    pub(crate) fn thread_id(&self, index: usize) -> Option<i32> {
        let id = self.processors.get(index)?.thread.load(Ordering::Relaxed);
        (id != 0).then_some(id)
    }

    /// Looks at a processor, or changes it, while it stands. Not from a processor's own thread.
    pub(crate) fn with<R>(&self, index: usize, look: impl FnOnce(&mut dyn Vcpu) -> R) -> Option<R> {
        let processor = self.processors.get(index)?;
        Some(self.gate.visit(index, || look(&mut **processor.vcpu.lock())))
    }

    /// Keeps a processor standing when the others run, or not any longer. Not from a processor's own thread.
    pub(crate) fn set_frozen(&self, index: usize, frozen: bool) {
        self.gate.set_frozen(index, frozen);
    }

    /// Ends the threads.
    pub(crate) fn join(&self) {
        self.gate.quit();
        for thread in std::mem::take(&mut *self.threads.lock()) {
            let _ = thread.join();
        }
    }
}

fn work(gate: &Gate, index: usize, vcpu: &Mutex<Box<dyn Vcpu>>, life: &Life) {
    let signals = gate.signals[index].clone();
    while gate.pass(index) {
        let (exit, mask) = {
            let mut vcpu = vcpu.lock();
            (vcpu.run(), vcpu.wake_mask())
        };
        match exit {
            Exit::Interrupted => {}
            Exit::Halted => signals.wait(mask | Event::Exit as u32, None),
            Exit::Shutdown => {
                life.triple_fault();
                signals.wait(Event::Exit as u32, None);
            }
            Exit::Debug => {
                if let Some(stop) = vcpu.lock().take_debug_stop() {
                    life.debugged(index, stop);
                }
            }
            Exit::Failed => {
                life.internal_error();
                signals.wait(Event::Exit as u32, None);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn pausing_waits_until_all_stand_and_a_hold_outlasts_a_resume() {
        let signals: Vec<_> = (0..2).map(|_| Arc::new(CpuSignals::new())).collect();
        let gate = Gate::new(signals.clone());
        let laps = Arc::new(AtomicI32::new(0));
        let threads: Vec<_> = (0..2)
            .map(|index| {
                let (gate, signals, laps) = (gate.clone(), signals[index].clone(), laps.clone());
                std::thread::spawn(move || {
                    while gate.pass(index) {
                        laps.fetch_add(1, Ordering::SeqCst);
                        signals.wait(Event::Exit as u32, None);
                    }
                })
            })
            .collect();
        let until = |wanted: i32| {
            while laps.load(Ordering::SeqCst) < wanted {
                std::thread::sleep(Duration::from_millis(1));
            }
        };
        gate.resume();
        until(2);
        gate.pause();
        let seen = laps.load(Ordering::SeqCst);
        gate.hold();
        gate.resume();
        assert_eq!(gate.visit(1, || laps.load(Ordering::SeqCst)), seen, "held");
        gate.release();
        until(seen + 2);
        gate.quit();
        for thread in threads {
            thread.join().expect("thread");
        }
    }
}
