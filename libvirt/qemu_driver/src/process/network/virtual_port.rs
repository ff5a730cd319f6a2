//! Ports of switches that are told who is behind them: Open vSwitch and MidoNet, each by a program of its own.

use super::{Owner, is_direct, is_passthrough, program};
use crate::core::Core;
use crate::error::{Result, error, internal, unsupported};
use domain_xml::interface::{Interface, Vlan};
use domain_xml::words::YesNo;
use rpc::Code;
use std::path::Path;

const OPEN_VSWITCH: &str = "openvswitch";
const MIDONET: &str = "midonet";
const VSCTL: &str = "ovs-vsctl";
const MM_CTL: &str = "mm-ctl";

/// The kind of switch whose port the interface is to be, if it is one of these.
pub(super) fn wanted(interface: &Interface) -> Option<&str> {
    let kind = interface.virtualport.as_ref()?.kind.as_deref()?;
    matches!(kind, OPEN_VSWITCH | MIDONET).then_some(kind)
}

fn mac(interface: &Interface) -> &str {
    interface.mac.as_ref().map_or("", |mac| mac.address.as_str())
}

/// Refuses what the interface cannot have of the switch behind it.
pub(super) fn check(interface: &Interface) -> Result<()> {
    if let Some(port) = &interface.virtualport {
        let kind = port.kind.as_deref().unwrap_or("none");
        match kind {
            OPEN_VSWITCH | MIDONET if is_direct(interface) => {
                let detail =
                    format!("<virtualport type='{kind}'> not supported for network interface type 'direct'");
                return Err(unsupported(detail));
            }
            OPEN_VSWITCH | MIDONET | "none" => {}
            _ => {
                let detail = format!("virtual ports of type '{kind}' cannot be had yet");
                return Err(unsupported(detail));
            }
        }
    }
    if interface.vlan.is_some() && wanted(interface) != Some(OPEN_VSWITCH) && !is_passthrough(interface) {
        let mac = mac(interface);
        let detail = format!("interface {mac} - vlan tag not supported for this connection type");
        return Err(unsupported(detail));
    }
    Ok(())
}

/// A device that a guest has to itself has a tag only where another device sets it: a virtual function.
pub(super) fn check_lan(interface: &Interface) -> Result<()> {
    let lower = interface.source.as_ref().and_then(|source| source.dev.as_deref()).unwrap_or_default();
    let is_function = || Path::new(&format!("/sys/class/net/{lower}/device/physfn")).exists();
    if interface.vlan.is_some() && !is_function() {
        let detail = format!("vlan can only be set for SR-IOV VFs, but {lower} is not a VF");
        return Err(error(Code::OperationUnsupported, detail));
    }
    Ok(())
}

/// What a switch is told of tags.
fn tags(vlan: &Vlan) -> Vec<String> {
    let Some(first) = vlan.tag.first() else { return Vec::new() };
    let mut words = Vec::new();
    if let Some(native) = vlan.tag.iter().find(|tag| tag.native_mode.is_some()) {
        let mode = native.native_mode.as_deref().unwrap_or_default();
        words.extend([format!("vlan_mode=native-{mode}"), format!("tag={}", native.id)]);
    }
    // Several are a trunk, whether it is said or not.
    if vlan.trunk == Some(YesNo::Yes) || vlan.tag.len() > 1 || !words.is_empty() {
        let all: Vec<String> = vlan.tag.iter().map(|tag| tag.id.to_string()).collect();
        words.push(format!("trunk={}", all.join(",")));
    } else {
        words.push(format!("tag={}", first.id));
    }
    words
}

fn add_port(timeout: u32, owner: Owner<'_>, interface: &Interface, bridge: &str, name: &str) -> Vec<String> {
    let parameters = interface.virtualport.as_ref().and_then(|port| port.parameters.clone());
    let parameters = parameters.unwrap_or_default();
    let mut words: Vec<String> =
        [&format!("--timeout={timeout}"), "--", "--may-exist", "add-port", bridge, name]
            .map(str::to_owned)
            .to_vec();
    words.extend(interface.vlan.iter().flat_map(tags));
    let mut set = |what: String| words.extend(["--", "set", "Interface", name, &what].map(str::to_owned));
    set(format!("external-ids:attached-mac=\"{}\"", mac(interface)));
    set(format!("external-ids:iface-id=\"{}\"", parameters.interfaceid.unwrap_or_default()));
    set(format!("external-ids:vm-id=\"{}\"", owner.uuid.unwrap_or_default()));
    if let Some(profile) = parameters.profileid.filter(|profile| !profile.is_empty()) {
        set(format!("external-ids:port-profile=\"{profile}\""));
        set(format!("external-ids:ifname=\"{name}\""));
    }
    set("external-ids:iface-status=active".to_owned());
    words
}

