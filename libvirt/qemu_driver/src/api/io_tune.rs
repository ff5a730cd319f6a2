//! Limits of disks' and interfaces' traffic, and sizes of disks.

use super::params;
use crate::driver::QemuDriver;
use crate::error::{Result, check_flags, error, internal, not_running, unsupported};
use crate::guest::Guest;
use crate::process::network::bandwidth;
use crate::query;
use domain_xml::Domain as Definition;
use domain_xml::disk::{Disk, IoTune};
use domain_xml::interface::{Bandwidth, Interface, InterfaceType, Rate};
use domain_xml::source::DiskFormat;
use json::{Dict, Value, dict};
use rpc::protocol::device::*;
use rpc::{Code, TypedParam, TypedValue};

/// `VIR_DOMAIN_AFFECT_...`
const LIVE: u32 = 1;
const CONFIG: u32 = 2;
/// The client understands parameters that are texts.
const TYPED_STRING: u32 = 4;

/// The largest limit.
const MOST: u64 = 1_000_000_000_000_000;
/// Where in the list of numbers the name of the group stands when clients are told.
const GROUP_AT: usize = 13;
const COUNT: usize = 19;

/// libvirt's names and the emulator's: limits, limits of bursts, the size that counts as one, lengths of bursts.
const NAMES: [(&str, &str); COUNT] = [
    ("total_bytes_sec", "bps"),
    ("read_bytes_sec", "bps_rd"),
    ("write_bytes_sec", "bps_wr"),
    ("total_iops_sec", "iops"),
    ("read_iops_sec", "iops_rd"),
    ("write_iops_sec", "iops_wr"),
    ("total_bytes_sec_max", "bps_max"),
    ("read_bytes_sec_max", "bps_rd_max"),
    ("write_bytes_sec_max", "bps_wr_max"),
    ("total_iops_sec_max", "iops_max"),
    ("read_iops_sec_max", "iops_rd_max"),
    ("write_iops_sec_max", "iops_wr_max"),
    ("size_iops_sec", "iops_size"),
    ("total_bytes_sec_max_length", "bps_max_length"),
    ("read_bytes_sec_max_length", "bps_rd_max_length"),
    ("write_bytes_sec_max_length", "bps_wr_max_length"),
    ("total_iops_sec_max_length", "iops_max_length"),
    ("read_iops_sec_max_length", "iops_rd_max_length"),
    ("write_iops_sec_max_length", "iops_wr_max_length"),
];

/// Those that are given together: who gives one of them gives all.
const FAMILIES: [std::ops::Range<usize>; 7] = [0..3, 3..6, 6..9, 9..12, 12..13, 13..16, 16..19];

/// A disk's limits.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Limits {
    numbers: [u64; COUNT],
    group: Option<String>,
}

impl Limits {
    fn of(tune: Option<&IoTune>) -> Self {
        let Some(tune) = tune.cloned() else { return Self::default() };
        let mut tune = tune;
        Self { numbers: fields(&mut tune).map(|field| field.unwrap_or(0)), group: tune.group_name.take() }
    }

    fn to_tune(&self) -> Option<IoTune> {
        if *self == Self::default() {
            return None;
        }
        let mut tune = IoTune { group_name: self.group.clone(), ..IoTune::default() };
        for (field, number) in fields(&mut tune).into_iter().zip(self.numbers) {
            *field = Some(number).filter(|number| *number > 0);
        }
        Some(tune)
    }

    fn params(&self) -> Vec<TypedParam> {
        let numbers = NAMES.iter().zip(self.numbers);
        let mut params: Vec<_> = numbers.map(|((name, _), number)| TypedParam::new(*name, number)).collect();
        params.insert(GROUP_AT, TypedParam::new("group_name", self.group.clone().unwrap_or_default()));
        params
    }

