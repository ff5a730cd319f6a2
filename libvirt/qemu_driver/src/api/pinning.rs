//! Where threads run, and threads for disks that come and go.

use super::params;
use super::tuning::{counts, numbers_of_map};
use crate::driver::QemuDriver;
use crate::error::{Result, check_flags, error, invalid, monitor, unsupported};
use crate::guest::Guest;
use confinement::cgroup::Thread;
use domain_xml::Domain as Definition;
use domain_xml::tune::{CpuTune, EmulatorPin, IoThread, IoThreadIds, IoThreadPin, VcpuPin};
use json::{Dict, Value, dict};
use rpc::protocol::events::DomainEventCallbackTunableMsg;
use rpc::{Code, Domain, DomainEvent, Error, Origin, TypedParam, TypedValue};
use std::fmt::Write as _;
use std::sync::Arc;

/// `VIR_DOMAIN_AFFECT_...`
const LIVE: u32 = 1;
const CONFIG: u32 = 2;

/// A definition that a call is about, if it is.
type Target = Option<Arc<Definition>>;

/// The set as text, such as `0-3,9`.
fn set_text(cpus: &[usize]) -> String {
    let mut text = String::new();
    let mut rest = cpus;
    while let Some(first) = rest.first() {
        let length = rest.iter().enumerate().take_while(|(at, cpu)| **cpu == first + at).count();
        if !text.is_empty() {
            text.push(',');
        }
        let _ = match length {
            1 => write!(text, "{first}"),
            _ => write!(text, "{first}-{}", first + length - 1),
        };
        rest = &rest[length..];
    }
    text
}

/// The numbers of a definition's threads for disks.
pub(super) fn io_thread_ids(definition: &Definition) -> Vec<u32> {
    let listed = definition.iothreadids.as_ref().map(|ids| ids.iothread.iter().map(|it| it.id));
    let mut ids: Vec<u32> = listed.into_iter().flatten().collect();
    // Those that are only counted have the first numbers that are free.
    let count = definition.iothreads.unwrap_or(0) as usize;
    for id in 1.. {
        if ids.len() >= count {
            break;
        }
        if !ids.contains(&id) {
            ids.push(id);
        }
    }
    ids
}

/// All threads for disks one by one, so that they can be changed.
fn listed(definition: &mut Definition) -> &mut Vec<IoThread> {
    let ids = io_thread_ids(definition);
    let list = &mut definition.iothreadids.get_or_insert_with(IoThreadIds::default).iothread;
    for id in ids {
        if list.iter().all(|thread| thread.id != id) {
            list.push(IoThread { id, ..IoThread::default() });
        }
    }
    list
}

/// There are `count` of them.
fn set_count(definition: &mut Definition, count: usize) {
    definition.iothreads = u32::try_from(count).ok().filter(|count| *count > 0);
    if count == 0 {
        definition.iothreadids = None;
    }
}

fn tune(definition: &mut Definition) -> &mut CpuTune {
    definition.cputune.get_or_insert_with(CpuTune::default)
}

fn add(definition: &mut Definition, id: u32) {
    let list = listed(definition);
    list.push(IoThread { id, ..IoThread::default() });
    let count = list.len();
    set_count(definition, count);
}

fn remove(definition: &mut Definition, id: u32) {
    let list = listed(definition);
    list.retain(|thread| thread.id != id);
    let count = list.len();
    set_count(definition, count);
    if let Some(tune) = &mut definition.cputune {
        tune.iothreadpin.retain(|pin| pin.iothread != id);
    }
}

/// Whether a thread for disks may go.
fn check_unused(definition: &Definition, id: u32) -> Result<()> {
    let refuse = |detail: String| Err(error(Code::InvalidArg, detail));
    if !io_thread_ids(definition).contains(&id) {
        let detail = format!("cannot find IOThread '{id}' in iothreadids list");
        return Err(Error::new(Origin::Domain, Code::InvalidArg, detail));
    }
    let uses =
        |disk: &&domain_xml::disk::Disk| disk.driver.as_ref().and_then(|driver| driver.iothread) == Some(id);
    if let Some(disk) = definition.devices.disk.iter().find(uses) {
        let disk = disk.dev();
        return refuse(format!("cannot remove IOThread {id} since it is being used by disk '{disk}'"));
    }
    let mut drivers = definition.devices.controller.iter().filter_map(|it| it.driver.as_ref());
    if drivers.any(|driver| driver.iothread == Some(id)) {
        return refuse(format!("cannot remove IOThread '{id}' since it is being used by controller"));
    }
    Ok(())
}

