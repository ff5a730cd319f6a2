use crate::{Session, Stopped, Target};
use accel::{DebugRequest, DebugStop, Watchpoint};
use chardev::MemoryPeer;
use parking_lot::Mutex;
use std::sync::Arc;
use x86::X86State;

/// Two vCPUs, a page of memory at 0x1000, and what was asked of them.
struct Machine {
    state: Mutex<X86State>,
    memory: Mutex<[u8; 256]>,
    running: Mutex<bool>,
    requests: Mutex<Vec<(usize, DebugRequest)>>,
    frozen: Mutex<[bool; 2]>,
}

impl Target for Machine {
    fn cpu_count(&self) -> usize {
        2
    }
    fn is_running(&self) -> bool {
        *self.running.lock()
    }
    fn is_halted(&self, cpu: usize) -> bool {
        cpu == 1
    }
    fn registers(&self, _cpu: usize) -> (X86State, u64) {
        (self.state.lock().clone(), 0)
    }
    fn set_registers(&self, _cpu: usize, state: &X86State, _cr8: u64) {
        *self.state.lock() = state.clone();
    }
    fn read(&self, _cpu: usize, _physical: bool, address: u64, bytes: &mut [u8]) -> bool {
        let memory = self.memory.lock();
        let Some(from) = address.checked_sub(0x1000).and_then(|at| memory.get(at as usize..)) else {
            return false;
        };
        from.get(..bytes.len()).is_some_and(|from| {
            bytes.copy_from_slice(from);
            true
        })
    }
    fn write(&self, _cpu: usize, _physical: bool, address: u64, bytes: &[u8]) -> bool {
        let mut memory = self.memory.lock();
        let Some(to) = address.checked_sub(0x1000).and_then(|at| memory.get_mut(at as usize..)) else {
            return false;
        };
        to.get_mut(..bytes.len()).is_some_and(|to| {
            to.copy_from_slice(bytes);
            true
        })
    }
    fn set_debugger(&self, cpu: usize, request: &DebugRequest) {
        self.requests.lock().push((cpu, request.clone()));
    }
    fn set_frozen(&self, cpu: usize, frozen: bool) {
        self.frozen.lock()[cpu] = frozen;
    }
    fn stop(&self) {
        *self.running.lock() = false;
    }
    fn cont(&self) -> bool {
        *self.running.lock() = true;
        true
    }
    fn quit(&self) {}
    fn monitor(&self, line: &str) -> String {
        format!("did {line}\n")
    }
}

struct Debugger {
    machine: Arc<Machine>,
    session: Arc<Session>,
    peer: MemoryPeer,
}

impl Debugger {
    fn new() -> Self {
        let machine = Arc::new(Machine {
            state: Mutex::new(X86State::default()),
            memory: Mutex::new([0; 256]),
            running: Mutex::new(false),
            requests: Mutex::default(),
            frozen: Mutex::new([false; 2]),
        });
        let (front, peer) = chardev::memory("gdb");
        let session = Session::attach(front, machine.clone());
        peer.event(chardev::Event::Open);
        Self { machine, session, peer }
    }

    /// What a packet is answered, without frame and acknowledgement.
    fn ask(&self, packet: &str) -> String {
        let sum = packet.bytes().fold(0u8, |sum, byte| sum.wrapping_add(byte));
        self.peer.send(format!("${packet}#{sum:02x}").as_bytes());
        let answer = String::from_utf8(self.peer.take_output()).expect("text");
        let answer = answer.strip_prefix('+').expect("acknowledged");
        let Some(text) = answer.strip_prefix('$') else { return String::new() };
        self.peer.send(b"+");
        text.split('#').next().unwrap_or("").to_owned()
    }
}

