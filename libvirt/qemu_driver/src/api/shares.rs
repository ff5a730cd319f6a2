//! Shares of the host's disks and memory that guests get.

use super::params;
use crate::driver::QemuDriver;
use crate::error::{Result, check_flags, error, invalid, unsupported};
use crate::process::launch_error;
use confinement::cgroup::{BlockLimit, Controllers, Group, Thread};
use confinement::systemd::Systemd;
use domain_xml::Domain as Definition;
use domain_xml::tune::{BlkioDevice, BlkioTune, NumaMemory, NumaMode, NumaTune, Placement};
use rpc::protocol::device::DomainSetBlkioParametersArgs;
use rpc::protocol::tuning::DomainSetNumaParametersArgs;
use rpc::{Code, TypedParam, TypedValue};

/// `VIR_DOMAIN_AFFECT_...`
const LIVE: u32 = 1;
const CONFIG: u32 = 2;

/// What a parameter sets of each device that it names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Weight,
    Limit(BlockLimit),
}

const KINDS: [(&str, Kind); 5] = [
    ("device_weight", Kind::Weight),
    ("device_read_iops_sec", Kind::Limit(BlockLimit::ReadRequests)),
    ("device_write_iops_sec", Kind::Limit(BlockLimit::WriteRequests)),
    ("device_read_bytes_sec", Kind::Limit(BlockLimit::ReadBytes)),
    ("device_write_bytes_sec", Kind::Limit(BlockLimit::WriteBytes)),
];

impl Kind {
    /// The largest value.
    fn most(self) -> u64 {
        match self {
            Self::Limit(BlockLimit::ReadBytes | BlockLimit::WriteBytes) => u64::MAX,
            _ => u32::MAX.into(),
        }
    }

    fn set(self, device: &mut BlkioDevice, value: u64) {
        let some = Some(value).filter(|value| *value > 0);
        // The values are in range, see `most`.
        let small = some.and_then(|value| u32::try_from(value).ok());
        match self {
            Self::Weight => device.weight = small,
            Self::Limit(BlockLimit::ReadRequests) => device.read_iops_sec = small,
            Self::Limit(BlockLimit::WriteRequests) => device.write_iops_sec = small,
            Self::Limit(BlockLimit::ReadBytes) => device.read_bytes_sec = some,
            Self::Limit(BlockLimit::WriteBytes) => device.write_bytes_sec = some,
        }
    }
}

/// One setting.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Setting {
    Weight(u32),
    Devices(Kind, Vec<(String, u64)>),
}

/// Devices and values, in turns, with commas between.
fn pairs(name: &str, kind: Kind, text: &str) -> Result<Vec<(String, u64)>> {
    let refuse = |detail: String| error(Code::InvalidArg, detail);
    if text.is_empty() {
        return Ok(Vec::new());
    }
    let words: Vec<&str> = text.split(',').collect();
    let (chunks, rest) = words.as_chunks::<2>();
    if !rest.is_empty() {
        return Err(refuse(format!("unable to parse blkio device '{name}' '{text}'")));
    }
    let one = |[path, value]: &[&str; 2]| {
        let number = value.parse::<u64>().ok().filter(|number| *number <= kind.most());
        let number = number.ok_or_else(|| {
            refuse(format!("invalid value '{value}' for parameter '{name}' of device '{path}'"))
        })?;
        Ok(((*path).to_owned(), number))
    };
    chunks.iter().map(one).collect()
}

impl Setting {
    fn read(param: &TypedParam) -> Result<Option<Self>> {
        match &param.value {
            TypedValue::Uint(weight) => Ok(Some(Self::Weight(*weight))),
            TypedValue::Text(text) => {
                let name = param.field.as_str();
                let Some((_, kind)) = KINDS.iter().find(|(known, _)| *known == name) else { return Ok(None) };
                Ok(Some(Self::Devices(*kind, pairs(name, *kind, text)?)))
            }
            _ => Ok(None),
        }
    }

    fn note(&self, definition: &mut Definition) {
        let tune = definition.blkiotune.get_or_insert_with(BlkioTune::default);
        match self {
            Self::Weight(weight) => tune.weight = Some(*weight).filter(|weight| *weight > 0),
            Self::Devices(kind, pairs) => {
                for (path, value) in pairs {
                    let known = tune.device.iter().position(|device| device.path.as_deref() == Some(path));
                    match known {
                        Some(at) => kind.set(&mut tune.device[at], *value),
                        None if *value == 0 => {}
                        None => {
                            let mut device =
                                BlkioDevice { path: Some(path.clone()), ..BlkioDevice::default() };
                            kind.set(&mut device, *value);
                            tune.device.push(device);
                        }
                    }
                }
                let bare = |device: &BlkioDevice| {
                    *device == BlkioDevice { path: device.path.clone(), ..BlkioDevice::default() }
                };
                tune.device.retain(|device| !bare(device));
            }
        }
        if *tune == BlkioTune::default() {
            definition.blkiotune = None;
        }
    }