/// The threads of the emulator for disks, by their numbers.
pub(super) fn io_threads(guest: &Guest) -> Result<Vec<(u32, i32)>> {
    let reply = guest.execute("query-iothreads", Dict::default())?;
    let one = |item: &Value| {
        let id = item.get("id")?.as_str()?.strip_prefix("iothread")?.parse().ok()?;
        Some((id, item.get("thread-id")?.as_i64()?.try_into().ok()?))
    };
    Ok(reply.as_list().unwrap_or_default().iter().filter_map(one).collect())
}

/// What is changed of a thread for disks.
#[derive(Debug)]
struct Polling {
    /// The emulator's properties and their values.
    properties: Vec<(&'static str, i64)>,
    /// Sizes of its pool.
    pool: [Option<i32>; 2],
}

impl Polling {
    fn read(given: &[TypedParam]) -> Result<Self> {
        const KNOWN: &[(&str, &str)] = &[
            ("poll_max_ns", "ullong"),
            ("poll_grow", "uint"),
            ("poll_shrink", "uint"),
            ("thread_pool_min", "int"),
            ("thread_pool_max", "int"),
        ];
        const MOST: u64 = i32::MAX as u64;
        params::check(given, KNOWN)?;
        let mut polling = Self { properties: Vec::new(), pool: [None; 2] };
        for param in given {
            let name = match param.field.as_str() {
                "poll_max_ns" => "poll-max-ns",
                "poll_grow" => "poll-grow",
                "poll_shrink" => "poll-shrink",
                _ => continue,
            };
            let value = match param.value {
                TypedValue::Ullong(value) => value,
                TypedValue::Uint(value) => value.into(),
                _ => continue,
            };
            if value > MOST {
                return Err(unsupported(format!("{name} ({value}) must be less than or equal to {MOST}")));
            }
            polling.properties.push((name, value as i64));
        }
        for (at, name) in ["thread_pool_min", "thread_pool_max"].iter().enumerate() {
            let value = given.iter().find(|param| param.field == *name).map(|param| &param.value);
            if let Some(TypedValue::Int(value)) = value {
                polling.pool[at] = Some(*value);
            }
        }
        if let Some(least) = polling.pool[0].filter(|least| *least < -1) {
            let detail = format!("thread_pool_min ({least}) must be equal to or greater than -1");
            return Err(unsupported(detail));
        }
        if let Some(most) = polling.pool[1].filter(|most| *most < -1 || *most == 0) {
            return Err(unsupported(format!("thread_pool_max ({most}) must be a positive number or -1")));
        }
        Ok(polling)
    }

    /// Whether this fits what the thread has.
    fn check(&self, definition: &Definition, id: u32, live: bool) -> Result<()> {
        if !io_thread_ids(definition).contains(&id) {
            let detail = format!("cannot find IOThread '{id}' in iothreadids");
            return Err(error(Code::InvalidArg, detail));
        }
        for (value, name) in self.pool.iter().zip(["thread_pool_min", "thread_pool_max"]) {
            if let Some(value) = value.filter(|value| live && *value < 0) {
                let detail = format!("{name} ({value}) must be equal to or greater than 0 for live change");
                return Err(invalid(detail));
            }
        }
        let has = definition.iothreadids.as_ref().and_then(|ids| ids.iothread.iter().find(|it| it.id == id));
        let least = self.pool[0].or(has.and_then(|has| has.thread_pool_min)).unwrap_or(-1);
        let most = self.pool[1].or(has.and_then(|has| has.thread_pool_max)).unwrap_or(-1);
        if least > most {
            let detail = format!("thread_pool_min ({least}) can't be greater than thread_pool_max ({most})");
            return Err(invalid(detail));
        }
        if !live && !self.properties.is_empty() {
            let detail = "configuring persistent polling values is not supported";
            return Err(error(Code::OperationUnsupported, detail));
        }
        Ok(())
    }

