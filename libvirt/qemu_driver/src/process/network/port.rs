//! Ports of virtual networks, which another daemon has.

use super::Owner;
use crate::core::Core;
use crate::error::{Result, unsupported};
use domain_xml::interface::{Interface, InterfaceSource, Mac};
use rpc::procedure::Secondary;
use rpc::protocol::network::{
    Network, NetworkLookupByNameArgs, NetworkPortCreateXmlArgs, NetworkPortDeleteArgs,
    NetworkPortGetXmlDescArgs, NetworkPortLookupByUuidArgs,
};
use rpc::relay::{Peer, Sockets};
use rpc::{Code, Error, Origin};
use std::time::Duration;
use xml::element;

/// Where the other daemons of the system listen.
const SOCKETS: &str = "/var/run/libvirt";
/// How long the network daemon may take for an answer.
const PATIENCE: Duration = Duration::from_secs(30);

/// Who a port of a network is for.
#[element]
struct PortOwner {
    #[text]
    name: Option<String>,
    #[text]
    uuid: Option<String>,
}

/// A port that is asked for.
#[element]
struct Port {
    #[text]
    uuid: Option<String>,
    #[child]
    owner: Option<PortOwner>,
    #[text]
    group: Option<String>,
    #[child]
    mac: Option<Mac>,
}

/// What a port is plugged into: type, bridge, and who keeps the bridge's table of addresses.
fn plug_of(text: &str) -> Result<(String, Option<String>, Option<String>), xml::Error> {
    xml::parse(text, "networkport", |node| {
        let plug = node.children().find(|child| child.name() == "plug");
        let get =
            |name: &str| plug.as_ref().and_then(|plug| plug.attribute(name)).map(|value| value.to_string());
        Ok((get("type").unwrap_or_default(), get("bridge"), get("macTableManager")))
    })
}

fn network_daemon(core: &Core) -> Result<Peer> {
    daemon(core, Secondary::Network, PATIENCE)
}

/// A connection to another daemon of the same user.
pub(in crate::process) fn daemon(core: &Core, secondary: Secondary, patience: Duration) -> Result<Peer> {
    let sockets = Sockets {
        folder: if core.paths.privileged { SOCKETS.into() } else { core.paths.run.clone() },
        path: if core.paths.privileged { "system" } else { "session" },
    };
    Peer::connect(&sockets, secondary, patience)
}

fn look_up(daemon: &mut Peer, source: &InterfaceSource) -> Result<Network> {
    let name = source.network.clone().unwrap_or_default();
    Ok(daemon.call(&NetworkLookupByNameArgs { name })?.net)
}

/// Asks for the port of the network that the interface names; what it is plugged into is noted in the interface.
pub(super) fn make(core: &Core, owner: Owner<'_>, interface: &mut Interface) -> Result<()> {
    let mac = interface.mac.clone();
    let source = interface.source.get_or_insert_default();
    let mut daemon = network_daemon(core)?;
    let network = look_up(&mut daemon, source)?;
    let port = Port {
        uuid: source.portid.clone(),
        owner: Some(PortOwner { name: Some(owner.name.to_owned()), uuid: owner.uuid.map(str::to_owned) }),
        group: source.portgroup.clone(),
        mac: mac.map(|mac| Mac { address: mac.address, ..Mac::default() }),
    };
    let xml = xml::to_string(&port, "networkport");
    let port = daemon.call(&NetworkPortCreateXmlArgs { network, xml, flags: 0 })?.port;
    let text = daemon.call(&NetworkPortGetXmlDescArgs { port, flags: 0 })?.xml;
    let (kind, bridge, manager) =
        plug_of(&text).map_err(|error| Error::new(Origin::Domain, Code::XmlError, error.detail))?;
    if !matches!(kind.as_str(), "network" | "bridge") {
        return Err(unsupported(format!("ports of networks of type '{kind}' cannot be had yet")));
    }
    if manager.as_deref() == Some("libvirt") {
        return Err(unsupported("bridges whose table of addresses libvirt keeps cannot be had yet"));
    }
    source.bridge = bridge;
    Ok(())
}

/// Gives the interface's port back, if there is one.
pub(super) fn remove(core: &Core, interface: &Interface) -> Result<()> {
    let Some(source) = &interface.source else { return Ok(()) };
    let Some(uuid) = source.portid.as_deref().and_then(crate::uuid::parse) else { return Ok(()) };
    let mut daemon = network_daemon(core)?;
    let network = look_up(&mut daemon, source)?;
    let missing = |error: &Error| error.code == Code::NoNetworkPort as i32;
    let port = match daemon.call(&NetworkPortLookupByUuidArgs { network, uuid }) {
        // It was named, and never made.
        Err(error) if missing(&error) => return Ok(()),
        found => found?.port,
    };
    daemon.call(&NetworkPortDeleteArgs { port, flags: 0 })?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_of_networks() {
        let port = Port {
            uuid: Some("u".to_owned()),
            owner: Some(PortOwner { name: Some("a & b".to_owned()), uuid: None }),
            group: None,
            mac: Some(Mac { address: "52:54:00:12:34:56".to_owned(), ..Mac::default() }),
        };
        let text = xml::to_string(&port, "networkport");
        let wanted = "<networkport>\n  <uuid>u</uuid>\n  <owner>\n    <name>a &amp; b</name>\n  </owner>\n  \
                      <mac address='52:54:00:12:34:56'/>\n</networkport>\n";
        assert_eq!(text, wanted);
        let answer = "<networkport><uuid>u</uuid><plug type='network' bridge='virbr0'/></networkport>";
        let plug = plug_of(answer).expect("plug");
        assert_eq!(plug, ("network".to_owned(), Some("virbr0".to_owned()), None));
        assert!(plug_of("<network/>").is_err());
    }
}