    /// What of `old` stays, when `given` says which of these a client has named.
    fn complete(&mut self, old: &Self, given: &[bool; COUNT], group_given: bool) {
        for family in FAMILIES {
            let named = given[family.clone()].contains(&true);
            for at in family {
                if !named {
                    self.numbers[at] = old.numbers[at];
                } else if at >= 13 && old.numbers[at] > 0 && self.numbers[at] == 0 {
                    // The emulator takes no 0 where there is a limit.
                    let limit = at - 13;
                    let limited = self.numbers[limit] > 0 || self.numbers[limit + 6] > 0;
                    self.numbers[at] = limited.into();
                }
            }
        }
        if !group_given {
            self.group.clone_from(&old.group);
        }
    }

    /// No limit at all means no group either.
    fn leave_group(&mut self, now: Option<&str>) -> Result<()> {
        if self.numbers.iter().any(|number| *number > 0) {
            return Ok(());
        }
        if self.group.is_some() && self.group.as_deref() != now {
            return Err(unsupported(
                "creating a new group/updating existing with all tune parameters zero is not supported",
            ));
        }
        self.group = None;
        Ok(())
    }

    /// Bursts are of what is limited, and above that.
    fn check_bursts(&self) -> Result<()> {
        for at in 0..6 {
            let (limit, burst) = (self.numbers[at], self.numbers[at + 6]);
            let ((name, _), (burst_name, _)) = (NAMES[at], NAMES[at + 6]);
            if burst > 0 && limit == 0 {
                return Err(unsupported(format!("cannot reset '{name}' when '{burst_name}' is set")));
            }
            if burst > 0 && burst < limit {
                return Err(unsupported(format!("value '{burst_name}' cannot be smaller than '{name}'")));
            }
        }
        Ok(())
    }
}

fn fields(tune: &mut IoTune) -> [&mut Option<u64>; COUNT] {
    [
        &mut tune.total_bytes_sec,
        &mut tune.read_bytes_sec,
        &mut tune.write_bytes_sec,
        &mut tune.total_iops_sec,
        &mut tune.read_iops_sec,
        &mut tune.write_iops_sec,
        &mut tune.total_bytes_sec_max,
        &mut tune.read_bytes_sec_max,
        &mut tune.write_bytes_sec_max,
        &mut tune.total_iops_sec_max,
        &mut tune.read_iops_sec_max,
        &mut tune.write_iops_sec_max,
        &mut tune.size_iops_sec,
        &mut tune.total_bytes_sec_max_length,
        &mut tune.read_bytes_sec_max_length,
        &mut tune.write_bytes_sec_max_length,
        &mut tune.total_iops_sec_max_length,
        &mut tune.read_iops_sec_max_length,
        &mut tune.write_iops_sec_max_length,
    ]
}

/// What a client gives, and which of the numbers.
fn given(params: &[TypedParam]) -> Result<(Limits, [bool; COUNT], bool)> {
    let mut known: Vec<_> = NAMES.iter().map(|(name, _)| (*name, "ullong")).collect();
    known.push(("group_name", "string"));
    params::check(params, &known)?;
    let (mut limits, mut named) = (Limits::default(), [false; COUNT]);
    for param in params {
        match &param.value {
            TypedValue::Ullong(value) if *value > MOST => {
                let detail = format!("block I/O throttle limit value must be no more than {MOST}");
                return Err(error(Code::ArgumentUnsupported, detail));
            }
            TypedValue::Ullong(value) => {
                if let Some(at) = NAMES.iter().position(|(name, _)| *name == param.field) {
                    (limits.numbers[at], named[at]) = (*value, true);
                }
            }
            TypedValue::Text(name) => limits.group = Some(name.clone()),
            _ => {}
        }
    }
    for (at, what) in [(0, "bytes_sec"), (3, "iops_sec"), (6, "bytes_sec_max"), (9, "iops_sec_max")] {
        let [total, read, write] = [at, at + 1, at + 2].map(|at| limits.numbers[at] > 0);
        if total && (read || write) {
            let detail = format!("total and read/write of {what} cannot be set at the same time");
            return Err(error(Code::InvalidArg, detail));
        }
    }
    let group = limits.group.is_some();
    Ok((limits, named, group))
}

