//! Assembly and life of a virtual machine: from a [`cmdline::Plan`] to running processors.
#![forbid(unsafe_code)]

use accel::{Accelerator, Exit, VcpuSetup};
use chardev::Chardevs;
use clock::Clock;
use cmdline::Plan;
use eventloop::{EventLoop, LoopHandle};
use irq::{CpuSignals, Event};
use parking_lot::Mutex;
use pc::{Pc, PcConfig};
use qdev::{SystemControl, SystemRequest};
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

struct Control {
    handle: LoopHandle,
    cpus: Vec<Arc<CpuSignals>>,
    ended: Mutex<Option<i32>>,
}

impl Control {
    fn end(&self, status: i32) {
        self.ended.lock().get_or_insert(status);
        for cpu in &self.cpus {
            cpu.raise(Event::Exit);
        }
        self.handle.stop();
    }
}

impl SystemControl for Control {
    fn request(&self, request: SystemRequest) {
        match request {
            SystemRequest::Exit(status) => self.end(status),
            _ => self.end(0),
        }
    }
}

fn read(path: &str) -> Result<Vec<u8>, String> {
    std::fs::read(path).map_err(|e| format!("could not open kernel file '{path}': {e}"))
}

/// Makes the machine and runs it to its end.
///
/// # Errors
/// The text for the user.
pub fn run(plan: &Plan) -> Result<i32, String> {
    let event_loop = EventLoop::new().map_err(|e| e.to_string())?;
    let handle = event_loop.handle();
    let clock = Clock::new(&handle);
    let count = plan.smp.map_or(1, |s| s.cpus);
    let cpus: Vec<_> = (0..count).map(|_| Arc::new(CpuSignals::new())).collect();
    let control = Arc::new(Control { handle: handle.clone(), cpus: cpus.clone(), ended: Mutex::new(None) });
    let quit = control.clone();
    let chardevs = Chardevs::new(handle.clone(), move || quit.end(0));
    for c in &plan.chardevs {
        chardevs.create(&c.spec).map_err(|e| format!("{}: {e}", c.location))?;
    }
    let mut serials = Vec::new();
    for s in &plan.serials {
        serials.push(match s {
            Some(u) => Some(chardevs.claim(&u.chardev).map_err(|e| e.to_string())?),
            None => None,
        });
    }
    let config = x86::models::parse(plan.cpu.as_deref().unwrap_or("qemu64"))?;
    let realized = config.realize(&engine::supported_features(), Default::default(), 40)?;
    let board = Pc::new(PcConfig {
        ram: plan.ram,
        cpus: cpus.clone(),
        x2apic: realized.features.has("x2apic"),
        serials,
        rtc: SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_secs().cast_signed()),
        clock: clock.clone(),
        system: control.clone(),
    })
    .map_err(|e| e.to_string())?;
    board.firmware_setup();
    let layout = board.memory.layout;
    let map = boot::MemoryMap::pc(layout.below_4g, layout.above_4g, 0);
    let kernel = plan.kernel.as_deref().ok_or("no kernel")?;
    let mut modules = Vec::new();
    if let Some(initrd) = &plan.initrd {
        modules.push(boot::Module { data: read(initrd)?, command_line: String::new() });
    }
    let start = boot::load(
        &board.memory.memory,
        &map,
        &boot::BootRequest {
            kernel: read(kernel)?,
            kernel_name: kernel.to_owned(),
            command_line: plan.append.clone().unwrap_or_default(),
            modules,
            rsdp: 0,
            long_mode: realized.features.has("lm"),
        },
    )
    .map_err(|e| e.to_string())?;
    let tcg = engine::Tcg::new();
    let model = Arc::new(realized.table);
    clock.start();
    let mut threads = Vec::new();
    for (i, (signals, io)) in (0u32..).zip(cpus.iter().zip(&board.cpus)) {
        let mut vcpu = tcg.create_vcpu(VcpuSetup {
            index: i,
            apic_id: i,
            signals: signals.clone(),
            io: io.clone(),
            memory: board.memory.memory.clone(),
            model: model.clone(),
        })?;
        if i == 0 {
            vcpu.set_state(&start);
        }
        let (signals, control) = (signals.clone(), control.clone());
        threads.push(std::thread::spawn(move || {
            loop {
                if control.ended.lock().is_some() {
                    break;
                }
                match vcpu.run() {
                    Exit::Halted => signals.wait(vcpu.wake_mask(), None),
                    Exit::Interrupted => {
                        signals.take(Event::Exit);
                    }
                    Exit::Shutdown => {
                        eprintln!("triple fault rip {:x}", vcpu.state().rip);
                        control.end(1);
                    }
                    _ => control.end(1),
                }
            }
        }));
    }
    event_loop.run().map_err(|e| e.to_string())?;
    for t in threads {
        let _ = t.join();
    }
    let status = control.ended.lock().unwrap_or(0);
    Ok(status)
}