    fn apply(&self, guest: &Guest, id: u32) -> Result<()> {
        let qemu = guest.monitor()?;
        let path = format!("/objects/iothread{id}");
        let set = |property: &str, value: i64| {
            let arguments = dict! { "path" => path.as_str(), "property" => property, "value" => value };
            qemu.execute("qom-set", arguments).map(drop).map_err(|error| monitor(error, "qom-set"))
        };
        for (property, value) in &self.properties {
            set(property, *value)?;
        }
        let mut pool: Vec<(&str, i32)> = ["thread-pool-min", "thread-pool-max"]
            .into_iter()
            .zip(self.pool)
            .filter_map(|(name, value)| Some((name, value?)))
            .collect();
        if let [Some(least), Some(_)] = self.pool {
            let asked = dict! { "path" => path.as_str(), "property" => "thread-pool-max" };
            let now = qemu.execute("qom-get", asked).map_err(|error| monitor(error, "qom-get"))?;
            if now.as_i64().is_some_and(|most| most < least.into()) {
                // The least may never be above the most.
                pool.reverse();
            }
        }
        pool.into_iter().try_for_each(|(property, value)| set(property, value.into()))
    }

    fn note(&self, definition: &mut Definition, id: u32) {
        if self.pool == [None; 2] {
            return;
        }
        if let Some(thread) = listed(definition).iter_mut().find(|thread| thread.id == id) {
            // -1 is what the emulator has by itself.
            let value = |new: Option<i32>, old: Option<i32>| new.or(old).filter(|value| *value >= 0);
            thread.thread_pool_min = value(self.pool[0], thread.thread_pool_min);
            thread.thread_pool_max = value(self.pool[1], thread.thread_pool_max);
        }
    }
}

impl QemuDriver {
    /// Tells clients of a changed setting.
    pub(super) fn tunable(&self, guest: &Guest, params: Vec<TypedParam>) {
        let dom = guest.reference();
        self.core.event(DomainEvent::Tunable(DomainEventCallbackTunableMsg { callback_id: 0, dom, params }));
    }

    /// Lets a thread of a running guest run there: in its control group first.
    fn move_thread(&self, guest: &Guest, thread: Thread, id: i32, cpus: &[usize]) -> Result<()> {
        let confined = guest.lock().live.as_ref().and_then(|live| live.confined.clone());
        if let Some(cgroup) = confined.as_ref().and_then(|confined| confined.cgroup())
            && cgroup.controllers().has(confinement::cgroup::Controllers::CPUSET)
        {
            let place = cgroup.thread(thread).and_then(|group| group.set_cpus(&set_text(cpus)));
            place.map_err(|error| crate::process::launch_error(&error))?;
        }
        confinement::process::set_affinity(id, cpus).map_err(|error| crate::process::launch_error(&error))
    }

    pub(super) fn pin_vcpu(
        &self,
        dom: &Domain,
        vcpu: u32,
        map: &[u8],
        flags: u32,
        api: &'static str,
    ) -> Result<()> {
        check_flags(flags, LIVE | CONFIG, "qemuDomainPinVcpuFlags")?;
        let guest = self.guest(dom)?;
        let _job = guest.jobs.begin(api)?;
        let (live, config) = self.both(&guest, flags)?;
        let range = |definition: &Definition, what: &str, shown: u32| match vcpu < counts(definition).1 {
            true => Ok(()),
            false => {
                let detail = format!("vcpu {vcpu} is out of range of {what} cpu count {shown}");
                Err(error(Code::InvalidArg, detail))
            }
        };
        if let Some(config) = &config {
            range(config, "persistent", counts(config).0)?;
        }
        let cpus = numbers_of_map(map);
        if cpus.is_empty() {
            return Err(error(Code::InvalidArg, "Empty cpu list for pinning"));
        }
        if let Some(live) = &live {
            range(live, "live", counts(live).1)?;
            let threads = guest.lock().live.as_ref().map(|live| live.vcpus.clone()).unwrap_or_default();
            if let Some((_, thread)) = threads.into_iter().find(|(number, _)| *number == vcpu) {
                self.move_thread(&guest, Thread::Vcpu(vcpu), thread, &cpus)?;
            }
        }
        let cpuset = set_text(&cpus);
        self.change(&guest, flags, &mut |it| {
            let pins = &mut tune(it).vcpupin;
            pins.retain(|pin| pin.vcpu != vcpu);
            pins.push(VcpuPin { vcpu, cpuset: cpuset.clone() });
            pins.sort_by_key(|pin| pin.vcpu);
        })?;
        if live.is_some() {
            self.tunable(&guest, vec![TypedParam::new(format!("cputune.vcpupin{vcpu}"), cpuset)]);
        }
        Ok(())
    }