/// The limits that a disk gets; those of its group, if it joins another one.
fn merged(definition: &Definition, disk: &Disk, wanted: &(Limits, [bool; COUNT], bool)) -> Result<Limits> {
    let (limits, named, group_given) = wanted;
    let group = |disk: &Disk| disk.iotune.as_ref().and_then(|tune| tune.group_name.clone());
    let own = group(disk);
    let other = definition
        .devices
        .disk
        .iter()
        .find(|other| limits.group.is_some() && own != limits.group && group(other) == limits.group);
    let mut result = limits.clone();
    result.complete(&Limits::of(other.unwrap_or(disk).iotune.as_ref()), named, *group_given);
    result.leave_group(own.as_deref())?;
    Ok(result)
}

fn set(definition: &mut Definition, dev: &str, limits: &Limits) {
    for disk in &mut definition.devices.disk {
        let group = disk.iotune.as_ref().and_then(|tune| tune.group_name.as_deref());
        if disk.dev() == dev || (limits.group.is_some() && group == limits.group.as_deref()) {
            disk.iotune = limits.to_tune();
        }
    }
}

/// What the emulator says of a disk's device.
fn device_of(guest: &Guest, disk: &Disk) -> Result<Value> {
    let alias = crate::definition::disk_alias(disk).unwrap_or_default();
    let reply = guest.execute("query-block", Dict::default())?;
    let ours = |row: &&Value| {
        let name = row.get("qdev").and_then(Value::as_str).unwrap_or_default();
        name.split('/').any(|part| part == alias)
    };
    let found = reply.as_list().unwrap_or_default().iter().find(ours).cloned();
    found.ok_or_else(|| internal(format!("cannot find throttling info for device '{alias}'")))
}

/// Has the emulator keep to a disk's limits.
fn throttle(guest: &Guest, disk: &Disk, limits: &Limits) -> Result<()> {
    let row = device_of(guest, disk)?;
    let device = row.get("qdev").and_then(Value::as_str).unwrap_or_default();
    let mut arguments = dict! { "id" => device };
    for (at, ((_, key), number)) in NAMES.iter().zip(limits.numbers).enumerate() {
        if at < 13 || number > 0 {
            arguments.insert(*key, number.into());
        }
    }
    if let Some(group) = &limits.group {
        arguments.insert("group", group.as_str().into());
    }
    guest.execute("block_set_io_throttle", arguments).map(drop)
}

/// Has the emulator keep to the limits that the disks of a running guest come with.
///
/// # Errors
/// It refuses.
pub(crate) fn limit_disks(guest: &Guest, disks: &[Disk]) -> Result<()> {
    let limited = |disk: &&Disk| disk.iotune.is_some() && disk.source.is_some();
    disks.iter().filter(limited).try_for_each(|disk| throttle(guest, disk, &Limits::of(disk.iotune.as_ref())))
}

fn no_disk(name: &str) -> rpc::Error {
    error(Code::InvalidArg, format!("disk '{name}' not found in domain"))
}

impl QemuDriver {
    pub(super) fn block_io_tune(&self, args: DomainGetBlockIoTuneArgs) -> Result<DomainGetBlockIoTuneRet> {
        check_flags(args.flags, LIVE | CONFIG | TYPED_STRING, "qemuDomainGetBlockIoTune")?;
        let guest = self.guest(&args.dom)?;
        let (live, config) = self.both(&guest, args.flags)?;
        let room = usize::try_from(args.nparams).unwrap_or(0);
        if room == 0 {
            return Ok(DomainGetBlockIoTuneRet { params: Vec::new(), nparams: COUNT as i32 + 1 });
        }
        let name = args.disk.unwrap_or_default();
        let limits = if let Some(live) = live {
            let disk = query::find_disk(&live, &name).ok_or_else(|| no_disk(&name))?;
            let row = device_of(&guest, disk)?;
            let inserted = row
                .get("inserted")
                .ok_or_else(|| internal("block_io_throttle inserted entry was not in expected format"))?;
            let number = |(_, key): (&str, &str)| inserted.get(key).and_then(Value::as_u64).unwrap_or(0);
            let group = inserted.get("group").and_then(Value::as_str).map(str::to_owned);
            Limits { numbers: NAMES.map(number), group }
        } else {
            let disk = config.as_deref().and_then(|config| query::find_disk(config, &name));
            let disk = disk.ok_or_else(|| {
                error(Code::InvalidArg, format!("disk '{name}' was not found in the domain config"))
            })?;
            Limits::of(disk.iotune.as_ref())
        };
        let mut params = limits.params();
        params.truncate(room);
        let nparams = params.len() as i32;
        Ok(DomainGetBlockIoTuneRet { params, nparams })
    }

