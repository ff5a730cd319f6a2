//! Network interfaces: what is so without being said, and what counts for some of them only.

use domain_xml::interface::{Coalesce, Interface, InterfaceType};
use domain_xml::source::Named;

/// The cards that are known by name, in whatever letters it is given.
const MODELS: &[&str] = &[
    "netfront",
    "rtl8139",
    "virtio",
    "e1000",
    "e1000e",
    "virtio-transitional",
    "virtio-non-transitional",
    "usb-net",
    "spapr-vlan",
    "lan9118",
    "scm91c111",
    "vlance",
    "vmxnet",
    "vmxnet2",
    "vmxnet3",
    "Am79C970A",
    "Am79C973",
    "82540EM",
    "82545EM",
    "82543GC",
];

/// Whether the card is one of virtio's.
pub fn is_virtio(interface: &Interface) -> bool {
    interface.model().starts_with("virtio")
}

/// Brings an interface into its usual form.
pub fn complete(interface: &mut Interface) {
    if let Some(model) = &mut interface.model
        && let Some(known) = MODELS.iter().find(|known| known.eq_ignore_ascii_case(&model.kind))
    {
        model.kind = (*known).to_owned();
    }
    if !matches!(interface.kind, InterfaceType::Ethernet | InterfaceType::Network | InterfaceType::Bridge) {
        interface.filterref = None;
    }
    let none = |coalesce: &Coalesce| {
        let frames = coalesce.rx.as_ref().and_then(|rx| rx.frames.as_ref());
        frames.and_then(|frames| frames.max).unwrap_or(0) == 0
    };
    interface.coalesce = interface.coalesce.take().filter(|coalesce| !none(coalesce));
    let virtio = is_virtio(interface);
    if interface.kind == InterfaceType::Hostdev {
        let name = interface.driver.take().and_then(|driver| driver.name);
        if let Some(name) = name.filter(|name| name != "default") {
            interface.host_driver.name = Some(Named { name });
        }
        return;
    }
    if let Some(driver) = &mut interface.driver {
        if virtio {
            // There is one queue without a word.
            driver.queues = driver.queues.filter(|queues| *queues > 1);
            driver.rx_queue_size = driver.rx_queue_size.filter(|size| *size > 0);
            driver.tx_queue_size = driver.tx_queue_size.filter(|size| *size > 0);
        } else {
            *driver = domain_xml::interface::InterfaceDriver { virtio: driver.virtio, ..Default::default() };
        }
    }
    interface.driver = interface.driver.take().filter(|driver| *driver != Default::default());
    if let Some(backend) = &mut interface.backend
        && !virtio
    {
        backend.vhost = None;
    }
    interface.backend = interface.backend.take().filter(|backend| *backend != Default::default());
}