    pub(super) fn pin_emulator(&self, dom: &Domain, map: &[u8], flags: u32) -> Result<()> {
        check_flags(flags, LIVE | CONFIG, "qemuDomainPinEmulator")?;
        let guest = self.guest(dom)?;
        let _job = guest.jobs.begin("virDomainPinEmulator")?;
        let (live, _) = self.both(&guest, flags)?;
        let cpus = numbers_of_map(map);
        if cpus.is_empty() {
            return Err(error(Code::InvalidArg, "Empty cpu list for pinning"));
        }
        if live.is_some() {
            let pid = guest.lock().live.as_ref().map(|live| live.pid);
            let pid = pid.ok_or_else(crate::error::not_running)?;
            self.move_thread(&guest, Thread::Emulator, pid, &cpus)?;
        }
        let cpuset = set_text(&cpus);
        self.change(&guest, flags, &mut |it| {
            tune(it).emulatorpin = Some(EmulatorPin { cpuset: cpuset.clone() });
        })?;
        if live.is_some() {
            self.tunable(&guest, vec![TypedParam::new("cputune.emulatorpin", cpuset)]);
        }
        Ok(())
    }

    pub(super) fn pin_io_thread(&self, dom: &Domain, id: u32, map: &[u8], flags: u32) -> Result<()> {
        check_flags(flags, LIVE | CONFIG, "qemuDomainPinIOThread")?;
        let guest = self.guest(dom)?;
        let _job = guest.jobs.begin("virDomainPinIOThread")?;
        let (live, config) = self.both(&guest, flags)?;
        let cpus = numbers_of_map(map);
        if cpus.is_empty() {
            return Err(error(Code::InvalidArg, "Empty iothread cpumap list for pinning"));
        }
        if let Some(live) = &live {
            let missing = || error(Code::InvalidArg, format!("iothread {id} not found"));
            if !io_thread_ids(live).contains(&id) {
                return Err(missing());
            }
            let threads = io_threads(&guest)?;
            let thread = threads.into_iter().find(|(number, _)| *number == id).ok_or_else(missing)?;
            self.move_thread(&guest, Thread::IoThread(id), thread.1, &cpus)?;
        }
        if config.is_some_and(|config| !io_thread_ids(&config).contains(&id)) {
            return Err(error(Code::InvalidArg, format!("iothreadid {id} not found")));
        }
        let cpuset = set_text(&cpus);
        self.change(&guest, flags, &mut |it| {
            let pins = &mut tune(it).iothreadpin;
            pins.retain(|pin| pin.iothread != id);
            pins.push(IoThreadPin { iothread: id, cpuset: cpuset.clone() });
            pins.sort_by_key(|pin| pin.iothread);
        })?;
        if live.is_some() {
            self.tunable(&guest, vec![TypedParam::new(format!("cputune.iothreadpin{id}"), cpuset)]);
        }
        Ok(())
    }

    pub(super) fn add_io_thread(&self, dom: &Domain, id: u32, flags: u32) -> Result<()> {
        check_flags(flags, LIVE | CONFIG, "qemuDomainAddIOThread")?;
        not_zero(id)?;
        let guest = self.guest(dom)?;
        let _job = guest.jobs.begin("virDomainAddIOThread")?;
        let (live, config) = self.both(&guest, flags)?;
        if [&live, &config].into_iter().flatten().any(|it| io_thread_ids(it).contains(&id)) {
            let detail = format!("an IOThread is already using iothread_id '{id}'");
            return Err(Error::new(Origin::Domain, Code::InvalidArg, detail));
        }
        if let Some(definition) = live {
            let name = format!("iothread{id}");
            guest.execute("object-add", dict! { "qom-type" => "iothread", "id" => name.as_str() })?;
            let placed = io_threads(&guest).and_then(|threads| {
                let missing = || {
                    let detail = format!("cannot find new IOThread '{id}' in QEMU monitor.");
                    crate::error::internal(detail)
                };
                let (_, thread) =
                    threads.into_iter().find(|(number, _)| *number == id).ok_or_else(missing)?;
                let confined = guest.lock().live.as_ref().and_then(|live| live.confined.clone());
                confined.map_or(Ok(()), |confined| {
                    let placed = confined.place(&definition, Thread::IoThread(id), thread);
                    placed.map_err(|error| crate::process::launch_error(&error))
                })
            });
            if placed.is_err() {
                let _ = guest.execute("object-del", dict! { "id" => name });
                return placed;
            }
        }
        self.change(&guest, flags, &mut |it| add(it, id))
    }

