//! What clients do to running guests.

use crate::core::{Core, Level};
use crate::error::{Result, invalid, not_running};
use crate::guest::Guest;
use crate::state::{Crashed, Paused, Running, State};
use json::Dict;
use std::sync::Arc;

impl Guest {
    /// The number of the guest's run.
    ///
    /// # Errors
    /// It does not run.
    pub fn running_id(&self) -> Result<i32> {
        self.lock().live.as_ref().map(|live| live.id).ok_or_else(not_running)
    }
}

impl Core {
    /// Stops the guest's processors. Its job is held by the caller.
    ///
    /// # Errors
    /// It does not run, or the emulator refuses.
    pub fn suspend(&self, guest: &Arc<Guest>, reason: Paused) -> Result<()> {
        let id = guest.running_id()?;
        match guest.lock().state {
            State::PmSuspended(_) => return Err(invalid("domain is pmsuspended")),
            State::Paused(_) => return Ok(()),
            _ => {}
        }
        guest.with_live(id, |live| live.paused_because = Some(reason));
        guest.execute("stop", Dict::default())?;
        if let Err(error) = self.set_interfaces_online(guest, id, false) {
            self.log(Level::Warning, &error.message.unwrap_or_default());
        }
        self.set_paused(guest, id, reason);
        Ok(())
    }

    fn set_interfaces_online(&self, guest: &Guest, id: i32, online: bool) -> Result<()> {
        let definition = guest.with_live(id, |live| live.definition.clone()).ok_or_else(not_running)?;
        super::network::set_online(&definition.devices.interface, online)
    }

    /// Lets the guest's processors go on. Its job is held by the caller.
    ///
    /// # Errors
    /// It does not run, or the emulator refuses.
    pub fn resume(&self, guest: &Arc<Guest>, reason: Running) -> Result<()> {
        let id = guest.running_id()?;
        match guest.lock().state {
            State::PmSuspended(_) => return Err(invalid("domain is pmsuspended")),
            State::Running(_) => return Err(invalid("domain is already running")),
            State::Paused(_) | State::Crashed(Crashed::Panicked) => {}
            // As the original, which does nothing then.
            _ => return Ok(()),
        }
        self.set_interfaces_online(guest, id, true)?;
        guest.with_live(id, |live| live.running_because = Some(reason));
        guest.execute("cont", Dict::default())?;
        self.set_running(guest, id, reason);
        Ok(())
    }

    /// Presses the power button: the guest shuts down, or starts again. Its job is held by the caller.
    ///
    /// # Errors
    /// It does not run, or the emulator refuses.
    pub fn power_button(&self, guest: &Arc<Guest>, reboot: bool) -> Result<()> {
        // The original says the same of a shutdown and of a reboot, but from different places.
        let stopped = || if reboot { not_running() } else { invalid("domain is not running") };
        let id = guest.running_id().map_err(|_| stopped())?;
        if !matches!(guest.lock().state, State::Running(_) | State::Paused(_) | State::PmSuspended(_)) {
            return Err(stopped());
        }
        if guest.with_live(id, |live| std::mem::replace(&mut live.fake_reboot, reboot)) != Some(reboot) {
            // Should this daemon not see the guest power off, the next one knows what is meant.
            self.save_status(guest);
        }
        guest.execute("system_powerdown", Dict::default()).map(drop)
    }

    /// Resets the guest. Its job is held by the caller.
    ///
    /// # Errors
    /// It does not run, or the emulator refuses.
    pub fn reset(&self, guest: &Arc<Guest>) -> Result<()> {
        let id = guest.running_id()?;
        guest.execute("system_reset", Dict::default())?;
        guest.with_live(id, |live| live.fake_reboot = false);
        if let State::Crashed(_) = guest.lock().state {
            guest.lock().state = Paused::Crashed.into();
        }
        Ok(())
    }
}
