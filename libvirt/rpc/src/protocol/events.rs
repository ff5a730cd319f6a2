//! Events about domains, and that the connection closes.

use super::limits::{DOMAIN_EVENT_GRAPHICS_IDENTITY_MAX, DOMAIN_EVENT_TUNABLE_MAX, DOMAIN_JOB_STATS_MAX};
use super::types::{Domain, TypedParam};

derive::protocol! {
    /// An end of a connection to a display.
    struct DomainEventGraphicsAddress {
        family: i32,
        node: str,
        service: str,
    }

    /// An identity of who connected to a display.
    struct DomainEventGraphicsIdentity {
        kind: str,
        name: str,
    }

    event 107 domain_event_lifecycle(dom: Domain, event: i32, detail: i32);
    event 169 domain_event_reboot(dom: Domain);
    event 170 domain_event_rtc_change(dom: Domain, offset: i64);
    event 171 domain_event_watchdog(dom: Domain, action: i32);
    event 172 domain_event_io_error(dom: Domain, src_path: str, dev_alias: str, action: i32);
    event 173 domain_event_graphics(
        dom: Domain, phase: i32, local: DomainEventGraphicsAddress, remote: DomainEventGraphicsAddress,
        auth_scheme: str, subject: [DomainEventGraphicsIdentity; DOMAIN_EVENT_GRAPHICS_IDENTITY_MAX]
    );
    event 195 domain_event_io_error_reason(
        dom: Domain, src_path: str, dev_alias: str, action: i32, reason: str
    );
    event 224 domain_event_control_error(dom: Domain);
    event 241 domain_event_block_job(dom: Domain, path: str, kind: i32, status: i32);
    event 248 domain_event_disk_change(
        dom: Domain, old_src_path: str?, new_src_path: str?, dev_alias: str, reason: i32
    );
    event 268 domain_event_tray_change(dom: Domain, dev_alias: str, reason: i32);
    event 269 domain_event_pmwakeup(dom: Domain);
    event 270 domain_event_pmsuspend(dom: Domain);
    event 276 domain_event_balloon_change(dom: Domain, actual: u64);
    event 292 domain_event_pmsuspend_disk(dom: Domain);
    event 311 domain_event_device_removed(dom: Domain, dev_alias: str);
    event 318 domain_event_callback_lifecycle(callback_id: i32, msg: DomainEventLifecycleMsg);
    event 319 domain_event_callback_reboot(callback_id: i32, msg: DomainEventRebootMsg);
    event 320 domain_event_callback_rtc_change(callback_id: i32, msg: DomainEventRtcChangeMsg);
    event 321 domain_event_callback_watchdog(callback_id: i32, msg: DomainEventWatchdogMsg);
    event 322 domain_event_callback_io_error(callback_id: i32, msg: DomainEventIoErrorMsg);
    event 323 domain_event_callback_graphics(callback_id: i32, msg: DomainEventGraphicsMsg);
    event 324 domain_event_callback_io_error_reason(callback_id: i32, msg: DomainEventIoErrorReasonMsg);
    event 325 domain_event_callback_control_error(callback_id: i32, msg: DomainEventControlErrorMsg);
    event 326 domain_event_callback_block_job(callback_id: i32, msg: DomainEventBlockJobMsg);
    event 327 domain_event_callback_disk_change(callback_id: i32, msg: DomainEventDiskChangeMsg);
    event 328 domain_event_callback_tray_change(callback_id: i32, msg: DomainEventTrayChangeMsg);
    event 329 domain_event_callback_pmwakeup(callback_id: i32, reason: i32, msg: DomainEventPmwakeupMsg);
    event 330 domain_event_callback_pmsuspend(callback_id: i32, reason: i32, msg: DomainEventPmsuspendMsg);
    event 331 domain_event_callback_balloon_change(callback_id: i32, msg: DomainEventBalloonChangeMsg);
    event 332 domain_event_callback_pmsuspend_disk(
        callback_id: i32, reason: i32, msg: DomainEventPmsuspendDiskMsg
    );
    event 333 domain_event_callback_device_removed(callback_id: i32, msg: DomainEventDeviceRemovedMsg);
    event 339 domain_event_block_job_2(callback_id: i32, dom: Domain, dst: str, kind: i32, status: i32);
    event 346 domain_event_callback_tunable(
        callback_id: i32, dom: Domain, params: [TypedParam; DOMAIN_EVENT_TUNABLE_MAX]
    );
    event 348 domain_event_callback_agent_lifecycle(callback_id: i32, dom: Domain, state: i32, reason: i32);
    event 354 domain_event_callback_device_added(callback_id: i32, dom: Domain, dev_alias: str);
    event 359 domain_event_callback_migration_iteration(callback_id: i32, dom: Domain, iteration: i32);
    event 362 connect_event_connection_closed(reason: i32);
    event 363 domain_event_callback_job_completed(
        callback_id: i32, dom: Domain, params: [TypedParam; DOMAIN_JOB_STATS_MAX]
    );
    event 367 domain_event_callback_device_removal_failed(callback_id: i32, dom: Domain, dev_alias: str);
    event 379 domain_event_callback_metadata_change(callback_id: i32, dom: Domain, kind: i32, nsuri: str?);
    event 385 domain_event_block_threshold(
        callback_id: i32, dom: Domain, dev: str, path: str?, threshold: u64, excess: u64
    );
    event 423 domain_event_memory_failure(
        callback_id: i32, dom: Domain, recipient: i32, action: i32, flags: u32
    );
    event 438 domain_event_memory_device_size_change(callback_id: i32, dom: Domain, alias: str, size: u64);
}
