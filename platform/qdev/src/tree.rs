//! The devices of a machine: who sits where, reset, lookup by id, `info qtree`.

use crate::{Bus, Device, DeviceSpec, Properties, PropertyInfo};
use parking_lot::Mutex;
use std::fmt::Write as _;
use std::sync::Arc;

/// A device with its place.
pub struct Node {
    /// Its type.
    pub spec: &'static DeviceSpec,
    /// `id=`, if it has one.
    pub id: Option<String>,
    /// Name of the bus that it sits on.
    pub bus: String,
    /// Properties as text, in the order of declaration, as they were once it was made.
    pub properties: Vec<(&'static PropertyInfo, String)>,
    /// The board made it.
    pub onboard: bool,
    /// The device.
    pub device: Arc<dyn Device>,
}

/// All devices of a machine, in the order in which they were made.
#[derive(Default)]
pub struct DeviceTree {
    nodes: Mutex<Vec<Arc<Node>>>,
    roots: Mutex<Vec<Arc<dyn Bus>>>,
}

/// The properties of a device about to be made, as text for [`Node::properties`].
fn snapshot(properties: &mut dyn Properties) -> Vec<(&'static PropertyInfo, String)> {
    let mut list = Vec::new();
    properties.visit(&mut |info, field| list.push((info, field.text())));
    list
}

/// Puts what the device decided in the place of what it was given.
fn decide(list: &mut [(&'static PropertyInfo, String)], device: &dyn Device) {
    for (info, text) in list {
        if let Some(decided) = device.property(info.name) {
            *text = decided;
        }
    }
}

impl Node {
    /// The value of a property as text.
    pub fn property(&self, name: &str) -> Option<&str> {
        self.properties.iter().find(|(info, _)| info.name == name).map(|(_, text)| text.as_str())
    }

    fn describe_properties(&self, out: &mut String, pad: &str, part: bool) {
        for (info, value) in self.properties.iter().filter(|(info, _)| info.part == part) {
            let _ = writeln!(out, "{pad}{} = {value}", info.name);
        }
    }
}

impl DeviceTree {
    /// Adds a bus of the board itself (`main-system-bus`, ...).
    pub fn add_root_bus(&self, bus: Arc<dyn Bus>) {
        self.roots.lock().push(bus);
    }

    /// Every bus: the board's, then the devices' in the order of the devices.
    pub fn buses(&self) -> Vec<Arc<dyn Bus>> {
        let mut buses = self.roots.lock().clone();
        for node in self.nodes() {
            buses.extend(node.device.buses());
        }
        buses
    }

    /// The bus called `name`.
    pub fn bus(&self, name: &str) -> Option<Arc<dyn Bus>> {
        self.buses().into_iter().find(|bus| bus.name() == name)
    }

    /// Plugs a device into `bus` and remembers it.
    ///
    /// # Errors
    /// As [`Bus::plug`].
    pub fn plug(
        &self,
        bus: &Arc<dyn Bus>,
        spec: &'static DeviceSpec,
        mut properties: Box<dyn Properties>,
        context: crate::Context,
    ) -> Result<Arc<dyn Device>, crate::DeviceError> {
        let mut list = snapshot(properties.as_mut());
        let id = context.id.clone();
        let device = bus.plug(spec, properties, context)?;
        decide(&mut list, device.as_ref());
        self.nodes.lock().push(Arc::new(Node {
            spec,
            id,
            bus: bus.name(),
            properties: list,
            onboard: false,
            device: device.clone(),
        }));
        Ok(device)
    }

    /// Remembers a device that the board made by hand.
    pub fn add(
        &self,
        spec: &'static DeviceSpec,
        bus: &str,
        mut properties: Box<dyn Properties>,
        device: Arc<dyn Device>,
    ) {
        let mut properties = snapshot(properties.as_mut());
        decide(&mut properties, device.as_ref());
        let bus = bus.to_owned();
        self.nodes.lock().push(Arc::new(Node { spec, id: None, bus, properties, onboard: true, device }));
    }

    /// All devices, in the order in which they were made.
    pub fn nodes(&self) -> Vec<Arc<Node>> {
        self.nodes.lock().clone()
    }

    /// The device called `id`.
    pub fn find(&self, id: &str) -> Option<Arc<Node>> {
        self.nodes.lock().iter().find(|n| n.id.as_deref() == Some(id)).cloned()
    }

    /// Resets every device.
    pub fn reset(&self) {
        for node in self.nodes() {
            node.device.reset();
        }
    }

    /// Tells every device that the machine goes on after a stop.
    pub fn resumed(&self) {
        for node in self.nodes() {
            node.device.resumed();
        }
    }

    /// `info qtree`.
    pub fn describe(&self) -> String {
        let mut out = String::new();
        for bus in self.roots.lock().clone() {
            self.describe_bus(&mut out, bus.as_ref(), 0);
        }
        out
    }

    fn describe_bus(&self, out: &mut String, bus: &dyn Bus, depth: usize) {
        // Buses belong to devices that sit on other buses: a tree; the bound guards against a bus listing itself.
        if depth > 32 {
            return;
        }
        let pad = " ".repeat(depth);
        let _ = writeln!(out, "{pad}bus: {}\n{pad}  type {}", bus.name(), bus.qtree_type());
        // QEMU lists the latest device first.
        for node in self.nodes().iter().rev().filter(|n| n.bus == bus.name()) {
            let _ =
                writeln!(out, "{pad}  dev: {}, id \"{}\"", node.spec.name, node.id.as_deref().unwrap_or(""));
            let inner = format!("{pad}    ");
            for line in node.device.gpios() {
                let _ = writeln!(out, "{inner}{line}");
            }
            node.describe_properties(out, &inner, false);
            for line in node.device.describe() {
                let _ = writeln!(out, "{inner}{line}");
            }
            if let Some(part) = node.device.part() {
                let _ = writeln!(out, "{inner}bus: {}\n{inner}  type {}", part.bus, part.bus_type);
                let _ = writeln!(out, "{inner}  dev: {}, id \"\"", part.device);
                node.describe_properties(out, &format!("{inner}    "), true);
                for child in node.device.buses() {
                    self.describe_bus(out, child.as_ref(), depth + 8);
                }
                continue;
            }
            for child in node.device.buses() {
                self.describe_bus(out, child.as_ref(), depth + 4);
            }
        }
    }
}
