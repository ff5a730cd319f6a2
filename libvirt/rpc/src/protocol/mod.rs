//! The protocol: the procedures of all programs, divided by topic.
//!
//! # Serving a procedure
//!
//! Each topic is one `derive::protocol!` declaration, which makes a struct of each procedure's arguments and results
//! (`DomainCreateArgs`, `DomainLookupByNameRet`), and a trait with a method for each procedure that begins with the
//! word `call`. One that begins with `missing` has no method: clients are told that it is not supported. To serve it,
//! change the word to `call` and implement the method; it does not compile otherwise. [`missing`] lists what is left.
//!
//! The driver implements all traits of [`Driver`] and [`crate::Hypervisor`]; [`host::Host`] is implemented beside it.
//! Domain events go to the [`crate::EventSink`] that the server hands over.
//!
//! A method is called on a worker thread, with a connection that has been opened. The arguments' lengths are within
//! the protocol's limits, and what is to be refused on read-only connections has been refused; flags are for the method
//! to check. What it returns must keep to the limits too. Methods of `high` priority must not wait for a guest's
//! monitor. Results of API functions that "need results" (`need_results`) carry the count in `ret`.

pub mod admin;
pub mod block_job;
pub mod capabilities;
pub mod checkpoint;
pub mod device;
pub mod domain;
pub mod events;
pub mod guest;
pub mod host;
pub mod interface;
pub mod limits;
pub mod migration;
pub mod network;
pub mod nodedev;
pub mod nwfilter;
pub mod qemu;
pub mod save;
pub mod secret;
pub mod session;
pub mod snapshot;
pub mod stats;
pub mod storage;
pub mod tuning;
pub mod types;

use crate::call::Call;
use crate::error::Error;
use crate::procedure::{Answer, Procedure};

/// The program with most procedures.
pub const REMOTE_PROGRAM: u32 = 0x2000_8086;
/// QEMU's own procedures.
pub const QEMU_PROGRAM: u32 = 0x2000_8087;
/// LXC's own procedures, of which none works.
pub const LXC_PROGRAM: u32 = 0x0006_8000;
/// The administration of the daemon.
pub const ADMIN_PROGRAM: u32 = 0x0690_0690;
/// Keeping connections alive.
pub const KEEPALIVE_PROGRAM: u32 = 0x6b65_6570;
/// The version of all programs.
pub const VERSION: u32 = 1;

