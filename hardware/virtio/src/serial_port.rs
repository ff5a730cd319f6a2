//! The ports of the console device: `virtconsole` and `virtserialport`, and the bus that they sit on.

use crate::serial::{Control, Ports, Shared};
use chardev::{CharFrontend, Chardevs, Event, Handler};
use parking_lot::Mutex;
use qdev::{
    Bus, Category, Context, Device, DeviceError, DeviceSpec, Properties, PropertyField as _, take_properties,
};
use std::any::Any;
use std::collections::VecDeque;
use std::sync::{Arc, Weak};

/// Bytes from the host that wait for the guest.
const WAITING: usize = 4096;
/// `nr=` that was not given.
const ANY_NUMBER: u32 = u32::MAX;

/// What is true of a port at the moment.
#[derive(Default)]
struct State {
    /// A program of the guest's has it open.
    guest_open: bool,
    /// The host's side is there.
    host_open: bool,
    /// Bytes that wait for the guest.
    waiting: VecDeque<u8>,
    /// Bytes of the guest's present buffer that the back end has taken.
    sent: u64,
    /// The back end was full, and will say when it is not.
    throttled: bool,
}

/// One port.
pub(crate) struct Port {
    pub(crate) number: u32,
    pub(crate) name: Option<String>,
    pub(crate) console: bool,
    front: Option<CharFrontend>,
    state: Mutex<State>,
    shared: Weak<Shared>,
}

/// What became of bytes offered to the back end.
pub(crate) enum Sent {
    /// All were taken, or dropped because nobody listens.
    All,
    /// Some were not; the port asks for another try when there is room.
    Blocked,
}

impl Port {
    /// Back to the state after a reset.
    pub(crate) fn reset(&self) {
        let mut state = self.state.lock();
        state.guest_open = false;
        state.waiting.clear();
        state.sent = 0;
    }

    pub(crate) fn is_host_open(&self) -> bool {
        self.state.lock().host_open
    }

    /// A program of the guest's opened or closed the port.
    pub(crate) fn set_guest_open(&self, open: bool) {
        {
            let mut state = self.state.lock();
            state.guest_open = open;
            if !open {
                state.waiting.clear();
            }
        }
        self.accept_input();
    }

    fn accept_input(&self) {
        if let Some(front) = &self.front {
            front.accept_input();
        }
    }

    /// Takes up to `max` bytes for the guest.
    pub(crate) fn take(&self, max: usize) -> Vec<u8> {
        let mut state = self.state.lock();
        let n = max.min(state.waiting.len());
        let bytes = state.waiting.drain(..n).collect();
        drop(state);
        if n != 0 {
            self.accept_input();
        }
        bytes
    }

    /// How many bytes of the guest's present buffer have been taken; at first 0.
    pub(crate) fn progress(&self) -> u64 {
        self.state.lock().sent
    }

    /// Sets what [`Port::progress`] tells.
    pub(crate) fn set_progress(&self, sent: u64) {
        self.state.lock().sent = sent;
    }

    /// Offers bytes to the back end; returns how many it took.
    pub(crate) fn send(&self, bytes: &[u8]) -> (usize, Sent) {
        let Some(front) = self.front.as_ref().filter(|_| self.is_host_open()) else {
            return (bytes.len(), Sent::All);
        };
        let n = front.write(bytes);
        // A guest's kernel waits for its console with interrupts off: what does not fit is lost.
        if n == bytes.len() || self.console {
            return (bytes.len(), Sent::All);
        }
        let first = !std::mem::replace(&mut self.state.lock().throttled, true);
        if first {
            let (shared, number) = (self.shared.clone(), self.number);
            front.on_writable(move || {
                if let Some(shared) = shared.upgrade() {
                    shared.unthrottle(number);
                }
            });
        }
        (n, Sent::Blocked)
    }

    /// The back end has room again.
    pub(crate) fn unthrottle(&self) {
        self.state.lock().throttled = false;
    }
}

impl Handler for Port {
    fn can_receive(&self) -> usize {
        let multiport = self.shared.upgrade().is_some_and(|shared| shared.is_multiport());
        let state = self.state.lock();
        // With several ports, only what a program reads is sent; a single port is always open.
        if state.guest_open || !multiport { WAITING - state.waiting.len() } else { 0 }
    }

    fn receive(&self, bytes: &[u8]) {
        self.state.lock().waiting.extend(bytes);
        if let Some(shared) = self.shared.upgrade() {
            shared.kick_input(self.number);
        }
    }

    fn event(&self, event: Event) {
        let open = match event {
            // A console is there whether or not somebody looks at it.
            _ if self.console => return,
            Event::Open => true,
            Event::Close => false,
            Event::Break | Event::MuxIn | Event::MuxOut => return,
        };
        let changed = std::mem::replace(&mut self.state.lock().host_open, open) != open;
        if changed && let Some(shared) = self.shared.upgrade() {
            shared.tell(Control::open(self.number, open));
        }
    }
}

