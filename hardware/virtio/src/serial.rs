//! The virtio console device (Virtio 1.2, section 5.3): up to 511 ports, each a pair of queues, and a pair of control
//! queues that tells of them.

use crate::device::{QueueAccess, VirtioDevice};
use crate::forms::forms;
use crate::queue::{gather, scatter};
use crate::serial_port::{Port, PortBus, Sent};
use crate::transport::{Family, VirtioPci, VirtioProperties};
use parking_lot::{Mutex, RwLock};
use pci::{PciSlot, take_properties};
use qdev::{Bus, Category, Device, DeviceError, Only, Properties};
use std::any::Any;
use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, OnceLock, Weak};

const F_MULTIPORT: u64 = 1 << 1;
const F_EMERG_WRITE: u64 = 1 << 2;

/// Entries of a data queue, and of a control queue.
const DATA_ENTRIES: u16 = 128;
const CONTROL_ENTRIES: u16 = 32;
/// Numbers of the control queues.
const CONTROL_IN: usize = 2;
const CONTROL_OUT: usize = 3;
/// Offset of the emergency write register in configuration.
const EMERGENCY: usize = 8;
/// Most ports: two queues each, two control queues, of 1024.
const MAX_PORTS: u32 = 511;
/// Requests of one call of `process`, and bytes moved in one.
const BATCH: usize = 64;
const BUDGET: usize = 1 << 20;
/// Bytes moved at once.
const CHUNK: usize = 1 << 14;

// Control events.
const DEVICE_READY: u16 = 0;
const PORT_ADD: u16 = 1;
const PORT_READY: u16 = 3;
const CONSOLE_PORT: u16 = 4;
const PORT_OPEN: u16 = 6;
const PORT_NAME: u16 = 7;

/// A message to the driver.
pub(crate) struct Control {
    port: u32,
    event: u16,
    value: u16,
    text: Option<String>,
}

impl Control {
    fn new(port: u32, event: u16, value: u16) -> Self {
        Self { port, event, value, text: None }
    }

    /// The port is there.
    pub(crate) fn added(port: u32) -> Self {
        Self::new(port, PORT_ADD, 1)
    }

    /// The host's side of the port came or went.
    pub(crate) fn open(port: u32, open: bool) -> Self {
        Self::new(port, PORT_OPEN, open.into())
    }

    fn name(port: u32, name: &str) -> Self {
        Self { text: Some(name.to_owned()), ..Self::new(port, PORT_NAME, 1) }
    }

    fn bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(8);
        bytes.extend(self.port.to_le_bytes());
        bytes.extend(self.event.to_le_bytes());
        bytes.extend(self.value.to_le_bytes());
        if let Some(text) = &self.text {
            bytes.extend(text.bytes());
            bytes.push(0);
        }
        bytes
    }
}

/// The ports by number.
pub(crate) struct Ports {
    max: u32,
    by_number: BTreeMap<u32, Arc<Port>>,
}

impl Ports {
    /// One more than the highest number.
    pub(crate) fn max(&self) -> u32 {
        self.max
    }

    pub(crate) fn by_number(&self, number: u32) -> Option<&Arc<Port>> {
        self.by_number.get(&number)
    }

    pub(crate) fn by_name(&self, name: &str) -> bool {
        self.by_number.values().any(|port| port.name.as_deref() == Some(name))
    }
}

/// What the device and its ports share.
pub(crate) struct Shared {
    ports: RwLock<Ports>,
    transport: OnceLock<Weak<VirtioPci>>,
    multiport: AtomicBool,
    /// The driver has said that it is ready for control messages.
    ready: AtomicBool,
    /// Control messages that wait for buffers of the driver's.
    messages: Mutex<VecDeque<Control>>,
}

/// The input queue of a port; its output queue is the next.
fn queue_of(port: u32) -> usize {
    let port = port as usize;
    if port == 0 { 0 } else { 2 + 2 * port }
}

impl Shared {
    fn new(max: u32) -> Arc<Self> {
        Arc::new(Self {
            ports: RwLock::new(Ports { max, by_number: BTreeMap::new() }),
            transport: OnceLock::new(),
            multiport: AtomicBool::new(false),
            ready: AtomicBool::new(false),
            messages: Mutex::default(),
        })
    }