/// Declares a trait that stands for all of some others, and is there wherever those are.
macro_rules! sum_of_traits {
    ($(#[$about:meta])* $name:ident: $($part:path),+ $(,)?) => {
        $(#[$about])*
        pub trait $name: $($part +)+ {}

        impl<T: $($part +)+> $name for T {}
    };
}

sum_of_traits! {
    /// A driver: the traits of all topics that concern guests.
    Driver:
        block_job::BlockJobs,
        capabilities::Capabilities,
        checkpoint::Checkpoints,
        device::DomainDevices,
        domain::Domains,
        guest::GuestAgent,
        migration::Migration,
        qemu::Qemu,
        save::DomainSave,
        snapshot::Snapshots,
        stats::DomainStats,
        tuning::DomainTuning,
}

/// The topics of the REMOTE program. Their order is known to [`dispatch_remote`] only.
const TOPICS: [&[Procedure]; 20] = [
    session::PROCEDURES,
    events::PROCEDURES,
    host::PROCEDURES,
    block_job::PROCEDURES,
    capabilities::PROCEDURES,
    checkpoint::PROCEDURES,
    device::PROCEDURES,
    domain::PROCEDURES,
    guest::PROCEDURES,
    migration::PROCEDURES,
    save::PROCEDURES,
    snapshot::PROCEDURES,
    stats::PROCEDURES,
    tuning::PROCEDURES,
    network::PROCEDURES,
    interface::PROCEDURES,
    storage::PROCEDURES,
    nodedev::PROCEDURES,
    secret::PROCEDURES,
    nwfilter::PROCEDURES,
];

/// The highest number of the REMOTE program.
pub const REMOTE_LAST: u32 = 446;

/// Topic and place in it of each number; numbers begin at 1.
const REMOTE_INDEX: [(u8, u8); REMOTE_LAST as usize + 1] = {
    let mut index = [(u8::MAX, 0); REMOTE_LAST as usize + 1];
    let mut topic = 0;
    while topic < TOPICS.len() {
        let mut at = 0;
        while at < TOPICS[topic].len() {
            let number = TOPICS[topic][at].number as usize;
            assert!(index[number].0 == u8::MAX, "two topics declare one number");
            index[number] = (topic as u8, at as u8);
            at += 1;
        }
        topic += 1;
    }
    let mut number = 1;
    while number < index.len() {
        assert!(index[number].0 != u8::MAX, "a number is not declared");
        number += 1;
    }
    index
};

/// The row of a procedure.
pub fn procedure(program: u32, number: u32) -> Option<&'static Procedure> {
    match program {
        REMOTE_PROGRAM => {
            let &(topic, at) = REMOTE_INDEX.get(number as usize)?;
            TOPICS.get(usize::from(topic))?.get(usize::from(at))
        }
        QEMU_PROGRAM => qemu::PROCEDURES.get((number as usize).checked_sub(1)?),
        ADMIN_PROGRAM => admin::PROCEDURES.get((number as usize).checked_sub(1)?),
        _ => None,
    }
}

/// All rows of a program.
pub fn procedures(program: u32) -> impl Iterator<Item = &'static Procedure> {
    (1..=REMOTE_LAST).filter_map(move |number| procedure(program, number))
}

/// The names and the types of a procedure's arguments, as they are declared; `None`: there is no such procedure.
pub fn arguments(program: u32, number: u32) -> Option<&'static [(&'static str, &'static str)]> {
    match program {
        REMOTE_PROGRAM => {
            let topics = [
                session::declared_arguments,
                events::declared_arguments,
                host::declared_arguments,
                block_job::declared_arguments,
                capabilities::declared_arguments,
                checkpoint::declared_arguments,
                device::declared_arguments,
                domain::declared_arguments,
                guest::declared_arguments,
                migration::declared_arguments,
                save::declared_arguments,
                snapshot::declared_arguments,
                stats::declared_arguments,
                tuning::declared_arguments,
                network::declared_arguments,
                interface::declared_arguments,
                storage::declared_arguments,
                nodedev::declared_arguments,
                secret::declared_arguments,
                nwfilter::declared_arguments,
            ];
            let (topic, _) = REMOTE_INDEX.get(number as usize)?;
            topics.get(usize::from(*topic))?(number)
        }
        QEMU_PROGRAM => qemu::declared_arguments(number),
        ADMIN_PROGRAM => admin::declared_arguments(number),
        _ => None,
    }
}

/// Decodes the arguments of a procedure (or its results; or an event) and encodes them again: what a fuzzer looks at.
/// `None`: there is no such procedure, or it has no results.
pub fn recode(
    program: u32,
    number: u32,
    results: bool,
    payload: &[u8],
) -> Option<Result<Vec<u8>, crate::xdr::Invalid>> {
    match program {
        REMOTE_PROGRAM => {
            let topics = [
                session::recode,
                events::recode,
                host::recode,
                block_job::recode,
                capabilities::recode,
                checkpoint::recode,
                device::recode,
                domain::recode,
                guest::recode,
                migration::recode,
                save::recode,
                snapshot::recode,
                stats::recode,
                tuning::recode,
                network::recode,
                interface::recode,
                storage::recode,
                nodedev::recode,
                secret::recode,
                nwfilter::recode,
            ];
            let (topic, _) = REMOTE_INDEX.get(number as usize)?;
            topics.get(usize::from(*topic))?(number, results, payload)
        }
        QEMU_PROGRAM => qemu::recode(number, results, payload),
        ADMIN_PROGRAM => admin::recode(number, results, payload),
        _ => None,
    }
}

