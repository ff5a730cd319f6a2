//! What the command line asks for: declarations, in types.
//!
//! Every declaration carries its `location` (`-device foo,bar=1`), which goes in front of errors found later.

use chardev::Spec;
use std::path::PathBuf;

/// A value of a device's or object's property, as the user gave it.
#[derive(Clone, Debug, PartialEq)]
pub enum PropValue {
    /// From `key=value`: untyped text.
    Text(String),
    /// From JSON.
    Json(json::Value),
}

impl PropValue {
    /// The value as qdev's property setters take it; `None` for JSON's null, lists and objects.
    pub fn input(&self) -> Option<qdev::Input<'_>> {
        Some(match self {
            Self::Text(text) => qdev::Input::Text(text),
            Self::Json(json::Value::Str(text)) => qdev::Input::Str(text),
            Self::Json(json::Value::Int(number)) => qdev::Input::Int((*number).into()),
            Self::Json(json::Value::Uint(number)) => qdev::Input::Int((*number).into()),
            Self::Json(json::Value::Bool(on)) => qdev::Input::Bool(*on),
            Self::Json(_) => return None,
        })
    }

    /// The value as text, whatever its type.
    pub fn text(&self) -> String {
        match self {
            Self::Text(text) | Self::Json(json::Value::Str(text)) => text.clone(),
            Self::Json(json::Value::Bool(on)) => if *on { "on" } else { "off" }.to_owned(),
            Self::Json(other) => other.to_string(),
        }
    }
}

/// A `-device`: type, id and properties in order.
#[derive(Clone, Debug, PartialEq)]
pub struct Item {
    /// Where it stands on the command line.
    pub location: String,
    /// Device type (`driver`).
    pub kind: String,
    /// The id, if any.
    pub id: Option<String>,
    /// All other keys, `bus` and `addr` included.
    pub props: Vec<(String, PropValue)>,
    /// It was given as JSON; such devices are made after the others.
    pub json: bool,
}

/// An `-object`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Object {
    /// Where it stands on the command line.
    pub location: String,
    /// Its id.
    pub id: String,
    /// What it is.
    pub kind: ObjectKind,
}

/// Types of objects.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ObjectKind {
    /// The host kernel's random numbers.
    RngBuiltin,
    /// Random numbers from a file.
    RngRandom {
        /// Its path.
        filename: String,
    },
    /// Guest memory.
    MemoryBackendRam {
        /// Bytes.
        size: u64,
        /// All of it is touched before the machine starts.
        prealloc: bool,
        /// The host may merge its pages with others of the same contents (KSM).
        merge: bool,
        /// It is part of the process's core dumps.
        dump: bool,
    },
}

/// The board.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Machine {
    /// The versioned name from the catalog (`pc-i440fx-9.1`).
    pub name: String,
    /// Properties that are not declarations of their own here, in order.
    pub props: Vec<(String, String)>,
    /// `memory-backend=`: the object that is the guest's RAM.
    pub memory_backend: Option<String>,
}

/// One `-accel`, or one name of `-machine accel=a:b`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Accel {
    /// Where it stands on the command line; none for the default.
    pub location: Option<String>,
    /// `tcg` or `kvm`.
    pub name: String,
    /// `kernel-irqchip=` for kvm, as given.
    pub kernel_irqchip: Option<String>,
    /// Properties of tcg.
    pub tcg: TcgProperties,
}

impl Accel {
    /// The accelerator without properties.
    pub fn named(name: &str) -> Self {
        Self { location: None, name: name.to_owned(), kernel_irqchip: None, tcg: TcgProperties::default() }
    }
}

/// Properties of `-accel tcg`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TcgProperties {
    /// `thread=single`: one vCPU runs at a time.
    pub single: bool,
    /// `tier=`: 1, the interpreter, or 2, the translator for hot code; not given, 2 where the host is able to.
    pub tier: Option<u8>,
    /// `tb-size=` in MiB, 0 for the default.
    pub tb_size: u64,
    /// `one-insn-per-tb=`.
    pub one_insn_per_tb: bool,
    /// `x-tiny-tlb=`: for tests, a TLB of two entries.
    pub tiny_tlb: bool,
    /// `x-threshold=`: executions before a block is translated.
    pub threshold: Option<u8>,
    /// `x-lazy-flags=`: arithmetic flags that nothing reads may be wrong in an exception's frame.
    pub lazy_flags: bool,
    /// `x-lockstep=`: the translator is compared with the interpreter, block by block.
    pub lockstep: bool,
    /// `x-lane-b=`: `on`, `off` or `always`: whether user code runs in helper processes; not given, `off`.
    pub lane_b: Option<String>,
    /// `x-without=`: features of the host that are not used, separated by colons.
    pub without: Option<String>,
}