    /// Whether the driver knows of several ports.
    pub(crate) fn is_multiport(&self) -> bool {
        self.multiport.load(Ordering::SeqCst)
    }

    fn port(&self, number: u32) -> Option<Arc<Port>> {
        self.ports.read().by_number(number).cloned()
    }

    fn all(&self) -> Vec<Arc<Port>> {
        self.ports.read().by_number.values().cloned().collect()
    }

    /// Adds the port that `make` makes.
    pub(crate) fn add(
        &self,
        make: impl FnOnce(&Ports) -> Result<Port, DeviceError>,
    ) -> Result<Arc<Port>, DeviceError> {
        let mut ports = self.ports.write();
        let port = Arc::new(make(&ports)?);
        ports.by_number.insert(port.number, port.clone());
        Ok(port)
    }

    fn kick(&self, queue: usize) {
        if let Some(transport) = self.transport.get().and_then(Weak::upgrade) {
            transport.kick(queue);
        }
    }

    /// There are bytes for the guest.
    pub(crate) fn kick_input(&self, port: u32) {
        self.kick(queue_of(port));
    }

    /// A back end that was full has room again.
    pub(crate) fn unthrottle(&self, number: u32) {
        if let Some(port) = self.port(number) {
            port.unthrottle();
            self.kick(queue_of(number) + 1);
        }
    }

    /// Sends a message to a driver that knows of several ports and is ready.
    pub(crate) fn tell(&self, message: Control) {
        if !self.is_multiport() || !self.ready.load(Ordering::SeqCst) {
            return;
        }
        let mut messages = self.messages.lock();
        // A driver that asks and does not listen is told no more.
        let most = 8 * self.ports.read().max as usize + 64;
        if messages.len() < most {
            messages.push_back(message);
            drop(messages);
            self.kick(CONTROL_IN);
        }
    }

    /// Acts on a message of the driver's.
    fn hear(&self, message: [u8; 8]) {
        let number = u32::from_le_bytes(std::array::from_fn(|i| message[i]));
        let event = u16::from_le_bytes([message[4], message[5]]);
        let value = u16::from_le_bytes([message[6], message[7]]);
        if event == DEVICE_READY {
            self.ready.store(value != 0, Ordering::SeqCst);
            for port in self.all() {
                self.tell(Control::added(port.number));
            }
            return;
        }
        let Some(port) = self.port(number) else { return };
        match event {
            PORT_READY if value != 0 => {
                if port.console {
                    self.tell(Control::new(number, CONSOLE_PORT, 1));
                }
                if let Some(name) = &port.name {
                    self.tell(Control::name(number, name));
                }
                if port.is_host_open() {
                    self.tell(Control::open(number, true));
                }
            }
            PORT_OPEN => port.set_guest_open(value != 0),
            _ => {}
        }
    }
}

struct Serial {
    shared: Arc<Shared>,
    bus: Arc<PortBus>,
    max_ports: u32,
    features: u64,
}

impl Serial {
    fn send_messages(&self, queue: &mut QueueAccess<'_>) -> bool {
        for _ in 0..BATCH {
            if self.shared.messages.lock().is_empty() {
                return false;
            }
            let Some(chain) = queue.pop() else { return false };
            let Some(message) = self.shared.messages.lock().pop_front() else {
                queue.unpop();
                return false;
            };
            let n = scatter(&chain.writable, 0, &message.bytes());
            queue.push(&chain, n as u32);
            queue.notify();
        }
        true
    }

    fn hear_messages(&self, queue: &mut QueueAccess<'_>) -> bool {
        for _ in 0..BATCH {
            let Some(chain) = queue.pop() else { return false };
            let mut message = [0; 8];
            if gather(&chain.readable, 0, &mut message) == 8 {
                self.shared.hear(message);
            }
            queue.push(&chain, 0);
            queue.notify();
        }
        true
    }

