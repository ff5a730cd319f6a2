//! Virtual processors that come and go.
//!
//! The machine has a place for each that there may be; a processor is a device in such a place.

use crate::core::Core;
use crate::error::{Result, error, internal, invalid, monitor};
use crate::guest::Guest;
use crate::process::start::{launch_error, threads};
use confinement::cgroup::Thread;
use domain_xml::Domain as Definition;
use domain_xml::tune::{Vcpu, VcpuState, Vcpus};
use domain_xml::words::YesNo;
use json::{Dict, Value, dict};
use qmp::Monitor;
use rpc::Code;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How long a guest may take to let go of a processor.
const UNPLUG: Duration = Duration::from_secs(5);

/// A place for one processor.
#[derive(Clone, Debug, PartialEq)]
struct Place {
    /// What is plugged there.
    kind: String,
    /// Where it is: its socket and so on.
    at: Dict,
    /// How many virtual processors it is.
    count: u64,
    /// The object that is there.
    path: Option<String>,
}

impl Place {
    /// Whether what is there can be taken out.
    fn is_plugged(&self) -> bool {
        self.path.as_ref().is_some_and(|path| path.starts_with("/machine/peripheral/"))
    }
}

/// The places in the order of the processors' numbers.
fn places(reply: &Value) -> Vec<Place> {
    let one = |item: &Value| {
        let Some(Value::Dict(at)) = item.get("props") else { return None };
        let text = |key: &str| item.get(key).and_then(Value::as_str).map(str::to_owned);
        Some(Place {
            kind: text("type")?,
            at: at.clone(),
            count: item.get("vcpus-count").and_then(Value::as_u64)?,
            path: text("qom-path"),
        })
    };
    let mut places: Vec<Place> = reply.as_list().unwrap_or_default().iter().filter_map(one).collect();
    let rank = |place: &Place| {
        ["socket-id", "die-id", "core-id", "thread-id"].map(|key| place.at.get(key).and_then(Value::as_u64))
    };
    places.sort_by_key(rank);
    places
}

fn ask(guest: &Guest, command: &str) -> Result<Value> {
    guest.execute(command, Dict::default())
}

fn plug(qemu: &Monitor, number: u32, place: &Place) -> Result<()> {
    let mut device = dict! { "driver" => place.kind.as_str(), "id" => format!("vcpu{number}") };
    for (key, value) in place.at.iter() {
        device.insert(key, value.clone());
    }
    qemu.execute("device_add", device).map(drop).map_err(|error| monitor(error, "device_add"))
}

/// The states of all processors that a definition has or may have.
pub fn states(definition: &Definition) -> Vec<VcpuState> {
    let (most, now) =
        definition.vcpu.as_ref().map_or((1, 1), |vcpu| (vcpu.count, vcpu.current.unwrap_or(vcpu.count)));
    let known = definition.vcpus.iter().flat_map(|vcpus| &vcpus.vcpu);
    let known: Vec<&VcpuState> = known.collect();
    (0..most)
        .map(|id| match known.iter().find(|state| state.id == id) {
            Some(state) => (*state).clone(),
            None => VcpuState {
                id,
                enabled: YesNo::from(id < now),
                hotpluggable: Some(YesNo::from(id >= now)),
                order: None,
            },
        })
        .collect()
}

/// Writes the states down: one by one where `individual` or they were before, else as a number.
pub fn set_states(definition: &mut Definition, states: Vec<VcpuState>, individual: bool) {
    let online = states.iter().filter(|state| state.enabled == YesNo::Yes).count();
    let online = u32::try_from(online).unwrap_or(u32::MAX);
    let vcpu = definition.vcpu.get_or_insert_with(|| Vcpu { count: 1, ..Vcpu::default() });
    vcpu.current = (online < vcpu.count).then_some(online);
    if individual || definition.vcpus.is_some() {
        definition.vcpus = Some(Vcpus { vcpu: states });
    }
}

