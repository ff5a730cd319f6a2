//! Counters of processor and kernel events of running guests.

use super::Live;
use crate::error::Result;
use domain_xml::Domain as Definition;
use domain_xml::tune::{Perf, PerfEvent};
use domain_xml::words::YesNo;
use hostio::perf::{Counter, Event};
use rpc::{Code, Error, Origin};
use std::sync::Arc;

/// Counters that count, by their events' names.
pub(crate) type Counters = Vec<(&'static str, Arc<Counter>)>;

/// `VIR_PERF_PARAM_...` in libvirt's order, and what the kernel calls them. Cache occupancy and bandwidth were counted
/// by Linux 4.1 to 4.13 only.
pub(crate) const EVENTS: &[(&str, Option<Event>)] = &[
    ("cmt", None),
    ("mbmt", None),
    ("mbml", None),
    ("cpu_cycles", processor(0)),
    ("instructions", processor(1)),
    ("cache_references", processor(2)),
    ("cache_misses", processor(3)),
    ("branch_instructions", processor(4)),
    ("branch_misses", processor(5)),
    ("bus_cycles", processor(6)),
    ("stalled_cycles_frontend", processor(7)),
    ("stalled_cycles_backend", processor(8)),
    ("ref_cpu_cycles", processor(9)),
    ("cpu_clock", kernel(0)),
    ("task_clock", kernel(1)),
    ("page_faults", kernel(2)),
    ("context_switches", kernel(3)),
    ("cpu_migrations", kernel(4)),
    ("page_faults_min", kernel(5)),
    ("page_faults_maj", kernel(6)),
    ("alignment_faults", kernel(7)),
    ("emulation_faults", kernel(8)),
];

const fn processor(number: u64) -> Option<Event> {
    Some(Event { kind: 0, number })
}

const fn kernel(number: u64) -> Option<Event> {
    Some(Event { kind: 1, number })
}

fn place(name: &str) -> Option<usize> {
    EVENTS.iter().position(|(known, _)| *known == name)
}

fn open(place: usize, pid: i32) -> Result<Counter> {
    let (name, event) = EVENTS[place];
    let Some(event) = event else {
        let detail = format!("unable to enable host cpu perf event for {name}");
        return Err(Error::new(Origin::Perf, Code::ArgumentUnsupported, detail));
    };
    Counter::open(event, pid).map_err(|error| {
        Error::system(Origin::Perf, &error, &format!("unable to open host cpu perf event for {name}"))
    })
}

/// Notes in a definition whether an event is to be counted.
pub(crate) fn note(definition: &mut Definition, name: &str, on: bool) {
    let events = &mut definition.perf.get_or_insert_with(Perf::default).event;
    let enabled = YesNo::from(on);
    match events.iter_mut().find(|event| event.name == name) {
        Some(event) => event.enabled = enabled,
        None => events.push(PerfEvent { name: name.to_owned(), enabled }),
    }
    events.sort_by_key(|event| place(&event.name));
}

/// Whether a definition wants an event counted.
pub(crate) fn wants(definition: &Definition, name: &str) -> bool {
    let mut events = definition.perf.iter().flat_map(|perf| &perf.event);
    events.any(|event| event.name == name && event.enabled == YesNo::Yes)
}

/// Begins to count all that the definition wants.
///
/// # Errors
/// The host cannot count one of them.
pub(super) fn begin(definition: &Definition, pid: i32) -> Result<Counters> {
    let wanted = EVENTS.iter().enumerate().filter(|(_, (name, _))| wants(definition, name));
    wanted.map(|(place, (name, _))| Ok((*name, Arc::new(open(place, pid)?)))).collect()
}

/// As [`begin`], after a restart of the daemon: what the host cannot count is not counted.
pub(super) fn resume(definition: &mut Definition, pid: i32) -> Counters {
    let mut counters = Counters::new();
    for (place, (name, _)) in EVENTS.iter().enumerate() {
        if !wants(definition, name) {
            continue;
        }
        match open(place, pid) {
            Ok(counter) => counters.push((name, Arc::new(counter))),
            Err(_) => note(definition, name, false),
        }
    }
    counters
}

impl Live {
    /// Begins or ends to count an event.
    ///
    /// # Errors
    /// The host cannot count it.
    pub(crate) fn count(&mut self, name: &str, on: bool) -> Result<()> {
        let Some(place) = place(name) else { return Ok(()) };
        let counted = self.counters.iter().position(|(known, _)| *known == name);
        match (counted, on) {
            (None, true) => {
                self.counters.push((EVENTS[place].0, Arc::new(open(place, self.pid)?)));
                self.counters.sort_by_key(|(name, _)| self::place(name));
            }
            (Some(at), false) => drop(self.counters.remove(at)),
            _ => {}
        }
        note(Arc::make_mut(&mut self.definition), name, on);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_wanted_is_noted_in_libvirts_order() {
        let mut definition = Definition::default();
        note(&mut definition, "page_faults", true);
        note(&mut definition, "cmt", false);
        note(&mut definition, "cpu_clock", true);
        note(&mut definition, "cpu_clock", false);
        let names: Vec<_> =
            definition.perf.iter().flat_map(|perf| &perf.event).map(|event| &*event.name).collect();
        assert_eq!(names, ["cmt", "cpu_clock", "page_faults"]);
        assert!(
            wants(&definition, "page_faults")
                && !wants(&definition, "cpu_clock")
                && !wants(&definition, "cmt")
        );
        let refused = open(0, 1).expect_err("no kernel of today counts it").to_string();
        assert!(refused.ends_with("unable to enable host cpu perf event for cmt"), "{refused}");
        // What cannot be counted is wanted no longer.
        note(&mut definition, "mbml", true);
        let counters = resume(&mut definition, std::process::id().cast_signed());
        assert!(!wants(&definition, "mbml") && counters.len() < 2);
        assert!(begin(&Definition::default(), 1).is_ok_and(|none| none.is_empty()));
    }
}