    fn apply(&self, group: &Group, systemd: &Systemd) -> confinement::Result<()> {
        match self {
            Self::Weight(weight) => group.set_block_weight(systemd, *weight),
            Self::Devices(kind, pairs) => pairs.iter().try_for_each(|(path, value)| match kind {
                Kind::Weight => {
                    group.set_device_weight(systemd, path, u32::try_from(*value).unwrap_or(u32::MAX))
                }
                Kind::Limit(limit) => group.set_block_limit(*limit, path, *value),
            }),
        }
    }
}

fn mode(number: i32) -> Result<NumaMode> {
    match number {
        0 => Ok(NumaMode::Strict),
        1 => Ok(NumaMode::Preferred),
        2 => Ok(NumaMode::Interleave),
        3 => Ok(NumaMode::Restrictive),
        _ => Err(error(Code::InvalidArg, format!("unsupported numatune mode: '{number}'"))),
    }
}

/// Sets where a guest's memory comes from.
fn set_nodes(definition: &mut Definition, mode: Option<NumaMode>, nodes: Option<&str>) -> Result<()> {
    if mode.is_none() && nodes.is_none() {
        return Ok(());
    }
    let vcpu = definition.vcpu.as_ref();
    let is_static = vcpu.and_then(|vcpu| vcpu.placement) != Some(Placement::Auto);
    let tune = definition.numatune.get_or_insert_with(NumaTune::default);
    let new = tune.memory.is_none();
    let memory = tune.memory.get_or_insert_with(NumaMemory::default);
    memory.mode = mode.or(memory.mode).or(Some(NumaMode::Strict));
    if let Some(nodes) = nodes {
        memory.nodeset = Some(nodes.to_owned());
        memory.placement = None;
    } else if new && !is_static {
        memory.placement = Some(Placement::Auto);
    }
    if memory.nodeset.is_none() && memory.placement != Some(Placement::Auto) {
        return Err(unsupported("nodeset for NUMA memory tuning must be set if 'placement' is 'static'"));
    }
    Ok(())
}

impl QemuDriver {
    pub(super) fn set_block_shares(&self, args: &DomainSetBlkioParametersArgs) -> Result<()> {
        check_flags(args.flags, LIVE | CONFIG, "qemuDomainSetBlkioParameters")?;
        let devices = KINDS.iter().map(|(name, _)| (*name, "string"));
        let known: Vec<(&str, &str)> = std::iter::once(("weight", "uint")).chain(devices).collect();
        params::check(&args.params, &known)?;
        let guest = self.guest(&args.dom)?;
        if !self.core.paths.privileged {
            return Err(unsupported("Block I/O tuning is not available in session mode"));
        }
        let _job = guest.jobs.begin("virDomainSetBlkioParameters")?;
        let (live, config) = self.both(&guest, args.flags)?;
        let confined = live
            .as_ref()
            .map(|_| self.controlled(&guest, Controllers::BLKIO, "blkio cgroup isn't mounted"))
            .transpose()?;
        let settings: Vec<Setting> =
            args.params.iter().filter_map(|param| Setting::read(param).transpose()).collect::<Result<_>>()?;
        if let Some(cgroup) = confined.as_ref().and_then(|confined| confined.cgroup()) {
            for setting in &settings {
                setting.apply(cgroup.whole(), cgroup.systemd()).map_err(|error| launch_error(&error))?;
            }
            self.change(&guest, LIVE, &mut |it| settings.iter().for_each(|setting| setting.note(it)))?;
        }
        if config.is_some() {
            self.change(&guest, CONFIG, &mut |it| settings.iter().for_each(|setting| setting.note(it)))?;
        }
        Ok(())
    }

