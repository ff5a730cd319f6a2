//! The emulator's monitor as it is.

use crate::driver::QemuDriver;
use crate::error::{Result, check_flags, error, monitor};
use crate::process::Taint;
use json::{Dict, Value, dict};
use rpc::protocol::qemu::*;
use rpc::{ClientContext, Code};

impl Qemu for QemuDriver {
    fn domain_monitor_command(
        &self,
        _: &ClientContext,
        args: QemuDomainMonitorCommandArgs,
    ) -> Result<QemuDomainMonitorCommandRet> {
        const HMP: u32 = 1;
        check_flags(args.flags, HMP, "qemuDomainQemuMonitorCommand")?;
        let guest = self.guest(&args.dom)?;
        let _job = guest.jobs.begin("virDomainQemuMonitorCommand")?;
        let qemu = guest.monitor()?;
        let id = guest.running_id()?;
        let new = guest.with_live(id, |live| {
            let new = !live.taints.contains(&Taint::CustomMonitor);
            if new {
                live.taints.push(Taint::CustomMonitor);
            }
            new
        });
        if new == Some(true) {
            let name = guest.lock().name.clone();
            self.core.log_taint(&name, id, Taint::CustomMonitor);
            self.core.save_status(&guest);
        }
        if args.flags & HMP != 0 {
            let result = qemu.human(&args.cmd).map_err(|error| monitor(error, "human-monitor-command"))?;
            return Ok(QemuDomainMonitorCommandRet { result });
        }
        let invalid = |detail: String| error(Code::InvalidArg, detail);
        let request = json::parse(args.cmd.as_bytes()).map_err(|error| invalid(error.to_string()))?;
        let command = request.get("execute").and_then(Value::as_str);
        let command = command.ok_or_else(|| invalid("the command has no 'execute'".to_owned()))?;
        let arguments = match request.get("arguments") {
            None => Dict::default(),
            Some(Value::Dict(arguments)) => arguments.clone(),
            Some(_) => return Err(invalid("'arguments' is no object".to_owned())),
        };
        let id = request.get("id").cloned().unwrap_or_else(|| Value::from("libvirt-1"));
        // In the emulator's order.
        let reply = match qemu.execute(command, arguments) {
            Ok(value) => dict! { "return" => value, "id" => id },
            // The client gets what the emulator says, good or bad.
            Err(qmp::Error::Command { class, desc }) => {
                dict! { "id" => id, "error" => dict! { "class" => class, "desc" => desc } }
            }
            Err(error) => return Err(monitor(error, command)),
        };
        Ok(QemuDomainMonitorCommandRet { result: Value::Dict(reply).compact() })
    }

    fn domain_agent_command(
        &self,
        _: &ClientContext,
        args: QemuDomainAgentCommandArgs,
    ) -> Result<QemuDomainAgentCommandRet> {
        self.agent_command(&args)
    }
}
