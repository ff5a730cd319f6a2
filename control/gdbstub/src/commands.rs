//! What packets ask for.

use crate::Session;
use crate::packet::{self, hex, unhex};
use crate::registers::{self, COUNT};
use crate::resume::{self, Refusal, Thread};
use crate::session::{Action, Point, STEP_BITS, State};

/// The packet is understood and cannot be followed.
const INVALID: &str = "E22";
/// There is no such register or memory.
const FAULT: &str = "E14";
const OK: &str = "OK";

impl Session {
    /// Does what a packet asks for; one that is not known gets the empty answer.
    pub(crate) fn handle(&self, state: &mut State, packet: &[u8]) {
        let text = String::from_utf8_lossy(packet);
        let (first, rest) = match text.char_indices().nth(1) {
            Some((at, _)) => text.split_at(at),
            None => (&*text, ""),
        };
        let answer = match first {
            "?" => {
                self.remove_points(state);
                format!("T05thread:{};", state.thread(state.resumed))
            }
            "!" => OK.to_owned(),
            "c" | "C" | "s" | "S" => return self.resume(state, first, rest),
            "g" => {
                let (registers, cr8) = self.target.registers(state.looked_at);
                let mut bytes = Vec::new();
                for n in 0..COUNT {
                    registers::read(&registers, cr8, n, &mut bytes);
                }
                hex(&bytes)
            }
            "G" => answer(self.write_all_registers(state, rest)),
            "p" => self.read_register(state, rest).unwrap_or(FAULT.to_owned()),
            "P" => answer(self.write_register(state, rest)),
            "m" => self.read_memory(state, rest),
            "M" => answer(self.write_memory(state, rest)),
            "H" => answer(self.choose(state, rest)),
            "T" => match resume::thread(rest, self.target.cpu_count()) {
                Some(_) => OK.to_owned(),
                None => INVALID.to_owned(),
            },
            "Z" | "z" => match point(rest) {
                Some(Ok(point)) => answer(self.change_point(state, point, first == "Z")),
                Some(Err(refusal)) => refusal.to_owned(),
                None => INVALID.to_owned(),
            },
            "D" => {
                self.remove_points(state);
                self.send(state, OK.as_bytes());
                // Nobody waits for its end any more.
                self.target.cont();
                return;
            }
            "k" => return self.kill(),
            // Only a recorded run could go backward.
            "b" if matches!(rest, "c" | "s") => INVALID.to_owned(),
            "v" => return self.verbose(state, rest),
            "q" => return self.query(state, rest),
            "Q" => match self.set(state, rest) {
                Some(result) => answer(result),
                None => String::new(),
            },
            _ => String::new(),
        };
        self.send(state, answer.as_bytes());
    }

    fn kill(&self) {
        report::error_report!("QEMU: Terminated via GDBstub");
        self.target.quit();
    }

    /// `c [ADDRESS]`, `C SIGNAL`, and the same with a step. Signals mean nothing to a machine.
    fn resume(&self, state: &mut State, command: &str, rest: &str) {
        if matches!(command, "c" | "s") && !rest.is_empty() {
            let Some(address) = number(rest) else { return self.send(state, INVALID.as_bytes()) };
            let (mut registers, cr8) = self.target.registers(state.resumed);
            registers.rip = address;
            self.target.set_registers(state.resumed, &registers, cr8);
        }
        let mut actions = vec![Some(Action::Continue); self.target.cpu_count()];
        if matches!(command, "s" | "S") && state.step_flags & 1 != 0 {
            actions[state.resumed] = Some(Action::Step);
        }
        self.go(state, &actions);
    }

