//! What a guest's agent does.

use crate::driver::QemuDriver;
use crate::error::{Result, check_flags, error, internal};
use json::{Dict, Value, dict};
use rpc::protocol::guest::*;
use rpc::{ClientContext, Code};

impl QemuDriver {
    fn ask(&self, dom: &rpc::Domain, command: &str, arguments: Dict, api: &'static str) -> Result<Value> {
        let guest = self.guest(dom)?;
        let _job = guest.jobs.begin(api)?;
        self.core.ask_agent(&guest, command, arguments)
    }
}

impl GuestAgent for QemuDriver {
    fn domain_get_time(&self, _: &ClientContext, args: DomainGetTimeArgs) -> Result<DomainGetTimeRet> {
        check_flags(args.flags, 0, "qemuDomainGetTime")?;
        let reply = self.ask(&args.dom, "guest-get-time", Dict::default(), "virDomainGetTime")?;
        let time = reply.as_i64().ok_or_else(|| internal("malformed return value"))?;
        Ok(DomainGetTimeRet {
            seconds: time.div_euclid(1_000_000_000),
            nseconds: time.rem_euclid(1_000_000_000) as u32,
        })
    }

    fn domain_set_time(&self, _: &ClientContext, args: DomainSetTimeArgs) -> Result<()> {
        const SYNC: u32 = 1;
        check_flags(args.flags, SYNC, "qemuDomainSetTime")?;
        let time =
            args.seconds.checked_mul(1_000_000_000).and_then(|time| time.checked_add(args.nseconds.into()));
        let time = time.ok_or_else(|| {
            error(Code::InvalidArg, format!("Time '{}' is too big for guest agent", args.seconds))
        })?;
        // Without a time, the guest takes that of its clock.
        let arguments = if args.flags & SYNC == 0 {
            dict! { "time" => time }
        } else {
            Dict::default()
        };
        self.ask(&args.dom, "guest-set-time", arguments, "virDomainSetTime").map(drop)
    }

    fn domain_get_hostname(
        &self,
        _: &ClientContext,
        args: DomainGetHostnameArgs,
    ) -> Result<DomainGetHostnameRet> {
        const LEASE: u32 = 1;
        const AGENT: u32 = 2;
        check_flags(args.flags, LEASE | AGENT, "qemuDomainGetHostname")?;
        if args.flags & LEASE != 0 {
            return Err(error(Code::ArgumentUnsupported, "host names of leases are not supported yet"));
        }
        let reply = self.ask(&args.dom, "guest-get-host-name", Dict::default(), "virDomainGetHostname")?;
        let name = reply.get("host-name").and_then(Value::as_str);
        let hostname = name.ok_or_else(|| internal("malformed return value"))?.to_owned();
        Ok(DomainGetHostnameRet { hostname })
    }

    fn domain_fsfreeze(&self, _: &ClientContext, args: DomainFsfreezeArgs) -> Result<DomainFsfreezeRet> {
        check_flags(args.flags, 0, "qemuDomainFSFreeze")?;
        let (command, arguments) = if args.mountpoints.is_empty() {
            ("guest-fsfreeze-freeze", Dict::default())
        } else {
            ("guest-fsfreeze-freeze-list", dict! { "mountpoints" => args.mountpoints })
        };
        let reply = self.ask(&args.dom, command, arguments, "virDomainFSFreeze")?;
        Ok(DomainFsfreezeRet { filesystems: reply.as_i64().unwrap_or(0) as i32 })
    }

    fn domain_fsthaw(&self, _: &ClientContext, args: DomainFsthawArgs) -> Result<DomainFsthawRet> {
        check_flags(args.flags, 0, "qemuDomainFSThaw")?;
        if !args.mountpoints.is_empty() {
            let detail = "specifying mountpoints is not supported";
            return Err(error(Code::ArgumentUnsupported, detail));
        }
        let reply = self.ask(&args.dom, "guest-fsfreeze-thaw", Dict::default(), "virDomainFSThaw")?;
        Ok(DomainFsthawRet { filesystems: reply.as_i64().unwrap_or(0) as i32 })
    }

    fn domain_fstrim(&self, _: &ClientContext, args: DomainFstrimArgs) -> Result<()> {
        check_flags(args.flags, 0, "qemuDomainFSTrim")?;
        if args.mount_point.is_some() {
            let detail = "Specifying mount point is not supported for now";
            return Err(error(Code::ArgumentUnsupported, detail));
        }
        self.ask(&args.dom, "guest-fstrim", dict! { "minimum" => args.minimum }, "virDomainFSTrim").map(drop)
    }

    fn domain_interface_addresses(
        &self,
        _: &ClientContext,
        args: DomainInterfaceAddressesArgs,
    ) -> Result<DomainInterfaceAddressesRet> {
        const AGENT: u32 = 1;
        check_flags(args.flags, 0, "qemuDomainInterfaceAddresses")?;
        if args.source != AGENT {
            let detail = format!("Unsupported IP address data source {}", args.source);
            return Err(error(Code::ArgumentUnsupported, detail));
        }
        let reply = self.ask(
            &args.dom,
            "guest-network-get-interfaces",
            Dict::default(),
            "virDomainInterfaceAddresses",
        )?;
        let text = |value: &Value, key: &str| value.get(key).and_then(Value::as_str).map(str::to_owned);
        let address = |value: &Value| {
            Some(DomainIpAddr {
                kind: i32::from(text(value, "ip-address-type")? != "ipv4"),
                addr: text(value, "ip-address")?,
                prefix: value.get("prefix")?.as_u64()?.try_into().ok()?,
            })
        };
        let interface = |value: &Value| {
            let addresses = value.get("ip-addresses").and_then(Value::as_list).unwrap_or_default();
            Some(DomainInterface {
                name: text(value, "name")?,
                hwaddr: text(value, "hardware-address"),
                // As many as the protocol carries.
                addrs: addresses.iter().filter_map(address).take(2048).collect(),
            })
        };
        let ifaces = reply.as_list().unwrap_or_default().iter().filter_map(interface).take(2048).collect();
        Ok(DomainInterfaceAddressesRet { ifaces })
    }
}
