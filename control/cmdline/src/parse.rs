//! From `argv` to a plan.

use crate::options::{Apply, OPTIONS, Opt};
use crate::{Catalog, Plan, help};
use std::collections::BTreeSet;

/// What the command line comes to.
#[derive(Debug)]
pub enum Outcome {
    /// Make this machine.
    Run(Box<Plan>),
    /// Print this and exit with this status.
    Text(String, u8),
}

/// The command line cannot be followed; exit status 1.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Refused(pub String);

/// Why parsing ended early.
#[derive(Debug)]
pub(crate) enum Stop {
    Refused(String),
    /// As [`Stop::Refused`], but QEMU finds it when it makes the machine, and names no place.
    Late(String),
    Text(String, u8),
}

impl From<keyval::Error> for Stop {
    fn from(error: keyval::Error) -> Self {
        Self::Refused(error.0)
    }
}

impl From<chardev::SpecError> for Stop {
    fn from(error: chardev::SpecError) -> Self {
        Self::Refused(error.0)
    }
}

pub(crate) fn refuse_late<T>(text: impl Into<String>) -> Result<T, Stop> {
    Err(Stop::Late(text.into()))
}

pub(crate) fn refuse<T>(text: impl Into<String>) -> Result<T, Stop> {
    Err(Stop::Refused(text.into()))
}

/// An option's place and argument.
pub(crate) struct Raw<'a> {
    pub(crate) location: String,
    pub(crate) name: &'static str,
    pub(crate) value: &'a str,
}

/// What is gathered on the way.
pub(crate) struct Builder<'a> {
    pub(crate) catalog: &'a Catalog,
    pub(crate) plan: Plan,
    pub(crate) machine_name: Option<String>,
    pub(crate) machine_accels: Vec<String>,
    pub(crate) smp: Vec<(String, String)>,
    pub(crate) ram: Option<u64>,
    pub(crate) serials: Vec<(String, String)>,
    pub(crate) monitors: Vec<(String, String)>,
    pub(crate) debugcons: Vec<(String, String)>,
    pub(crate) mons: usize,
    pub(crate) display_given: bool,
    pub(crate) ids: BTreeSet<(&'static str, String)>,
    pub(crate) infos: Vec<Info>,
}

/// Questions answered once the whole line is known to be sound.
pub(crate) enum Info {
    Machines,
    MachineProps,
    Cpus,
    Accels,
    Devices,
    Device(String),
    GuestName,
}

/// Reads the command line without `argv[0]`.
///
/// Sets what [`report`] needs to know (`-msg`) on the way, so that it holds for errors found later. Creates no files.
///
/// # Errors
/// The line cannot be followed; the error has been worded for the user, without the program's name.
pub fn parse(args: &[String], catalog: &Catalog) -> Result<Outcome, Refused> {
    let mut builder = Builder {
        catalog,
        plan: Plan::default(),
        machine_name: None,
        machine_accels: Vec::new(),
        smp: Vec::new(),
        ram: None,
        serials: Vec::new(),
        monitors: Vec::new(),
        debugcons: Vec::new(),
        mons: 0,
        display_given: false,
        ids: BTreeSet::new(),
        infos: Vec::new(),
    };
    let read = builder.read(args);
    // Errors carry the guest's name too, if they are to.
    builder.finish_log();
    let outcome = read.and_then(|()| builder.finish());
    match outcome {
        Ok(()) => Ok(Outcome::Run(Box::new(builder.plan))),
        Err(Stop::Text(text, status)) => Ok(Outcome::Text(text, status)),
        Err(Stop::Refused(text) | Stop::Late(text)) => Err(Refused(text)),
    }
}

/// Removed spellings that tools still pass, with what stands for them now.
const REMOVED: &[(&str, &str, &str)] = &[("no-acpi", "acpi", "off"), ("no-hpet", "hpet", "off")];

fn find(name: &str) -> Option<&'static Opt> {
    OPTIONS.iter().find(|option| option.name == name || (option.name == "help" && name == "h"))
}

