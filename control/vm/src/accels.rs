//! The accelerator: the first of those asked for that works.

use crate::Failed;
use accel::Accelerator;
use cmdline::Accel;
use report::error_report;
use std::fs::OpenOptions;
use std::io;

/// The C library's text for an error, without Rust's number.
pub(crate) fn reason(error: &io::Error) -> String {
    let text = error.to_string();
    text.rfind(" (os error").map_or(text.clone(), |at| text[..at].to_owned())
}

/// Tries the accelerators in order. Each failure is told as QEMU tells it.
///
/// # Errors
/// None works; everything has been said.
pub(crate) fn choose(wanted: &[Accel]) -> Result<Box<dyn Accelerator>, Failed> {
    let mut failed = false;
    for accel in wanted {
        let opened: Result<Box<dyn Accelerator>, String> = match accel.name.as_str() {
            "tcg" => Ok(Box::new(engine::Tcg::new())),
            _ => kvm(),
        };
        match opened {
            Ok(accelerator) => {
                if failed {
                    error_report!("falling back to {}", accelerator.name());
                }
                return Ok(accelerator);
            }
            Err(text) => {
                let _place = report::Location::enter(accel.location.as_deref().unwrap_or_default());
                error_report!("failed to initialize {}: {text}", accel.name);
                failed = true;
            }
        }
    }
    Err(Failed::told())
}

fn kvm() -> Result<Box<dyn Accelerator>, String> {
    match OpenOptions::new().read(true).write(true).open("/dev/kvm") {
        // The line has no program name in QEMU either, and tools look for it.
        Err(error) => {
            eprintln!("Could not access KVM kernel module: {}", reason(&error));
            Err(reason(&error))
        }
        Ok(_) => Err("KVM is not supported by this build".to_owned()),
    }
}
