//! Events about domains, from the driver to the clients that have asked for them.

use crate::message::{self, Header, Kind, STATUS_OK};
use crate::procedure::Event;
use crate::protocol::events::*;
use crate::protocol::types::Domain;
use crate::protocol::{REMOTE_PROGRAM, VERSION};
use crate::xdr::Invalid;

/// Where the driver sends events. It may be called on any thread, and does not wait for clients.
pub trait EventSink: Send + Sync {
    /// Something happened to a domain.
    fn domain_event(&self, event: DomainEvent);

    /// QEMU's monitor reported `event` for `dom`, `seconds` and `micros` after 1970, with `details` in JSON.
    fn monitor_event(&self, dom: &Domain, event: &str, seconds: i64, micros: u32, details: Option<&str>);
}

/// A whole message that carries an event.
///
/// # Errors
/// It is longer than the protocol allows.
pub fn message<E: Event>(program: u32, event: &E) -> Result<Vec<u8>, Invalid> {
    let header = Header {
        program,
        version: VERSION,
        procedure: E::NUMBER,
        kind: Kind::Message as u32,
        serial: 0,
        status: STATUS_OK,
    };
    message::encode(&header, None, event)
}

macro_rules! events {
    (
        old { $($old:ident = $old_id:literal, $old_msg:ident, $callback_msg:ident { $($extra:ident: $value:literal)? };)* }
        new { $($new:ident = $new_id:literal, $new_msg:ident;)* }
    ) => {
        /// Something that happened to a domain. The messages' `callback_id` is filled in for each client: it does not
        /// matter here.
        #[derive(Debug, Clone, PartialEq)]
        pub enum DomainEvent {
            $(
                #[doc = concat!("Event ", $old_id, ".")]
                $old($old_msg),
            )*
            $(
                #[doc = concat!("Event ", $new_id, ".")]
                $new($new_msg),
            )*
        }

        impl DomainEvent {
            /// Its number (`virDomainEventID`).
            pub fn id(&self) -> i32 {
                match self {
                    $(Self::$old(_) => $old_id,)*
                    $(Self::$new(_) => $new_id,)*
                }
            }

            /// What it is about.
            pub fn domain(&self) -> &Domain {
                match self {
                    $(Self::$old(event) => &event.dom,)*
                    $(Self::$new(event) => &event.dom,)*
                }
            }

            /// The message for the registration `callback_id`.
            ///
            /// # Errors
            /// It is longer than the protocol allows.
            pub fn message(&self, callback_id: i32) -> Result<Vec<u8>, Invalid> {
                match self {
                    $(Self::$old(event) => {
                        let event = $callback_msg { callback_id, $($extra: $value,)? msg: event.clone() };
                        message(REMOTE_PROGRAM, &event)
                    })*
                    $(Self::$new(event) => {
                        message(REMOTE_PROGRAM, &$new_msg { callback_id, ..event.clone() })
                    })*
                }
            }

            /// The message for clients that do not number their registrations; `None`: they do not know the event.
            pub fn old_message(&self) -> Option<Result<Vec<u8>, Invalid>> {
                match self {
                    $(Self::$old(event) => Some(message(REMOTE_PROGRAM, event)),)*
                    _ => None,
                }
            }
        }
    };
}

events! {
    old {
        Lifecycle = 0, DomainEventLifecycleMsg, DomainEventCallbackLifecycleMsg {};
        Reboot = 1, DomainEventRebootMsg, DomainEventCallbackRebootMsg {};
        RtcChange = 2, DomainEventRtcChangeMsg, DomainEventCallbackRtcChangeMsg {};
        Watchdog = 3, DomainEventWatchdogMsg, DomainEventCallbackWatchdogMsg {};
        IoError = 4, DomainEventIoErrorMsg, DomainEventCallbackIoErrorMsg {};
        Graphics = 5, DomainEventGraphicsMsg, DomainEventCallbackGraphicsMsg {};
        IoErrorReason = 6, DomainEventIoErrorReasonMsg, DomainEventCallbackIoErrorReasonMsg {};
        ControlError = 7, DomainEventControlErrorMsg, DomainEventCallbackControlErrorMsg {};
        BlockJob = 8, DomainEventBlockJobMsg, DomainEventCallbackBlockJobMsg {};
        DiskChange = 9, DomainEventDiskChangeMsg, DomainEventCallbackDiskChangeMsg {};
        TrayChange = 10, DomainEventTrayChangeMsg, DomainEventCallbackTrayChangeMsg {};
        PmWakeup = 11, DomainEventPmwakeupMsg, DomainEventCallbackPmwakeupMsg { reason: 0 };
        PmSuspend = 12, DomainEventPmsuspendMsg, DomainEventCallbackPmsuspendMsg { reason: 0 };
        BalloonChange = 13, DomainEventBalloonChangeMsg, DomainEventCallbackBalloonChangeMsg {};
        PmSuspendDisk = 14, DomainEventPmsuspendDiskMsg, DomainEventCallbackPmsuspendDiskMsg { reason: 0 };
        DeviceRemoved = 15, DomainEventDeviceRemovedMsg, DomainEventCallbackDeviceRemovedMsg {};
    }
    new {
        BlockJob2 = 16, DomainEventBlockJob2Msg;
        Tunable = 17, DomainEventCallbackTunableMsg;
        AgentLifecycle = 18, DomainEventCallbackAgentLifecycleMsg;
        DeviceAdded = 19, DomainEventCallbackDeviceAddedMsg;
        MigrationIteration = 20, DomainEventCallbackMigrationIterationMsg;
        JobCompleted = 21, DomainEventCallbackJobCompletedMsg;
        DeviceRemovalFailed = 22, DomainEventCallbackDeviceRemovalFailedMsg;
        MetadataChange = 23, DomainEventCallbackMetadataChangeMsg;
        BlockThreshold = 24, DomainEventBlockThresholdMsg;
        MemoryFailure = 25, DomainEventMemoryFailureMsg;
        MemoryDeviceSizeChange = 26, DomainEventMemoryDeviceSizeChangeMsg;
    }
}

/// How many kinds of events there are.
pub const DOMAIN_EVENTS: i32 = 27;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::types::Uuid;
    use crate::xdr::from_bytes;

    #[test]
    fn a_registration_gets_its_number() {
        let dom = Domain { name: "a".into(), uuid: Uuid::default(), id: 1 };
        let event = DomainEvent::Lifecycle(DomainEventLifecycleMsg { dom: dom.clone(), event: 2, detail: 0 });
        let bytes = event.message(7).expect("bytes");
        let header: Header = from_bytes(&bytes[4..]).expect("a header");
        assert_eq!((header.procedure, header.kind, header.serial), (318, 2, 0));
        let sent: DomainEventCallbackLifecycleMsg = from_bytes(&bytes[28..]).expect("an event");
        assert_eq!((sent.callback_id, sent.msg.event, &sent.msg.dom), (7, 2, &dom));
        let old = event.old_message().expect("known").expect("bytes");
        assert_eq!(from_bytes::<Header>(&old[4..]).expect("a header").procedure, 107);

        let event = DomainEvent::DeviceAdded(DomainEventCallbackDeviceAddedMsg {
            callback_id: 0,
            dom: dom.clone(),
            dev_alias: "x".into(),
        });
        assert_eq!((event.id(), event.domain()), (19, &dom));
        let bytes = event.message(8).expect("bytes");
        assert_eq!(from_bytes::<i32>(&bytes[28..]), Ok(8));
        assert!(event.old_message().is_none());
    }
}
