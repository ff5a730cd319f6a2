//! What a guest's agent does.

use crate::agent::answers;
use crate::driver::QemuDriver;
use crate::error::{Result, check_flags, error, internal, not_running, system};
use crate::guest::Guest;
use crate::process::Taint;
use crate::process::network::{Leases, leases};
use domain_xml::Domain as Definition;
use domain_xml::interface::Interface;
use domain_xml::words::YesNo;
use json::{Dict, Value, dict};
use rpc::protocol::guest::*;
use rpc::protocol::network::NetworkDhcpLease;
use rpc::protocol::qemu::{QemuDomainAgentCommandArgs, QemuDomainAgentCommandRet};
use rpc::{ClientContext, Code, TypedParam};
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// `VIR_DOMAIN_GUEST_INFO_...`
mod info {
    pub const USERS: u32 = 1;
    pub const OS: u32 = 2;
    pub const TIMEZONE: u32 = 4;
    pub const HOSTNAME: u32 = 8;
    pub const FILESYSTEM: u32 = 16;
    pub const DISKS: u32 = 32;
    pub const INTERFACES: u32 = 64;
    pub const ALL: u32 = 127;
}

/// The interfaces of a guest that the host's table of neighbours (as the kernel prints its IPv4 part) knows.
fn neighbours(table: &str, definition: &Definition) -> Vec<DomainInterface> {
    let mut found = Vec::new();
    for interface in &definition.devices.interface {
        let Some(mac) = interface.mac.as_ref().map(|mac| mac.address.to_lowercase()) else { continue };
        let name = interface.target.as_ref().and_then(|target| target.dev.clone()).unwrap_or_default();
        for row in table.lines().skip(1) {
            let fields: Vec<&str> = row.split_whitespace().collect();
            let &[address, _, flags, hardware, ..] = &fields[..] else { continue };
            // An entry without an answer has flags of zero.
            if flags == "0x0" || !hardware.eq_ignore_ascii_case(&mac) {
                continue;
            }
            let addrs = vec![DomainIpAddr { kind: 0, addr: address.to_owned(), prefix: 0 }];
            found.push(DomainInterface { name: name.clone(), hwaddr: Some(mac.clone()), addrs });
        }
    }
    found
}

/// An interface with the addresses that a network has lent it.
fn lent(interface: &Interface, leases: Vec<NetworkDhcpLease>) -> DomainInterface {
    let addrs = leases.into_iter().map(|lease| DomainIpAddr {
        kind: lease.kind,
        addr: lease.ipaddr,
        prefix: lease.prefix,
    });
    DomainInterface {
        name: interface.target.as_ref().and_then(|target| target.dev.clone()).unwrap_or_default(),
        hwaddr: interface.mac.as_ref().map(|mac| mac.address.to_lowercase()),
        addrs: addrs.collect(),
    }
}

impl QemuDriver {
    fn ask(&self, dom: &rpc::Domain, command: &str, arguments: Dict, api: &'static str) -> Result<Value> {
        let guest = self.guest(dom)?;
        let _job = guest.agent_jobs.begin(api)?;
        guest.running_id()?;
        self.ask_now(&guest, command, arguments)
    }

    /// As [`Self::ask`], of what the original asks without looking first whether the guest runs.
    fn ask_at_once(
        &self,
        dom: &rpc::Domain,
        command: &str,
        arguments: Dict,
        api: &'static str,
    ) -> Result<Value> {
        self.guest(dom)?.need_agent()?;
        self.ask(dom, command, arguments, api)
    }

    pub(super) fn ask_now(&self, guest: &Guest, command: &str, arguments: Dict) -> Result<Value> {
        Ok(self.core.ask_agent(guest, command, arguments, true)?.unwrap_or(Value::Null))
    }