/// Plugs the processors that a guest begins with beside those of its machine.
pub(super) fn plug_at_start(qemu: &Monitor, definition: &Definition) -> Result<()> {
    let on = Some(YesNo::Yes);
    let states = states(definition);
    let plugged = |state: &&VcpuState| state.enabled == YesNo::Yes && state.hotpluggable == on;
    let mut wanted: Vec<&VcpuState> = states.iter().filter(plugged).collect();
    if definition.vcpus.is_none() || wanted.is_empty() {
        return Ok(());
    }
    wanted.sort_by_key(|state| state.order.unwrap_or(0));
    let reply = qemu.execute("query-hotpluggable-cpus", Dict::default());
    let places = places(&reply.map_err(|error| monitor(error, "query-hotpluggable-cpus"))?);
    for state in wanted {
        let place = places.get(state.id as usize);
        let missing = || crate::error::unsupported(format!("vcpu '{}' is missing hotplug data", state.id));
        plug(qemu, state.id, place.ok_or_else(missing)?)?;
    }
    Ok(())
}

impl Core {
    /// Notes which processors the guest has now.
    pub(super) fn refresh_vcpus(&self, guest: &Guest, id: i32) -> Result<()> {
        let cpus = ask(guest, "query-cpus-fast")?;
        let places = places(&ask(guest, "query-hotpluggable-cpus")?);
        let path = |cpu: &Value| cpu.get("qom-path").and_then(Value::as_str).map(str::to_owned);
        let order: Vec<Option<String>> = cpus.as_list().unwrap_or_default().iter().map(path).collect();
        guest.with_live(id, |live| {
            live.vcpus = threads(&cpus);
            live.change(|it| {
                let mut now = states(it);
                for (state, place) in now.iter_mut().zip(&places) {
                    let at = place
                        .path
                        .as_ref()
                        .and_then(|path| order.iter().position(|known| known.as_ref() == Some(path)));
                    state.enabled = YesNo::from(at.is_some());
                    state.order = at.and_then(|at| u32::try_from(at + 1).ok());
                    if place.is_plugged() || place.path.is_none() {
                        state.hotpluggable = Some(YesNo::Yes);
                    }
                }
                set_states(it, now, true);
            });
        });
        self.save_status(guest);
        Ok(())
    }

    /// Plugs a processor into a running guest. Its job is held by the caller.
    fn add_vcpu(&self, guest: &Arc<Guest>, id: i32, number: u32, place: &Place) -> Result<()> {
        let qemu = guest.monitor()?;
        plug(&qemu, number, place)?;
        guest.with_live(id, |live| live.devices.push(format!("vcpu{number}")));
        self.refresh_vcpus(guest, id)?;
        let placed = guest.with_live(id, |live| {
            let thread = live.vcpus.iter().find(|(vcpu, _)| *vcpu == number).map(|(_, thread)| *thread);
            (thread, live.confined.clone(), live.definition.clone())
        });
        let Some((thread, confined, definition)) = placed else { return Ok(()) };
        let thread =
            thread.ok_or_else(|| internal(format!("qemu didn't report thread id for vcpu '{number}'")))?;
        match confined {
            Some(confined) => confined
                .place(&definition, Thread::Vcpu(number), thread)
                .map_err(|error| launch_error(&error)),
            None => Ok(()),
        }
    }

