//! Limits of an interface's traffic, which the kernel keeps: token buckets for what leaves the host's end, a filter that
//! drops what comes in beyond (tc(8), tc-htb(8)).

use super::program;
use crate::core::{Core, Level};
use crate::error::{Result, error, system};
use domain_xml::interface::{Bandwidth, Interface, InterfaceType, Rate};
use rpc::Code;

const TC: &str = "tc";

/// Whether the host's end of such interfaces can be limited.
pub fn is_supported(kind: InterfaceType) -> bool {
    matches!(
        kind,
        InterfaceType::Network | InterfaceType::Bridge | InterfaceType::Direct | InterfaceType::Ethernet
    )
}

/// What is executed for the limits of the device `name`. `opposite`: what the guest receives leaves the device.
fn commands(name: &str, bandwidth: &Bandwidth, opposite: bool) -> Vec<Vec<String>> {
    let (sent, received) = match opposite {
        true => (&bandwidth.inbound, &bandwidth.outbound),
        false => (&bandwidth.outbound, &bandwidth.inbound),
    };
    let mut commands = Vec::new();
    let mut add = |words: String| commands.push(words.split(' ').map(str::to_owned).collect());
    if let Some((sent, average)) = sent.as_ref().and_then(|rate| Some((rate, rate.average?))) {
        add(format!("qdisc add dev {name} root handle 1: htb default 1"));
        let ceiling = sent.peak.map_or_else(String::new, |peak| format!(" ceil {peak}kbps"));
        let burst = sent.burst.map_or_else(String::new, |burst| format!(" burst {burst}kb"));
        let quantum = quantum(average);
        add(format!(
            "class add dev {name} parent 1: classid 1:1 htb rate {average}kbps{ceiling}{burst} quantum {quantum}"
        ));
        add(format!("qdisc add dev {name} parent 1:1 handle 2: sfq perturb 10"));
        add(format!("filter add dev {name} parent 1:0 protocol all prio 1 handle 1 fw flowid 1"));
    }
    if let Some(Rate { average, burst, .. }) = received {
        let average = average.unwrap_or(0);
        // tc keeps the size of a burst in 32 bits, in bytes.
        let burst = burst.unwrap_or(average.min(u64::from(u32::MAX / 1024)));
        add(format!("qdisc add dev {name} ingress"));
        add(format!(
            "filter add dev {name} parent ffff: protocol all u32 match u32 0 0 police rate {average}kbps \
             burst {burst}kb mtu 64kb drop flowid :1"
        ));
    }
    commands
}

/// How much a class sends in its turn, as the kernel would choose for rates that are not small.
fn quantum(average: u64) -> u64 {
    (average.saturating_mul(1024) / 8 / 1500).max(1)
}

fn tc<S: AsRef<str>>(arguments: &[S]) -> Result<()> {
    let arguments: Vec<&str> = arguments.iter().map(AsRef::as_ref).collect();
    program::run(TC, &arguments, &[])
}

/// The queue of a device that has no limits: packets go at once.
fn set_default_queue(name: &str) {
    // Devices that cannot do without a queue keep theirs.
    let _ = tc(&["qdisc", "add", "dev", name, "root", "handle", "0:", "noqueue"]);
}

fn clear(name: &str) {
    // There may be nothing to be removed.
    let _ = tc(&["qdisc", "del", "dev", name, "root"]);
    let _ = tc(&["qdisc", "del", "dev", name, "ingress"]);
}

fn name(interface: &Interface) -> Option<&str> {
    interface.target.as_ref()?.dev.as_deref()
}

/// Sets the limits of an interface whose device was just made.
///
/// # Errors
/// They cannot be set.
pub(super) fn set_up(core: &Core, interface: &Interface) -> Result<()> {
    if let Some(name) = name(interface).filter(|_| core.paths.privileged) {
        set_default_queue(name);
    }
    match &interface.bandwidth {
        Some(bandwidth) if *bandwidth != Bandwidth::default() => set(core, interface, bandwidth),
        _ => Ok(()),
    }
}

fn set(core: &Core, interface: &Interface, bandwidth: &Bandwidth) -> Result<()> {
    let refuse = |text: &str| Err(error(Code::OperationUnsupported, text));
    if !core.paths.privileged {
        return refuse("Network bandwidth tuning is not available in session mode");
    }
    let Some(name) = name(interface) else {
        return refuse("Unable to set bandwidth for interface because device name is unknown");
    };
    clear(name);
    let opposite = !super::is_direct(interface);
    commands(name, bandwidth, opposite).iter().try_for_each(|command| tc(command))
}

/// Gives the device of a running guest's interface other limits, or none.
///
/// # Errors
/// They cannot be set; then those that there were are again.
pub fn change(core: &Core, interface: &Interface, wanted: Option<&Bandwidth>) -> Result<()> {
    let Some(name) = name(interface) else {
        let none = rustix::io::Errno::NODEV.into();
        return Err(system(&none, "Unable to set bandwidth for interface because device name is unknown"));
    };
    let bandwidth = wanted.cloned().unwrap_or_default();
    let promise = |limits: &Bandwidth| match interface.kind {
        InterfaceType::Network => super::port::limit(core, interface, limits),
        _ => Ok(()),
    };
    promise(&bandwidth)?;
    if let Err(error) = set(core, interface, &bandwidth) {
        let old = interface.bandwidth.clone().unwrap_or_default();
        if let Err(again) = promise(&old) {
            core.log(Level::Warning, &again.message.unwrap_or_default());
        }
        if let Some(old) = &interface.bandwidth
            && let Err(again) = set(core, interface, old)
        {
            core.log(Level::Warning, &again.message.unwrap_or_default());
        }
        return Err(error);
    }
    let sent = if super::is_direct(interface) { &bandwidth.outbound } else { &bandwidth.inbound };
    if sent.as_ref().and_then(|rate| rate.average).is_none() {
        set_default_queue(name);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_are_libvirts() {
        let rate = |average, peak, burst| Some(Rate { average, peak, burst, floor: None });
        let bandwidth = Bandwidth {
            inbound: rate(Some(1000), Some(5000), Some(5120)),
            outbound: rate(Some(128), None, None),
        };
        let told: Vec<String> =
            commands("vnet0", &bandwidth, true).iter().map(|command| command.join(" ")).collect();
        assert_eq!(
            told,
            [
                "qdisc add dev vnet0 root handle 1: htb default 1",
                "class add dev vnet0 parent 1: classid 1:1 htb rate 1000kbps ceil 5000kbps burst 5120kb quantum 85",
                "qdisc add dev vnet0 parent 1:1 handle 2: sfq perturb 10",
                "filter add dev vnet0 parent 1:0 protocol all prio 1 handle 1 fw flowid 1",
                "qdisc add dev vnet0 ingress",
                "filter add dev vnet0 parent ffff: protocol all u32 match u32 0 0 police rate 128kbps burst 128kb \
                 mtu 64kb drop flowid :1",
            ]
        );
        let other = commands("macvtap0", &bandwidth, false);
        assert!(other[1].join(" ").ends_with("htb rate 128kbps quantum 10"));
        assert!(other[5].join(" ").contains("rate 1000kbps burst 5120kb"));
        assert!(
            commands("x", &Bandwidth { inbound: rate(None, None, None), outbound: None }, true).is_empty()
        );
    }
}