    pub(super) fn set_block_io_tune(&self, args: &DomainSetBlockIoTuneArgs) -> Result<()> {
        check_flags(args.flags, LIVE | CONFIG, "qemuDomainSetBlockIoTune")?;
        let guest = self.guest(&args.dom)?;
        let _job = guest.jobs.begin("virDomainSetBlockIoTune")?;
        let (live, config) = self.both(&guest, args.flags)?;
        let wanted = given(&args.params)?;
        let name = args.disk.as_str();
        let next = config.map(|config| -> Result<(String, Limits)> {
            let disk = query::find_disk(&config, name).ok_or_else(|| {
                let detail = format!("missing persistent configuration for disk '{name}'");
                error(Code::InvalidArg, detail)
            })?;
            Ok((disk.dev().to_owned(), merged(&config, disk, &wanted)?))
        });
        if let Some(definition) = live {
            let disk = query::find_disk(&definition, name).ok_or_else(|| no_disk(name))?;
            let limits = merged(&definition, disk, &wanted)?;
            limits.check_bursts()?;
            if query::local_path(disk).is_some() || disk.source.is_some() {
                throttle(&guest, disk, &limits)?;
            }
            let dev = disk.dev().to_owned();
            self.change(&guest, LIVE, &mut |it| set(it, &dev, &limits))?;
            let mut told = vec![TypedParam::new("blkdeviotune.disk", name)];
            let one = |param: &TypedParam| TypedParam {
                field: format!("blkdeviotune.{}", param.field),
                value: param.value.clone(),
            };
            told.extend(args.params.iter().map(one));
            self.tunable(&guest, told);
        }
        if let Some(next) = next {
            let (dev, limits) = next?;
            self.change(&guest, CONFIG, &mut |it| set(it, &dev, &limits))?;
        }
        Ok(())
    }

    pub(super) fn block_resize(&self, args: &DomainBlockResizeArgs) -> Result<()> {
        const BYTES: u32 = 1;
        check_flags(args.flags, BYTES, "qemuDomainBlockResize")?;
        let mut size = args.size;
        if args.flags & BYTES == 0 {
            let most = u64::MAX / 1024;
            size = size
                .checked_mul(1024)
                .ok_or_else(|| error(Code::Overflow, format!("size must be less than {most}")))?;
        }
        let guest = self.guest(&args.dom)?;
        let _job = guest.jobs.begin("virDomainBlockResize")?;
        let definition = {
            let inner = guest.lock();
            inner.live.as_ref().ok_or_else(not_running)?.definition.clone()
        };
        let disk = query::find_disk(&definition, &args.disk).ok_or_else(|| {
            error(Code::InvalidArg, format!("disk '{}' was not found in the domain config", args.disk))
        })?;
        let format = disk.driver.as_ref().and_then(|driver| driver.format);
        if matches!(format, Some(DiskFormat::Qcow2 | DiskFormat::Qed)) {
            // These have whole sectors.
            size = size.checked_next_multiple_of(512).unwrap_or(size);
        }
        let node = disk.source.as_ref().filter(|_| !disk.read_only).and_then(|source| source.index);
        let node = node.ok_or_else(|| {
            let detail = format!("can't resize empty or readonly disk '{}'", disk.dev());
            error(Code::OperationUnsupported, detail)
        })?;
        let arguments = dict! { "node-name" => format!("libvirt-{node}-format"), "size" => size };
        guest.execute("block_resize", arguments).map(drop)
    }

