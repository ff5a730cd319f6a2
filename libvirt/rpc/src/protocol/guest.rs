//! What a guest's agent and power management do.

use super::limits::{
    DOMAIN_AUTHORIZED_SSH_KEYS_MAX, DOMAIN_FSFREEZE_MOUNTPOINTS_MAX, DOMAIN_FSINFO_DISKS_MAX,
    DOMAIN_FSINFO_MAX, DOMAIN_GUEST_INFO_PARAMS_MAX, DOMAIN_GUEST_VCPU_PARAMS_MAX, DOMAIN_INTERFACE_MAX,
    DOMAIN_IP_ADDR_MAX,
};
use super::types::{Domain, TypedParam};

derive::protocol! {
    /// What a guest's agent and power management do.
    handler GuestAgent;

    /// A file system in a guest.
    struct DomainFsinfo {
        mountpoint: str,
        name: str,
        fstype: str,
        dev_aliases: [str; DOMAIN_FSINFO_DISKS_MAX],
    }

    /// An address in a guest.
    struct DomainIpAddr {
        kind: i32,
        addr: str,
        prefix: u32,
    }

    /// A network interface in a guest.
    struct DomainInterface {
        name: str,
        hwaddr: str?,
        addrs: [DomainIpAddr; DOMAIN_IP_ADDR_MAX],
    }

    call 261 domain_pm_suspend_for_duration(dom: Domain, target: u32, duration: u64, flags: u32):
        virDomainPMSuspendForDuration, write, acl["domain:pm_control"];
    call 277 domain_get_hostname(dom: Domain, flags: u32) -> (hostname: str):
        virDomainGetHostname, write, acl["domain:write"];
    call 294 domain_fstrim(dom: Domain, mount_point: str?, minimum: u64, flags: u32):
        virDomainFSTrim, write, acl["domain:fs_trim"];
    missing 295 domain_send_process_signal(dom: Domain, pid_value: i64, signum: u32, flags: u32):
        virDomainSendProcessSignal, write, acl["domain:send_signal"];
    call 335 domain_fsfreeze(dom: Domain, mountpoints: [str; DOMAIN_FSFREEZE_MOUNTPOINTS_MAX], flags: u32)
        -> (filesystems: i32):
        virDomainFSFreeze, write, acl["domain:fs_freeze"];
    call 336 domain_fsthaw(dom: Domain, mountpoints: [str; DOMAIN_FSFREEZE_MOUNTPOINTS_MAX], flags: u32)
        -> (filesystems: i32):
        virDomainFSThaw, write, acl["domain:fs_freeze"];
    call 337 domain_get_time(dom: Domain, flags: u32) -> (seconds: i64, nseconds: u32):
        virDomainGetTime, write, acl["domain:write"];
    call 338 domain_set_time(dom: Domain, seconds: i64, nseconds: u32, flags: u32):
        virDomainSetTime, write, acl["domain:set_time"];
    call 349 domain_get_fsinfo(dom: Domain, flags: u32)
        -> (info: [DomainFsinfo; DOMAIN_FSINFO_MAX], ret: u32):
        virDomainGetFSInfo, write, acl["domain:fs_freeze"];
    call 353 domain_interface_addresses(dom: Domain, source: u32, flags: u32)
        -> (ifaces: [DomainInterface; DOMAIN_INTERFACE_MAX]):
        virDomainInterfaceAddresses,
        acl[
            "domain:read",
            "domain:write::source:VIR_DOMAIN_INTERFACE_ADDRESSES_SRC_AGENT",
        ];
    call 357 domain_set_user_password(dom: Domain, user: str?, password: str?, flags: u32):
        virDomainSetUserPassword, write, nonnull(user), acl["domain:set_password"];
    call 371 domain_get_guest_vcpus(dom: Domain, flags: u32)
        -> (params: [TypedParam; DOMAIN_GUEST_VCPU_PARAMS_MAX]):
        virDomainGetGuestVcpus, write, acl["domain:write"];
    call 372 domain_set_guest_vcpus(dom: Domain, cpumap: str, state: i32, flags: u32):
        virDomainSetGuestVcpus, write, acl["domain:write"];
    call 418 domain_get_guest_info(dom: Domain, types: u32, flags: u32)
        -> (params: [TypedParam; DOMAIN_GUEST_INFO_PARAMS_MAX]):
        virDomainGetGuestInfo, write, acl["domain:write"];
    call 420 domain_agent_set_response_timeout(dom: Domain, timeout: i32, flags: u32) -> (result: i32):
        virDomainAgentSetResponseTimeout, write, acl["domain:write"];
    call 424 domain_authorized_ssh_keys_get(dom: Domain, user: str, flags: u32)
        -> (keys: [str; DOMAIN_AUTHORIZED_SSH_KEYS_MAX]):
        virDomainAuthorizedSSHKeysGet, write, acl["domain:write"];
    call 425 domain_authorized_ssh_keys_set(
        dom: Domain, user: str, keys: [str; DOMAIN_AUTHORIZED_SSH_KEYS_MAX], flags: u32
    ):
        virDomainAuthorizedSSHKeysSet, write, acl["domain:write"];
}
