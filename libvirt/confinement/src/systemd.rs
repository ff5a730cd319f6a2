//! systemd's services: machined gives guests a scope, logind lets a shutdown of the host wait for them.

use std::os::fd::OwnedFd;
use std::sync::{Mutex, PoisonError};

use crate::dbus::{Bus, Failure, Value};
use crate::polkit::bus;
use crate::{Error, Result};

const MACHINED: &str = "org.freedesktop.machine1";
const LOGIND: &str = "org.freedesktop.login1";
const LOGIND_PATH: &str = "/org/freedesktop/login1";
const LOGIND_MANAGER: &str = "org.freedesktop.login1.Manager";

/// How the host sleeps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sleep {
    /// Its memory is kept.
    Memory,
    /// Its memory is written to a disk.
    Disk,
    /// Both.
    Both,
}

impl Sleep {
    /// logind's method for it.
    fn method(self) -> &'static str {
        match self {
            Self::Memory => "Suspend",
            Self::Disk => "Hibernate",
            Self::Both => "HybridSleep",
        }
    }
}

/// A text in a unit's name, as systemd escapes it: `/` is `-`; what is not a letter, digit, `:`, `_` or `.`, and a
/// dot at the beginning, is `\xNN`.
#[must_use]
pub fn escape(name: &str) -> String {
    let mut text = String::new();
    for (at, byte) in name.bytes().enumerate() {
        match byte {
            b'/' => text.push('-'),
            b'.' if at == 0 => text.push_str("\\x2e"),
            b'0'..=b'9' | b'a'..=b'z' | b'A'..=b'Z' | b':' | b'_' | b'.' => text.push(byte.into()),
            _ => text.push_str(&format!("\\x{byte:02x}")),
        }
    }
    text
}

/// The scope of a machine: `machine-NAME.scope`.
#[must_use]
pub fn scope_name(machine: &str) -> String {
    format!("machine-{}.scope", escape(machine))
}

/// The slice of a partition: `/machine` is `machine.slice`.
#[must_use]
pub fn slice_name(partition: &str) -> String {
    format!("{}.slice", escape(partition.strip_prefix('/').unwrap_or(partition)))
}

/// The name of a guest as machined knows it, `qemu-ID-NAME`: of the guest's name letters, digits and single dots and
/// dashes, up to 64 characters altogether. With `user` the guest is of an ordinary user's daemon, or of one with
/// another root.
#[must_use]
pub fn machine_name(driver: &str, id: i32, name: &str, user: Option<&str>) -> String {
    const LONGEST: usize = 64;
    let mut text = match user {
        Some(user) => format!("{driver}-{user}-{id}-"),
        None => format!("{driver}-{id}-"),
    };
    let mut separated = true;
    for character in name.chars() {
        if text.len() >= LONGEST {
            break;
        }
        let separator = matches!(character, '.' | '-');
        if separator && !separated || character.is_ascii_alphanumeric() {
            text.push(character);
            separated = separator;
        }
    }
    text.truncate(text.trim_end_matches(['-', '.']).len());
    text
}

/// A guest as machined is told of it.
#[derive(Clone, Debug)]
pub struct Machine<'a> {
    /// See [`machine_name`].
    pub name: &'a str,
    /// The guest's UUID.
    pub uuid: [u8; 16],
    /// The process that is put into the new scope.
    pub leader: u32,
    /// The indexes of the guest's network interfaces on the host.
    pub interfaces: &'a [i32],
    /// The partition, such as `/machine`.
    pub partition: &'a str,
    /// Most threads of the scope (`max_threads_per_process`).
    pub max_threads: Option<u64>,
}

/// systemd's services on the system's bus.
#[derive(Clone, Debug, Default)]
pub struct Systemd {
    address: Option<String>,
}

impl Systemd {
    /// Those on another bus.
    #[must_use]
    pub fn at(address: &str) -> Self {
        Self { address: Some(address.to_owned()) }
    }

    /// A connection if there is a bus, and `activatable` can be started there, and `running` is.
    fn connect(&self, activatable: &str, running: &str) -> Result<Option<Bus>> {
        let Ok(mut bus) = bus(self.address.as_deref()) else { return Ok(None) };
        for (method, name) in [("ListActivatableNames", activatable), ("ListNames", running)] {
            let names = bus.call_bus(method, &[]).map_err(|failure| Error::service(&failure))?;
            let names = names.body.first().and_then(Value::items).unwrap_or_default();
            if !names.iter().any(|listed| listed.as_str() == Some(name)) {
                return Ok(None);
            }
        }
        Ok(Some(bus))
    }