    fn write_all_registers(&self, state: &State, digits: &str) -> Result<(), &'static str> {
        let bytes = unhex(digits).ok_or(INVALID)?;
        let (mut registers, mut cr8) = self.target.registers(state.looked_at);
        let mut at = 0;
        for n in 0..COUNT {
            if at == bytes.len() {
                break;
            }
            at += registers::write(&mut registers, &mut cr8, n, &bytes[at..]).ok_or(FAULT)?;
        }
        self.target.set_registers(state.looked_at, &registers, cr8);
        Ok(())
    }

    fn read_register(&self, state: &State, digits: &str) -> Option<String> {
        let n = usize::try_from(number(digits)?).ok()?;
        let (registers, cr8) = self.target.registers(state.looked_at);
        let mut bytes = Vec::new();
        registers::read(&registers, cr8, n, &mut bytes).then(|| hex(&bytes))
    }

    fn write_register(&self, state: &State, text: &str) -> Result<(), &'static str> {
        let (n, value) = text.split_once('=').ok_or(INVALID)?;
        let n = number(n).and_then(|n| usize::try_from(n).ok()).ok_or(INVALID)?;
        let value = unhex(value).ok_or(INVALID)?;
        let (mut registers, mut cr8) = self.target.registers(state.looked_at);
        registers::write(&mut registers, &mut cr8, n, &value).ok_or(FAULT)?;
        self.target.set_registers(state.looked_at, &registers, cr8);
        Ok(())
    }

    fn read_memory(&self, state: &State, text: &str) -> String {
        let Some((address, length)) = pair(text) else { return INVALID.to_owned() };
        // Two digits a byte.
        let length = usize::try_from(length).ok().filter(|length| *length <= packet::LARGEST / 2);
        let Some(mut bytes) = length.map(|length| vec![0; length]) else { return INVALID.to_owned() };
        if self.target.read(state.looked_at, state.physical, address, &mut bytes) {
            hex(&bytes)
        } else {
            FAULT.to_owned()
        }
    }

    fn write_memory(&self, state: &State, text: &str) -> Result<(), &'static str> {
        let (place, digits) = text.split_once(':').ok_or(INVALID)?;
        let (address, length) = pair(place).ok_or(INVALID)?;
        let bytes = unhex(digits).filter(|bytes| bytes.len() as u64 == length).ok_or(INVALID)?;
        let written = self.target.write(state.looked_at, state.physical, address, &bytes);
        if written { Ok(()) } else { Err(FAULT) }
    }

    /// `Hc THREAD`, `Hg THREAD`.
    fn choose(&self, state: &mut State, text: &str) -> Result<(), &'static str> {
        let what = text.as_bytes().first().ok_or(INVALID)?;
        let thread = text.get(1..).and_then(|text| resume::thread(text, self.target.cpu_count()));
        let thread = thread.ok_or(INVALID)?;
        match (what, thread) {
            (_, Thread::All) => {}
            (b'c', Thread::One(cpu)) => state.resumed = cpu,
            (b'g', Thread::One(cpu)) => state.looked_at = cpu,
            _ => return Err(INVALID),
        }
        Ok(())
    }

    fn change_point(&self, state: &mut State, point: Point, insert: bool) -> Result<(), &'static str> {
        const MOST: usize = 4096;
        let found = state.points.iter().position(|known| *known == point);
        match (found, insert) {
            _ if point.kind >= 2
                && (point.length == 0 || point.address.checked_add(point.length - 1).is_none()) =>
            {
                report::error_report!(
                    "tried to set invalid watchpoint at {:x}, len={}",
                    point.address,
                    point.length
                );
                return Err(INVALID);
            }
            // The same one twice has to be removed twice.
            (_, true) if state.points.len() < MOST => state.points.push(point),
            (Some(n), false) => drop(state.points.remove(n)),
            _ => return Err(INVALID),
        }
        self.points_changed(state);
        Ok(())
    }

    fn verbose(&self, state: &mut State, text: &str) {
        if text == "Cont?" {
            return self.send(state, b"vCont;c;C;s;S");
        }
        if let Some(actions) = text.strip_prefix("Cont;") {
            return match resume::actions(actions, self.target.cpu_count()) {
                Ok(actions) => self.go(state, &actions),
                Err(Refusal::Unsupported) => self.send(state, b""),
                Err(Refusal::Invalid) => self.send(state, INVALID.as_bytes()),
            };
        }
        if let Some(process) = text.strip_prefix("Attach;") {
            let known = number(process) == Some(1);
            if known {
                (state.resumed, state.looked_at) = (0, 0);
            }
            let text = if known { format!("T05thread:{};", state.thread(0)) } else { INVALID.to_owned() };
            return self.send(state, text.as_bytes());
        }
        if text.starts_with("Kill;") {
            self.send(state, OK.as_bytes());
            return self.kill();
        }
        self.send(state, b"");
    }

    fn query(&self, state: &mut State, text: &str) {
        let (name, rest) = text.split_once([':', ',']).unwrap_or((text, ""));
        let threads = || {
            let names: Vec<String> = (0..self.target.cpu_count()).map(|cpu| state.thread(cpu)).collect();
            names.join(",")
        };
        let answer = match name {
            "Supported" => {
                state.multiprocess = rest.split(';').any(|word| word == "multiprocess+");
                let size = packet::LARGEST;
                format!("PacketSize={size:x};qXfer:features:read+;vContSupported+;multiprocess+")
            }
            "C" => format!("QC{}", state.thread(state.looked_at)),
            "fThreadInfo" => format!("m{}", threads()),
            "sThreadInfo" => "l".to_owned(),
            "ThreadExtraInfo" => match resume::thread(rest, self.target.cpu_count()) {
                Some(Thread::One(cpu)) => {
                    let what = if self.target.is_halted(cpu) { "halted " } else { "running" };
                    hex(format!("CPU#{cpu} [{what}]").as_bytes())
                }
                _ => INVALID.to_owned(),
            },
            "Attached" => "1".to_owned(),
            "Xfer" => self.features(rest),
            "Rcmd" => {
                let Some(line) = unhex(rest) else { return self.send(state, INVALID.as_bytes()) };
                let text = self.target.monitor(&String::from_utf8_lossy(&line)).replace('\n', "\r\n");
                for part in text.as_bytes().chunks(packet::LARGEST / 2 - 1) {
                    self.send(state, format!("O{}", hex(part)).as_bytes());
                }
                OK.to_owned()
            }
            "qemu.sstepbits" => {
                let words: Vec<String> =
                    STEP_BITS.iter().map(|(name, bit)| format!("{name}={bit}")).collect();
                words.join(",")
            }
            "qemu.sstep" => format!("0x{:x}", state.step_flags),
            "qemu.PhyMemMode" => u8::from(state.physical).to_string(),
            "qemu.Supported" => "sstepbits;sstep;PhyMemMode".to_owned(),
            _ => String::new(),
        };
        self.send(state, answer.as_bytes());
    }

    /// `features:read:FILE:OFFSET,LENGTH`.
    fn features(&self, text: &str) -> String {
        let Some((file, place)) = text.strip_prefix("features:read:").and_then(|rest| rest.split_once(':'))
        else {
            return String::new();
        };
        let text = match file {
            "target.xml" => registers::TARGET.to_owned(),
            registers::CORE => registers::description(),
            _ => return "E00".to_owned(),
        };
        let Some((from, length)) = pair(place) else { return INVALID.to_owned() };
        let Some(rest) = usize::try_from(from).ok().and_then(|from| text.get(from..)) else {
            return "E00".to_owned();
        };
        // The letter before it takes one.
        let most = usize::try_from(length).unwrap_or(usize::MAX).min(packet::LARGEST / 2 - 5);
        if rest.len() <= most { format!("l{rest}") } else { format!("m{}", &rest[..most]) }
    }

    fn set(&self, state: &mut State, text: &str) -> Option<Result<(), &'static str>> {
        if let Some(value) = text.strip_prefix("qemu.sstep=").or_else(|| text.strip_prefix("qemu.sstep:")) {
            let bits = number(value).and_then(|bits| u32::try_from(bits).ok()).filter(|bits| *bits < 8);
            return Some(bits.map(|bits| state.step_flags = bits).ok_or(INVALID));
        }
        let value = text.strip_prefix("qemu.PhyMemMode:")?;
        Some(number(value).map(|value| state.physical = value != 0).ok_or(INVALID))
    }
}

fn answer(result: Result<(), &'static str>) -> String {
    result.err().unwrap_or(OK).to_owned()
}

fn number(digits: &str) -> Option<u64> {
    u64::from_str_radix(digits, 16).ok().filter(|_| !digits.starts_with('+'))
}

/// `ADDRESS,LENGTH`.
fn pair(text: &str) -> Option<(u64, u64)> {
    let (first, second) = text.split_once(',')?;
    Some((number(first)?, number(second)?))
}

/// From `KIND,ADDRESS,LENGTH`; an inner error for a kind that there is not, or for conditions.
fn point(text: &str) -> Option<Result<Point, &'static str>> {
    let (kind, place) = text.split_once(',')?;
    let (address, length) = pair(place)?;
    let kind = number(kind)?;
    Some(if kind < 5 { Ok(Point { kind: kind as u8, address, length }) } else { Err("") })
}