/// CPU count and topology, complete and consistent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Smp {
    /// CPUs at start.
    pub cpus: u32,
    /// CPUs at most.
    pub max_cpus: u32,
    /// Sockets.
    pub sockets: u32,
    /// Dies a socket.
    pub dies: u32,
    /// Cores a die.
    pub cores: u32,
    /// Threads a core.
    pub threads: u32,
}

/// A `-drive`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Drive {
    /// Where it stands on the command line.
    pub location: String,
    /// Its id (`virtio0` and so on when not given).
    pub id: String,
    /// How it is attached, and its image.
    pub options: block::DriveOptions,
}

/// A `-blockdev`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Blockdev {
    /// Where it stands on the command line.
    pub location: String,
    /// The node's name.
    pub name: String,
    /// The node.
    pub node: block::Node,
}

/// A `-global`: a default for a property of a driver.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Global {
    /// Where it stands on the command line.
    pub location: String,
    /// Device type.
    pub driver: String,
    /// Property.
    pub property: String,
    /// Value.
    pub value: String,
}

/// A character device with the option that made it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CharDecl {
    /// Where it stands on the command line; empty for a default.
    pub location: String,
    /// What to make.
    pub spec: Spec,
    /// What a failure adds as a second line (`could not connect serial device to character backend 'X'`).
    pub on_failure: Option<String>,
}

/// A device that uses a character device by id.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CharUse {
    /// Where it stands on the command line; empty for a default.
    pub location: String,
    /// The character device's id.
    pub chardev: String,
    /// The line for a character device that does not exist.
    pub on_missing: String,
}

/// Where the real-time clock starts.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum RtcBase {
    /// The host's UTC time.
    #[default]
    Utc,
    /// The host's local time.
    LocalTime,
    /// This moment, in seconds since 1970-01-01 UTC.
    At(i64),
}

/// Which clock the real-time clock follows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum RtcClock {
    /// The host's time of day.
    #[default]
    Host,
    /// The host's monotonic clock.
    Rt,
    /// The guest's virtual time.
    Vm,
}

/// `-rtc`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rtc {
    /// Start.
    pub base: RtcBase,
    /// Clock.
    pub clock: RtcClock,
    /// `driftfix=slew`: lost ticks are caught up.
    pub slew: bool,
}

/// `-boot`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Boot {
    /// Drive letters in order.
    pub order: Option<String>,
    /// Drive letters for the first boot only.
    pub once: Option<String>,
    /// Show the firmware's menu.
    pub menu: Option<bool>,
    /// Splash picture.
    pub splash: Option<String>,
    /// Splash time in milliseconds.
    pub splash_time: Option<i64>,
    /// Milliseconds before a failed boot starts over; -1: never.
    pub reboot_timeout: Option<i64>,
    /// Boot only what has a boot index.
    pub strict: bool,
}

/// Contents of a `-fw_cfg` file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FwCfgData {
    /// A file of the host.
    File(String),
    /// The string's bytes, without a NUL.
    Text(String),
}

/// A `-fw_cfg`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FwCfg {
    /// Where it stands on the command line.
    pub location: String,
    /// The item's name.
    pub name: String,
    /// Its contents.
    pub data: FwCfgData,
}

/// Reaction to a guest's reset.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OnReboot {
    /// Reset the machine.
    #[default]
    Reset,
    /// End the process (`-no-reboot`).
    Shutdown,
}

/// Reaction to a guest's power-off.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OnShutdown {
    /// End the process.
    #[default]
    Poweroff,
    /// Stop the machine and stay (`-no-shutdown`).
    Pause,
}

/// Reaction to a guest's panic (pvpanic).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OnPanic {
    /// Stop the machine; then as for a shutdown.
    #[default]
    Shutdown,
    /// Stop the machine.
    Pause,
    /// End the process with status 1.
    ExitFailure,
    /// Go on.
    None,
}

/// Reaction to a watchdog that ran out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OnWatchdog {
    /// As for a guest's reset.
    #[default]
    Reset,
    /// Press the power button.
    Shutdown,
    /// End the process.
    Poweroff,
    /// Stop the machine.
    Pause,
    /// Say so on standard error, and go on.
    Debug,
    /// Go on.
    None,
    /// Raise an NMI on every vCPU.
    InjectNmi,
}

impl OnWatchdog {
    /// The reaction of this name.
    pub fn of(name: &str) -> Option<Self> {
        Some(match name {
            "reset" => Self::Reset,
            "shutdown" => Self::Shutdown,
            "poweroff" => Self::Poweroff,
            "pause" => Self::Pause,
            "debug" => Self::Debug,
            "none" => Self::None,
            "inject-nmi" => Self::InjectNmi,
            _ => return None,
        })
    }
}