    /// Bytes from the host to the guest.
    fn input(&self, port: &Port, queue: &mut QueueAccess<'_>) -> bool {
        for _ in 0..BATCH {
            let Some(chain) = queue.pop() else { return false };
            let room = usize::try_from(chain.writable_len()).unwrap_or(usize::MAX).min(CHUNK);
            let bytes = port.take(room);
            if bytes.is_empty() && room != 0 {
                queue.unpop();
                return false;
            }
            let n = scatter(&chain.writable, 0, &bytes);
            queue.push(&chain, n as u32);
            queue.notify();
        }
        true
    }

    /// Bytes from the guest to the host.
    fn output(&self, port: &Port, queue: &mut QueueAccess<'_>) -> bool {
        let mut budget = BUDGET;
        let mut buf = [0; CHUNK];
        for _ in 0..BATCH {
            let Some(chain) = queue.pop() else { return false };
            let len = chain.readable_len();
            let mut done = port.progress();
            while done < len {
                if budget == 0 {
                    port.set_progress(done);
                    queue.unpop();
                    return true;
                }
                let n = gather(&chain.readable, done, &mut buf);
                if n == 0 {
                    break;
                }
                let (taken, sent) = port.send(&buf[..n]);
                done += taken as u64;
                budget = budget.saturating_sub(n);
                if let Sent::Blocked = sent {
                    port.set_progress(done);
                    queue.unpop();
                    return false;
                }
            }
            port.set_progress(0);
            queue.push(&chain, 0);
            queue.notify();
        }
        true
    }
}

impl VirtioDevice for Serial {
    fn id(&self) -> u16 {
        3
    }

    fn features(&self) -> u64 {
        self.features
    }

    fn queues(&self) -> Vec<u16> {
        let mut queues = vec![DATA_ENTRIES; 2];
        if self.max_ports > 1 {
            queues.extend([CONTROL_ENTRIES; 2]);
            queues.extend(vec![DATA_ENTRIES; 2 * (self.max_ports as usize - 1)]);
        }
        queues
    }

    fn config(&self) -> Vec<u8> {
        // Columns and rows are unknown.
        let mut config = vec![0; 4];
        config.extend(self.max_ports.to_le_bytes());
        if self.features & F_EMERG_WRITE != 0 {
            config.extend([0; 4]);
        }
        config
    }

    fn write_config(&self, offset: usize, data: &[u8]) {
        if offset != EMERGENCY || self.features & F_EMERG_WRITE == 0 {
            return;
        }
        // The character goes out by the first console, before any queue exists.
        let console = self.shared.all().into_iter().find(|port| port.console);
        if let (Some(port), Some(byte)) = (console, data.first()) {
            port.send(&[*byte]);
        }
    }

    fn set_features(&self, features: u64) {
        self.shared.multiport.store(features & F_MULTIPORT != 0, Ordering::SeqCst);
    }

    fn process(&self, index: usize, queue: &mut QueueAccess<'_>) -> bool {
        match index {
            CONTROL_IN => return self.send_messages(queue),
            CONTROL_OUT => return self.hear_messages(queue),
            _ => {}
        }
        let number = if index < 2 { 0 } else { (index - 2) / 2 };
        let port = u32::try_from(number).ok().and_then(|number| self.shared.port(number));
        match port {
            Some(port) if index.is_multiple_of(2) => self.input(&port, queue),
            Some(port) => self.output(&port, queue),
            // Nobody reads what goes to a port that is not there.
            None if index.is_multiple_of(2) => false,
            None => {
                for _ in 0..BATCH {
                    let Some(chain) = queue.pop() else { return false };
                    queue.push(&chain, 0);
                    queue.notify();
                }
                true
            }
        }
    }

    fn reset(&self) {
        self.shared.ready.store(false, Ordering::SeqCst);
        self.shared.multiport.store(false, Ordering::SeqCst);
        self.shared.messages.lock().clear();
        for port in self.shared.all() {
            port.reset();
        }
    }

    fn buses(&self) -> Vec<Arc<dyn Bus>> {
        vec![self.bus.clone()]
    }

    fn attach(&self, transport: Weak<VirtioPci>) {
        let _ = self.shared.transport.set(transport);
    }
}