    /// How many file systems were frozen or thawed.
    fn count(&self, dom: &rpc::Domain, command: &str, arguments: Dict, api: &'static str) -> Result<i32> {
        let answer = self.ask(dom, command, arguments, api)?;
        let count = answer.as_i64().and_then(|count| i32::try_from(count).ok());
        count.filter(|count| *count >= 0).ok_or_else(|| internal("malformed return value"))
    }

    /// The leases of the guest's interfaces, which the network daemon knows.
    fn leases<'a>(&self, definition: &'a Definition) -> Result<Vec<Leases<'a>>> {
        leases(&self.core, definition)?.ok_or_else(|| {
            let uri = if self.core.paths.privileged { "network:///system" } else { "network:///session" };
            rpc::Error::new(rpc::Origin::None, Code::NoConnect, uri)
        })
    }

    /// As the agent is asked, whatever it is asked.
    pub(super) fn agent_command(
        &self,
        args: &QemuDomainAgentCommandArgs,
    ) -> Result<QemuDomainAgentCommandRet> {
        check_flags(args.flags, 0, "qemuDomainQemuAgentCommand")?;
        let guest = self.guest(&args.dom)?;
        let _job = guest.agent_jobs.begin("virDomainQemuAgentCommand")?;
        let id = guest.running_id()?;
        guest.need_agent()?;
        let new = guest.with_live(id, |live| {
            let new = !live.taints.contains(&Taint::CustomGa);
            if new {
                live.taints.push(Taint::CustomGa);
            }
            new
        });
        if new == Some(true) {
            let name = guest.lock().name.clone();
            self.core.log_taint(&name, id, Taint::CustomGa);
            self.core.save_status(&guest);
        }
        crate::agent::limit(args.timeout)?;
        let request = json::parse(args.cmd.as_bytes()).map_err(|error| internal(error.to_string()))?;
        let answer = self.core.agent_answer(&guest, &request, args.timeout)?;
        Ok(QemuDomainAgentCommandRet { result: Some(answer.compact()) })
    }

    /// Asks the guest's agent to shut the guest down or to start it anew.
    pub(super) fn agent_power(&self, guest: &Arc<Guest>, reboot: bool, api: &'static str) -> Result<()> {
        let _job = guest.agent_jobs.begin(api)?;
        guest.need_agent()?;
        let id = guest.running_id()?;
        if guest.with_live(id, |live| std::mem::take(&mut live.fake_reboot)) == Some(true) {
            self.core.save_status(guest);
        }
        let mode = if reboot { "reboot" } else { "powerdown" };
        self.core.tell_agent(guest, "guest-shutdown", dict! { "mode" => mode })
    }
}

impl GuestAgent for QemuDriver {
    fn domain_pm_suspend_for_duration(
        &self,
        _: &ClientContext,
        args: DomainPmSuspendForDurationArgs,
    ) -> Result<()> {
        check_flags(args.flags, 0, "qemuDomainPMSuspendForDuration")?;
        if args.duration != 0 {
            return Err(error(Code::ArgumentUnsupported, "Duration not supported. Use 0 for now"));
        }
        let (command, to_disk) = match args.target {
            0 => ("guest-suspend-ram", false),
            1 => ("guest-suspend-disk", true),
            2 => ("guest-suspend-hybrid", false),
            target => return Err(error(Code::InvalidArg, format!("Unknown suspend target: {target}"))),
        };
        let guest = self.guest(&args.dom)?;
        guest.need_agent()?;
        let machine = {
            let _job = guest.jobs.begin("virDomainPMSuspendForDuration")?;
            guest.execute("query-current-machine", Dict::default())?
        };
        if machine.get("wakeup-suspend-support").and_then(Value::as_bool) != Some(true) {
            return Err(error(Code::OperationUnsupported, "Domain does not have suspend support"));
        }
        let pm = {
            let inner = guest.lock();
            inner.live.as_ref().ok_or_else(not_running)?.definition.pm.clone().unwrap_or_default()
        };
        if !to_disk && pm.suspend_to_mem.is_some_and(|sleep| sleep.enabled == YesNo::No) {
            return Err(internal("S3 state is disabled for this domain"));
        }
        if to_disk && pm.suspend_to_disk.is_some_and(|sleep| sleep.enabled == YesNo::No) {
            return Err(internal("S4 state is disabled for this domain"));
        }
        let _job = guest.agent_jobs.begin("virDomainPMSuspendForDuration")?;
        self.core.tell_agent(&guest, command, Dict::default())
    }