impl Builder<'_> {
    fn read(&mut self, args: &[String]) -> Result<(), Stop> {
        let mut rest = args.iter();
        while let Some(arg) = rest.next() {
            let Some(name) =
                arg.strip_prefix("--").or_else(|| arg.strip_prefix('-')).filter(|n| !n.is_empty())
            else {
                self.disk_image(arg)?;
                continue;
            };
            if let Some((old, property, value)) = REMOVED.iter().find(|(old, ..)| *old == name) {
                report::warn_report!("-{old} is deprecated, use '-machine {property}={value}' instead");
                self.plan.machine.props.push(((*property).to_owned(), (*value).to_owned()));
                continue;
            }
            let Some(option) = find(name) else { return refuse(format!("{arg}: invalid option")) };
            let value = match option.arg {
                Some(_) => match rest.next() {
                    Some(value) => value.as_str(),
                    None => return refuse(format!("{arg}: requires an argument")),
                },
                None => "",
            };
            let location = if option.arg.is_some() { format!("{arg} {value}") } else { arg.clone() };
            let raw = Raw { location: location.clone(), name: option.name, value };
            let _place = report::Location::enter(&location);
            let done = match option.apply {
                Apply::Foreign => refuse("Option not supported for this target"),
                Apply::Unbuilt => crate::block::check_image(option.name, value)
                    .and_then(|()| refuse("this option is not supported by this build")),
                Apply::Built(apply) => apply(self, &raw),
            };
            done.map_err(|stop| match stop {
                Stop::Refused(text) => Stop::Refused(format!("{location}: {text}")),
                other => other,
            })?;
        }
        Ok(())
    }

    /// The positional argument: an IDE disk.
    fn disk_image(&self, path: &str) -> Result<(), Stop> {
        if let Err(error) = std::fs::File::open(path) {
            return refuse(format!("{path}: Could not open '{path}': {}", crate::misc::reason(&error)));
        }
        refuse(format!(
            "{path}: a disk image without -drive is an IDE disk, which this build does not support"
        ))
    }

    fn finish(&mut self) -> Result<(), Stop> {
        // Questions about the program are answered whatever the machine is.
        self.answer(|info| !matches!(info, Info::MachineProps))?;
        let row = match &self.machine_name {
            Some(name) => match self.catalog.machine(name) {
                Some(row) => *row,
                None => {
                    return refuse(format!(
                        "unsupported machine type: \"{name}\"\nUse -machine help to list supported machines"
                    ));
                }
            },
            None => match self.catalog.machines.iter().find(|row| row.default) {
                Some(row) => *row,
                None => {
                    return refuse(
                        "No machine specified, and there is no default\nUse -machine help to list supported machines",
                    );
                }
            },
        };
        row.name.clone_into(&mut self.plan.machine.name);
        self.answer(|_| true)?;
        self.finish_accels()?;
        self.plan.smp = Some(crate::topology::complete(&self.smp, &row)?);
        self.plan.ram_given = self.ram.is_some();
        self.plan.ram = self.ram.unwrap_or(128 << 20);
        if self.plan.kernel.is_none() {
            if self.plan.append.is_some() {
                return refuse("-append only allowed with -kernel option");
            }
            if self.plan.initrd.is_some() {
                return refuse("-initrd only allowed with -kernel option");
            }
        }
        self.finish_chars()?;
        if !self.display_given {
            report::warn_report!("no display is built into this binary; going on as with -display none");
        }
        Ok(())
    }

    /// Answers the first question of those that `which` selects.
    fn answer(&self, which: impl Fn(&Info) -> bool) -> Result<(), Stop> {
        let Some(info) = self.infos.iter().find(|info| which(info)) else { return Ok(()) };
        let text = match info {
            Info::Machines => help::machines(self.catalog),
            Info::MachineProps => (self.catalog.machine_help)(&self.plan.machine.name),
            Info::Cpus => (self.catalog.cpu_help)(),
            Info::Accels => "Accelerators supported in QEMU binary:\ntcg\nkvm\n".to_owned(),
            Info::Devices => qdev::device_help(&self.catalog.devices),
            Info::GuestName => return Ok(()),
            Info::Device(name) => match self.catalog.device(name) {
                Some(spec) => qdev::property_help(spec),
                None => {
                    report::error_report!("-device {name},help: Device '{name}' not found");
                    String::new()
                }
            },
        };
        Err(Stop::Text(text, 0))
    }
}
