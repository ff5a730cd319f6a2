//! The monitor on a character device in memory, with a machine that records what it is told.

use crate::{MachineControl, Monitor, RunState, Topic};
use chardev::{Event, MemoryPeer, memory};
use parking_lot::Mutex;
use proptest::prelude::*;
use std::sync::Arc;

#[derive(Default)]
struct Machine {
    calls: Mutex<Vec<String>>,
}

impl Machine {
    fn note(&self, what: &str) {
        self.calls.lock().push(what.to_owned());
    }
}

impl MachineControl for Machine {
    fn stop(&self) {
        self.note("stop");
    }
    fn cont(&self) -> Result<(), String> {
        self.note("cont");
        Err("Resetting the Virtual Machine is required".to_owned())
    }
    fn reset(&self) {
        self.note("reset");
    }
    fn powerdown(&self) {
        self.note("powerdown");
    }
    fn wake(&self) -> Result<(), String> {
        Err("Unable to wake up: guest is not in suspended state".to_owned())
    }
    fn quit(&self) {
        self.note("quit");
    }
    fn nmi(&self) -> Result<(), String> {
        self.note("nmi");
        Ok(())
    }
    fn run_state(&self) -> RunState {
        RunState { running: false, name: "prelaunch" }
    }
    fn name(&self) -> Option<String> {
        Some("vm".to_owned())
    }
    fn uuid(&self) -> Option<[u8; 16]> {
        None
    }
    fn cpu_count(&self) -> usize {
        2
    }
    fn cpu_thread(&self, cpu: usize) -> Option<i32> {
        i32::try_from(cpu + 100).ok()
    }
    fn registers(&self, cpu: usize) -> String {
        format!("RAX={cpu:016x}\n")
    }
    fn register(&self, _cpu: usize, name: &str) -> Option<u64> {
        (name == "rip").then_some(0x1000)
    }
    fn code_bits(&self, _cpu: usize) -> u32 {
        64
    }
    fn accelerator(&self) -> &'static str {
        "tcg"
    }
    fn ram(&self) -> u64 {
        0x100_0000
    }
    fn send_keys(&self, keys: &[u16], hold_ms: u64) {
        self.note(&format!("keys {keys:x?} {hold_ms}"));
    }
    fn ringbuf_read(&self, id: &str, _max: usize) -> Result<Vec<u8>, String> {
        if id == "r" { Ok(b"a\\\x01\n".to_vec()) } else { Err(format!("Device '{id}' not found")) }
    }
    fn read_virtual(&self, _cpu: usize, address: u64, bytes: &mut [u8]) -> bool {
        self.read_physical(address, bytes)
    }
    fn read_physical(&self, address: u64, bytes: &mut [u8]) -> bool {
        for (index, byte) in bytes.iter_mut().enumerate() {
            *byte = address.wrapping_add(index as u64) as u8;
        }
        address < 0x8000_0000
    }
    fn port_in(&self, _port: u16, _size: usize) -> u32 {
        0xff
    }
    fn port_out(&self, port: u16, size: usize, value: u32) {
        self.note(&format!("out {port:x} {size} {value:x}"));
    }
    fn create_file(&self, name: &str) -> std::io::Result<Box<dyn std::io::Write>> {
        self.note(&format!("create {name}"));
        if name == "bad" { Err(std::io::ErrorKind::NotFound.into()) } else { Ok(Box::new(std::io::sink())) }
    }
    fn set_log_items(&self, mask: u32) -> Result<(), String> {
        self.note(&format!("log {mask:x}"));
        Ok(())
    }
    fn set_log_file(&self, name: &str) -> Result<(), String> {
        Err(format!("Bad logfile template: {name}"))
    }
    fn set_watchdog_action(&self, action: &str) -> bool {
        action == "none"
    }
    fn info(&self, topic: Topic, cpu: usize) -> String {
        format!("{topic:?} {cpu}")
    }
    fn chardevs(&self) -> Vec<(String, String)> {
        vec![("serial0".to_owned(), "null".to_owned())]
    }
}

fn start() -> (Arc<Machine>, Arc<Monitor>, MemoryPeer) {
    let machine = Arc::new(Machine::default());
    let (front, peer) = memory("mon");
    let monitor = Monitor::attach(front, machine.clone());
    peer.event(Event::Open);
    let banner = String::from_utf8(peer.take_output()).expect("text");
    assert_eq!(banner, "QEMU 9.1.0 monitor - type 'help' for more information\r\n(qemu) ");
    (machine, monitor, peer)
}

/// What a command prints, without echo and prompt.
fn answer(peer: &MemoryPeer, line: &str) -> String {
    peer.send(line.as_bytes());
    peer.send(b"\n");
    let all = String::from_utf8(peer.take_output()).expect("text").replace('\r', "");
    let text = all.split_once('\n').expect("echo ends").1;
    text.strip_suffix("(qemu) ").expect("prompt").to_owned()
}

#[test]
fn typing_is_echoed_as_qemu_echoes_it() {
    let (machine, _monitor, peer) = start();
    peer.send(b"qui");
    assert_eq!(peer.take_output(), b"q\x1b[K\x1b[Dqu\x1b[K\x1b[D\x1b[Dqui\x1b[K");
    peer.send(b"\x7f\t\r");
    assert!(peer.take_output().ends_with(b"\r\n"));
    assert_eq!(*machine.calls.lock(), ["quit"]);
    peer.send(b"\x1b[A");
    assert_eq!(peer.take_output(), b"quit \x1b[K");
}

