//! The emulator's monitor as it is.

use crate::driver::QemuDriver;
use crate::error::{Result, check_flags, error, internal, monitor};
use crate::process::Taint;
use json::{Dict, Value, dict};
use rpc::protocol::qemu::*;
use rpc::{ClientContext, Code};
use std::os::fd::{AsFd as _, OwnedFd};

impl QemuDriver {
    /// What the monitor says to a command, which may bring a descriptor.
    fn monitor_command(
        &self,
        dom: &rpc::Domain,
        text: &str,
        flags: u32,
        descriptors: &[OwnedFd],
    ) -> Result<String> {
        const HMP: u32 = 1;
        check_flags(flags, HMP, "qemuDomainQemuMonitorCommandWithFiles")?;
        let invalid = |detail: String| error(Code::InvalidArg, detail);
        if descriptors.len() > 1 {
            return Err(invalid("at most 1 fd can be passed to qemu along with a command".to_owned()));
        }
        let descriptors: Vec<_> = descriptors.iter().map(OwnedFd::as_fd).collect();
        let guest = self.guest(dom)?;
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
        if flags & HMP != 0 {
            let command = "human-monitor-command";
            let arguments = dict! { "command-line" => text };
            let said = qemu.execute_with_fds(command, arguments, &descriptors);
            let said = said.map_err(|error| monitor(error, command))?;
            let no_text = || internal(format!("{command} command failed"));
            return said.as_str().map(str::to_owned).ok_or_else(no_text);
        }
        let request = json::parse(text.as_bytes()).map_err(|error| invalid(error.to_string()))?;
        let command = request.get("execute").and_then(Value::as_str);
        let command = command.ok_or_else(|| invalid("the command has no 'execute'".to_owned()))?;
        let arguments = match request.get("arguments") {
            None => Dict::default(),
            Some(Value::Dict(arguments)) => arguments.clone(),
            Some(_) => return Err(invalid("'arguments' is no object".to_owned())),
        };
        let id = request.get("id").cloned().unwrap_or_else(|| Value::from("libvirt-1"));
        // In the emulator's order.
        let reply = match qemu.execute_with_fds(command, arguments, &descriptors) {
            Ok(value) => dict! { "return" => value, "id" => id },
            // The client gets what the emulator says, good or bad.
            Err(qmp::Error::Command { class, desc }) => {
                dict! { "id" => id, "error" => dict! { "class" => class, "desc" => desc } }
            }
            Err(error) => return Err(monitor(error, command)),
        };
        Ok(Value::Dict(reply).compact())
    }
}

impl Qemu for QemuDriver {
    fn domain_monitor_command(
        &self,
        _: &ClientContext,
        args: QemuDomainMonitorCommandArgs,
    ) -> Result<QemuDomainMonitorCommandRet> {
        let result = self.monitor_command(&args.dom, &args.cmd, args.flags, &[])?;
        Ok(QemuDomainMonitorCommandRet { result })
    }

    fn domain_monitor_command_with_files(
        &self,
        _: &ClientContext,
        args: QemuDomainMonitorCommandWithFilesArgs,
        fds: Vec<OwnedFd>,
    ) -> Result<(QemuDomainMonitorCommandWithFilesRet, Vec<OwnedFd>)> {
        let result = self.monitor_command(&args.dom, &args.cmd, args.flags, &fds)?;
        Ok((QemuDomainMonitorCommandWithFilesRet { result }, Vec::new()))
    }

    fn domain_agent_command(
        &self,
        _: &ClientContext,
        args: QemuDomainAgentCommandArgs,
    ) -> Result<QemuDomainAgentCommandRet> {
        self.agent_command(&args)
    }
}