    pub(super) fn remove_io_thread(&self, dom: &Domain, id: u32, flags: u32) -> Result<()> {
        check_flags(flags, LIVE | CONFIG, "qemuDomainDelIOThread")?;
        not_zero(id)?;
        let guest = self.guest(dom)?;
        let _job = guest.jobs.begin("virDomainDelIOThread")?;
        let (live, config) = self.both(&guest, flags)?;
        config.iter().chain(&live).try_for_each(|it| check_unused(it, id))?;
        if live.is_some() {
            guest.execute("object-del", dict! { "id" => format!("iothread{id}") })?;
            let confined = guest.lock().live.as_ref().and_then(|live| live.confined.clone());
            if let Some(cgroup) = confined.as_ref().and_then(|confined| confined.cgroup()) {
                // An empty group is in nobody's way.
                let _ = cgroup.thread(Thread::IoThread(id)).and_then(|group| group.remove());
            }
        }
        self.change(&guest, flags, &mut |it| remove(it, id))
    }

    pub(super) fn set_io_thread(
        &self,
        dom: &Domain,
        id: u32,
        given: &[TypedParam],
        flags: u32,
    ) -> Result<()> {
        check_flags(flags, LIVE | CONFIG, "qemuDomainSetIOThreadParams")?;
        not_zero(id)?;
        let guest = self.guest(dom)?;
        let polling = Polling::read(given)?;
        let _job = guest.jobs.begin("virDomainSetIOThreadParams")?;
        let (live, config) = self.both(&guest, flags)?;
        if let Some(config) = config {
            polling.check(&config, id, false)?;
        }
        if let Some(live) = live {
            polling.check(&live, id, true)?;
            polling.apply(&guest, id)?;
        }
        self.change(&guest, flags, &mut |it| polling.note(it, id))
    }

    /// The definitions that a change with these flags is about: of the running guest, and of the next start.
    pub(super) fn both(&self, guest: &Guest, flags: u32) -> Result<(Target, Target)> {
        let inner = guest.lock();
        let (live, config) = self.targets(&inner, flags)?;
        let running = inner.live.as_ref().filter(|_| live).map(|live| live.definition.clone());
        Ok((running, config.then(|| inner.config()).flatten()))
    }
}

fn not_zero(id: u32) -> Result<()> {
    match id {
        0 => Err(error(Code::InvalidArg, "invalid value of 0 for iothread_id")),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sets() {
        assert_eq!(set_text(&[0, 1, 2, 3, 9, 11, 12]), "0-3,9,11-12");
        assert_eq!(set_text(&[5]), "5");
    }

    #[test]
    fn threads_come_and_go() {
        let text = "<domain type='qemu'><name>a</name><memory>1024</memory><os><type>hvm</type></os>\
                    <iothreads>2</iothreads></domain>";
        let mut definition = domain_xml::parse(text).expect("xml");
        assert_eq!(io_thread_ids(&definition), [1, 2]);
        add(&mut definition, 7);
        assert_eq!(io_thread_ids(&definition), [1, 2, 7]);
        remove(&mut definition, 2);
        assert_eq!((io_thread_ids(&definition), definition.iothreads), (vec![1, 7], Some(2)));
        remove(&mut definition, 1);
        remove(&mut definition, 7);
        assert!(definition.iothreads.is_none() && definition.iothreadids.is_none());
        let refused = check_unused(&definition, 3).expect_err("no such thread").to_string();
        assert_eq!(refused, "invalid argument: cannot find IOThread '3' in iothreadids list");
    }

    #[test]
    fn polling_is_checked() {
        let refused = |field: &str, value: TypedValue| {
            Polling::read(&[TypedParam::new(field, value)]).expect_err("refused").to_string()
        };
        assert_eq!(
            refused("poll_max_ns", TypedValue::Ullong(1 << 40)),
            "unsupported configuration: poll-max-ns (1099511627776) must be less than or equal to 2147483647"
        );
        assert_eq!(
            refused("thread_pool_max", TypedValue::Int(0)),
            "unsupported configuration: thread_pool_max (0) must be a positive number or -1"
        );
        let taken = Polling::read(&[TypedParam::new("poll_grow", 4u32)]).expect("taken");
        assert_eq!(taken.properties, [("poll-grow", 4)]);
    }
}
