//! The command line of a definition, for people.

use super::command;
use super::log;
use super::start::environment;
use crate::core::Core;
use crate::definition::Complete;
use crate::error::Result;

/// The command that would start the definition, in one line.
///
/// # Errors
/// The definition has something that cannot be had.
pub(crate) fn command_line(core: &Core, complete: &mut Complete) -> Result<String> {
    let plan = command::shown(core, &mut complete.definition, &complete.caps)?;
    Ok(log::command_line(&environment(&plan), &plan.binary, &plan.arguments))
}