/// The bus of a console device.
pub(crate) struct PortBus {
    name: String,
    shared: Arc<Shared>,
}

impl PortBus {
    pub(crate) fn new(name: String, shared: Arc<Shared>) -> Arc<Self> {
        Arc::new(Self { name, shared })
    }
}

impl Bus for PortBus {
    fn name(&self) -> String {
        self.name.clone()
    }

    fn bus_type(&self) -> &'static str {
        "virtio-serial-bus"
    }

    fn plug(
        &self,
        spec: &'static DeviceSpec,
        properties: Box<dyn Properties>,
        context: Context,
    ) -> Result<Arc<dyn Device>, DeviceError> {
        (spec.realize)(properties, &mut PortSlot { shared: self.shared.clone(), context })
    }
}

/// What a port is made with.
struct PortSlot {
    shared: Arc<Shared>,
    context: Context,
}

/// Properties of a port.
#[derive(Properties)]
struct PortProperties {
    #[prop(default = ANY_NUMBER)]
    nr: u32,
    /// ID of a chardev to use as a backend
    chardev: String,
    name: String,
}

/// Finds the port's number, or checks the one that was given.
fn number(properties: &PortProperties, ports: &Ports, console: bool) -> Result<u32, DeviceError> {
    let error = |text: String| Err(DeviceError(format!("virtio-serial-bus: {text}")));
    let wanted = properties.nr;
    if ports.by_number(wanted).is_some() {
        return error(format!("A port already exists at id {wanted}"));
    }
    if !properties.name.is_empty() && ports.by_name(&properties.name) {
        return error(format!("A port already exists by name {}", properties.name));
    }
    let number = match wanted {
        // The first port is a console, for drivers that know of one only.
        ANY_NUMBER if console && ports.by_number(0).is_none() => 0,
        ANY_NUMBER => (1..).find(|n| ports.by_number(*n).is_none()).unwrap_or(ANY_NUMBER),
        number => number,
    };
    if number >= ports.max() {
        return error(format!("Out-of-range port id specified, max. allowed: {}", ports.max() - 1));
    }
    if number == 0 && !console {
        return Err(DeviceError::new(
            "Port number 0 on virtio-serial devices reserved for virtconsole devices for backward compatibility.",
        ));
    }
    Ok(number)
}

fn realize(
    owner: &str,
    console: bool,
    properties: Box<dyn Properties>,
    slot: &mut dyn Any,
) -> Result<Arc<dyn Device>, DeviceError> {
    let properties = take_properties::<PortProperties>(properties)?;
    let slot =
        slot.downcast_mut::<PortSlot>().ok_or_else(|| DeviceError::new("not a place for a serial port"))?;
    let front = Chardevs::link(&slot.context.links, owner, &properties.chardev)?;
    let shared = &slot.shared;
    let port = shared.add(|ports| {
        let number = number(&properties, ports, console)?;
        let host_open = console && front.is_some();
        Ok(Port {
            number,
            name: Some(properties.name.clone()).filter(|name| !name.is_empty()),
            console,
            front,
            state: Mutex::new(State { host_open, ..State::default() }),
            shared: Arc::downgrade(shared),
        })
    })?;
    if let Some(front) = &port.front {
        let handler: Arc<dyn Handler> = port.clone();
        front.set_handler(Some(Arc::downgrade(&handler)));
    }
    shared.tell(Control::added(port.number));
    Ok(Arc::new(PortDevice(port)))
}

/// A port in the device tree; its controller resets it.
struct PortDevice(Arc<Port>);

impl Device for PortDevice {
    fn reset(&self) {}

    fn property(&self, name: &str) -> Option<String> {
        (name == "nr").then(|| self.0.number.text())
    }

    fn describe(&self) -> Vec<String> {
        let state = self.0.state.lock();
        let on = |on: bool| if on { "on" } else { "off" };
        vec![format!(
            "port {}, guest {}, host {}, throttle {}",
            self.0.number,
            on(state.guest_open),
            on(state.host_open),
            on(state.throttled)
        )]
    }
}

const fn spec(name: &'static str, realize: qdev::Realize) -> DeviceSpec {
    DeviceSpec {
        name,
        aliases: &[],
        desc: "",
        bus: "virtio-serial-bus",
        category: Category::Input,
        user_creatable: true,
        properties: || Box::<PortProperties>::default(),
        realize,
    }
}

/// `virtconsole` and `virtserialport`.
pub static PORT_SPECS: [DeviceSpec; 2] = [
    spec("virtconsole", |p, s| realize("virtconsole", true, p, s)),
    spec("virtserialport", |p, s| realize("virtserialport", false, p, s)),
];
