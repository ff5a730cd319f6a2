//! Who wants to know of which events.

use super::Server;
use super::connection::Connection;
use crate::call::Call;
use crate::error::{Code, Error, Origin};
use crate::event::{self, DOMAIN_EVENTS, DomainEvent};
use crate::protocol::QEMU_PROGRAM;
use crate::protocol::qemu::*;
use crate::protocol::session::*;
use crate::protocol::types::{Domain, Uuid};
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// The last event that clients without numbered registrations know.
const LAST_UNNUMBERED: i32 = 15;
const LIFECYCLE: i32 = 0;

/// More registrations than any client needs: a hostile one shall not fill our memory.
const MOST: usize = 4096;

/// A domain event that a client wants to know of.
#[derive(Debug)]
struct Registration {
    callback_id: i32,
    event_id: i32,
    /// Of one domain only.
    domain: Option<Uuid>,
    /// The client does not know of numbers.
    unnumbered: bool,
}

/// A monitor event that a client wants to know of.
#[derive(Debug)]
struct MonitorRegistration {
    callback_id: i32,
    domain: Option<Uuid>,
    event: Option<String>,
    any_case: bool,
}

/// A client's registrations.
#[derive(Debug, Default)]
pub(super) struct Registrations {
    domain: Vec<Registration>,
    monitor: Vec<MonitorRegistration>,
}

impl Registrations {
    pub(super) fn clear(&mut self) {
        *self = Self::default();
    }

    fn deregister(&mut self, found: impl Fn(&Registration) -> bool) -> bool {
        let at = self.domain.iter().position(found);
        at.map(|at| self.domain.remove(at)).is_some()
    }
}

fn unsupported(event_id: i32) -> Error {
    Error::internal(Origin::Rpc, format!("unsupported event ID {event_id}"))
}

fn not_registered(event_id: i32) -> Error {
    Error::internal(Origin::Rpc, format!("domain event {event_id} not registered"))
}

impl Server {
    fn register(
        &self,
        connection: &Connection,
        event_id: i32,
        domain: Option<Uuid>,
        unnumbered: bool,
    ) -> Result<i32, Error> {
        let mut registrations = connection.registrations.lock();
        if registrations.domain.len() >= MOST {
            return Err(Error::internal(Origin::Rpc, "too many event callbacks"));
        }
        let callback_id = self.next_callback.fetch_add(1, Ordering::Relaxed);
        registrations.domain.push(Registration { callback_id, event_id, domain, unnumbered });
        self.listened.store(true, Ordering::Release);
        Ok(callback_id)
    }

    pub(super) fn register_lifecycle(
        &self,
        connection: &Connection,
        call: &mut Call<'_>,
    ) -> Result<(), Error> {
        call.begin()?;
        self.register(connection, LIFECYCLE, None, true)?;
        call.answer(ConnectDomainEventRegisterRet { cb_registered: 0 })
    }

    pub(super) fn deregister_lifecycle(
        &self,
        connection: &Connection,
        call: &mut Call<'_>,
    ) -> Result<(), Error> {
        call.begin()?;
        if !connection.registrations.lock().deregister(|known| known.event_id == LIFECYCLE) {
            return Err(not_registered(LIFECYCLE));
        }
        call.answer(ConnectDomainEventDeregisterRet { cb_registered: 0 })
    }

    pub(super) fn register_any(&self, connection: &Connection, call: &mut Call<'_>) -> Result<(), Error> {
        let ConnectDomainEventRegisterAnyArgs { event_id } = call.arguments()?;
        if !(0..=LAST_UNNUMBERED).contains(&event_id) {
            return Err(unsupported(event_id));
        }
        self.register(connection, event_id, None, true)?;
        call.answer(())
    }

    pub(super) fn deregister_any(&self, connection: &Connection, call: &mut Call<'_>) -> Result<(), Error> {
        let ConnectDomainEventDeregisterAnyArgs { event_id } = call.arguments()?;
        if !(0..=LAST_UNNUMBERED).contains(&event_id) {
            return Err(unsupported(event_id));
        }
        if !connection.registrations.lock().deregister(|known| known.event_id == event_id) {
            return Err(not_registered(event_id));
        }
        call.answer(())
    }

    pub(super) fn register_callback(
        &self,
        connection: &Connection,
        call: &mut Call<'_>,
    ) -> Result<(), Error> {
        let ConnectDomainEventCallbackRegisterAnyArgs { event_id, dom } = call.arguments()?;
        if !(0..DOMAIN_EVENTS).contains(&event_id) {
            return Err(unsupported(event_id));
        }
        let callback_id = self.register(connection, event_id, dom.map(|dom| dom.uuid), false)?;
        call.answer(ConnectDomainEventCallbackRegisterAnyRet { callback_id })
    }