fn run(program: &str, words: &[String], failed: String) -> Result<()> {
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    program::run(program, &words, &[]).map_err(|error| {
        let cause = error.message.unwrap_or_default();
        internal(format!("{failed}: {cause}"))
    })
}

/// Plugs the host's end into the switch.
pub(super) fn plug(
    core: &Core,
    owner: Owner<'_>,
    interface: &Interface,
    bridge: &str,
    name: &str,
) -> Result<()> {
    if wanted(interface) == Some(MIDONET) {
        let port = interface_id(interface);
        let words = ["--bind-port", &port, name].map(str::to_owned);
        return run(MM_CTL, &words, format!("Unable to bind port {name} to the virtual port {port}"));
    }
    let words = add_port(core.config.ovs_timeout, owner, interface, bridge, name);
    run(VSCTL, &words, format!("Unable to add port {name} to OVS bridge {bridge}"))
}

fn interface_id(interface: &Interface) -> String {
    let parameters = interface.virtualport.as_ref().and_then(|port| port.parameters.as_ref());
    parameters.and_then(|parameters| parameters.interfaceid.clone()).unwrap_or_default()
}

/// Takes the host's end out of the switch, which knows it by its name even when it is gone.
pub(super) fn unplug(core: &Core, interface: &Interface, name: &str) -> Result<()> {
    match wanted(interface).filter(|_| !name.is_empty()) {
        None => Ok(()),
        Some(MIDONET) => {
            let port = interface_id(interface);
            let words = ["--unbind-port", &port].map(str::to_owned);
            run(MM_CTL, &words, format!("Unable to unbind the virtual port {port} from Midonet"))
        }
        Some(_) => {
            let timeout = format!("--timeout={}", core.config.ovs_timeout);
            let words = [&timeout, "--", "--if-exists", "del-port", name].map(str::to_owned);
            run(VSCTL, &words, format!("Unable to delete port {name} from OVS"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn interface(text: &str) -> Interface {
        let text = format!("<interface type='bridge'><mac address='52:54:00:01:02:03'/>{text}</interface>");
        crate::process::hotplug::parse_device(&text).expect("a device").interface.remove(0)
    }

    #[test]
    fn what_the_switch_is_told() {
        let definition = domain_xml::parse(
            "<domain type='qemu'><name>a</name><uuid>c7a5fdbd-edaf-9455-926a-d65c16db1809</uuid>\
             <memory>1024</memory><os><type machine='pc'>hvm</type></os></domain>",
        );
        let definition = definition.expect("xml");
        let port = "<virtualport type='openvswitch'><parameters \
            interfaceid='09b11c53-8b5c-4eeb-8f00-d84eaa0aaa4f' profileid='bob'/></virtualport>";
        let told = |vlan: &str| {
            let interface = interface(&format!("{vlan}{port}"));
            check(&interface).expect("fine");
            add_port(7, Owner::of(&definition), &interface, "br", "vnet0").join(" ")
        };
        assert_eq!(
            told("<vlan><tag id='5'/></vlan>"),
            "--timeout=7 -- --may-exist add-port br vnet0 tag=5 \
             -- set Interface vnet0 external-ids:attached-mac=\"52:54:00:01:02:03\" \
             -- set Interface vnet0 external-ids:iface-id=\"09b11c53-8b5c-4eeb-8f00-d84eaa0aaa4f\" \
             -- set Interface vnet0 external-ids:vm-id=\"c7a5fdbd-edaf-9455-926a-d65c16db1809\" \
             -- set Interface vnet0 external-ids:port-profile=\"bob\" \
             -- set Interface vnet0 external-ids:ifname=\"vnet0\" \
             -- set Interface vnet0 external-ids:iface-status=active"
        );
        let trunk = told("<vlan trunk='yes'><tag id='42'/><tag id='123' nativeMode='untagged'/></vlan>");
        assert!(trunk.contains("vnet0 vlan_mode=native-untagged tag=123 trunk=42,123 --"), "{trunk}");
        let refused = |text: &str| check(&interface(text)).expect_err("refused").to_string();
        assert!(refused("<vlan><tag id='5'/></vlan>").ends_with("not supported for this connection type"));
        assert!(refused("<virtualport type='802.1Qbh'/>").contains("'802.1Qbh'"));
    }
}
