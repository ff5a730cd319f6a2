//! From messages to answers.

use super::connection::{After, Connection};
use super::input::Incoming;
use super::memory::Held;
use super::pool::Job;
use super::stream::{Stream, StreamHandle};
use super::{Server, Service};
use crate::call::{Call, Reply};
use crate::error::Error;
use crate::message::{self, Header, Kind, STATUS_ERROR, STATUS_OK};
use crate::procedure::{Answer, Procedure, Secondary};
use crate::protocol::{
    ADMIN_PROGRAM, KEEPALIVE_PROGRAM, LXC_PROGRAM, QEMU_PROGRAM, REMOTE_PROGRAM, VERSION, admin,
    dispatch_remote, procedure, qemu,
};
use crate::relay::{self, Relayed, Sockets};
use rustix::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// The procedures of the REMOTE program that work before a client has shown who it is.
const UNAUTHENTICATED: std::ops::RangeInclusive<u32> = 66..=70;

impl Server {
    /// Reads what a client has sent, and does what it asks for. The calling thread has begun to read; here it ends.
    /// What is answered is the caller's next job: done from here, a client could nest them without end.
    pub(super) fn readable(self: &Arc<Self>, connection: &Arc<Connection>) -> Option<Job> {
        let mut next = None;
        while self.read_and_serve(connection, &mut next) {}
        next
    }

    /// One round; `true`: there is more to be read, and nobody else does.
    fn read_and_serve(self: &Arc<Self>, connection: &Arc<Connection>, job: &mut Option<Job>) -> bool {
        let mut requests = Vec::new();
        let mut pings = 0u32;
        let received = connection.receive(self.limits().requests.max(1), |message, held| {
            connection.keepalive.hear();
            if message.header.program == KEEPALIVE_PROGRAM {
                pings += u32::from(super::keepalive::is_ping(&message.header));
                return false;
            }
            match Kind::from_number(message.header.kind) {
                Some(Kind::Call | Kind::CallWithFds | Kind::Stream | Kind::StreamHole) => {
                    requests.push((message, held))
                }
                // Dropped, as the original does.
                _ => return false,
            }
            true
        });
        // A client that only asks whether we live is answered once for all that it has asked in one go.
        if pings > 0 {
            let sent = connection.send_event(super::keepalive::pong());
            self.sent(connection, sent);
        }
        let mut inline = None;
        let alone = requests.len() == 1;
        for (message, held) in requests {
            if matches!(Kind::from_number(message.header.kind), Some(Kind::Stream | Kind::StreamHole)) {
                self.stream_message(connection, message, held);
            } else if inline.is_none() {
                inline = Some((message, held));
            } else {
                self.queue_call(connection, message, held);
            }
        }
        if received.is_err() {
            self.drop_client(connection);
            return false;
        }
        self.relieve();
        // What is answered at once keeps nobody else from being heard: the same thread reads on.
        let quick = alone && inline.as_ref().is_some_and(|(message, _)| is_quick(&message.header));
        let stalled = connection.is_stalled();
        if !quick && !stalled {
            connection.end_reading();
        }
        let Some((message, held)) = inline else { return false };
        connection.note_call();
        let high = is_high(&message.header);
        let mut reading = quick && !stalled;
        if self.pool.begin(self, high) {
            self.serve(connection, message, held);
            let again = reading && connection.linger();
            let next = self.pool.end();
            if again && next.is_none() {
                return true;
            }
            if std::mem::take(&mut reading) {
                connection.end_reading();
            }
            *job = next;
        } else {
            self.queue_call(connection, message, held);
        }
        if reading {
            connection.end_reading();
        }
        false
    }

    fn queue_call(&self, connection: &Arc<Connection>, message: Incoming<OwnedFd>, held: Held) {
        let high = is_high(&message.header);
        self.pool.queue(Job::Call { connection: connection.clone(), message, held, high });
        self.wake();
    }

    /// Serves one call and sends the answer.
    pub(super) fn serve(
        self: &Arc<Self>,
        connection: &Arc<Connection>,
        message: Incoming<OwnedFd>,
        held: Held,
    ) {
        if connection.context.is_closed() {
            return;
        }
        let header = message.header;
        let mut stream = None;
        let reply = match self.answer(connection, message, held, &mut stream) {
            Ok(Some(reply)) => reply,
            // Somebody else answers.
            Ok(None) => return,
            Err(error) => {
                if let Some(stream) = stream.take() {
                    stream.abandon();
                }
                if let Some(failed) = self.failed.get() {
                    failed(&error);
                }
                error_reply(&header, &error)
            }
        };
        if let Some(stream) = &stream {
            self.enter_stream(connection, stream);
        }
        let after = match header.program {
            REMOTE_PROGRAM | ADMIN_PROGRAM
                if header.procedure == CONNECT_CLOSE && self.closes(connection) =>
            {
                After::Close
            }
            _ => After::RequestDone,
        };
        let sent = connection.send(reply.bytes, reply.descriptors, after);
        self.sent(connection, sent);
        if let Some(stream) = stream {
            self.start_stream(&stream);
        }
    }

    /// After `CONNECT_CLOSE` the connection ends, if the call was allowed.
    fn closes(&self, connection: &Connection) -> bool {
        connection.authenticated.load(Ordering::Relaxed)
    }

