//! A call on its way to the method that serves it.

use crate::client::ClientContext;
use crate::error::{Code, Error, Origin};
use crate::message::{self, Header, Kind, STATUS_OK};
use crate::procedure::Procedure;
use crate::xdr::{self, Xdr};
use std::os::fd::OwnedFd;

/// What a method that opens a stream is given.
pub use crate::server::StreamHandle as Stream;

/// A call that is being served.
#[derive(Debug)]
pub struct Call<'a> {
    client: &'a ClientContext,
    procedure: &'static Procedure,
    header: Header,
    payload: &'a [u8],
    descriptors: Vec<OwnedFd>,
    stream: Option<Stream>,
    reply: Option<Reply>,
}

/// The answer to a call: a whole message.
#[derive(Debug)]
pub struct Reply {
    /// Its bytes.
    pub bytes: Vec<u8>,
    /// The descriptors that go with it.
    pub descriptors: Vec<OwnedFd>,
}

impl<'a> Call<'a> {
    /// A call of `procedure` with the arguments in `payload`.
    pub fn new(
        client: &'a ClientContext,
        procedure: &'static Procedure,
        header: Header,
        payload: &'a [u8],
        descriptors: Vec<OwnedFd>,
    ) -> Self {
        Self { client, procedure, header, payload, descriptors, stream: None, reply: None }
    }

    /// The procedure's number.
    pub fn number(&self) -> u32 {
        self.procedure.number
    }

    /// The procedure's row.
    pub fn procedure(&self) -> &'static Procedure {
        self.procedure
    }

    /// The header.
    pub fn header(&self) -> &Header {
        &self.header
    }

    /// Who calls.
    pub fn client(&self) -> &'a ClientContext {
        self.client
    }

    /// Checks that the connection has been opened.
    ///
    /// # Errors
    /// It has not.
    pub fn begin(&self) -> Result<(), Error> {
        if self.client.is_open() {
            return Ok(());
        }
        Err(Error::internal(Origin::Rpc, "hypervisor connection not open"))
    }

    /// The arguments, of a procedure that works without an open connection.
    ///
    /// # Errors
    /// They cannot be decoded.
    pub fn early_arguments<T: Xdr>(&self) -> Result<T, Error> {
        xdr::from_bytes(self.payload).map_err(|_| Error::rpc("Unable to decode message payload"))
    }

    /// The arguments.
    ///
    /// # Errors
    /// They cannot be decoded, or the connection has not been opened.
    pub fn arguments<T: Xdr>(&self) -> Result<T, Error> {
        let arguments = self.early_arguments()?;
        self.begin()?;
        Ok(arguments)
    }

    /// Refuses the call on a read-only connection.
    ///
    /// # Errors
    /// It is one.
    pub fn refuse_read_only(&self, api: &str) -> Result<(), Error> {
        if self.client.read_only() {
            return self.refuse_read_only_with(&format!("read only access prevents {api}"));
        }
        Ok(())
    }

    /// Refuses the call on a read-only connection, with another text.
    ///
    /// # Errors
    /// It is one.
    pub fn refuse_read_only_with(&self, text: &str) -> Result<(), Error> {
        if self.client.read_only() {
            return Err(Error::new(self.origin(), Code::OperationDenied, text));
        }
        Ok(())
    }

    /// An argument is what it must not be.
    pub fn bad_argument(&self, name: &str, must: &str) -> Error {
        let api = self.procedure.api;
        Error::invalid_argument(self.origin(), api, name, format!("{name} in {api} {must}"))
    }

    /// Nobody serves the procedure.
    pub fn unsupported(&self) -> Error {
        Error::no_support(self.origin(), self.procedure.api)
    }

    /// The part of the library that reports errors about the API function.
    fn origin(&self) -> Origin {
        let api = self.procedure.api;
        let begins = |prefix: &str| api.starts_with(prefix);
        if begins("virDomainSnapshot") || api == "virDomainRevertToSnapshot" {
            Origin::DomainSnapshot
        } else if begins("virDomainCheckpoint") {
            Origin::DomainCheckpoint
        } else if api.contains("Qemu") {
            Origin::None
        } else {
            Origin::Domain
        }
    }

    /// The descriptors that came with the call.
    pub fn take_descriptors(&mut self) -> Vec<OwnedFd> {
        std::mem::take(&mut self.descriptors)
    }

    /// The call may open `stream`.
    pub fn offer_stream(&mut self, stream: Stream) {
        self.stream = Some(stream);
    }

    /// The stream that the call opens.
    ///
    /// # Errors
    /// There is none.
    pub fn open_stream(&mut self) -> Result<Stream, Error> {
        self.stream.take().ok_or_else(|| Error::internal(Origin::Streams, "the call has no stream"))
    }

    /// Answers the call.
    ///
    /// # Errors
    /// The answer is longer than the protocol allows.
    pub fn answer(&mut self, ret: impl Xdr) -> Result<(), Error> {
        self.reply(Kind::Reply, None, &ret, Vec::new())
    }

    /// Answers the call, with descriptors.
    ///
    /// # Errors
    /// The answer is longer than the protocol allows.
    pub fn answer_with_descriptors(
        &mut self,
        (ret, descriptors): (impl Xdr, Vec<OwnedFd>),
    ) -> Result<(), Error> {
        if descriptors.is_empty() {
            return self.answer(ret);
        }
        self.reply(Kind::ReplyWithFds, Some(descriptors.len()), &ret, descriptors)
    }

    fn reply(
        &mut self,
        kind: Kind,
        count: Option<usize>,
        ret: &impl Xdr,
        descriptors: Vec<OwnedFd>,
    ) -> Result<(), Error> {
        let bytes = message::encode(&self.header.reply(kind, STATUS_OK), count, ret)
            .map_err(|_| Error::rpc("Unable to encode message payload"))?;
        self.reply = Some(Reply { bytes, descriptors });
        Ok(())
    }

    /// The answer, if there is one yet.
    pub fn take_reply(&mut self) -> Option<Reply> {
        self.reply.take()
    }
}