/// Properties of the device.
#[derive(Properties)]
struct SerialProperties {
    #[prop(part, name = "max_ports", default = 31u32)]
    max_ports: u32,
    /// on/off
    #[prop(part, default = true)]
    emergency_write: bool,
    #[prop(part, default = Only::new(0u32))]
    class: Only<u32>,
    /// Properties of all virtio devices.
    #[prop(flatten)]
    virtio: VirtioProperties,
}

/// Vectors unless the user says otherwise: one for configuration, one for all queues.
const VECTORS: u32 = 2;

fn properties() -> SerialProperties {
    let mut properties = SerialProperties::default();
    properties.virtio.vectors = VECTORS;
    properties
}

/// How many buses without a name of their own there are.
#[derive(Default)]
struct Unnamed(AtomicU32);

fn realize(
    name: &'static str,
    family: Family,
    properties: Box<dyn Properties>,
    slot: &mut dyn Any,
) -> Result<Arc<dyn Device>, DeviceError> {
    let properties = take_properties::<SerialProperties>(properties)?;
    let slot = PciSlot::from_any(slot)?;
    let max_ports = properties.max_ports;
    if max_ports == 0 {
        return Err(DeviceError::new("Maximum number of serial ports not specified"));
    }
    if max_ports > MAX_PORTS {
        return Err(DeviceError::new(format!("maximum ports supported: {MAX_PORTS}")));
    }
    let bus_name = match &slot.context().id {
        Some(id) => format!("{id}.0"),
        None => {
            let links = &slot.context().links;
            links.insert("virtio-serial-bus", Arc::new(Unnamed::default()));
            let number =
                links.get::<Unnamed>("virtio-serial-bus").map_or(0, |n| n.0.fetch_add(1, Ordering::SeqCst));
            format!("virtio-serial-bus.{number}")
        }
    };
    let shared = Shared::new(max_ports);
    let features = [(F_MULTIPORT, max_ports > 1), (F_EMERG_WRITE, properties.emergency_write)];
    let serial = Serial {
        bus: PortBus::new(bus_name, shared.clone()),
        shared,
        max_ports,
        features: features.into_iter().filter(|(_, on)| *on).fold(0, |bits, (bit, _)| bits | bit),
    };
    let vectors = max_ports as u16 + 1;
    Ok(VirtioPci::new(slot, name, family, &properties.virtio, 0x0780, vectors, Arc::new(serial))?)
}

forms! {
    /// `virtio-serial-pci` and its two forms.
    SERIAL_SPECS, "virtio-serial", Category::Input, properties, realize
}

#[cfg(test)]
mod tests {
    use super::*;
    use chardev::{Chardevs, Handler as _, Kind, Spec};
    use clock::Clock;
    use eventloop::EventLoop;
    use qdev::{Context, Input, Links, SystemControl, SystemRequest};

    struct Nobody;
    impl SystemControl for Nobody {
        fn request(&self, _request: SystemRequest) {}
    }

    struct Bench {
        shared: Arc<Shared>,
        bus: Arc<PortBus>,
        context: Context,
        _event_loop: EventLoop,
    }

    /// A controller of `max` ports without a transport, and a ring buffer `c`.
    fn bench(max: u32) -> Bench {
        let event_loop = EventLoop::new().expect("event loop");
        let chardevs = Chardevs::new(event_loop.handle(), || {});
        let spec = Spec {
            id: "c".to_owned(),
            kind: Kind::RingBuf { size: 64 },
            mux: false,
            logfile: None,
            logappend: false,
        };
        chardevs.create(&spec).expect("ring buffer");
        let links = Arc::new(Links::default());
        links.insert(Chardevs::LINK, Arc::new(chardevs));
        let context = Context { id: None, links, clock: Clock::manual(), system: Arc::new(Nobody) };
        let shared = Shared::new(max);
        let bus = PortBus::new("b.0".to_owned(), shared.clone());
        Bench { shared, bus, context, _event_loop: event_loop }
    }

    impl Bench {
        fn plug(&self, console: bool, properties: &[(&str, &str)]) -> Result<(), String> {
            let spec = &crate::PORT_SPECS[usize::from(!console)];
            let mut made = (spec.properties)();
            for (name, value) in properties {
                qdev::set(made.as_mut(), spec.name, name, &Input::Text(value)).expect(name);
            }
            self.bus.plug(spec, made, self.context.clone()).map(drop).map_err(|error| error.0)
        }