    pub(super) fn set_memory_nodes(&self, args: &DomainSetNumaParametersArgs) -> Result<()> {
        check_flags(args.flags, LIVE | CONFIG, "qemuDomainSetNumaParameters")?;
        params::check(&args.params, &[("numa_mode", "int"), ("numa_nodeset", "string")])?;
        let guest = self.guest(&args.dom)?;
        let (mut wanted, mut nodes) = (None, None);
        for param in &args.params {
            match &param.value {
                TypedValue::Int(number) => wanted = Some(mode(*number)?),
                TypedValue::Text(text) => {
                    let set = qemu_domain::numbers(text).map_err(|error| crate::error::xml(&error))?;
                    if set.is_empty() {
                        return Err(invalid(format!("Invalid nodeset of 'numatune': {text}")));
                    }
                    nodes = Some(set);
                }
                _ => {}
            }
        }
        let text = nodes.as_ref().map(qemu_domain::ranges);
        let _job = guest.jobs.begin("virDomainSetNumaParameters")?;
        let (live, config) = self.both(&guest, args.flags)?;
        if let Some(live) = &live {
            if !self.core.paths.privileged {
                let detail = "NUMA tuning is not available in session mode";
                return Err(error(Code::OperationUnsupported, detail));
            }
            let confined =
                self.controlled(&guest, Controllers::CPUSET, "cgroup cpuset controller is not mounted")?;
            let memory = live.numatune.as_ref().and_then(|tune| tune.memory.as_ref());
            let now = memory.map(|memory| memory.mode.unwrap_or(NumaMode::Strict));
            if now.is_some() && wanted.is_some() && now != wanted {
                return Err(invalid("can't change numatune mode for running domain"));
            }
            if wanted == Some(NumaMode::Strict) {
                if memory.and_then(|memory| memory.nodeset.as_deref()) != text.as_deref() {
                    return Err(invalid("can't change nodeset for strict mode for running domain"));
                }
            } else {
                if let (Some(text), Some(nodes)) = (&text, &nodes) {
                    if now.is_some_and(|now| now != NumaMode::Restrictive) {
                        let detail = "change of nodeset for running domain requires restrictive numa mode";
                        return Err(invalid(detail));
                    }
                    if let Some(missing) = nodes.iter().find(|node| !is_node(**node)) {
                        return Err(unsupported(format!("NUMA node {missing} is unavailable")));
                    }
                    self.confine_nodes(&guest, &confined, live, text)?;
                }
                let mut changed = Definition::clone(live);
                set_nodes(&mut changed, wanted, text.as_deref())?;
                self.change(&guest, LIVE, &mut |it| it.numatune.clone_from(&changed.numatune))?;
            }
        }
        if let Some(config) = config {
            let mut changed = Definition::clone(&config);
            set_nodes(&mut changed, wanted, text.as_deref())?;
            self.change(&guest, CONFIG, &mut |it| it.numatune.clone_from(&changed.numatune))?;
        }
        Ok(())
    }

    /// All threads of a running guest take new memory from there.
    fn confine_nodes(
        &self,
        guest: &crate::guest::Guest,
        confined: &security::Confined,
        live: &Definition,
        nodes: &str,
    ) -> Result<()> {
        let Some(cgroup) = confined.cgroup() else { return Ok(()) };
        let vcpus = guest.lock().live.as_ref().map(|live| live.vcpus.clone()).unwrap_or_default();
        let vcpus = vcpus.into_iter().map(|(number, _)| Thread::Vcpu(number));
        let threads = super::pinning::io_thread_ids(live).into_iter().map(Thread::IoThread);
        std::iter::once(Thread::Emulator)
            .chain(vcpus)
            .chain(threads)
            .try_for_each(|thread| cgroup.thread(thread)?.set_memory_nodes(nodes))
            .map_err(|error| launch_error(&error))
    }
}

/// Whether the host has that node.
fn is_node(node: u32) -> bool {
    std::path::Path::new(&format!("/sys/devices/system/node/node{node}")).exists()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn definition() -> Definition {
        let text =
            "<domain type='qemu'><name>a</name><memory>1024</memory><os><type>hvm</type></os></domain>";
        domain_xml::parse(text).expect("xml")
    }

    #[test]
    fn shares_of_disks() {
        let read = |field: &str, text: &str| Setting::read(&TypedParam::new(field, text));
        let setting = read("device_weight", "/dev/a,200,/dev/b,0").expect("fine").expect("known");
        let mut it = definition();
        setting.note(&mut it);
        let devices = it.blkiotune.clone().expect("noted").device;
        assert_eq!((devices.len(), devices[0].weight), (1, Some(200)));
        read("device_weight", "/dev/a,0").expect("fine").expect("known").note(&mut it);
        assert_eq!(it.blkiotune, None);
        let refused = |text: &str| read("device_read_iops_sec", text).expect_err("refused").to_string();
        assert_eq!(
            refused("/dev/a"),
            "invalid argument: unable to parse blkio device 'device_read_iops_sec' '/dev/a'"
        );
        assert_eq!(
            refused("/dev/a,4294967296"),
            "invalid argument: invalid value '4294967296' for parameter 'device_read_iops_sec' of device '/dev/a'"
        );
    }

    #[test]
    fn nodes_of_memory() {
        let mut it = definition();
        assert!(set_nodes(&mut it, Some(NumaMode::Interleave), None).is_err());
        let mut it = definition();
        set_nodes(&mut it, None, Some("0-1")).expect("set");
        let memory = it.numatune.clone().and_then(|tune| tune.memory).expect("noted");
        assert_eq!((memory.mode, memory.nodeset.as_deref()), (Some(NumaMode::Strict), Some("0-1")));
        assert!(mode(4).is_err());
    }
}