    pub(super) fn deregister_callback(
        &self,
        connection: &Connection,
        call: &mut Call<'_>,
    ) -> Result<(), Error> {
        let ConnectDomainEventCallbackDeregisterAnyArgs { callback_id } = call.arguments()?;
        if !connection.registrations.lock().deregister(|known| known.callback_id == callback_id) {
            let text = format!("domain event callback {callback_id} not registered");
            return Err(Error::internal(Origin::Rpc, text));
        }
        call.answer(())
    }

    pub(super) fn register_monitor(&self, connection: &Connection, call: &mut Call<'_>) -> Result<(), Error> {
        const REGEX: u32 = 1;
        const NOCASE: u32 = 2;
        let QemuConnectDomainMonitorEventRegisterArgs { dom, event, flags } = call.arguments()?;
        call.refuse_read_only(call.procedure().api)?;
        Error::check_flags(Origin::Qemu, flags, REGEX | NOCASE, "virDomainQemuMonitorEventStateRegisterID")?;
        if flags & REGEX != 0 {
            let text = "regular expressions for names of monitor events";
            return Err(Error::new(Origin::Qemu, Code::OperationUnsupported, text));
        }
        let mut registrations = connection.registrations.lock();
        if registrations.monitor.len() >= MOST {
            return Err(Error::internal(Origin::Rpc, "too many event callbacks"));
        }
        let callback_id = self.next_callback.fetch_add(1, Ordering::Relaxed);
        let (domain, any_case) = (dom.map(|dom| dom.uuid), flags & NOCASE != 0);
        registrations.monitor.push(MonitorRegistration { callback_id, domain, event, any_case });
        drop(registrations);
        self.listened.store(true, Ordering::Release);
        call.answer(QemuConnectDomainMonitorEventRegisterRet { callback_id })
    }

    pub(super) fn deregister_monitor(
        &self,
        connection: &Connection,
        call: &mut Call<'_>,
    ) -> Result<(), Error> {
        let QemuConnectDomainMonitorEventDeregisterArgs { callback_id } = call.arguments()?;
        call.refuse_read_only(call.procedure().api)?;
        let mut registrations = connection.registrations.lock();
        let Some(at) = registrations.monitor.iter().position(|known| known.callback_id == callback_id) else {
            let text = format!("qemu monitor event callback {callback_id} not registered");
            return Err(Error::internal(Origin::Rpc, text));
        };
        registrations.monitor.remove(at);
        drop(registrations);
        call.answer(())
    }

    /// Sends the messages that `make` makes of a client's registrations.
    fn send_events(self: &Arc<Self>, make: impl Fn(&Registrations) -> Vec<Vec<u8>>) {
        if !self.listened.load(Ordering::Acquire) {
            return;
        }
        let connections: Vec<_> = self.connections.lock().values().cloned().collect();
        for connection in connections {
            // Held while the messages are queued: what is deregistered is not sent any more.
            let registrations = connection.registrations.lock();
            let sent: Vec<_> =
                make(&registrations).into_iter().map(|bytes| connection.send_event(bytes)).collect();
            drop(registrations);
            for sent in sent {
                self.sent(&connection, sent);
            }
        }
    }

    pub(super) fn send_domain_event(self: &Arc<Self>, event: &DomainEvent) {
        let (id, domain) = (event.id(), event.domain().uuid);
        self.send_events(|registrations| {
            let wanted = registrations
                .domain
                .iter()
                .filter(|known| known.event_id == id && known.domain.is_none_or(|only| only == domain));
            let messages = wanted.filter_map(|known| {
                if known.unnumbered { event.old_message() } else { Some(event.message(known.callback_id)) }
            });
            // What the protocol has no room for is not sent.
            messages.filter_map(Result::ok).collect()
        });
    }

    pub(super) fn send_monitor_event(
        self: &Arc<Self>,
        dom: &Domain,
        name: &str,
        seconds: i64,
        micros: u32,
        details: Option<&str>,
    ) {
        self.send_events(|registrations| {
            let wanted = registrations.monitor.iter().filter(|known| {
                let same = known.event.as_ref().is_none_or(|wanted| {
                    if known.any_case { wanted.eq_ignore_ascii_case(name) } else { wanted == name }
                });
                same && known.domain.is_none_or(|only| only == dom.uuid)
            });
            let messages = wanted.map(|known| {
                let event = QemuDomainMonitorEventMsg {
                    callback_id: known.callback_id,
                    dom: dom.clone(),
                    event: name.to_owned(),
                    seconds,
                    micros,
                    details: details.map(str::to_owned),
                };
                event::message(QEMU_PROGRAM, &event)
            });
            messages.filter_map(Result::ok).collect()
        });
    }
}
