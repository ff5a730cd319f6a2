//! A guest whose emulator hangs is its own users' concern only.

use crate::{Daemon, Scene};
use rpc::protocol::domain::*;
use rpc::protocol::stats::*;
use rpc::{Domain, Hypervisor as _};
use std::time::{Duration, Instant};

/// Nobody who does not need the emulator that hangs may wait so long.
const MOMENT: Duration = Duration::from_secs(3);

fn at_once<T>(what: &str, act: impl FnOnce() -> T) -> T {
    let begin = Instant::now();
    let result = act();
    assert!(begin.elapsed() < MOMENT, "{what} took {:?}", begin.elapsed());
    result
}

fn stats(daemon: &Daemon, doms: Vec<Domain>, flags: u32) -> Vec<DomainStatsRecord> {
    let args = ConnectGetAllDomainStatsArgs { doms, stats: 0, flags };
    daemon.driver.connect_get_all_domain_stats(&daemon.client, args).expect("statistics").ret_stats
}

fn has(record: &DomainStatsRecord, field: &str) -> bool {
    record.params.iter().any(|param| param.field == field)
}

/// Two running guests, the emulator of the first of which is stopped, and that.
fn with_one_stopped(scene: &Scene, daemon: &Daemon) -> (Domain, Domain, rustix::process::Pid) {
    let (hung, other) = (daemon.define(&scene.xml("one")), daemon.define(&scene.xml("two")));
    daemon.create(&hung).expect("started");
    let emulator = rustix::process::Pid::from_raw(scene.emulators()[0]).expect("a process");
    daemon.create(&other).expect("started");
    rustix::process::kill_process(emulator, rustix::process::Signal::STOP).expect("stopped");
    (hung, other, emulator)
}

pub fn a_guest_that_hangs_is_waited_for_by_the_next_daemon() {
    let scene = Scene::new("waited");
    let daemon = scene.daemon();
    let (hung, other, emulator) = with_one_stopped(&scene, &daemon);
    daemon.driver.stop();
    drop(daemon);
    let daemon = at_once("start of the daemon", || scene.daemon());
    daemon.destroy(&other).expect("destroyed");
    // Longer than one attempt lasts.
    std::thread::sleep(Duration::from_millis(5500));
    assert_eq!(at_once("state", || daemon.state(&hung)), (1, 1));
    rustix::process::kill_process(emulator, rustix::process::Signal::CONT).expect("it goes on");
    let args = DomainSuspendArgs { dom: hung.clone() };
    daemon.driver.domain_suspend(&daemon.client, args).expect("suspended");
    // The end of the attempt before is not taken for the guest's.
    std::thread::sleep(Duration::from_millis(100));
    assert_eq!(daemon.state(&hung), (3, 1));
    daemon.destroy(&hung).expect("destroyed");
}

pub fn a_guest_that_hangs_blocks_nobody_else() {
    const NOWAIT: u32 = 1 << 29;
    let scene = Scene::new("hangs");
    let daemon = scene.daemon();
    let (hung, other, emulator) = with_one_stopped(&scene, &daemon);
    daemon.take_events();
    let suspend =
        |dom: &Domain| daemon.driver.domain_suspend(&daemon.client, DomainSuspendArgs { dom: dom.clone() });
    let hung = &hung;
    std::thread::scope(|scope| {
        // Waits for the answer that does not come, and holds the guest meanwhile.
        let waiting = scope.spawn(|| suspend(hung));
        std::thread::sleep(Duration::from_millis(2500));
        let args = ConnectListAllDomainsArgs { need_results: 1, flags: 0 };
        let listed = at_once("list", || daemon.driver.connect_list_all_domains(&daemon.client, args));
        assert_eq!(listed.expect("a list").domains.len(), 2);
        assert_eq!(at_once("state", || daemon.state(hung)), (1, 1));
        at_once("dumpxml", || daemon.xml(hung, 0));
        let records = at_once("statistics of the other", || stats(&daemon, vec![other.clone()], 0));
        assert!(has(&records[0], "block.0.rd.reqs"));
        for flags in [0, NOWAIT] {
            let records = at_once("statistics of both", || stats(&daemon, Vec::new(), flags));
            let of = |name: &str| records.iter().find(|one| one.dom.name == name).expect("a record");
            assert!(has(of("one"), "cpu.time") && !has(of("one"), "block.0.rd.reqs"));
            assert!(has(of("two"), "block.0.rd.reqs"));
        }
        at_once("suspend of the other", || suspend(&other)).expect("suspended");
        assert_eq!(daemon.take_events(), ["3/0"]);
        at_once("end of the other", || daemon.destroy(&other)).expect("destroyed");
        assert_eq!(daemon.take_events(), ["6/2", "5/1"]);
        rustix::process::kill_process(emulator, rustix::process::Signal::CONT).expect("it goes on");
        waiting.join().expect("a thread").expect("suspended at last");
    });
    // One that hangs is ended at once, also when somebody waits for it.
    rustix::process::kill_process(emulator, rustix::process::Signal::STOP).expect("stopped");
    daemon.take_events();
    std::thread::scope(|scope| {
        let args = DomainResumeArgs { dom: hung.clone() };
        let waiting = scope.spawn(|| daemon.driver.domain_resume(&daemon.client, args));
        std::thread::sleep(Duration::from_millis(300));
        at_once("end of the one that hangs", || daemon.destroy(hung)).expect("destroyed");
        // It may have gone on for a moment.
        let _ = waiting.join().expect("a thread");
    });
    assert_eq!(daemon.take_events().last().map(String::as_str), Some("5/1"));
    assert_eq!(daemon.state(hung), (5, 2));
    assert!(scene.emulators().is_empty());
}