    fn domain_get_hostname(
        &self,
        _: &ClientContext,
        args: DomainGetHostnameArgs,
    ) -> Result<DomainGetHostnameRet> {
        const LEASE: u32 = 1;
        const AGENT: u32 = 2;
        const API: &str = "virDomainGetHostname";
        let nameless = |dom: &rpc::Domain| {
            let detail = format!("no hostname found for domain {}", dom.name);
            error(Code::NoHostname, detail)
        };
        check_flags(args.flags, LEASE | AGENT, "qemuDomainGetHostname")?;
        if args.flags == LEASE | AGENT {
            let detail = "Flags 'VIR_DOMAIN_GET_HOSTNAME_LEASE' and 'VIR_DOMAIN_GET_HOSTNAME_AGENT' are mutually \
                          exclusive";
            return Err(error(Code::InvalidArg, format!("{detail} in qemuDomainGetHostname")));
        }
        if args.flags == LEASE {
            let guest = self.guest(&args.dom)?;
            let _job = guest.jobs.begin(API)?;
            guest.running_id()?;
            let definition = guest.lock().current().ok_or_else(not_running)?;
            let mut leases = self.leases(&definition)?.into_iter().flat_map(|(_, leases)| leases);
            let hostname = leases.find_map(|lease| lease.hostname);
            return Ok(DomainGetHostnameRet { hostname: hostname.ok_or_else(|| nameless(&args.dom))? });
        }
        let guest = self.guest(&args.dom)?;
        let _job = guest.agent_jobs.begin(API)?;
        guest.running_id()?;
        guest.need_agent()?;
        // Whatever the agent says instead, the original says this.
        let answer = self.ask_now(&guest, "guest-get-host-name", Dict::default());
        let hostname = answer.and_then(|answer| answers::hostname(&answer));
        Ok(DomainGetHostnameRet { hostname: hostname.map_err(|_| nameless(&args.dom))? })
    }

    fn domain_fstrim(&self, _: &ClientContext, args: DomainFstrimArgs) -> Result<()> {
        check_flags(args.flags, 0, "qemuDomainFSTrim")?;
        if args.mount_point.is_some() {
            let detail = "Specifying mount point is not supported for now";
            return Err(error(Code::ArgumentUnsupported, detail));
        }
        let arguments = dict! { "minimum" => args.minimum };
        self.ask_at_once(&args.dom, "guest-fstrim", arguments, "virDomainFSTrim").map(drop)
    }

    fn domain_fsfreeze(&self, _: &ClientContext, args: DomainFsfreezeArgs) -> Result<DomainFsfreezeRet> {
        check_flags(args.flags, 0, "qemuDomainFSFreeze")?;
        let (command, arguments) = if args.mountpoints.is_empty() {
            ("guest-fsfreeze-freeze", Dict::default())
        } else {
            ("guest-fsfreeze-freeze-list", dict! { "mountpoints" => args.mountpoints })
        };
        let filesystems = self.count(&args.dom, command, arguments, "virDomainFSFreeze")?;
        Ok(DomainFsfreezeRet { filesystems })
    }

    fn domain_fsthaw(&self, _: &ClientContext, args: DomainFsthawArgs) -> Result<DomainFsthawRet> {
        check_flags(args.flags, 0, "qemuDomainFSThaw")?;
        if !args.mountpoints.is_empty() {
            let detail = "specifying mountpoints is not supported";
            return Err(error(Code::ArgumentUnsupported, detail));
        }
        let filesystems = self.count(&args.dom, "guest-fsfreeze-thaw", Dict::default(), "virDomainFSThaw")?;
        Ok(DomainFsthawRet { filesystems })
    }