        fn say(&self, port: u32, event: u16, value: u16) {
            let message = Control::new(port, event, value).bytes();
            self.shared.hear(message.try_into().expect("eight bytes"));
        }

        /// (port, event) of all messages that wait.
        fn messages(&self) -> Vec<(u32, u16)> {
            self.shared.messages.lock().drain(..).map(|m| (m.port, m.event)).collect()
        }
    }

    #[test]
    fn ports_are_numbered_as_qemu_numbers_them() {
        let bench = bench(4);
        bench.plug(true, &[]).expect("port 0");
        bench.plug(true, &[]).expect("port 1");
        bench.plug(false, &[("nr", "3"), ("name", "x")]).expect("port 3");
        bench.plug(false, &[]).expect("port 2");
        assert_eq!(
            bench.shared.all().iter().map(|p| (p.number, p.console)).collect::<Vec<_>>(),
            [(0, true), (1, true), (2, false), (3, false)]
        );
        for (properties, text) in [
            (&[("nr", "3")][..], "virtio-serial-bus: A port already exists at id 3"),
            (&[("name", "x")], "virtio-serial-bus: A port already exists by name x"),
            (&[], "virtio-serial-bus: Out-of-range port id specified, max. allowed: 3"),
        ] {
            assert_eq!(bench.plug(false, properties).expect_err(text), text);
        }
        assert!(
            super::tests::bench(2).plug(false, &[("nr", "0")]).expect_err("0").starts_with("Port number 0")
        );
    }

    #[test]
    fn the_driver_is_told_of_ports_and_names_once_it_is_ready() {
        let bench = bench(8);
        bench.plug(true, &[("chardev", "c")]).expect("console");
        bench.plug(false, &[("name", "org.x")]).expect("port");
        bench.say(0, DEVICE_READY, 1);
        assert!(bench.messages().is_empty(), "a driver of one port hears nothing");
        bench.shared.multiport.store(true, Ordering::SeqCst);
        bench.say(0, DEVICE_READY, 1);
        assert_eq!(bench.messages(), [(0, PORT_ADD), (1, PORT_ADD)]);
        bench.say(0, PORT_READY, 1);
        assert_eq!(bench.messages(), [(0, CONSOLE_PORT), (0, PORT_OPEN)]);
        bench.say(1, PORT_READY, 1);
        assert_eq!(bench.messages(), [(1, PORT_NAME)]);
        bench.say(77, PORT_READY, 1);
        bench.say(1, 99, 1);
        assert!(bench.messages().is_empty());
        assert_eq!(Control::name(1, "org.x").bytes(), b"\x01\0\0\0\x07\0\x01\0org.x\0");
    }

    #[test]
    fn a_driver_that_asks_and_never_listens_is_not_remembered_without_end() {
        let bench = bench(2);
        bench.plug(true, &[("chardev", "c")]).expect("console");
        bench.shared.multiport.store(true, Ordering::SeqCst);
        bench.say(0, DEVICE_READY, 1);
        for _ in 0..10_000 {
            bench.say(0, PORT_READY, 1);
        }
        assert!(bench.shared.messages.lock().len() <= 80);
    }

    #[test]
    fn bytes_wait_for_a_guest_that_has_the_port_open() {
        let bench = bench(4);
        bench.plug(false, &[("chardev", "c")]).expect("port");
        bench.shared.multiport.store(true, Ordering::SeqCst);
        let port = bench.shared.port(1).expect("port 1");
        assert_eq!(port.can_receive(), 0);
        bench.say(1, PORT_OPEN, 1);
        let room = port.can_receive();
        assert!(room > 5);
        port.receive(b"hello");
        assert_eq!(port.can_receive(), room - 5);
        assert_eq!(port.take(3), b"hel");
        bench.say(1, PORT_OPEN, 0);
        assert!(port.take(100).is_empty(), "what nobody read is gone");
        // Without a peer, what the guest writes is taken and dropped.
        let (taken, sent) = port.send(&[0; 1000]);
        assert!(taken == 1000 && matches!(sent, Sent::All));
    }
}
