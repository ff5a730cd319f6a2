//! The 16550A.

use chardev::{CharFrontend, Event, Handler};
use clock::{Clock, NANOS, Timer};
use guestmem::{IoHandler, IoRules, Region};
use irq::IrqLine;
use parking_lot::Mutex;
use std::collections::VecDeque;
use std::sync::{Arc, Weak};

const FIFO: usize = 16;

// IER: which events interrupt.
const IER_RX: u8 = 1;
const IER_THRE: u8 = 2;
const IER_LINE: u8 = 4;
const IER_MODEM: u8 = 8;
// IIR: what interrupts.
const IIR_NONE: u8 = 1;
const IIR_MODEM: u8 = 0;
const IIR_THRE: u8 = 2;
const IIR_RX: u8 = 4;
const IIR_LINE: u8 = 6;
const IIR_TIMEOUT: u8 = 0xc;
const IIR_FIFO: u8 = 0xc0;
// LCR.
const LCR_DLAB: u8 = 0x80;
// MCR.
const MCR_LOOP: u8 = 0x10;
const MCR_OUT2: u8 = 8;
// LSR.
const LSR_DR: u8 = 1;
const LSR_OE: u8 = 2;
const LSR_BI: u8 = 0x10;
const LSR_INT: u8 = 0x1e;
const LSR_THRE: u8 = 0x20;
const LSR_TEMT: u8 = 0x40;
// MSR.
const MSR_CTS: u8 = 0x10;
const MSR_DSR: u8 = 0x20;
const MSR_RI: u8 = 0x40;
const MSR_DCD: u8 = 0x80;

/// What may differ between ports.
#[derive(Clone, Copy, Debug)]
pub struct SerialConfig {
    /// Bits per second with divisor 1 (the input clock divided by 16).
    pub baudbase: u32,
}

impl Default for SerialConfig {
    fn default() -> Self {
        Self { baudbase: 115_200 }
    }
}

#[derive(Clone, PartialEq, Eq, Debug)]
struct State {
    divisor: u16,
    ier: u8,
    iir: u8,
    lcr: u8,
    mcr: u8,
    lsr: u8,
    msr: u8,
    scratch: u8,
    fcr: u8,
    /// The receive buffer of a port without FIFO.
    rbr: u8,
    received: VecDeque<u8>,
    trigger: usize,
    /// The transmitter-empty interrupt is pending.
    thre_pending: bool,
    timeout_pending: bool,
    /// Bytes that the back end has not taken yet.
    sending: VecDeque<u8>,
    /// A call of the back end is under way or awaited.
    waiting: bool,
    timeout_at: Option<u64>,
}

impl State {
    fn reset() -> Self {
        Self {
            divisor: 12,
            ier: 0,
            iir: IIR_NONE,
            lcr: 0,
            mcr: MCR_OUT2,
            lsr: LSR_TEMT | LSR_THRE,
            msr: MSR_DCD | MSR_DSR | MSR_CTS,
            scratch: 0,
            fcr: 0,
            rbr: 0,
            received: VecDeque::new(),
            trigger: 1,
            thre_pending: false,
            timeout_pending: false,
            sending: VecDeque::new(),
            waiting: false,
            timeout_at: None,
        }
    }

    fn fifo(&self) -> bool {
        self.fcr & 1 != 0
    }

    /// Finds the highest-priority event and returns the interrupt line's level.
    fn evaluate(&mut self) -> bool {
        let iir = if self.ier & IER_LINE != 0 && self.lsr & LSR_INT != 0 {
            IIR_LINE
        } else if self.ier & IER_RX != 0 && self.timeout_pending {
            IIR_TIMEOUT
        } else if self.ier & IER_RX != 0
            && self.lsr & LSR_DR != 0
            && (!self.fifo() || self.received.len() >= self.trigger)
        {
            IIR_RX
        } else if self.ier & IER_THRE != 0 && self.thre_pending {
            IIR_THRE
        } else if self.ier & IER_MODEM != 0 && self.msr & 0xf != 0 {
            IIR_MODEM
        } else {
            IIR_NONE
        };
        self.iir = iir | if self.fifo() { IIR_FIFO } else { 0 };
        iir != IIR_NONE
    }

    /// Takes a received byte.
    fn push(&mut self, byte: u8) {
        if self.fifo() {
            if self.received.len() < FIFO {
                self.received.push_back(byte);
            } else {
                self.lsr |= LSR_OE;
            }
        } else {
            if self.lsr & LSR_DR != 0 {
                self.lsr |= LSR_OE;
            }
            self.rbr = byte;
        }
        self.lsr |= LSR_DR;
    }

    fn pop(&mut self) -> u8 {
        if self.fifo() {
            let byte = self.received.pop_front().unwrap_or(0);
            if self.received.is_empty() {
                self.lsr &= !(LSR_DR | LSR_BI);
            }
            self.timeout_pending = false;
            byte
        } else {
            self.lsr &= !(LSR_DR | LSR_BI);
            self.rbr
        }
    }