    /// Makes a scope for a guest; false where nobody does that, so that control groups are to be made directly.
    ///
    /// # Errors
    /// `error from service: ...`: machined is there and refuses.
    pub fn create_machine(&self, machine: &Machine<'_>) -> Result<bool> {
        let Some(mut bus) = self.connect(MACHINED, "org.freedesktop.systemd1")? else { return Ok(false) };
        let texts =
            |items: &[&str]| Value::Array("s".into(), items.iter().map(|item| Value::from(*item)).collect());
        let property = |name: &str, value: Value| Value::Struct(vec![name.into(), Value::variant(value)]);
        let properties = |items| Value::Array("(sv)".into(), items);
        let head = [
            machine.name.into(),
            Value::Array("y".into(), machine.uuid.iter().copied().map(Value::Byte).collect()),
            "libvirt-qemu".into(),
            "vm".into(),
            Value::U32(machine.leader),
            "".into(),
        ];
        let tail = properties(vec![
            property("Slice", (&*slice_name(machine.partition)).into()),
            property("After", texts(&["libvirtd.service", "virtqemud.service"])),
            property("Before", texts(&["virt-guest-shutdown.target"])),
        ]);
        let interfaces = machine.interfaces.iter().copied().map(Value::I32).collect();
        let mut arguments = head.to_vec();
        arguments.extend([Value::Array("i".into(), interfaces), tail.clone()]);
        let manager = "org.freedesktop.machine1.Manager";
        let path = "/org/freedesktop/machine1";
        let mut made = bus.call(MACHINED, path, manager, "CreateMachineWithNetwork", &arguments);
        if matches!(&made, Err(Failure::Answer(name, _)) if name == "org.freedesktop.DBus.Error.UnknownMethod")
        {
            let mut arguments = head.to_vec();
            arguments.push(tail);
            made = bus.call(MACHINED, path, manager, "CreateMachine", &arguments);
        }
        made.map_err(|failure| Error::service(&failure))?;
        if let Some(most) = machine.max_threads {
            set_property(&mut bus, &scope_name(machine.name), "TasksMax", Value::U64(most))?;
        }
        Ok(true)
    }

    /// Sets a property of a unit, until the host is restarted.
    ///
    /// # Errors
    /// `internal error: Unable to get system bus connection: ...`, `error from service: ...`.
    pub fn set_unit_property(&self, unit: &str, name: &str, value: Value) -> Result<()> {
        set_property(&mut bus(self.address.as_deref())?, unit, name, value)
    }

    /// Ends what is left of a guest's scope. A machine that is unknown, and a host without machined, are no errors.
    ///
    /// # Errors
    /// `error from service: ...`
    pub fn terminate_machine(&self, name: &str) -> Result<()> {
        let Some(mut bus) = self.connect(MACHINED, "org.freedesktop.systemd1")? else { return Ok(()) };
        let manager = "org.freedesktop.machine1.Manager";
        match bus.call(MACHINED, "/org/freedesktop/machine1", manager, "TerminateMachine", &[name.into()]) {
            Err(Failure::Answer(name, _)) if name == "org.freedesktop.machine1.NoSuchMachine" => Ok(()),
            Err(failure) => Err(Error::service(&failure)),
            Ok(_) => Ok(()),
        }
    }

    /// The name by which machined knows the machine that a process is in; `None` without machined, or such a machine.
    #[must_use]
    pub fn machine_of(&self, pid: u32) -> Option<String> {
        let mut bus = self.connect(MACHINED, "org.freedesktop.systemd1").ok()??;
        let manager = "org.freedesktop.machine1.Manager";
        let found =
            bus.call(MACHINED, "/org/freedesktop/machine1", manager, "GetMachineByPID", &[Value::U32(pid)]);
        let found = found.ok()?;
        let path = found.body.first()?.as_str()?.to_owned();
        let arguments = ["org.freedesktop.machine1.Machine".into(), "Name".into()];
        let got = bus.call(MACHINED, &path, "org.freedesktop.DBus.Properties", "Get", &arguments).ok()?;
        match got.body.first()? {
            Value::Variant(name) => name.as_str().map(str::to_owned),
            _ => None,
        }
    }

