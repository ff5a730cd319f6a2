//! Guests whose memory is encrypted by AMD's Secure Encrypted Virtualization.

use super::params;
use crate::driver::QemuDriver;
use crate::error::{Result, check_flags, error, internal, invalid, not_running};
use crate::guest::Guest;
use crate::state::State;
use json::{Dict, Value, dict};
use rpc::protocol::stats::*;
use rpc::{Code, TypedParam, TypedValue};

/// Whether the guest's memory is encrypted that way.
fn is_sev(guest: &Guest) -> bool {
    let definition = guest.lock().current();
    let security = definition.as_ref().and_then(|definition| definition.launch_security.as_ref());
    security.is_some_and(|security| security.kind == "sev")
}

impl QemuDriver {
    pub(super) fn launch_security_info(
        &self,
        args: &DomainGetLaunchSecurityInfoArgs,
    ) -> Result<DomainGetLaunchSecurityInfoRet> {
        const TYPED_STRING: u32 = 4;
        let guest = self.guest(&args.dom)?;
        if !is_sev(&guest) {
            return Ok(DomainGetLaunchSecurityInfoRet { params: Vec::new() });
        }
        check_flags(args.flags, TYPED_STRING, "qemuDomainGetSEVInfo")?;
        let _job = guest.jobs.begin("virDomainGetLaunchSecurityInfo")?;
        let measure = guest.execute("query-sev-launch-measure", Dict::default())?;
        let info = guest.execute("query-sev", Dict::default())?;
        let measure = measure.get("data").and_then(Value::as_str);
        let measure = measure.ok_or_else(|| internal("query-sev-launch-measure reply was missing 'data'"))?;
        let number = |key: &str| {
            let number = info.get(key).and_then(Value::as_u64).and_then(|number| u32::try_from(number).ok());
            number.ok_or_else(|| internal(format!("query-sev reply was missing '{key}'")))
        };
        Ok(DomainGetLaunchSecurityInfoRet {
            params: vec![
                TypedParam::new("sev-measurement", measure),
                TypedParam::new("sev-api-major", number("api-major")?),
                TypedParam::new("sev-api-minor", number("api-minor")?),
                TypedParam::new("sev-build-id", number("build-id")?),
                TypedParam::new("sev-policy", number("policy")?),
            ],
        })
    }

    pub(super) fn set_launch_security_state(&self, args: &DomainSetLaunchSecurityStateArgs) -> Result<()> {
        const HEADER: &str = "sev-secret-header";
        const SECRET: &str = "sev-secret";
        const ADDRESS: &str = "sev-secret-set-address";
        check_flags(args.flags, 0, "qemuDomainSetLaunchSecurityState")?;
        params::check(&args.params, &[(HEADER, "string"), (SECRET, "string"), (ADDRESS, "ullong")])?;
        let guest = self.guest(&args.dom)?;
        let refuse = |detail: &str| Err(error(Code::OperationUnsupported, detail));
        if !is_sev(&guest) {
            return refuse("setting a launch secret is only supported in SEV-enabled domains");
        }
        let value = |name: &str| args.params.iter().find(|param| param.field == name).map(|it| &it.value);
        let (Some(TypedValue::Text(header)), Some(TypedValue::Text(secret))) = (value(HEADER), value(SECRET))
        else {
            return Err(internal("Both secret and the secret header are required"));
        };
        let _job = guest.jobs.begin("virDomainSetLaunchSecurityState")?;
        let can = {
            let inner = guest.lock();
            let live = inner.live.as_ref().ok_or_else(not_running)?;
            if !matches!(inner.state, State::Paused(_)) {
                return Err(invalid("domain must be in a paused state"));
            }
            live.caps.has("sev-inject-launch-secret")
        };
        if !can {
            return refuse("QEMU does not support setting a launch secret");
        }
        let mut arguments = dict! { "packet-header" => header.as_str(), "secret" => secret.as_str() };
        if let Some(TypedValue::Ullong(address)) = value(ADDRESS) {
            arguments.insert("gpa", (*address).into());
        }
        guest.execute("sev-inject-launch-secret", arguments).map(drop)
    }
}
