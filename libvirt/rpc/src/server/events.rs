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
use regex_lite::{Regex, RegexBuilder};
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
    event: Filter,
}

/// Which of the monitor's events a client wants.
#[derive(Debug)]
enum Filter {
    All,
    Name(String),
    NameInAnyCase(String),
    Pattern(Regex),
}

impl Filter {
    fn new(event: Option<String>, flags: u32) -> Result<Self, Error> {
        const REGEX: u32 = 1;
        const NOCASE: u32 = 2;
        /// What a pattern may take when it is compiled.
        const PATTERN_BYTES: usize = 64 << 10;
        Error::check_flags(Origin::Qemu, flags, REGEX | NOCASE, "virDomainQemuMonitorEventStateRegisterID")?;
        let any_case = flags & NOCASE != 0;
        match event {
            None => Ok(Self::All),
            Some(event) if flags & REGEX != 0 => {
                let mut pattern = RegexBuilder::new(&event);
                pattern.case_insensitive(any_case).size_limit(PATTERN_BYTES);
                pattern.build().map(Self::Pattern).map_err(|error| {
                    let text = format!("failed to compile regex '{event}': {error}");
                    Error::new(Origin::None, Code::InvalidArg, text)
                })
            }
            Some(event) if any_case => Ok(Self::NameInAnyCase(event)),
            Some(event) => Ok(Self::Name(event)),
        }
    }

    fn wants(&self, name: &str) -> bool {
        match self {
            Self::All => true,
            Self::Name(wanted) => wanted == name,
            Self::NameInAnyCase(wanted) => wanted.eq_ignore_ascii_case(name),
            Self::Pattern(pattern) => pattern.is_match(name),
        }
    }
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
        let QemuConnectDomainMonitorEventRegisterArgs { dom, event, flags } = call.arguments()?;
        call.refuse_read_only(call.procedure().api)?;
        let event = Filter::new(event, flags)?;
        let mut registrations = connection.registrations.lock();
        if registrations.monitor.len() >= MOST {
            return Err(Error::internal(Origin::Rpc, "too many event callbacks"));
        }
        let callback_id = self.next_callback.fetch_add(1, Ordering::Relaxed);
        let domain = dom.map(|dom| dom.uuid);
        registrations.monitor.push(MonitorRegistration { callback_id, domain, event });
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
        let mut registrations = connection.registrations.lock();
        let Some(at) = registrations.monitor.iter().position(|known| known.callback_id == callback_id) else {
            let text = format!("qemu monitor event callback {callback_id} not registered");
            return Err(Error::internal(Origin::Rpc, text));
        };
        call.refuse_read_only(call.procedure().api)?;
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
            let wanted = registrations
                .monitor
                .iter()
                .filter(|known| known.event.wants(name) && known.domain.is_none_or(|only| only == dom.uuid));
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn monitor_events_are_wanted_by_name_or_pattern() {
        let wants = |event: Option<&str>, flags: u32, name: &str| {
            Filter::new(event.map(str::to_owned), flags).map(|filter| filter.wants(name))
        };
        assert_eq!(wants(None, 1, "STOP"), Ok(true));
        assert_eq!(wants(Some("stop"), 0, "STOP"), Ok(false));
        assert_eq!(wants(Some("stop"), 2, "STOP"), Ok(true));
        assert_eq!(wants(Some("TO"), 1, "STOP"), Ok(true));
        assert_eq!(wants(Some("^(stop|resume)$"), 1, "STOP"), Ok(false));
        assert_eq!(wants(Some("^(stop|resume)$"), 3, "STOP"), Ok(true));
        let refused = wants(Some("("), 1, "STOP").expect_err("refused").to_string();
        assert!(refused.starts_with("invalid argument: failed to compile regex '(': "), "{refused}");
        // A pattern that would take too much is refused, not compiled.
        assert!(wants(Some("((a{1000}){1000}){1000}"), 1, "STOP").is_err());
        assert!(wants(Some("STOP"), 4, "STOP").is_err());
    }
}