    /// Whether logind can put the host to sleep in that way; false without logind.
    ///
    /// # Errors
    /// `error from service: ...`
    pub fn can_sleep(&self, sleep: Sleep) -> Result<bool> {
        let Some(mut bus) = self.connect(LOGIND, LOGIND)? else { return Ok(false) };
        let method = format!("Can{}", sleep.method());
        let answer = bus.call(LOGIND, LOGIND_PATH, LOGIND_MANAGER, &method, &[]);
        let answer = answer.map_err(|failure| Error::service(&failure))?;
        Ok(matches!(answer.body.first().and_then(Value::as_str), Some("yes" | "challenge")))
    }

    /// Puts the host to sleep.
    ///
    /// # Errors
    /// `internal error: Unable to get system bus connection: ...`, `error from service: ...`.
    pub fn sleep(&self, sleep: Sleep) -> Result<()> {
        let mut bus = bus(self.address.as_deref())?;
        let asked = bus.call(LOGIND, LOGIND_PATH, LOGIND_MANAGER, sleep.method(), &[Value::Bool(false)]);
        asked.map(drop).map_err(|failure| Error::service(&failure))
    }

    /// Asks logind to let a shutdown wait; as long as the descriptor is open, it does. `None` without logind.
    fn inhibit(&self) -> Option<OwnedFd> {
        let mut bus = self.connect(LOGIND, LOGIND).ok()??;
        let arguments =
            ["shutdown".into(), "Libvirt".into(), "Virtual machines need to be saved".into(), "delay".into()];
        let answer = bus.call(LOGIND, LOGIND_PATH, LOGIND_MANAGER, "Inhibit", &arguments).ok()?;
        answer.descriptors.into_iter().next()
    }
}

fn set_property(bus: &mut Bus, unit: &str, name: &str, value: Value) -> Result<()> {
    let property = Value::Struct(vec![name.into(), Value::variant(value)]);
    let arguments = [unit.into(), Value::Bool(true), Value::Array("(sv)".into(), vec![property])];
    bus.call(
        "org.freedesktop.systemd1",
        "/org/freedesktop/systemd1",
        "org.freedesktop.systemd1.Manager",
        "SetUnitProperties",
        &arguments,
    )
    .map(drop)
    .map_err(|failure| Error::service(&failure))
}

/// Lets a shutdown of the host wait while guests run.
#[derive(Debug, Default)]
pub struct Inhibitor {
    systemd: Systemd,
    state: Mutex<Inhibition>,
}

#[derive(Debug, Default)]
struct Inhibition {
    guests: usize,
    lock: Option<OwnedFd>,
}

impl Inhibitor {
    /// One that uses the services of `systemd`.
    #[must_use]
    pub fn new(systemd: Systemd) -> Self {
        Self { systemd, state: Mutex::default() }
    }

    /// One more guest runs. The first asks logind, and waits for the answer; whoever has none starts guests all the same.
    pub fn guest_started(&self) {
        let first = {
            let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
            state.guests += 1;
            state.guests == 1
        };
        if first {
            let lock = self.systemd.inhibit();
            let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
            // It may have ended while we asked.
            if state.guests > 0 {
                state.lock = lock;
            }
        }
    }

    /// One guest less runs; with the last one, the shutdown need not wait any more.
    pub fn guest_ended(&self) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.guests = state.guests.saturating_sub(1);
        if state.guests == 0 {
            state.lock = None;
        }
    }

    /// Whether logind has promised to wait.
    #[must_use]
    pub fn is_held(&self) -> bool {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).lock.is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_units() {
        assert_eq!(scope_name("qemu-1-demo"), "machine-qemu\\x2d1\\x2ddemo.scope");
        assert_eq!(slice_name("/machine"), "machine.slice");
        assert_eq!(slice_name("/machine/production"), "machine-production.slice");
        assert_eq!(escape(".a-b\\c:d e"), "\\x2ea\\x2db\\x5cc:d\\x20e");
    }

    #[test]
    fn names_of_machines() {
        assert_eq!(machine_name("qemu", 1, "demo", None), "qemu-1-demo");
        assert_eq!(machine_name("qemu", 3, "fedora.25..--x y_!", None), "qemu-3-fedora.25.xy");
        assert_eq!(machine_name("qemu", 3, ".-kvm-", Some("ann")), "qemu-ann-3-kvm");
        let long = machine_name("qemu", 1, &"x".repeat(100), None);
        assert_eq!((long.len(), &long[..8]), (64, "qemu-1-x"));
        // Cut, and then no separator may be last.
        assert_eq!(machine_name("qemu", 1, &format!("{}-y", "x".repeat(56)), None).len(), 63);
    }
}
