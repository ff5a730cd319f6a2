//! Persistent reservations that a helper of the daemon's handles for a guest (`qemu-pr-helper`): one program for all of
//! its disks, started anew when it dies.

use super::helper::{Fault, Helper, find_program, stop};
use crate::core::{Core, Level};
use crate::error::{Result, error, failed, system};
use crate::guest::Guest;
use confinement::launch::Launch;
use domain_xml::Domain as Definition;
use json::{Dict, Value};
use rpc::Code;
use security::{Confined, uses};
use std::os::unix::fs::lchown;
use std::path::Path;
use std::sync::Arc;

/// The emulator's name of it.
pub(super) const NAME: &str = "pr-helper0";

/// The program of the guest with that directory, whether it has one or not.
pub(super) fn of(directory: &Path) -> Helper {
    Helper {
        name: "qemu-pr-helper",
        pid_file: directory.join(format!("{NAME}.pid")),
        socket: directory.join(format!("{NAME}.sock")),
    }
}

/// Whether the guest needs it.
pub(super) fn is_wanted(definition: &Definition) -> bool {
    definition.devices.disk.iter().any(uses::has_managed_reservations)
}

impl Core {
    /// Starts the program for a guest, whose emulator may still be held back.
    ///
    /// # Errors
    /// It is not there, or says why it does not run.
    pub(super) fn start_reservations(
        &self,
        definition: &Definition,
        directory: &Path,
        confined: Option<&Confined>,
    ) -> Result<()> {
        let wanted = &self.config.pr_helper;
        let program = find_program(wanted).ok_or_else(|| {
            let none = rustix::io::Errno::NOENT.into();
            system(&none, &format!("'{wanted}' is not a suitable pr helper"))
        })?;
        let helper = of(directory);
        stop(self, std::slice::from_ref(&helper));
        let launch = Launch::new(&program.to_string_lossy())
            .arguments(["-k".to_owned(), helper.socket.to_string_lossy().into_owned()]);
        let launch = match confined {
            Some(confined) => confined.beside(launch),
            None => launch,
        };
        self.start_helper(definition, &helper, launch, confined).map_err(|fault| match fault {
            Fault::Launch(error) => error,
            Fault::Died(words) => failed(format!("pr helper died and reported: {words}")),
            // As the original spells it.
            Fault::Late => error(Code::OperationTimeout, "pr helper socked did not show up"),
        })?;
        let Some((user, group)) = self.config.owner.filter(|_| self.paths.privileged) else {
            return Ok(());
        };
        lchown(&helper.socket, Some(user), Some(group)).map_err(|error| {
            let shown = helper.socket.display();
            system(&error, &format!("unable to set user and group on '{shown}'"))
        })
    }

    /// The emulator has lost its helper: it gets another one.
    pub(super) fn restart_reservations(self: &Arc<Self>, guest: &Arc<Guest>, id: i32) {
        let (core, guest) = (self.clone(), guest.clone());
        std::thread::spawn(move || {
            let _job = guest.jobs.begin_surely("reservations");
            let found = guest.with_live(id, |live| {
                (live.definition.clone(), live.directory.clone(), live.confined.clone(), live.ending)
            });
            let Some((definition, directory, confined, false)) = found else { return };
            // Somebody was faster, or took the last disk away that needs it.
            if !is_wanted(&definition) || of(&directory).process().is_some() {
                return;
            }
            if let Err(error) = core.start_reservations(&definition, &directory, confined.as_deref()) {
                core.log(Level::Error, &format!("'{}': {error}", definition.name()));
            }
        });
    }

    /// Looks whether the emulator of a guest that was found running has its helper.
    ///
    /// # Errors
    /// It does not answer.
    pub(super) fn refresh_reservations(self: &Arc<Self>, guest: &Arc<Guest>, id: i32) -> Result<()> {
        if guest.with_live(id, |live| is_wanted(&live.definition)) != Some(true) {
            return Ok(());
        }
        let managers = guest.execute("query-pr-managers", Dict::default())?;
        let is_lost = |manager: &Value| {
            manager.get("id").and_then(Value::as_str) == Some(NAME)
                && manager.get("connected").and_then(Value::as_bool) == Some(false)
        };
        // The emulator does not notice before it needs it.
        let directory = guest.with_live(id, |live| live.directory.clone());
        let is_dead = directory.is_some_and(|directory| of(&directory).process().is_none());
        if is_dead || managers.as_list().unwrap_or_default().iter().any(is_lost) {
            self.restart_reservations(guest, id);
        }
        Ok(())
    }
}