/// The procedures that nobody serves yet.
pub fn missing() -> impl Iterator<Item = &'static Procedure> {
    procedures(REMOTE_PROGRAM)
        .chain(procedures(QEMU_PROGRAM))
        .filter(|procedure| procedure.answer == Answer::Missing)
}

/// Calls the method that serves a procedure of the REMOTE program; `None`: it is not served by a method.
pub fn dispatch_remote(
    host: &dyn host::Host,
    driver: &dyn Driver,
    call: &mut Call<'_>,
) -> Option<Result<(), Error>> {
    match REMOTE_INDEX.get(call.number() as usize)?.0 {
        2 => host::dispatch(host, call),
        3 => block_job::dispatch(driver, call),
        4 => capabilities::dispatch(driver, call),
        5 => checkpoint::dispatch(driver, call),
        6 => device::dispatch(driver, call),
        7 => domain::dispatch(driver, call),
        8 => guest::dispatch(driver, call),
        9 => migration::dispatch(driver, call),
        10 => save::dispatch(driver, call),
        11 => snapshot::dispatch(driver, call),
        12 => stats::dispatch(driver, call),
        13 => tuning::dispatch(driver, call),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::procedure::Streaming;

    #[test]
    fn every_number_has_its_row() {
        for number in 1..=REMOTE_LAST {
            assert_eq!(procedure(REMOTE_PROGRAM, number).expect("a row").number, number);
        }
        assert_eq!(procedures(QEMU_PROGRAM).map(|row| row.number).collect::<Vec<_>>(), Vec::from_iter(1..=7));
        assert_eq!(
            procedures(ADMIN_PROGRAM).map(|row| row.number).collect::<Vec<_>>(),
            Vec::from_iter(1..=19)
        );
        assert!(procedure(REMOTE_PROGRAM, 0).is_none());
        assert!(procedure(REMOTE_PROGRAM, REMOTE_LAST + 1).is_none());
        assert!(procedure(QEMU_PROGRAM, 0).is_none());
        assert!(procedure(LXC_PROGRAM, 1).is_none());
        assert_eq!(arguments(REMOTE_PROGRAM, 12), Some(&[("dom", "Domain")][..]));
        assert_eq!(arguments(REMOTE_PROGRAM, 335).map(|all| all[1]), Some(("mountpoints", "[str]")));
    }

    #[test]
    fn rows_say_what_the_protocol_says() {
        let row = procedure(REMOTE_PROGRAM, 12).expect("a row");
        assert_eq!(
            (row.name, row.api, row.high, row.write),
            ("DOMAIN_DESTROY", "virDomainDestroy", true, true)
        );
        assert_eq!(row.acl, ["domain:stop"]);
        let streams = |wanted| {
            let rows = procedures(REMOTE_PROGRAM).filter(move |row| row.stream == wanted);
            rows.map(|row| row.number).collect::<Vec<_>>()
        };
        assert_eq!(streams(Streaming::Read), [201, 209, 211, 296]);
        assert_eq!(streams(Streaming::Write), [148, 208, 215, 304]);
    }

    #[test]
    fn every_procedure_reads_what_it_writes() {
        for program in [REMOTE_PROGRAM, QEMU_PROGRAM, ADMIN_PROGRAM] {
            for row in procedures(program) {
                // Zeros are empty strings and lists, nothing and no domain.
                let zeros = [0; 256];
                let written = recode(program, row.number, false, &zeros).expect("arguments");
                let written = written.unwrap_or_else(|_| panic!("{}", row.name));
                assert_eq!(
                    arguments(program, row.number).expect("a procedure").is_empty(),
                    written.is_empty(),
                    "{}",
                    row.name
                );
                assert_eq!(recode(program, row.number, false, &written), Some(Ok(written)), "{}", row.name);
                // Nothing is enough only for those that have no arguments.
                if let Some(Ok(bytes)) = recode(program, row.number, false, &[]) {
                    assert!(bytes.is_empty(), "{}", row.name);
                }
            }
        }
        assert!(recode(REMOTE_PROGRAM, 23, false, &[0xff; 64]).expect("a procedure").is_err());
        assert!(recode(LXC_PROGRAM, 1, false, &[]).is_none());
    }

    /// What is not supported: what libvirt's driver for QEMU does not support either, and what changes snapshots,
    /// checkpoints, block jobs, backups and migrations, for the time being.
    #[test]
    fn what_is_not_supported_is_known() {
        const NEVER: &[&str] = &[
            "DOMAIN_CREATE_XML_WITH_FILES",
            "DOMAIN_CREATE_WITH_FILES",
            "DOMAIN_SEND_PROCESS_SIGNAL",
            "CONNECT_DOMAIN_XML_FROM_NATIVE",
            "DOMAIN_MIGRATE_PREPARE",
            "DOMAIN_MIGRATE_FINISH",
            "DOMAIN_ATTACH",
        ];
        const NOT_YET: &[&str] = &[
            "DOMAIN_SNAPSHOT_CREATE_XML",
            "DOMAIN_REVERT_TO_SNAPSHOT",
            "DOMAIN_SNAPSHOT_DELETE",
            "DOMAIN_CHECKPOINT_CREATE_XML",
            "DOMAIN_CHECKPOINT_DELETE",
            "DOMAIN_BACKUP_BEGIN",
            "DOMAIN_BLOCK_PULL",
            "DOMAIN_BLOCK_REBASE",
            "DOMAIN_BLOCK_COMMIT",
            "DOMAIN_BLOCK_COPY",
            "DOMAIN_MIGRATE_PERFORM",
            "DOMAIN_MIGRATE_PREPARE2",
            "DOMAIN_MIGRATE_FINISH2",
            "DOMAIN_MIGRATE_PREPARE_TUNNEL",
            "DOMAIN_MIGRATE_BEGIN3",
            "DOMAIN_MIGRATE_PREPARE3",
            "DOMAIN_MIGRATE_PREPARE_TUNNEL3",
            "DOMAIN_MIGRATE_PERFORM3",
            "DOMAIN_MIGRATE_FINISH3",
            "DOMAIN_MIGRATE_CONFIRM3",
            "DOMAIN_MIGRATE_BEGIN3_PARAMS",
            "DOMAIN_MIGRATE_PREPARE3_PARAMS",
            "DOMAIN_MIGRATE_PREPARE_TUNNEL3_PARAMS",
            "DOMAIN_MIGRATE_PERFORM3_PARAMS",
            "DOMAIN_MIGRATE_FINISH3_PARAMS",
            "DOMAIN_MIGRATE_CONFIRM3_PARAMS",
        ];
        let found: std::collections::BTreeSet<_> = missing().map(|row| row.name).collect();
        assert_eq!(found, NEVER.iter().chain(NOT_YET).copied().collect());
    }

    #[test]
    fn every_method_is_reached() {
        // The order of TOPICS is that of dispatch_remote's numbers.
        let first = |topic: usize| TOPICS[topic].first().map(|row| row.name);
        assert_eq!(first(2), host::PROCEDURES.first().map(|row| row.name));
        assert_eq!(first(7), domain::PROCEDURES.first().map(|row| row.name));
        assert_eq!(first(13), tuning::PROCEDURES.first().map(|row| row.name));
        for row in procedures(REMOTE_PROGRAM) {
            let (topic, _) = REMOTE_INDEX[row.number as usize];
            assert!(row.answer != Answer::Handler || (2..=13).contains(&topic), "{}", row.name);
        }
    }
}