    /// Asks a running guest to let go of a processor, and waits a while for it. Its job is held by the caller.
    fn remove_vcpu(&self, guest: &Arc<Guest>, id: i32, number: u32) -> Result<()> {
        guest.execute("device_del", dict! { "id" => format!("vcpu{number}") })?;
        let begin = Instant::now();
        while begin.elapsed() < UNPLUG {
            let places = places(&ask(guest, "query-hotpluggable-cpus")?);
            if places.get(number as usize).is_some_and(|place| place.path.is_none()) {
                return self.vcpu_gone(guest, id, number);
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        let detail = "vcpu unplug request timed out. Unplug result must be manually inspected in the domain";
        Err(error(Code::OperationTimeout, detail))
    }

    /// The guest has let go of a processor.
    pub(super) fn vcpu_gone(&self, guest: &Guest, id: i32, number: u32) -> Result<()> {
        self.refresh_vcpus(guest, id)?;
        let confined = guest.with_live(id, |live| live.confined.clone()).flatten();
        if let Some(cgroup) = confined.as_ref().and_then(|confined| confined.cgroup()) {
            // A group that stays is used by the next processor of that number.
            let _ = cgroup.thread(Thread::Vcpu(number)).and_then(|group| group.remove());
        }
        Ok(())
    }

    /// Plugs or unplugs processors until the running guest has that many. Its job is held by the caller.
    ///
    /// # Errors
    /// There are none that can come or go, or the emulator refuses.
    pub fn set_vcpu_count(&self, guest: &Arc<Guest>, count: u32) -> Result<()> {
        let id = guest.running_id()?;
        let places = places(&ask(guest, "query-hotpluggable-cpus")?);
        let mut now: u64 = places.iter().filter(|place| place.path.is_some()).map(|place| place.count).sum();
        let wanted = u64::from(count);
        let coarse =
            || crate::error::unsupported("target vm vcpu granularity does not allow the desired vcpu count");
        let numbered = || (0u32..).zip(&places);
        let mut chosen = Vec::new();
        let add = wanted > now;
        if add {
            for (number, place) in numbered().filter(|(_, place)| place.path.is_none()) {
                if now < wanted {
                    now += place.count;
                    chosen.push((number, place));
                }
            }
        } else {
            for (number, place) in
                numbered().filter(|(_, place)| place.is_plugged()).collect::<Vec<_>>().into_iter().rev()
            {
                if now > wanted {
                    now = now.saturating_sub(place.count);
                    chosen.push((number, place));
                }
            }
        }
        if add && now > wanted || !add && now < wanted {
            return Err(coarse());
        }
        if now != wanted {
            return Err(crate::error::unsupported(
                "failed to find appropriate hotpluggable vcpus to reach the desired target vcpu count",
            ));
        }
        for (number, place) in chosen {
            if add {
                self.add_vcpu(guest, id, number, place)?;
            } else {
                self.remove_vcpu(guest, id, number)?;
            }
        }
        Ok(())
    }

    /// Plugs or unplugs one processor of the running guest. Its job is held by the caller.
    ///
    /// # Errors
    /// It is in that state already, cannot change, or the emulator refuses.
    pub fn set_vcpu_state(&self, guest: &Arc<Guest>, set: &BTreeSet<u32>, on: bool) -> Result<()> {
        let id = guest.running_id()?;
        let places = places(&ask(guest, "query-hotpluggable-cpus")?);
        let wrong = |detail: String| error(Code::InvalidArg, detail);
        let place = |number: u32| {
            let place = places.get(number as usize);
            place.ok_or_else(|| invalid(format!("vcpu '{number}' has no place in the machine")))
        };
        for number in set {
            let place = place(*number)?;
            if place.path.is_some() == on {
                return Err(wrong(format!("vcpu '{number}' is already in requested state")));
            }
            if !on && !place.is_plugged() {
                return Err(error(Code::OperationUnsupported, format!("vcpu '{number}' can't be unplugged")));
            }
        }
        let [number] = set.iter().copied().collect::<Vec<_>>()[..] else {
            return Err(error(Code::OperationUnsupported, "only one hotpluggable entity can be selected"));
        };
        if on {
            self.add_vcpu(guest, id, number, place(number)?)
        } else {
            self.remove_vcpu(guest, id, number)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn definition(vcpu: &str) -> Definition {
        let text = format!(
            "<domain type='qemu'><name>a</name><memory>1024</memory>{vcpu}<os><type>hvm</type></os></domain>"
        );
        domain_xml::parse(&text).expect("xml")
    }

    #[test]
    fn places_are_in_order() {
        let reply = json::parse(
            br#"[{"props": {"core-id": 0, "thread-id": 0, "socket-id": 1}, "vcpus-count": 1, "type": "t"},
                {"props": {"core-id": 0, "thread-id": 0, "socket-id": 0}, "vcpus-count": 1, "type": "t",
                "qom-path": "/machine/unattached/device[0]"}]"#,
        );
        let places = places(&reply.expect("json"));
        assert_eq!(places.len(), 2);
        assert!(places[0].path.is_some() && !places[0].is_plugged() && places[1].path.is_none());
        assert_eq!(super::places(&Value::Null), []);
    }

    #[test]
    fn states_are_counted_and_listed() {
        let mut it = definition("<vcpu current='1'>3</vcpu>");
        let mut all = states(&it);
        let on: Vec<_> = all.iter().map(|state| (state.enabled, state.hotpluggable)).collect();
        assert_eq!(on[0], (YesNo::Yes, Some(YesNo::No)));
        assert_eq!(on[2], (YesNo::No, Some(YesNo::Yes)));
        all[2].enabled = YesNo::Yes;
        set_states(&mut it, all.clone(), false);
        assert_eq!((it.vcpu.as_ref().and_then(|vcpu| vcpu.current), it.vcpus.is_some()), (Some(2), false));
        set_states(&mut it, all, true);
        assert_eq!(it.vcpus.as_ref().map(|vcpus| vcpus.vcpu.len()), Some(3));
    }
}
