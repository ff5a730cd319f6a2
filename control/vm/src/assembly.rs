//! From a plan to a machine, and its main loop.

use crate::accels::{self, Chosen};
use crate::chars;
use crate::control::Control;
use crate::debugger;
use crate::devices;
use crate::drives;
use crate::firmware;
use crate::globals;
use crate::image::Image;
use crate::life::Life;
use crate::machine::{Machine, Progress};
use crate::objects;
use crate::onboard;
use crate::vcpus::{Gate, Vcpus};
use accel::VcpuSetup;
use chardev::Chardevs;
use clock::Clock;
use cmdline::{Plan, RtcBase, RtcClock};
use eventloop::{EventLoop, LoopHandle, Ready, Watch};
use hostio::signals::Termination;
use irq::CpuSignals;
use monitor::Monitor;
use pc::{Identity, MachineOptions, MachineType, Pc, PcConfig};
use qdev::{BootOrder, Context, DeviceTree, Links};
use std::io;
use std::sync::{Arc, Weak};
use std::time::{SystemTime, UNIX_EPOCH};
use x86::models::Topology;

/// Why there is no machine. Without a text the user has been told already.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}", .0.as_deref().unwrap_or("reported"))]
pub struct Failed(pub Option<String>);

impl Failed {
    /// The user has been told.
    pub(crate) fn told() -> Self {
        Self(None)
    }

    /// The user is to read this.
    pub(crate) fn because(text: impl Into<String>) -> Self {
        Self(Some(text.into()))
    }
}

impl From<String> for Failed {
    fn from(text: String) -> Self {
        Self(Some(text))
    }
}

impl From<io::Error> for Failed {
    fn from(error: io::Error) -> Self {
        Self(Some(accels::reason(&error)))
    }
}

/// What the program brings along.
pub struct Setup<'a> {
    /// Called when the machine is made, before it starts: a daemon tells its caller.
    pub ready: Box<dyn FnOnce() -> io::Result<()> + 'a>,
}

/// Makes the machine and runs it to its end. Returns the process's exit status. To be called while the process has
/// one thread: signals are set up for all threads to come.
///
/// # Errors
/// The machine cannot be made.
pub fn run(plan: &Plan, setup: Setup<'_>) -> Result<i32, Failed> {
    let event_loop = EventLoop::new()?;
    let handle = event_loop.handle();
    let termination = Termination::take()?;
    if let Some(name) = &plan.name.process {
        let mut name = name.clone().into_bytes();
        name.retain(|&byte| byte != 0);
        name.truncate(15);
        let name = std::ffi::CString::new(name).unwrap_or_default();
        rustix::thread::set_name(&name).map_err(io::Error::from)?;
    }
    let machine = make(plan, &handle)?;
    let monitors = monitors(plan, &machine)?;
    let debugger = debugger::serve(plan, &machine)?;
    let _signals = watch_signals(termination, &handle, &machine.life)?;
    (setup.ready)()?;
    if !plan.start_stopped {
        machine.life.cont()?;
    }
    event_loop.run()?;
    machine.vcpus.join();
    drop(monitors);
    let status = machine.life.ended().unwrap_or(0);
    if let Some(debugger) = debugger {
        debugger.ended(status);
    }
    machine.chardevs.finish();
    Ok(status)
}

/// Reports the warnings that an error message begins with; gives the error itself.
fn after_warnings(message: String) -> String {
    let mut lines = message.lines().peekable();
    while let Some(warning) = lines.next_if(|line| line.starts_with("warning: ")) {
        report::warn_report!("{}", warning.trim_start_matches("warning: "));
    }
    lines.collect::<Vec<_>>().join("\n")
}

