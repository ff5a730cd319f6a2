//! Human monitor: any bytes typed, before a machine whose memory and registers say something and which touches no file.

use ::monitor::{MachineControl, Monitor, RunState, Topic};
use chardev::Event;
use std::io;
use std::sync::Arc;

/// Whether an input asks for honest work that takes long: `x/1000000`, the checksum of all memory.
fn is_long(data: &[u8]) -> bool {
    let numbers = data.split(|byte| !byte.is_ascii_alphanumeric());
    let large = numbers.into_iter().any(|word| word.iter().filter(|byte| byte.is_ascii_digit()).count() > 4);
    let sum = data.windows(2).any(|pair| pair == b"su");
    let simple = |byte: &u8| byte.is_ascii_alphanumeric() || b" \r\n".contains(byte);
    large || sum && !data.iter().all(simple) || sum && data.windows(2).any(|pair| pair == b"0x")
}

struct Machine;

impl MachineControl for Machine {
    fn stop(&self) {}
    fn cont(&self) -> Result<(), String> {
        Ok(())
    }
    fn reset(&self) {}
    fn powerdown(&self) {}
    fn wake(&self) -> Result<(), String> {
        Err("awake".to_owned())
    }
    fn quit(&self) {}
    fn nmi(&self) -> Result<(), String> {
        Ok(())
    }
    fn run_state(&self) -> RunState {
        RunState { running: true, name: "running" }
    }
    fn name(&self) -> Option<String> {
        Some("guest".to_owned())
    }
    fn uuid(&self) -> Option<[u8; 16]> {
        Some([7; 16])
    }
    fn cpu_count(&self) -> usize {
        2
    }
    fn cpu_thread(&self, cpu: usize) -> Option<i32> {
        i32::try_from(cpu).ok()
    }
    fn registers(&self, cpu: usize) -> String {
        assert!(cpu < 2, "a vCPU that exists");
        format!("RAX={cpu:016x}\n")
    }
    fn register(&self, cpu: usize, name: &str) -> Option<u64> {
        assert!(cpu < 2, "a vCPU that exists");
        name.starts_with(['r', 'e']).then_some(u64::MAX - name.len() as u64)
    }
    fn code_bits(&self, cpu: usize) -> u32 {
        [16, 64][cpu]
    }
    fn accelerator(&self) -> &'static str {
        "tcg"
    }
    fn ram(&self) -> u64 {
        1 << 24
    }
    fn send_keys(&self, keys: &[u16], _hold_ms: u64) {
        assert!(!keys.is_empty());
    }
    fn ringbuf_read(&self, id: &str, max: usize) -> Result<Vec<u8>, String> {
        if id == "r" { Ok(vec![b'\\'; max.min(64)]) } else { Err(format!("Device '{id}' not found")) }
    }
    fn read_virtual(&self, cpu: usize, address: u64, bytes: &mut [u8]) -> bool {
        assert!(cpu < 2, "a vCPU that exists");
        self.read_physical(address, bytes)
    }
    fn read_physical(&self, address: u64, bytes: &mut [u8]) -> bool {
        for (index, byte) in bytes.iter_mut().enumerate() {
            *byte = (address.wrapping_add(index as u64).wrapping_mul(0x9e37_79b9) >> 11) as u8;
        }
        // What follows is not there: saving ends early.
        !(0x1_0000..u64::MAX - 0x1000).contains(&address)
    }
    fn port_in(&self, port: u16, size: usize) -> u32 {
        assert!(matches!(size, 1 | 2 | 4));
        port.into()
    }
    fn port_out(&self, _port: u16, size: usize, _value: u32) {
        assert!(matches!(size, 1 | 2 | 4));
    }
    fn create_file(&self, _name: &str) -> io::Result<Box<dyn io::Write>> {
        Ok(Box::new(io::sink()))
    }
    fn set_log_items(&self, _mask: u32) -> Result<(), String> {
        Ok(())
    }
    fn set_log_file(&self, name: &str) -> Result<(), String> {
        report::log::file_name(name).map(drop).map_err(|error| error.to_string())
    }
    fn set_watchdog_action(&self, action: &str) -> bool {
        action.len() == 5
    }
    fn info(&self, topic: Topic, cpu: usize) -> String {
        assert!(cpu < 2, "a vCPU that exists");
        format!("{topic:?}")
    }
    fn chardevs(&self) -> Vec<(String, String)> {
        vec![("c".to_owned(), "null".to_owned())]
    }
}

/// The input: bytes as they are typed; control characters edit the line, a carriage return sends it.
pub fn run(data: &[u8]) {
    if is_long(data) {
        return;
    }
    let (front, peer) = chardev::memory("monitor");
    let _monitor = Monitor::attach(front, Arc::new(Machine));
    peer.event(Event::Open);
    peer.send(data);
    peer.send(b"\r");
    let shown = peer.take_output();
    assert!(shown.starts_with(b"QEMU 9.1.0 monitor"));
}
