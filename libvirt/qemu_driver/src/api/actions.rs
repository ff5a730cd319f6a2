//! What becomes of a guest that is powered off, reset, or crashes.

use crate::driver::QemuDriver;
use crate::error::{Result, check_flags, error, unsupported, xml};
use domain_xml::Domain as Definition;
use domain_xml::clock::EventAction;
use json::dict;
use rpc::Code;
use rpc::protocol::domain::DomainSetLifecycleActionArgs;

/// `VIR_DOMAIN_AFFECT_...`
const LIVE: u32 = 1;
const CONFIG: u32 = 2;

/// An event (`virDomainLifecycle`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Event {
    PowerOff,
    Reboot,
    Crash,
}

fn wish(kind: u32, action: u32) -> Result<(Event, EventAction)> {
    let range = |name: &str, most: u32| {
        let detail = format!("{name} in virDomainSetLifecycleAction must be less than {most}");
        error(Code::InvalidArg, detail)
    };
    let event = match kind {
        0 => Event::PowerOff,
        1 => Event::Reboot,
        2 => Event::Crash,
        _ => return Err(range("type", 3)),
    };
    let action = match action {
        0 => EventAction::Destroy,
        1 => EventAction::Restart,
        2 => EventAction::RenameRestart,
        3 => EventAction::Preserve,
        4 => EventAction::CoredumpDestroy,
        5 => EventAction::CoredumpRestart,
        _ => return Err(range("action", 6)),
    };
    let dumps = matches!(action, EventAction::CoredumpDestroy | EventAction::CoredumpRestart);
    if dumps && event != Event::Crash {
        let event = if event == Event::Reboot { "reboot" } else { "poweroff" };
        return Err(unsupported(format!("Lifecycle event '{event}' doesn't support '{action}' action")));
    }
    Ok((event, action))
}

fn set(definition: &mut Definition, event: Event, action: EventAction) {
    *match event {
        Event::PowerOff => &mut definition.on_poweroff,
        Event::Reboot => &mut definition.on_reboot,
        Event::Crash => &mut definition.on_crash,
    } = Some(action);
}

impl QemuDriver {
    pub(super) fn set_lifecycle_action(&self, args: &DomainSetLifecycleActionArgs) -> Result<()> {
        let (event, action) = wish(args.kind, args.action)?;
        check_flags(args.flags, LIVE | CONFIG, "qemuDomainSetLifecycleAction")?;
        let guest = self.guest(&args.dom)?;
        let _job = guest.jobs.begin("virDomainSetLifecycleAction")?;
        let (live, config) = self.both(&guest, args.flags)?;
        for definition in [&live, &config].into_iter().flatten() {
            let mut changed = Definition::clone(definition);
            set(&mut changed, event, action);
            qemu_domain::validate::actions(&changed).map_err(|error| xml(&error))?;
        }
        if let Some(live) = live.filter(|live| event == Event::Reboot && live.on_reboot != Some(action)) {
            let has = guest.lock().live.as_ref().is_some_and(|live| live.caps.has("set-action"));
            let word = if action == EventAction::Destroy { "shutdown" } else { "reset" };
            if !has && (live.on_reboot == Some(EventAction::Destroy) || action == EventAction::Destroy) {
                return Err(error(
                    Code::OperationUnsupported,
                    "cannot update lifecycle action because QEMU was started with incompatible -no-reboot setting",
                ));
            }
            if has {
                guest.execute("set-action", dict! { "reboot" => word })?;
            }
        }
        self.change(&guest, args.flags, &mut |it| set(it, event, action))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wishes() {
        assert_eq!(wish(1, 0).expect("known"), (Event::Reboot, EventAction::Destroy));
        assert_eq!(wish(2, 5).expect("known"), (Event::Crash, EventAction::CoredumpRestart));
        let refused = wish(0, 4).expect_err("refused").to_string();
        assert_eq!(
            refused,
            "unsupported configuration: Lifecycle event 'poweroff' doesn't support 'coredump-destroy' action"
        );
        assert!(wish(3, 0).is_err() && wish(0, 6).is_err());
    }
}