    fn room(&self) -> usize {
        match (self.mcr & MCR_LOOP != 0, self.fifo()) {
            (true, _) => 0,
            // Below the trigger level, up to it: the guest gets its interrupt before more arrives.
            (_, true) if self.received.len() >= FIFO => 0,
            (_, true) if self.received.len() < self.trigger => self.trigger - self.received.len(),
            (_, true) => 1,
            (_, false) => usize::from(self.lsr & LSR_DR == 0),
        }
    }

    /// The modem lines as they read: the back end's, or the loop's.
    fn modem_status(&self) -> u8 {
        if self.mcr & MCR_LOOP == 0 {
            return self.msr;
        }
        // OUT2, OUT1, DTR, RTS come back as DCD, RI, DSR, CTS.
        (self.mcr & 0xc) << 4 | (self.mcr & 2) << 3 | (self.mcr & 1) << 5
    }

    fn write_fcr(&mut self, value: u8) {
        let changed = (value ^ self.fcr) & 1 != 0;
        if value & 2 != 0 || changed {
            self.lsr &= !(LSR_DR | LSR_BI);
            self.timeout_pending = false;
            self.received.clear();
        }
        if value & 4 != 0 || changed {
            self.sending.clear();
            self.lsr |= LSR_THRE | LSR_TEMT;
            self.thre_pending = true;
        }
        self.fcr = value & 0xc9;
        self.trigger = match (value & 1, value >> 6) {
            (0, _) | (_, 0) => 1,
            (_, 1) => 4,
            (_, 2) => 8,
            _ => 14,
        };
    }
}

/// One serial port.
pub struct Serial {
    me: Weak<Self>,
    config: SerialConfig,
    clock: Clock,
    irq: IrqLine,
    timer: Timer,
    front: Option<CharFrontend>,
    state: Mutex<State>,
    /// Held while the line is driven, so that levels arrive in the order they were computed.
    wire: Mutex<bool>,
}

impl Serial {
    /// A port in its reset state, connected to `front` (nothing: output is dropped).
    pub fn new(clock: &Clock, irq: IrqLine, front: Option<CharFrontend>, config: SerialConfig) -> Arc<Self> {
        let serial = Arc::new_cyclic(|weak: &Weak<Self>| {
            let me = weak.clone();
            Self {
                me: weak.clone(),
                config,
                clock: clock.clone(),
                irq,
                timer: clock.timer(move || {
                    if let Some(serial) = me.upgrade() {
                        serial.timed_out();
                    }
                }),
                front,
                state: Mutex::new(State::reset()),
                wire: Mutex::new(false),
            }
        });
        if let Some(front) = &serial.front {
            let handler: Weak<dyn Handler> = Arc::downgrade(&(serial.clone() as Arc<dyn Handler>));
            front.set_handler(Some(handler));
        }
        serial
    }

    /// The eight registers.
    pub fn region(self: &Arc<Self>) -> Region {
        Region::io("serial", 8, self.clone(), IoRules::BYTES)
    }

    /// System reset.
    pub fn reset(&self) {
        {
            let mut state = self.state.lock();
            let waiting = state.waiting;
            *state = State { waiting, ..State::reset() };
            self.timer.disarm();
        }
        self.update();
        self.accept();
    }

    fn update(&self) {
        let mut wire = self.wire.lock();
        let level = self.state.lock().evaluate();
        if *wire != level {
            *wire = level;
            self.irq.set(level);
        }
    }

    fn accept(&self) {
        if let Some(front) = &self.front {
            front.accept_input();
        }
    }

    /// The time of one character, in nanoseconds.
    fn character(&self, state: &State) -> u64 {
        let data = 5 + u64::from(state.lcr & 3);
        let parity = u64::from(state.lcr >> 3 & 1);
        let stop = 1 + u64::from(state.lcr >> 2 & 1);
        let bits = 1 + data + parity + stop;
        let divisor = u64::from(state.divisor.max(1));
        (bits * NANOS).saturating_mul(divisor) / u64::from(self.config.baudbase.max(1))
    }

    fn set_timeout(&self, state: &mut State) {
        if state.fifo() && !state.received.is_empty() {
            let at = self.clock.now().saturating_add(4 * self.character(state));
            state.timeout_at = Some(at);
            self.timer.arm(at);
        } else {
            state.timeout_at = None;
            self.timer.disarm();
        }
    }

    fn timed_out(&self) {
        {
            let mut state = self.state.lock();
            if state.timeout_at.is_none_or(|at| at > self.clock.now()) {
                return;
            }
            state.timeout_at = None;
            if !state.received.is_empty() {
                state.timeout_pending = true;
            }
        }
        self.update();
    }