#[test]
fn memory_and_registers() {
    let d = Debugger::new();
    assert_eq!(d.ask("M1000,3:0102ff"), "OK");
    assert_eq!(d.ask("m1000,4"), "0102ff00");
    assert_eq!(d.ask("m0,4"), "E14");
    assert_eq!(d.ask("m1000,ffff"), "E22");
    assert_eq!(d.ask("M1000,2:01"), "E22");
    assert_eq!(d.ask("P7=8877665500000000"), "OK");
    assert_eq!(d.ask("p7"), "8877665500000000");
    assert_eq!(d.ask("P1b=0000000000000000"), "E14", "CR0");
    assert_eq!(d.ask("pff"), "E14");
    let all = d.ask("g");
    assert_eq!(d.ask(&format!("G{all}")), "OK");
    assert_eq!(d.ask("g"), all);
    for nonsense in [
        "m", "m1000", "mz,1", "M1000,1", "P", "Pz=1", "G0", "Hz1", "Hg9", "H", "Z9", "Z2,1,0", "vCont;", "T7",
    ] {
        let answer = d.ask(nonsense);
        assert!(answer.starts_with('E'), "{nonsense}: {answer}");
    }
    for unknown in ["", "j", "vFile:open:1", "qOffsets", "Qnothing", "Z5,0,1", "vMustReplyEmpty"] {
        assert_eq!(d.ask(unknown), "", "{unknown}");
    }
}

#[test]
fn the_description_comes_in_pieces() {
    let d = Debugger::new();
    let mut text = String::new();
    loop {
        let part = d.ask(&format!("qXfer:features:read:i386-64bit.xml:{:x},400", text.len()));
        text += &part[1..];
        if part.starts_with('l') {
            break;
        }
    }
    assert_eq!(text, crate::registers::description());
    assert_eq!(d.ask("qXfer:features:read:none.xml:0,400"), "E00");
    assert_eq!(d.ask("qXfer:features:read:target.xml:ffffff,400"), "E00");
}

#[test]
fn vcpus_go_on_as_told() {
    let d = Debugger::new();
    assert!(d.ask("qSupported:multiprocess+").contains("multiprocess+"));
    assert_eq!(d.ask("Z0,1234,1"), "OK");
    assert_eq!(d.ask("Z2,5678,4"), "OK");
    d.machine.requests.lock().clear();
    assert_eq!(d.ask("vCont;s:p1.2"), "");
    assert!(d.machine.is_running());
    assert_eq!(*d.machine.frozen.lock(), [true, false]);
    let (cpu, request) = d.machine.requests.lock().pop().expect("a request");
    let watchpoint = Watchpoint { address: 0x5678, length: 4, reads: false, writes: true };
    assert_eq!((cpu, request.step, request.hold_interrupts), (1, true, true));
    assert_eq!((request.breakpoints, request.watchpoints), (vec![0x1234], vec![watchpoint]));
    d.machine.stop();
    d.session.stopped(Stopped::Debug(1, DebugStop::Watchpoint(watchpoint)));
    let told = String::from_utf8(d.peer.take_output()).expect("text");
    assert!(told.starts_with("$T05thread:p01.02;watch:0000000000005678;#"), "{told}");
    d.peer.send(b"+");
    assert_eq!(*d.machine.frozen.lock(), [false, false]);
    assert!(!d.machine.requests.lock().last().expect("a request").1.step);
    // A stop that nobody waits for is not told.
    d.session.stopped(Stopped::Signal(2));
    assert!(d.peer.take_output().is_empty());
    // Whatever comes while it runs stops it.
    d.ask("c");
    d.peer.send(&[3]);
    assert!(!d.machine.is_running());
}

#[test]
fn a_monitor_s_line_is_followed() {
    let d = Debugger::new();
    let line: String = "info x".bytes().map(|byte| format!("{byte:02x}")).collect();
    let answer = d.ask(&format!("qRcmd,{line}"));
    assert_eq!(answer, "O64696420696e666f20780d0a");
    assert_eq!(d.ask("qRcmd,0"), "E22");
}
