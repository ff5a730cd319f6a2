//! QEMU's own program: the monitor and the agent as they are.

use super::types::Domain;

derive::protocol! {
    /// QEMU's monitor and the guest's agent as they are.
    handler Qemu, prefix "Qemu";

    call 1 domain_monitor_command(dom: Domain, cmd: str, flags: u32) -> (result: str):
        virDomainQemuMonitorCommand, write, acl["domain:write"];
    missing 2 domain_attach(pid_value: u32, flags: u32) -> (dom: Domain):
        virDomainQemuAttach, write, acl["domain:start", "domain:write"];
    call 3 domain_agent_command(dom: Domain, cmd: str, timeout: i32, flags: u32) -> (result: str?):
        virDomainQemuAgentCommand, write, acl["domain:write"];
    core 4 connect_domain_monitor_event_register(dom: Domain?, event: str?, flags: u32) -> (callback_id: i32):
        virConnectDomainQemuMonitorEventRegister, high, write, acl["connect:search_domains", "connect:write"];
    core 5 connect_domain_monitor_event_deregister(callback_id: i32):
        virConnectDomainQemuMonitorEventDeregister, high, write, acl["connect:write"];
    event 6 domain_monitor_event(
        callback_id: i32, dom: Domain, event: str, seconds: i64, micros: u32, details: str?
    );
    call 7 domain_monitor_command_with_files(dom: Domain, cmd: str, flags: u32) -> (result: str):
        virDomainQemuMonitorCommandWithFiles, write, fds_in, fds_out, acl["domain:write"];
}