    fn domain_get_time(&self, _: &ClientContext, args: DomainGetTimeArgs) -> Result<DomainGetTimeRet> {
        check_flags(args.flags, 0, "qemuDomainGetTime")?;
        let answer = self.ask(&args.dom, "guest-get-time", Dict::default(), "virDomainGetTime")?;
        let time = answer.as_u64().ok_or_else(|| internal("malformed return value"))?;
        Ok(DomainGetTimeRet {
            seconds: (time / 1_000_000_000) as i64,
            nseconds: (time % 1_000_000_000) as u32,
        })
    }

    fn domain_set_time(&self, _: &ClientContext, args: DomainSetTimeArgs) -> Result<()> {
        const SYNC: u32 = 1;
        check_flags(args.flags, SYNC, "qemuDomainSetTime")?;
        // Without a time, the guest takes that of its clock.
        let arguments = if args.flags & SYNC != 0 {
            Dict::default()
        } else {
            let time = args.seconds.checked_mul(1_000_000_000);
            let time = time.and_then(|time| time.checked_add(args.nseconds.into())).ok_or_else(|| {
                let detail = format!("Time '{}' is too big for guest agent", args.seconds);
                error(Code::InvalidArg, detail)
            })?;
            dict! { "time" => time }
        };
        let guest = self.guest(&args.dom)?;
        let can_reset = {
            let inner = guest.lock();
            let live = inner.live.as_ref().ok_or_else(not_running)?;
            live.caps.has("rtc-reset-reinjection")
        };
        if !can_reset {
            let detail = "cannot set time: qemu doesn't support rtc-reset-reinjection command";
            return Err(error(Code::OperationUnsupported, detail));
        }
        self.ask(&args.dom, "guest-set-time", arguments, "virDomainSetTime")?;
        // Else the guest would get the ticks it missed on top.
        let _job = guest.jobs.begin("virDomainSetTime")?;
        guest.execute("rtc-reset-reinjection", Dict::default()).map(drop)
    }

    fn domain_get_fsinfo(&self, _: &ClientContext, args: DomainGetFsinfoArgs) -> Result<DomainGetFsinfoRet> {
        check_flags(args.flags, 0, "qemuDomainGetFSInfo")?;
        let answer = self.ask(&args.dom, "guest-get-fsinfo", Dict::default(), "virDomainGetFSInfo")?;
        let systems = answers::file_systems(&answer)?;
        let guest = self.guest(&args.dom)?;
        let definition = {
            let inner = guest.lock();
            inner.live.as_ref().ok_or_else(not_running)?.definition.clone()
        };
        let info: Vec<_> = systems.iter().map(|system| system.info(&definition)).collect();
        let ret = info.len() as u32;
        Ok(DomainGetFsinfoRet { info, ret })
    }

    fn domain_interface_addresses(
        &self,
        client: &ClientContext,
        args: DomainInterfaceAddressesArgs,
    ) -> Result<DomainInterfaceAddressesRet> {
        const LEASE: u32 = 0;
        const AGENT: u32 = 1;
        const ARP: u32 = 2;
        if args.source == AGENT && client.read_only() {
            let detail = "read only access prevents virDomainInterfaceAddresses";
            return Err(rpc::Error::new(rpc::Origin::Domain, Code::OperationDenied, detail));
        }
        check_flags(args.flags, 0, "qemuDomainInterfaceAddresses")?;
        let guest = self.guest(&args.dom)?;
        let definition = {
            let inner = guest.lock();
            inner.live.as_ref().ok_or_else(not_running)?.definition.clone()
        };
        let ifaces = match args.source {
            LEASE => self
                .leases(&definition)?
                .into_iter()
                .map(|(interface, leases)| lent(interface, leases))
                .collect(),
            AGENT => {
                let api = "virDomainInterfaceAddresses";
                let answer = self.ask(&args.dom, "guest-network-get-interfaces", Dict::default(), api)?;
                answers::interfaces(&answer)?
            }
            ARP => {
                let path = "/proc/net/arp";
                let table = std::fs::read_to_string(path)
                    .map_err(|error| system(&error, &format!("Failed to read '{path}'")))?;
                neighbours(&table, &definition)
            }
            source => {
                let detail = format!("Unknown IP address data source {source}");
                return Err(error(Code::ArgumentUnsupported, detail));
            }
        };
        Ok(DomainInterfaceAddressesRet { ifaces })
    }