    pub(super) fn interface_parameters(
        &self,
        args: &DomainGetInterfaceParametersArgs,
    ) -> Result<DomainGetInterfaceParametersRet> {
        check_flags(args.flags, LIVE | CONFIG | TYPED_STRING, "qemuDomainGetInterfaceParameters")?;
        let (definition, _) = self.meant(&*self.guest(&args.dom)?, args.flags)?;
        let room = usize::try_from(args.nparams).unwrap_or(0);
        if room == 0 {
            let nparams = BANDWIDTH.len() as i32;
            return Ok(DomainGetInterfaceParametersRet { params: Vec::new(), nparams });
        }
        let at = find_interface(&definition, &args.device)?;
        let limits = definition.devices.interface[at].bandwidth.clone().unwrap_or_default();
        let rate = |rate: &Option<Rate>| rate.clone().unwrap_or_default();
        let (inbound, outbound) = (rate(&limits.inbound), rate(&limits.outbound));
        let values = [
            inbound.average,
            inbound.peak,
            inbound.burst,
            inbound.floor,
            outbound.average,
            outbound.peak,
            outbound.burst,
        ];
        let one = |((name, _), value): (&(&str, &str), Option<u64>)| {
            TypedParam::new(*name, u32::try_from(value.unwrap_or(0)).unwrap_or(u32::MAX))
        };
        let mut params: Vec<_> = BANDWIDTH.iter().zip(values).map(one).collect();
        params.truncate(room);
        let nparams = params.len() as i32;
        Ok(DomainGetInterfaceParametersRet { params, nparams })
    }

    pub(super) fn set_interface_parameters(&self, args: &DomainSetInterfaceParametersArgs) -> Result<()> {
        check_flags(args.flags, LIVE | CONFIG, "qemuDomainSetInterfaceParameters")?;
        params::check(&args.params, BANDWIDTH)?;
        let guest = self.guest(&args.dom)?;
        let _job = guest.jobs.begin("virDomainSetInterfaceParameters")?;
        let (live, config) = self.both(&guest, args.flags)?;
        let find = |definition: &Definition| find_interface(definition, &args.device);
        let running = live.as_ref().map(|it| find(it)).transpose()?;
        let next = config.as_ref().map(|it| find(it)).transpose()?;
        for (definition, at) in [(&live, running), (&config, next)] {
            let kind = definition.as_ref().zip(at).map(|(it, at)| it.devices.interface[at].kind);
            if let Some(kind) = kind.filter(|kind| !bandwidth::is_supported(*kind)) {
                let word: String = xml::Value::format(&kind).into();
                let detail =
                    format!("setting bandwidth on interfaces of type '{word}' is not implemented yet");
                return Err(unsupported(detail));
            }
        }
        let value = |name: &str| {
            let found = args.params.iter().find(|param| param.field == name).map(|param| &param.value);
            match found {
                Some(TypedValue::Uint(value)) => Some(u64::from(*value)),
                _ => None,
            }
        };
        let rate = |way: &str| {
            let get = |what: &str| value(&format!("{way}.{what}"));
            let some = |what: &str| get(what).filter(|value| *value > 0);
            let named = get("average").is_some() || get("floor").is_some();
            let rate = Rate {
                average: some("average"),
                peak: some("peak"),
                floor: some("floor"),
                burst: some("burst"),
            };
            // Without an average or a floor there is no limit.
            let limited = rate.average.is_some() || rate.floor.is_some();
            (named, Some(rate).filter(|_| limited))
        };
        let (inbound, outbound) = (rate("inbound"), rate("outbound"));
        let merged = |old: &Option<Bandwidth>| {
            let mut merged = old.clone().unwrap_or_default();
            if inbound.0 {
                merged.inbound.clone_from(&inbound.1);
            }
            if outbound.0 {
                merged.outbound.clone_from(&outbound.1);
            }
            Some(merged).filter(|it| *it != Bandwidth::default())
        };
        if let Some((definition, at)) = live.as_ref().zip(running) {
            let interface = &definition.devices.interface[at];
            let limits = merged(&interface.bandwidth);
            let floor = inbound.1.as_ref().and_then(|rate| rate.floor).is_some();
            if floor && interface.kind != InterfaceType::Network {
                let mac = interface.mac.as_ref().map_or("", |mac| mac.address.as_str());
                let detail = format!(
                    "Invalid use of 'floor' on interface with MAC address {mac} - 'floor' is only supported for \
                     interface type 'network' with forward type 'nat', 'route', 'open' or none"
                );
                return Err(error(Code::OperationUnsupported, detail));
            }
            bandwidth::change(&self.core, interface, limits.as_ref())?;
            let id = guest.running_id()?;
            guest.with_live(id, |live| {
                live.change(|it| {
                    if let Some(interface) = it.devices.interface.get_mut(at) {
                        interface.bandwidth = limits;
                    }
                });
            });
            self.core.save_status(&guest);
        }
        let Some(at) = next else { return Ok(()) };
        self.change(&guest, CONFIG, &mut |it| {
            if let Some(interface) = it.devices.interface.get_mut(at) {
                interface.bandwidth = merged(&interface.bandwidth);
            }
        })
    }
}