    /// Offers what is to be sent to the back end.
    fn transmit(&self) {
        let mut state = self.state.lock();
        if state.waiting || state.sending.is_empty() {
            return;
        }
        if state.mcr & MCR_LOOP != 0 {
            while let Some(byte) = state.sending.pop_front() {
                state.push(byte);
            }
            self.set_timeout(&mut state);
        } else if let Some(front) = &self.front {
            let bytes: Vec<u8> = state.sending.iter().copied().collect();
            let taken = front.write(&bytes).min(bytes.len());
            state.sending.drain(..taken);
            if taken < bytes.len() {
                state.waiting = true;
                let me = self.me.clone();
                drop(state);
                front.on_writable(move || {
                    if let Some(serial) = me.upgrade() {
                        serial.state.lock().waiting = false;
                        serial.transmit();
                        serial.update();
                    }
                });
                return;
            }
        } else {
            state.sending.clear();
        }
        state.lsr |= LSR_THRE | LSR_TEMT;
        state.thre_pending = true;
    }

    fn write_byte(&self, offset: u64, value: u8) {
        let mut send = false;
        let mut accept = false;
        {
            let mut state = self.state.lock();
            match offset {
                0 if state.lcr & LCR_DLAB != 0 => {
                    state.divisor = state.divisor & 0xff00 | u16::from(value);
                }
                0 => {
                    state.thre_pending = false;
                    state.lsr &= !(LSR_THRE | LSR_TEMT);
                    let limit = if state.fifo() { FIFO } else { 1 };
                    if state.sending.len() >= limit {
                        // Too fast for the back end: the oldest byte is overwritten.
                        state.sending.pop_front();
                    }
                    state.sending.push_back(value);
                    send = true;
                }
                1 if state.lcr & LCR_DLAB != 0 => {
                    state.divisor = state.divisor & 0xff | u16::from(value) << 8;
                }
                1 => {
                    let changed = (state.ier ^ value) & 0xf;
                    state.ier = value & 0xf;
                    // Enabling the transmitter's interrupt while it is empty raises it at once.
                    if changed & IER_THRE != 0 {
                        state.thre_pending = state.ier & IER_THRE != 0 && state.lsr & LSR_THRE != 0;
                    }
                }
                2 => {
                    state.write_fcr(value);
                    accept = true;
                }
                3 => state.lcr = value,
                4 => {
                    state.mcr = value & 0x1f;
                    accept = true;
                }
                7 => state.scratch = value,
                _ => {}
            }
        }
        if send {
            self.transmit();
        }
        self.update();
        if accept {
            self.accept();
        }
    }

    fn read_byte(&self, offset: u64) -> u8 {
        let mut accept = false;
        let value = {
            let mut state = self.state.lock();
            let dlab = state.lcr & LCR_DLAB != 0;
            match offset {
                0 if dlab => state.divisor.to_le_bytes()[0],
                0 => {
                    let byte = state.pop();
                    self.set_timeout(&mut state);
                    accept = true;
                    byte
                }
                1 if dlab => state.divisor.to_le_bytes()[1],
                1 => state.ier,
                2 => {
                    state.evaluate();
                    let iir = state.iir;
                    if iir & 0xf == IIR_THRE {
                        state.thre_pending = false;
                    }
                    iir
                }
                3 => state.lcr,
                4 => state.mcr,
                5 => {
                    let lsr = state.lsr;
                    // Reading shows the errors once.
                    state.lsr &= !(LSR_BI | LSR_OE);
                    lsr
                }
                6 => {
                    let msr = state.modem_status();
                    if state.mcr & MCR_LOOP == 0 {
                        // Reading clears the delta bits.
                        state.msr &= 0xf0;
                    }
                    msr
                }
                _ => state.scratch,
            }
        };
        self.update();
        if accept {
            self.accept();
        }
        value
    }

    /// Sets the modem lines that the other side drives; changes are shown in the delta bits.
    pub fn set_modem_lines(&self, cts: bool, dsr: bool, ri: bool, dcd: bool) {
        {
            let mut state = self.state.lock();
            let old = state.msr;
            let mut new = 0;
            for (on, bit) in [(cts, MSR_CTS), (dsr, MSR_DSR), (ri, MSR_RI), (dcd, MSR_DCD)] {
                new |= if on { bit } else { 0 };
            }
            // CTS, DSR and DCD report any change, RI its trailing edge only.
            let mut delta = (new ^ old) >> 4;
            if old & MSR_RI == 0 {
                delta &= !4;
            }
            state.msr = new | old & 0xf | delta & 0xf;
        }
        self.update();
    }
}

impl IoHandler for Serial {
    fn read(&self, offset: u64, _size: u8) -> u64 {
        self.read_byte(offset & 7).into()
    }

    fn write(&self, offset: u64, _size: u8, value: u64) {
        self.write_byte(offset & 7, value.to_le_bytes()[0]);
    }
}

impl Handler for Serial {
    fn can_receive(&self) -> usize {
        self.state.lock().room()
    }

    fn receive(&self, bytes: &[u8]) {
        {
            let mut state = self.state.lock();
            for &byte in bytes {
                state.push(byte);
            }
            self.set_timeout(&mut state);
        }
        self.update();
    }

    fn event(&self, event: Event) {
        if event == Event::Break {
            {
                let mut state = self.state.lock();
                state.push(0);
                state.lsr |= LSR_BI;
            }
            self.update();
        }
    }
}

#[cfg(test)]
mod tests;