    fn domain_set_user_password(&self, _: &ClientContext, args: DomainSetUserPasswordArgs) -> Result<()> {
        const ENCRYPTED: u32 = 1;
        check_flags(args.flags, ENCRYPTED, "qemuDomainSetUserPassword")?;
        let arguments = dict! {
            "crypted" => args.flags & ENCRYPTED != 0,
            "username" => args.user.unwrap_or_default(),
            "password" => crate::base64::encode(args.password.unwrap_or_default().as_bytes()),
        };
        self.ask(&args.dom, "guest-set-user-password", arguments, "virDomainSetUserPassword").map(drop)
    }

    fn domain_get_guest_vcpus(
        &self,
        _: &ClientContext,
        args: DomainGetGuestVcpusArgs,
    ) -> Result<DomainGetGuestVcpusRet> {
        check_flags(args.flags, 0, "qemuDomainGetGuestVcpus")?;
        let answer =
            self.ask_at_once(&args.dom, "guest-get-vcpus", Dict::default(), "virDomainGetGuestVcpus")?;
        Ok(DomainGetGuestVcpusRet { params: answers::vcpu_params(&answers::vcpus(&answer)?)? })
    }

    fn domain_set_guest_vcpus(&self, _: &ClientContext, args: DomainSetGuestVcpusArgs) -> Result<()> {
        self.set_guest_vcpus(&args)
    }

    fn domain_get_guest_info(
        &self,
        _: &ClientContext,
        args: DomainGetGuestInfoArgs,
    ) -> Result<DomainGetGuestInfoRet> {
        check_flags(args.flags, 0, "qemuDomainGetGuestInfo")?;
        if args.types & !info::ALL != 0 {
            let detail = format!("unsupported guest information types '0x{:x}'", args.types & !info::ALL);
            return Err(error(Code::InvalidArg, detail));
        }
        // What was not asked for by name may be missing.
        let named = args.types != 0;
        let types = if named { args.types } else { info::ALL };
        let guest = self.guest(&args.dom)?;
        let _job = guest.agent_jobs.begin("virDomainGetGuestInfo")?;
        guest.need_agent()?;
        let definition = {
            let inner = guest.lock();
            inner.live.as_ref().ok_or_else(not_running)?.definition.clone()
        };
        let ask = |kind: u32, command: &str| {
            if types & kind == 0 {
                return Ok(None);
            }
            self.core.ask_agent(&guest, command, Dict::default(), named)
        };
        let mut params: Vec<TypedParam> = Vec::new();
        if let Some(answer) = ask(info::USERS, "guest-get-users")? {
            params.extend(answers::user_params(&answer)?);
        }
        if let Some(answer) = ask(info::OS, "guest-get-osinfo")? {
            params.extend(answers::os_params(&answer)?);
        }
        if let Some(answer) = ask(info::TIMEZONE, "guest-get-timezone")? {
            params.extend(answers::timezone_params(&answer)?);
        }
        if let Some(answer) = ask(info::HOSTNAME, "guest-get-host-name")? {
            params.push(TypedParam::new("hostname", answers::hostname(&answer)?));
        }
        if let Some(answer) = ask(info::FILESYSTEM, "guest-get-fsinfo")? {
            let systems = answers::file_systems(&answer)?;
            if !systems.is_empty() {
                params.extend(answers::file_system_params(&systems, &definition));
            }
        }
        if let Some(answer) = ask(info::DISKS, "guest-get-disks")? {
            params.extend(answers::disk_params(&answer, &definition)?);
        }
        if let Some(answer) = ask(info::INTERFACES, "guest-network-get-interfaces")? {
            let interfaces = answers::interfaces(&answer)?;
            if !interfaces.is_empty() {
                params.extend(answers::interface_params(&interfaces));
            }
        }
        Ok(DomainGetGuestInfoRet { params })
    }