    fn answer(
        self: &Arc<Self>,
        connection: &Arc<Connection>,
        message: Incoming<OwnedFd>,
        held: Held,
        stream: &mut Option<Arc<Stream>>,
    ) -> Result<Option<Reply>, Error> {
        let Incoming { ref header, ref payload, descriptors } = message;
        let known = match &self.service {
            Service::Hypervisor { .. } => {
                matches!(header.program, REMOTE_PROGRAM | QEMU_PROGRAM | LXC_PROGRAM)
            }
            Service::Admin(_) => header.program == ADMIN_PROGRAM,
        };
        if !known || header.version != VERSION {
            return Err(Error::rpc(format!(
                "Cannot find program {} version {}",
                header.program.cast_signed(),
                header.version.cast_signed()
            )));
        }
        if header.status != STATUS_OK {
            return Err(Error::rpc(format!("Unexpected message status {}", header.status)));
        }
        let row = row(header)
            .ok_or_else(|| Error::rpc(format!("unknown procedure: {}", header.procedure.cast_signed())))?;
        let early = header.program == REMOTE_PROGRAM && UNAUTHENTICATED.contains(&header.procedure);
        if !early && !connection.authenticated.load(Ordering::Acquire) {
            return Err(Error::rpc("authentication required"));
        }
        let mut call = Call::new(&connection.context, row, *header, payload, descriptors);
        if row.answer == Answer::Handler && row.stream != crate::procedure::Streaming::None {
            let new = self.new_stream(connection, header);
            call.offer_stream(StreamHandle(new.clone()));
            *stream = Some(new);
        }
        let handled = match (row.answer, &self.service) {
            (Answer::Handler, Service::Hypervisor { host, driver, .. }) => match header.program {
                REMOTE_PROGRAM => dispatch_remote(&**host, &**driver, &mut call),
                _ => qemu::dispatch(&**driver, &mut call),
            },
            (Answer::Handler, Service::Admin(admin)) => admin::dispatch(&**admin, &mut call),
            (Answer::Server, _) => Some(self.session_call(connection, &mut call)),
            (Answer::Relay(secondary), Service::Hypervisor { secondaries, .. }) => {
                call.begin()?;
                let call = relay::Call { header, payload, held: Some(held) };
                return self.relay(connection, secondaries, secondary, call);
            }
            (Answer::Missing, _) => Some(refuse(&call)),
            (Answer::Event | Answer::Relay(_), _) => None,
        };
        // Events are no procedures.
        handled.unwrap_or_else(|| {
            Err(Error::rpc(format!("unknown procedure: {}", header.procedure.cast_signed())))
        })?;
        Ok(call.take_reply())
    }
}

impl Server {
    /// Has another daemon answer a call.
    fn relay(
        self: &Arc<Self>,
        connection: &Arc<Connection>,
        sockets: &Sockets,
        secondary: Secondary,
        call: relay::Call<'_>,
    ) -> Result<Option<Reply>, Error> {
        let (server, client) = (Arc::downgrade(self), Arc::downgrade(connection));
        let deliver = move || -> relay::Deliver {
            Arc::new(move |relayed| {
                let (Some(server), Some(client)) = (server.upgrade(), client.upgrade()) else { return };
                let sent = match relayed {
                    Relayed::Answer(bytes) => client.send(bytes, Vec::new(), After::RequestDone),
                    Relayed::Event(bytes) => client.send_event(bytes),
                    Relayed::Data(bytes) => client.send_slowly(bytes),
                    Relayed::Taken => Ok(vec![After::RequestDone]),
                };
                server.sent(&client, sent);
            })
        };
        connection.relays.call(sockets, secondary, &connection.context, deliver, call)?;
        Ok(None)
    }
}

const CONNECT_CLOSE: u32 = 2;

/// The one procedure of the LXC program, which no domain here can serve.
const LXC: Procedure = Procedure {
    number: 1,
    name: "DOMAIN_OPEN_NAMESPACE",
    api: "virDomainLxcOpenNamespace",
    answer: Answer::Missing,
    high: false,
    write: true,
    stream: crate::procedure::Streaming::None,
    fds_in: false,
    fds_out: false,
    acl: &["domain:write"],
};

fn row(header: &Header) -> Option<&'static Procedure> {
    match header.program {
        LXC_PROGRAM => (header.procedure == 1).then_some(&LXC),
        program => procedure(program, header.procedure),
    }
}

fn is_high(header: &Header) -> bool {
    row(header).is_none_or(|row| row.high)
}

/// Whether a call is one that looks at what is known and waits for nothing.
fn is_quick(header: &Header) -> bool {
    row(header).is_none_or(|row| row.high && !row.write && !matches!(row.answer, Answer::Relay(_)))
}

/// What is said about a procedure that nobody serves.
fn refuse(call: &Call<'_>) -> Result<(), Error> {
    call.begin()?;
    if call.procedure().write {
        call.refuse_read_only(call.procedure().api)?;
    }
    Err(call.unsupported())
}

/// An answer that is an error.
pub(super) fn error_reply(header: &Header, error: &Error) -> Reply {
    error_message(&header.reply(Kind::Reply, STATUS_ERROR), error)
}

/// A message that carries an error.
pub(super) fn error_message(header: &Header, error: &Error) -> Reply {
    let bytes = message::encode(header, None, &error.to_wire()).unwrap_or_else(|_| {
        // A text of more than 4 MiB: the code must do.
        let bare = Error { message: None, str1: None, str2: None, str3: None, ..error.clone() };
        message::encode(header, None, &bare.to_wire()).unwrap_or_default()
    });
    Reply { bytes, descriptors: Vec::new() }
}