/// `-action` and its older spellings.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Actions {
    /// At a reset.
    pub reboot: OnReboot,
    /// At a power-off.
    pub shutdown: OnShutdown,
    /// At a panic.
    pub panic: OnPanic,
    /// When a watchdog runs out.
    pub watchdog: OnWatchdog,
}

/// `-name`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Name {
    /// The guest's name.
    pub guest: Option<String>,
    /// The process's name.
    pub process: Option<String>,
    /// Threads get names.
    pub debug_threads: bool,
}

/// Where distributions put firmware; asked after the user's `-L`.
pub const DATA_DIRS: [&str; 2] = ["/usr/share/qemu", "/usr/share/seabios"];

/// `-d` and `-D`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Log {
    /// The items to log, as [`report::log::set_mask`] takes them.
    pub items: u32,
    /// The file, as [`report::log::set_file`] takes it.
    pub file: Option<String>,
    /// The ranges of `-dfilter`; none given: everything.
    pub ranges: Option<Vec<report::log::Range>>,
}

impl Log {
    /// Opens the log.
    ///
    /// # Errors
    /// Its file cannot be created: the text for the user.
    pub fn open(&self) -> Result<(), String> {
        if let Some(ranges) = &self.ranges {
            report::log::set_ranges(ranges);
        }
        let file = self.file.as_deref().map_or(Ok(()), report::log::set_file);
        file.and_then(|()| report::log::set_mask(self.items)).map_err(|error| error.to_string())
    }
}

/// Everything needed to make and start a machine.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Plan {
    /// The board.
    pub machine: Machine,
    /// Accelerators to try in order; never empty. Those of `-accel` may be of no known name.
    pub accels: Vec<Accel>,
    /// `-perfmap`: perf is told where translated code is.
    pub perfmap: bool,
    /// `-jitdump`: translated code is shown to perf.
    pub jitdump: bool,
    /// A name of `-machine accel=` was none; the user has been told.
    pub accel_failed: bool,
    /// `-cpu`'s text.
    pub cpu: Option<String>,
    /// CPU count and topology.
    pub smp: Option<Smp>,
    /// Guest RAM in bytes.
    pub ram: u64,
    /// `-m` was given.
    pub ram_given: bool,
    /// `-kernel`
    pub kernel: Option<String>,
    /// `-initrd`
    pub initrd: Option<String>,
    /// `-append`
    pub append: Option<String>,
    /// `-bios`
    pub bios: Option<String>,
    /// `-L` directories in order.
    pub data_dirs: Vec<PathBuf>,
    /// Drives in order.
    pub drives: Vec<Drive>,
    /// `-snapshot`: drives that do not say otherwise write to temporary files.
    pub snapshot: bool,
    /// Block nodes in order.
    pub blockdevs: Vec<Blockdev>,
    /// Devices in order.
    pub devices: Vec<Item>,
    /// Objects in order.
    pub objects: Vec<Object>,
    /// Property defaults in order.
    pub globals: Vec<Global>,
    /// Character devices to make, in order.
    pub chardevs: Vec<CharDecl>,
    /// The board's serial ports; `None` is a port that is left out.
    pub serials: Vec<Option<CharUse>>,
    /// Human monitors.
    pub monitors: Vec<CharUse>,
    /// Where a debugger is served.
    pub gdb: Option<CharDecl>,
    /// isa-debugcon devices.
    pub debugcons: Vec<CharUse>,
    /// The real-time clock.
    pub rtc: Rtc,
    /// Boot order.
    pub boot: Boot,
    /// Names.
    pub name: Name,
    /// System UUID.
    pub uuid: Option<[u8; 16]>,
    /// fw_cfg files.
    pub fw_cfg: Vec<FwCfg>,
    /// `-nodefaults`: no default device at all.
    pub no_defaults: bool,
    /// `-vga none` (or a `-device` that replaces it): no default display adapter.
    pub no_vga: bool,
    /// `-nic none` or `-net none`: no default network card.
    pub no_nic: bool,
    /// `-parallel none`
    pub no_parallel: bool,
    /// `-nographic`
    pub nographic: bool,
    /// `-S`
    pub start_stopped: bool,
    /// Reactions.
    pub actions: Actions,
    /// The log; to be opened by whoever carries the plan out.
    pub log: Log,
    /// `-pidfile`
    pub pidfile: Option<String>,
    /// `-daemonize`
    pub daemonize: bool,
}