    fn domain_agent_set_response_timeout(
        &self,
        _: &ClientContext,
        args: DomainAgentSetResponseTimeoutArgs,
    ) -> Result<DomainAgentSetResponseTimeoutRet> {
        check_flags(args.flags, 0, "qemuDomainAgentSetResponseTimeout")?;
        crate::agent::limit(args.timeout)?;
        let guest = self.guest(&args.dom)?;
        guest.agent_timeout.store(args.timeout, Ordering::Relaxed);
        self.core.save_status(&guest);
        Ok(DomainAgentSetResponseTimeoutRet { result: 0 })
    }

    fn domain_authorized_ssh_keys_get(
        &self,
        _: &ClientContext,
        args: DomainAuthorizedSshKeysGetArgs,
    ) -> Result<DomainAuthorizedSshKeysGetRet> {
        check_flags(args.flags, 0, "qemuDomainAuthorizedSSHKeysGet")?;
        let arguments = dict! { "username" => args.user };
        let api = "virDomainAuthorizedSSHKeysGet";
        let answer = self.ask_at_once(&args.dom, "guest-ssh-get-authorized-keys", arguments, api)?;
        Ok(DomainAuthorizedSshKeysGetRet { keys: answers::ssh_keys(&answer)? })
    }

    fn domain_authorized_ssh_keys_set(
        &self,
        _: &ClientContext,
        args: DomainAuthorizedSshKeysSetArgs,
    ) -> Result<()> {
        const APPEND: u32 = 1;
        const REMOVE: u32 = 2;
        check_flags(args.flags, APPEND | REMOVE, "qemuDomainAuthorizedSSHKeysSet")?;
        let mut arguments = dict! { "username" => args.user, "keys" => args.keys };
        let command = if args.flags & REMOVE != 0 {
            "guest-ssh-remove-authorized-keys"
        } else {
            arguments.insert("reset", (args.flags & APPEND == 0).into());
            "guest-ssh-add-authorized-keys"
        };
        self.ask_at_once(&args.dom, command, arguments, "virDomainAuthorizedSSHKeysSet").map(drop)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn passwords_are_encoded() {
        let texts: Vec<String> =
            ["", "f", "fo", "foo", "foob"].iter().map(|it| crate::base64::encode(it.as_bytes())).collect();
        assert_eq!(texts, ["", "Zg==", "Zm8=", "Zm9v", "Zm9vYg=="]);
    }

    #[test]
    fn neighbours_of_the_host() {
        let definition: Definition = domain_xml::parse(
            "<domain type='qemu'><name>a</name><memory>1024</memory><os><type>hvm</type></os><devices>\
             <interface type='ethernet'><mac address='52:54:00:00:00:0a'/><target dev='tap0'/></interface>\
             </devices></domain>",
        )
        .expect("definition");
        let table = "IP address       HW type     Flags       HW address            Mask     Device\n\
                     10.0.0.7         0x1         0x2         52:54:00:00:00:0A     *        br0\n\
                     10.0.0.8         0x1         0x0         52:54:00:00:00:0a     *        br0\n\
                     10.0.0.9         0x1         0x2         52:54:00:00:00:0b     *        br0\nx\n";
        let found = neighbours(table, &definition);
        assert_eq!(found.len(), 1);
        assert_eq!((found[0].name.as_str(), found[0].addrs[0].addr.as_str()), ("tap0", "10.0.0.7"));
    }
}
