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

/// Tries the accelerators in order. Each failure is told as QEMU tells it; `failed`: one has failed before.
///
/// # Errors
/// None works; everything has been said.
pub(crate) fn choose(wanted: &[Accel], mut failed: bool) -> Result<Box<dyn Accelerator>, Failed> {
    for accel in wanted {
        let opened: Result<Box<dyn Accelerator>, String> = match accel.name.as_str() {
            "tcg" => Ok(Box::new(engine::Tcg::new())),
            "kvm" => kvm().map_err(|text| format!("failed to initialize kvm: {text}")),
            other => Err(format!("invalid accelerator {other}")),
        };
        match opened {
            Ok(accelerator) => {
                if failed {
                    let name = accelerator.name();
                    error_report!("falling back to {}", if name == "kvm" { "KVM" } else { name });
                }
                return Ok(accelerator);
            }
            Err(text) => {
                let _place = report::Location::enter(accel.location.as_deref().unwrap_or_default());
                error_report!("{text}");
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

#[cfg(test)]
mod tests {
    use super::*;

    fn accel(name: &str) -> Accel {
        Accel { location: None, name: name.to_owned(), kernel_irqchip: None }
    }

    #[test]
    fn the_first_that_works_is_taken() {
        assert_eq!(choose(&[accel("foo"), accel("tcg")], false).map(|a| a.name()).ok(), Some("tcg"));
        assert_eq!(choose(&[accel("foo")], false).map(|a| a.name()).err(), Some(Failed::told()));
    }
}