fn make(plan: &Plan, handle: &LoopHandle) -> Result<Arc<Machine>, Failed> {
    let clock = Clock::new(handle);
    let count = plan.smp.map_or(1, |smp| smp.cpus);
    let signals: Vec<_> = (0..count).map(|_| Arc::new(CpuSignals::new())).collect();
    let gate = Gate::new(signals.clone());
    let life = Life::new(handle.clone(), clock.clone(), gate.clone(), plan.actions);
    let quit = life.clone();
    let chardevs = Arc::new(Chardevs::new(handle.clone(), move || quit.quit()));
    let links = Arc::new(Links::default());
    links.insert(Chardevs::LINK, chardevs.clone());
    let boot_order = Arc::new(BootOrder::default());
    links.insert(BootOrder::LINK, boot_order.clone());
    devices::publish_cpus(&links, count);
    let Chosen { accelerator, features, host, phys_bits, shares_ram } =
        accels::choose(&plan.accels, plan.accel_failed, (plan.perfmap, plan.jitdump))?;
    objects::create(plan, &links, shares_ram)?;
    chars::create(plan, &chardevs)?;
    drives::create(plan, &links)?;

    let config = x86::models::parse_on(plan.cpu.as_deref().unwrap_or("qemu64"), host.as_ref())?;
    let topology = topology(plan);
    let realized = config.realize(&features, topology, phys_bits).map_err(after_warnings)?;
    for warning in &realized.warnings {
        report::warn_report!("{warning}");
    }
    let amd = config.vendor == "AuthenticAMD";
    let image = Image::open(plan, realized.features.has("lm"))?;
    let mut serials = Vec::new();
    for user in &plan.serials {
        serials.push(user.as_ref().map(|user| chars::claim(&chardevs, user)).transpose()?);
    }
    let machine = MachineType::find(&plan.machine.name)
        .ok_or_else(|| format!("machine '{}' is not supported by this build", plan.machine.name))?;
    let mut config =
        PcConfig::new(machine.model, objects::ram(plan, &links, shares_ram)?, &clock, life.clone());
    config.options = MachineOptions::parse(
        machine.name,
        plan.machine.props.iter().map(|(name, value)| (name.as_str(), value.as_str())),
    )?;
    config.cpus.clone_from(&signals);
    let possible = plan.smp.map_or(1, |smp| smp.max_cpus);
    config.apic_ids = (0..possible).map(|index| topology.apic_id(index)).collect();
    config.amd = amd;
    config.phys_bits = u8::try_from(phys_bits).unwrap_or(u8::MAX);
    config.tsc_deadline = realized.features.has("tsc-deadline");
    config.x2apic = realized.features.has("x2apic");
    config.serials = serials;
    config.rtc = rtc_start(plan);
    let small = |n: u32| u16::try_from(n).unwrap_or(u16::MAX);
    let smp =
        plan.smp.map_or([1; 3], |smp| [smp.sockets, smp.dies.max(1) * smp.cores, smp.threads].map(small));
    let version = realized.table.read(1, 0);
    config.identity = Identity {
        machine: machine.name.to_owned(),
        uuid: plan.uuid.unwrap_or_default(),
        topology: smp,
        processor_id: [version.eax, version.edx],
        nographic: plan.nographic,
    };
    let globals = globals::of(plan);
    config.sleep = onboard::sleep(&globals, machine.model)?;
    config.lost_ticks = onboard::lost_ticks(&globals, plan.rtc.slew)?;
    config.rtc_clock = rtc_clock(plan, handle, &clock);
    let board = Pc::new(config).map_err(|error| error.to_string())?;
    let limit = board.options.max_ram_below_4g.0;
    for warning in board.memory.layout.warnings(board.model, limit) {
        report::warn_report!("{warning}");
    }

    let rom = firmware::load(plan, &board)?;
    firmware::add_items(plan, &board.fw_cfg)?;
    // With firmware of the user's own the kernel is its to start.
    let (image, elf) = match image {
        Some(image) if plan.bios.is_some() => {
            (None, firmware::offer_kernel(plan, &board, &boot_order, image.request()?)?)
        }
        image => (image, None),
    };

    let tree = DeviceTree::default();
    onboard::list(&tree, &board, &globals, plan.rtc.slew)?;
    devices::reserve_default_slots(plan, board.model, &board.pci);
    let context = Context { id: None, links: links.clone(), clock: clock.clone(), system: life.clone() };
    let maker = devices::Maker { tree: &tree, context, globals: &globals };
    for console in firmware::debug_consoles(plan) {
        maker.make(&console)?;
    }
    maker.make_all(plan)?;
    onboard::check_unused(&globals)?;
    firmware::add_boot_options(plan, &board, &boot_order)?;
    board.publish_tables();

    let model = Arc::new(realized.table);
    let mut vcpus = Vec::new();
    for ((index, signals), io) in (0u32..).zip(&signals).zip(&board.cpus) {
        vcpus.push(accelerator.create_vcpu(VcpuSetup {
            index,
            apic_id: io.apic().id(),
            signals: signals.clone(),
            io: io.clone(),
            memory: board.memory.memory.clone(),
            model: model.clone(),
        })?);
    }
    let machine = Arc::new(Machine {
        name: plan.name.guest.clone(),
        uuid: plan.uuid,
        board,
        signals,
        model,
        vcpus: Vcpus::new(gate, vcpus),
        accelerator: accelerator.name(),
        handle: handle.clone(),
        life: life.clone(),
        chardevs,
        links,
        tree,
        drives: plan.drives.iter().map(|drive| drive.id.clone()).collect(),
        rom,
        image,
        elf,
        boot: plan.boot.clone(),
        progress: Progress::default(),
    });
    life.set_machine(&machine);
    machine.reset()?;
    machine.freeze();
    machine.vcpus.spawn(&life, accelerator.name(), plan.name.debug_threads)?;
    Ok(machine)
}

/// How the processors hang together.
fn topology(plan: &Plan) -> Topology {
    plan.smp.map_or_else(Topology::default, |smp| Topology {
        threads: smp.threads,
        cores: smp.dies.max(1) * smp.cores,
    })
}

/// What the real-time clock shows at first, in seconds since 1970.
fn rtc_start(plan: &Plan) -> i64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs().cast_signed());
    match plan.rtc.base {
        RtcBase::At(seconds) => seconds,
        RtcBase::Utc => now,
        RtcBase::LocalTime => now + hostio::time::local_offset(now),
    }
}

/// The time that the real-time clock follows: the guest's, or the host's, which does not stand still with the machine.
fn rtc_clock(plan: &Plan, handle: &LoopHandle, guest: &Clock) -> Clock {
    match plan.rtc.clock {
        RtcClock::Vm => guest.clone(),
        RtcClock::Host | RtcClock::Rt => {
            let clock = Clock::new(handle);
            clock.start();
            clock
        }
    }
}

fn monitors(plan: &Plan, machine: &Arc<Machine>) -> Result<Vec<Arc<Monitor>>, Failed> {
    let control = Arc::new(Control::new(machine));
    let mut monitors = Vec::new();
    for user in &plan.monitors {
        let front = chars::claim(&machine.chardevs, user)?;
        monitors.push(Monitor::attach(front, control.clone()));
    }
    Ok(monitors)
}

/// Takes SIGINT, SIGTERM and SIGHUP on the main loop.
fn watch_signals(termination: Termination, handle: &LoopHandle, life: &Arc<Life>) -> io::Result<Watch> {
    let descriptor = Arc::new(termination.descriptor()?);
    let life: Weak<Life> = Arc::downgrade(life);
    handle.watch(descriptor, Ready::READ, move |_| {
        while let Some(request) = termination.next() {
            if let Some(life) = life.upgrade() {
                life.signal(request);
            }
        }
    })
}
