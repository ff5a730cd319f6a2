//! Filters of an interface's traffic: another daemon has them, and binds one to the host's end.

use super::port::daemon;
use super::{Owner, is_direct};
use crate::core::Core;
use crate::error::Result;
use domain_xml::interface::{FilterRef, Interface, Mac};
use domain_xml::source::Named;
use rpc::procedure::Secondary;
use rpc::protocol::nwfilter::{
    NwfilterBindingCreateXmlArgs, NwfilterBindingDeleteArgs, NwfilterBindingLookupByPortDevArgs,
};
use rpc::relay::Peer;
use rpc::{Code, Error};
use std::time::Duration;
use xml::element;

/// How long the daemon may take for an answer: it sets many rules.
const PATIENCE: Duration = Duration::from_secs(60);

/// Whose interface it is.
#[element]
struct BindingOwner {
    #[text]
    name: Option<String>,
    #[text]
    uuid: Option<String>,
}

/// A filter at an interface.
#[element]
struct Binding {
    #[child]
    owner: Option<BindingOwner>,
    #[child]
    portdev: Option<Named>,
    #[child]
    linkdev: Option<Named>,
    #[child]
    mac: Option<Mac>,
    #[child]
    filterref: Option<FilterRef>,
}

fn name(interface: &Interface) -> Option<&str> {
    interface.target.as_ref()?.dev.as_deref()
}

fn filters(core: &Core) -> Result<Peer> {
    daemon(core, Secondary::Nwfilter, PATIENCE)
}

fn text(owner: Owner<'_>, interface: &Interface, name: &str) -> String {
    let lower = interface.source.as_ref().and_then(|source| source.dev.clone());
    let named = |name: String| Named { name };
    let binding = Binding {
        owner: Some(BindingOwner { name: Some(owner.name.to_owned()), uuid: owner.uuid.map(str::to_owned) }),
        portdev: Some(named(name.to_owned())),
        linkdev: lower.filter(|_| is_direct(interface)).map(named),
        mac: interface.mac.as_ref().map(|mac| Mac { address: mac.address.clone(), ..Mac::default() }),
        filterref: interface.filterref.clone(),
    };
    xml::to_string(&binding, "filterbinding")
}

fn create(filters: &mut Peer, owner: Owner<'_>, interface: &Interface, name: &str) -> Result<()> {
    let xml = text(owner, interface, name);
    filters.call(&NwfilterBindingCreateXmlArgs { xml, flags: 0 }).map(drop)
}

/// Binds the interface's filter, if it has one.
pub(super) fn make(core: &Core, owner: Owner<'_>, interface: &Interface) -> Result<()> {
    let Some(name) = name(interface).filter(|_| interface.filterref.is_some()) else { return Ok(()) };
    create(&mut filters(core)?, owner, interface, name)
}

/// As [`make`], of a guest that was found running: its filter may be bound.
pub(super) fn find_or_make(core: &Core, owner: Owner<'_>, interface: &Interface) -> Result<()> {
    let Some(name) = name(interface).filter(|_| interface.filterref.is_some()) else { return Ok(()) };
    let mut filters = filters(core)?;
    match filters.call(&NwfilterBindingLookupByPortDevArgs { name: name.to_owned() }) {
        Ok(_) => Ok(()),
        Err(_) => create(&mut filters, owner, interface, name),
    }
}

/// Takes the interface's filter away, if there is one.
pub(super) fn remove(core: &Core, interface: &Interface) -> Result<()> {
    let Some(name) = name(interface).filter(|_| interface.filterref.is_some()) else { return Ok(()) };
    let mut filters = filters(core)?;
    let missing = |error: &Error| error.code == Code::NoNwfilterBinding as i32;
    match filters.call(&NwfilterBindingLookupByPortDevArgs { name: name.to_owned() }) {
        // It was never bound, or went with its device.
        Err(error) if missing(&error) => Ok(()),
        found => filters.call(&NwfilterBindingDeleteArgs { nwfilter: found?.nwfilter }).map(drop),
    }
}

/// A running interface gets the filter of `new`, or none.
///
/// # Errors
/// It cannot be bound; then the interface has the one that it had.
pub fn change(core: &Core, owner: Owner<'_>, old: &Interface, new: &Interface) -> Result<()> {
    remove(core, old)?;
    make(core, owner, new).inspect_err(|_| {
        // What was wrong first is what to tell.
        let _ = make(core, owner, old);
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bindings() {
        let definition = domain_xml::parse(
            "<domain type='qemu'><name>a &amp; b</name><uuid>c7a5fdbd-edaf-9455-926a-d65c16db1809</uuid>\
             <memory>1024</memory><os><type machine='pc'>hvm</type></os><devices><interface type='bridge'>\
             <mac address='52:54:00:12:34:56'/><source bridge='br0'/><target dev='vnet3'/>\
             <filterref filter='clean-traffic'><parameter name='IP' value='10.0.0.1'/></filterref>\
             </interface></devices></domain>",
        );
        let definition = definition.expect("xml");
        let interface = &definition.devices.interface[0];
        let wanted = "<filterbinding>\n  <owner>\n    <name>a &amp; b</name>\n    \
            <uuid>c7a5fdbd-edaf-9455-926a-d65c16db1809</uuid>\n  </owner>\n  <portdev name='vnet3'/>\n  \
            <mac address='52:54:00:12:34:56'/>\n  <filterref filter='clean-traffic'>\n    \
            <parameter name='IP' value='10.0.0.1'/>\n  </filterref>\n</filterbinding>\n";
        assert_eq!(text(Owner::of(&definition), interface, "vnet3"), wanted);
    }
}