#[test]
fn answers() {
    let (machine, _monitor, peer) = start();
    for (line, text) in [
        ("foo", "unknown command: 'foo'\n"),
        ("info foo", "unknown command: 'info foo'\n"),
        ("info status", "VM status: paused (prelaunch)\n"),
        ("info name", "vm\n"),
        ("info uuid", "00000000-0000-0000-0000-000000000000\n"),
        ("info cpus", "* CPU #0: thread_id=100\n  CPU #1: thread_id=101\n"),
        ("info chardev", "serial0: filename=null\n"),
        ("x/4xb 0", "0000000000000000: 0x00 0x01 0x02 0x03\n"),
        ("xp/2xg 0x1000", "0000000000001000: 0x0706050403020100 0x0f0e0d0c0b0a0908\n"),
        ("x /3dw $rip-0x1000", "0000000000000000:   50462976  117835012  185207048\n"),
        ("x 0x80000000", "0000000080000000: Cannot access memory\n"),
        ("p 1+2*3", "7\n"),
        ("p/x 255", "0xff\n"),
        ("print $foo", "unknown register\nTry \"help print\" for more information\n"),
        ("print (1", "')' expected\nTry \"help print\" for more information\n"),
        ("print 1/0", "division by zero\nTry \"help print\" for more information\n"),
        ("x", "unexpected end of expression\nTry \"help x\" for more information\n"),
        ("x/4xq 0", "invalid char in format: 'q'\nTry \"help x\" for more information\n"),
        (
            "xp/2i 0x90",
            "0x00000090:  90                       nop      \n0x00000091:  91                       xchgl    %eax, %ecx\n",
        ),
        ("x/i 0x7fffffff", "0x7fffffff: unable to read memory\n"),
        (
            "stop foo",
            "stop|s: extraneous characters at the end of line\nTry \"help stop\" for more information\n",
        ),
        (
            "info chardev x",
            "chardev: extraneous characters at the end of line\nTry \"help info chardev\" for more information\n",
        ),
        ("sum 0 16", "00032\n"),
        ("log", "log: string expected\nTry \"help log\" for more information\n"),
        ("log none", ""),
        ("watchdog_action none", ""),
        ("watchdog_action foo", "Error: invalid parameter value: foo\n"),
        ("log op", "log item 'op' is not supported by this build\n"),
        ("logfile %x", "Bad logfile template: %x\n"),
        ("memsave 0 5000 f", ""),
        ("pmemsave 0x7ffff000 0x2000 f", "Error: Invalid addr 0x0000000080000000/size 8192 specified\n"),
        ("memsave 0 1 bad", "Error: Could not open 'bad': entity not found\n"),
        ("memsave 0 1", "memsave: filename expected\nTry \"help memsave\" for more information\n"),
        ("sendkey ctrl-alt-f1", ""),
        ("sendkey foo", "invalid parameter: foo\n"),
        ("sendkey a 5", ""),
        ("info kvm", "kvm support: disabled\n"),
        ("info memory_size_summary", "base memory: 16777216\nplugged memory: 0\n"),
        ("info registers 7", "CPU#7 not available\n"),
        ("ringbuf_read r 5", "a\\\\\\u0001\n\n"),
        ("ringbuf_read q 5", "Error: Device 'q' not found\n"),
        ("cpu 5", "invalid CPU index\n"),
        ("cpu 1", ""),
        ("info lapic", "Lapic 1\n"),
        ("i/b 0x80", "portb[0x0080] = 0xff\n"),
        ("o/b 0x80 1", ""),
        ("system_reset", ""),
        ("system_wakeup", "Error: Unable to wake up: guest is not in suspended state\n"),
        ("c", "Error: Resetting the Virtual Machine is required\n"),
    ] {
        assert_eq!(answer(&peer, line), text, "{line}");
    }
    assert_eq!(
        *machine.calls.lock(),
        [
            "log 0",
            "create f",
            "create f",
            "create bad",
            "keys [1d, 38, 3b] 100",
            "keys [1e] 5",
            "out 80 1 1",
            "reset",
            "cont"
        ]
    );
    assert!(
        answer(&peer, "log foo")
            .starts_with("Log items (comma separated):\nnone            remove all logs\n")
    );
    assert!(answer(&peer, "help").contains("quit|q  -- quit the emulator\n"));
}

#[test]
fn output_waits_for_the_focus() {
    let (front, peer) = memory("mon");
    let _monitor = Monitor::attach(front, Arc::new(Machine::default()));
    peer.event(Event::MuxOut);
    peer.event(Event::Open);
    assert!(peer.take_output().is_empty());
    peer.event(Event::MuxIn);
    let text = String::from_utf8(peer.take_output()).expect("text");
    assert_eq!(text, "QEMU 9.1.0 monitor - type 'help' for more information\r\n(qemu) ");
}

proptest! {
    #[test]
    fn any_bytes_are_handled(bytes: Vec<u8>) {
        let (_machine, _monitor, peer) = start();
        peer.send(&bytes);
        peer.send(b"\n");
    }

    #[test]
    fn any_command_is_handled(line in "(x|xp|p|print|i|o|cpu|info|help)[ /]?[-0-9oxduicbhwg]{0,4} ?[-0-9x+*/%()$a-f'&|^~ ]{0,12}") {
        let (_machine, _monitor, peer) = start();
        let line = line.replace(|c: char| c.is_control(), "");
        peer.send(line.as_bytes());
        peer.send(b"\n");
        prop_assert!(peer.take_output().ends_with(b"(qemu) "));
    }
}
