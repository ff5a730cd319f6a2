//! Networks of user space by `passt`: a program for each interface, which ends when the emulator does (passt(1)).

use super::Owner;
use crate::core::Core;
use crate::error::{Result, internal};
use crate::process::helper::{Fault, Helper, find_program};
use crate::process::start::launch_error;
use confinement::launch::Launch;
use domain_xml::interface::{ForwardRange, Interface, InterfaceType, PortForward};
use domain_xml::words::YesNo;

/// Whether the interface has such a program.
pub(super) fn is_wanted(interface: &Interface) -> bool {
    let backend = interface.backend.as_ref().and_then(|backend| backend.kind.as_deref());
    interface.kind == InterfaceType::User && backend == Some("passt")
}

/// The program of an interface that has one.
pub(in crate::process) fn of(core: &Core, id: i32, name: &str, interface: &Interface) -> Option<Helper> {
    let folder = core.paths.state.join("passt");
    let own = core.paths.guest(id, name);
    let own = own.file_name()?.to_str()?.strip_prefix("domain-")?;
    let alias = interface.info.alias.as_ref().filter(|_| is_wanted(interface))?;
    let alias = &alias.name;
    Some(Helper {
        name: "passt",
        pid_file: folder.join(format!("{own}-{alias}-passt.pid")),
        socket: folder.join(format!("{own}-{alias}.socket")),
    })
}

/// Starts the program.
pub(super) fn start(core: &Core, owner: Owner<'_>, interface: &Interface) -> Result<()> {
    let helper = of(core, owner.id, owner.name, interface).ok_or_else(|| internal("no alias"))?;
    let failed = |words: &str| internal(format!("Could not start 'passt': {words}"));
    let program = find_program("passt").ok_or_else(|| failed("Cannot find 'passt' in path"))?;
    let launch = Launch::new(&program.to_string_lossy())
        .arguments(["--foreground", "--one-off", "--socket"])
        .arguments([helper.socket.to_string_lossy().into_owned()])
        .arguments(arguments(interface));
    let launch = core.security.as_emulator(owner.definition, launch);
    let launch = launch.map_err(|error| launch_error(&error))?;
    core.start_helper(owner.definition, &helper, launch, None).map_err(|fault| match fault {
        Fault::Launch(error) => error,
        Fault::Died(words) => failed(&words),
        Fault::Late => failed("its socket did not show up"),
    })
}

/// What it is told of the interface.
fn arguments(interface: &Interface) -> Vec<String> {
    let mut all = Vec::new();
    let mut add = |option: &str, value: String| all.extend([option.to_owned(), value]);
    if let Some(mac) = &interface.mac {
        add("--mac-addr", mac.address.clone());
    }
    if let Some(mtu) = &interface.mtu {
        add("--mtu", mtu.size.to_string());
    }
    if let Some(device) = interface.source.as_ref().and_then(|source| source.dev.clone()) {
        add("--interface", device);
    }
    if let Some(log) = interface.backend.as_ref().and_then(|backend| backend.log_file.clone()) {
        add("--log-file", log);
    }
    for ip in &interface.ip {
        add("--address", ip.address.clone());
        if let Some(prefix) = ip.prefix.filter(|prefix| *prefix != 0 && !ip.address.contains(':')) {
            add("--netmask", prefix.to_string());
        }
    }
    for forward in &interface.port_forward {
        let option = if forward.proto == "udp" { "--udp-ports" } else { "--tcp-ports" };
        add(option, ports(forward));
    }
    all
}

/// Which ports are forwarded, as the program reads it.
fn ports(forward: &PortForward) -> String {
    let mut text = String::new();
    if let Some(address) = &forward.address {
        text += address;
        if let Some(device) = &forward.dev {
            text += &format!("%{device}");
        }
        text.push('/');
    }
    let ranges: Vec<String> = forward.range.iter().map(range).collect();
    text + &if ranges.is_empty() { "all".to_owned() } else { ranges.join(",") }
}

fn range(range: &ForwardRange) -> String {
    let mut text = if range.exclude == Some(YesNo::Yes) { "~".to_owned() } else { String::new() };
    let part = |end: u32| if end == 0 { String::new() } else { format!("-{end}") };
    let (end, to) = (range.end.unwrap_or(0), range.to.unwrap_or(0));
    text += &format!("{}{}", range.start, part(end));
    if to != 0 {
        let last = if end == 0 { 0 } else { end.saturating_sub(range.start).saturating_add(to) };
        text += &format!(":{to}{}", part(last));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_program_is_told() {
        let devices = crate::process::hotplug::parse_device(
            "<interface type='user'><mac address='52:54:00:01:02:03'/><source dev='eth1'/>\
             <ip address='172.17.2.0' prefix='24'/><ip address='2001:db8::1' family='ipv6'/>\
             <portForward proto='tcp' address='2001:db8:ac10::1'><range start='22' to='2022'/>\
             <range start='1000' end='1050'/><range start='1020' exclude='yes'/>\
             <range start='80' end='88' to='8000'/></portForward>\
             <portForward proto='udp' address='1.2.3.4' dev='eth0'/>\
             <backend type='passt' logFile='/l'/><mtu size='9000'/></interface>",
        );
        let interface = devices.expect("an interface").interface.remove(0);
        let text = arguments(&interface).join(" ");
        assert_eq!(
            text,
            "--mac-addr 52:54:00:01:02:03 --mtu 9000 --interface eth1 --log-file /l --address 172.17.2.0 \
             --netmask 24 --address 2001:db8::1 --tcp-ports \
             2001:db8:ac10::1/22:2022,1000-1050,~1020,80-88:8000-8008 --udp-ports 1.2.3.4%eth0/all"
        );
    }
}