/// The names of limits of interfaces, and their type.
const BANDWIDTH: &[(&str, &str)] = &[
    ("inbound.average", "uint"),
    ("inbound.peak", "uint"),
    ("inbound.burst", "uint"),
    ("inbound.floor", "uint"),
    ("outbound.average", "uint"),
    ("outbound.peak", "uint"),
    ("outbound.burst", "uint"),
];

/// The place of the interface that a client names by its address or by the host's device.
fn find_interface(definition: &Definition, name: &str) -> Result<usize> {
    let ours = |interface: &Interface| {
        let mac = interface.mac.as_ref().map(|mac| mac.address.to_string());
        let target = interface.target.as_ref().and_then(|target| target.dev.as_deref());
        mac.is_some_and(|mac| mac.eq_ignore_ascii_case(name)) || target == Some(name)
    };
    let found = definition.devices.interface.iter().position(ours);
    found.ok_or_else(|| error(Code::InvalidArg, format!("'{name}' is not a known interface")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limits(pairs: &[(usize, u64)]) -> Limits {
        let mut limits = Limits::default();
        pairs.iter().for_each(|(at, value)| limits.numbers[*at] = *value);
        limits
    }

    #[test]
    fn what_is_not_named_stays() {
        let old = limits(&[(0, 100), (3, 50), (13, 7)]);
        let (mut new, named, group) = given(&[TypedParam::new("read_bytes_sec", 9u64)]).expect("given");
        new.complete(&old, &named, group);
        assert_eq!(new, limits(&[(1, 9), (3, 50), (13, 7)]));
        let (mut none, named, group) =
            given(&[TypedParam::new("total_bytes_sec_max_length", 0u64)]).expect("given");
        none.complete(&old, &named, group);
        assert_eq!(none, limits(&[(0, 100), (3, 50), (13, 1)]));
        assert_eq!(Limits::of(none.to_tune().as_ref()), none);
        assert_eq!(Limits::default().to_tune(), None);
    }

    #[test]
    fn mistakes() {
        let refused = |params: &[TypedParam]| given(params).expect_err("refused").to_string();
        let both = [TypedParam::new("total_iops_sec", 1u64), TypedParam::new("read_iops_sec", 1u64)];
        assert_eq!(
            refused(&both),
            "invalid argument: total and read/write of iops_sec cannot be set at the same time"
        );
        assert!(
            refused(&[TypedParam::new("total_iops_sec", MOST + 1)]).contains("no more than 1000000000000000")
        );
        let burst = limits(&[(6, 5)]).check_bursts().expect_err("no limit").to_string();
        assert_eq!(
            burst,
            "unsupported configuration: cannot reset 'total_bytes_sec' when 'total_bytes_sec_max' is set"
        );
        assert!(limits(&[(6, 5), (0, 9)]).check_bursts().is_err());
        let mut grouped = Limits { group: Some("a".to_owned()), ..Limits::default() };
        assert!(grouped.clone().leave_group(None).is_err());
        grouped.leave_group(Some("a")).expect("its own");
        assert_eq!(grouped.group, None);
    }
}
