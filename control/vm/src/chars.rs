//! The character devices of a plan, and who uses them.

use crate::Failed;
use chardev::{CharFrontend, Chardevs};
use cmdline::{CharUse, Plan};
use report::{Location, error_report};

/// Makes every character device, in the order of the command line.
///
/// # Errors
/// One cannot be opened; it has been said.
pub(crate) fn create(plan: &Plan, chardevs: &Chardevs) -> Result<(), Failed> {
    for decl in &plan.chardevs {
        if let Err(error) = chardevs.create(&decl.spec) {
            let _place = Location::enter(&decl.location);
            error_report!("{error}");
            if let Some(more) = &decl.on_failure {
                error_report!("{more}");
            }
            return Err(Failed::told());
        }
    }
    Ok(())
}

/// The front end for a user of a character device.
///
/// # Errors
/// The device is in use.
pub(crate) fn claim(chardevs: &Chardevs, user: &CharUse) -> Result<CharFrontend, Failed> {
    chardevs.claim(&user.chardev).map_err(|error| {
        let _place = Location::enter(&user.location);
        error_report!("{error}");
        Failed::told()
    })
}
