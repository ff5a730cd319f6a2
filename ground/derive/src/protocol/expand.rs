//! What a declaration turns into.

use super::parse::{Field, Kind, Need, Procedure, Protocol, Stream, Struct, Wire};
use proc_macro2::TokenStream;
use quote::{format_ident, quote};
use syn::{Error, Result};

pub(crate) fn expand(protocol: &Protocol) -> Result<TokenStream> {
    let prefix = protocol.prefix.as_ref().map(syn::LitStr::value).unwrap_or_default();
    let mut items = Vec::new();
    for Struct { docs, name, fields } in &protocol.structs {
        items.push(structure(&quote!(#(#docs)*), &quote!(#name), fields));
    }
    let (mut rows, mut methods, mut arms) = (Vec::new(), Vec::new(), Vec::new());
    let (mut recodes, mut arguments) = (Vec::new(), Vec::new());
    let mut seen = std::collections::HashSet::new();
    for procedure in &protocol.procedures {
        if !seen.insert(procedure.number.base10_parse::<u32>()?) {
            return Err(Error::new(procedure.number.span(), "this number is taken"));
        }
        items.push(messages(procedure, &prefix));
        rows.push(row(procedure));
        recodes.push(recode(procedure, &prefix));
        arguments.push(arguments_of(procedure));
        if procedure.kind == Kind::Call {
            methods.push(method(procedure, &prefix));
            arms.push(arm(procedure, &prefix));
        }
    }
    let handler = protocol.handler.as_ref().map(|handler| {
        let docs = &protocol.docs;
        let dispatch = if arms.is_empty() {
            quote! { let _ = (handler, call); None }
        } else {
            quote! {
                match call.number() {
                    #(#arms)*
                    _ => None,
                }
            }
        };
        quote! {
            #(#docs)*
            pub trait #handler: Send + Sync {
                #(#methods)*
            }

            /// Calls the method of the procedure; `None`: its number is not one of a `call` declared here.
            pub fn dispatch(
                handler: &dyn #handler,
                call: &mut crate::call::Call<'_>,
            ) -> Option<Result<(), crate::error::Error>> {
                #dispatch
            }
        }
    });
    Ok(quote! {
        #(#items)*

        #handler

        /// The rows of the procedures declared here.
        pub const PROCEDURES: &[crate::procedure::Procedure] = &[#(#rows),*];

        /// The names and the types of the arguments of a procedure declared here, or of what an event tells. Types
        /// are written as they are declared, without limits: `str`, `str?`, `[str]`, `bytes`, `Domain`.
        pub fn declared_arguments(number: u32) -> Option<&'static [(&'static str, &'static str)]> {
            match number {
                #(#arguments)*
                _ => None,
            }
        }

        /// Decodes the arguments of a procedure declared here (or its results; or an event), and encodes them again.
        pub fn recode(number: u32, results: bool, payload: &[u8]) -> Option<Result<Vec<u8>, crate::xdr::Invalid>> {
            match (number, results) {
                #(#recodes)*
                _ => None,
            }
        }
    })
}

/// A struct and its form on the wire.
fn structure(docs: &TokenStream, name: &TokenStream, fields: &[Field]) -> TokenStream {
    let names: Vec<_> = fields.iter().map(|field| &field.name).collect();
    let types: Vec<_> = fields.iter().map(|field| rust_type(&field.wire)).collect();
    let encode: Vec<_> =
        fields.iter().map(|Field { name, wire }| encode(wire, &quote!(&self.#name))).collect();
    let decode: Vec<_> = fields
        .iter()
        .map(|Field { name, wire }| {
            let value = decode(wire);
            quote!(#name: #value)
        })
        .collect();
    // Without fields nothing is written or read.
    let (to, from) =
        if fields.is_empty() { (quote!(_), quote!(_)) } else { (quote!(encoder), quote!(decoder)) };
    quote! {
        #docs
        #[derive(Debug, Clone, PartialEq)]
        #[allow(missing_docs, reason = "the fields are named as in the protocol")]
        pub struct #name {
            #(pub #names: #types,)*
        }

        impl crate::xdr::Xdr for #name {
            fn encode(&self, #to: &mut crate::xdr::Encoder) {
                #(#encode;)*
            }

            fn decode(#from: &mut crate::xdr::Decoder<'_>) -> Result<Self, crate::xdr::Invalid> {
                Ok(Self { #(#decode,)* })
            }
        }
    }
}

/// The arm of `arguments`.
fn arguments_of(procedure: &Procedure) -> TokenStream {
    let number = &procedure.number;
    let fields = procedure.args.iter().map(|Field { name, wire }| {
        let (name, wire) = (name.to_string(), declared_type(wire));
        quote!((#name, #wire))
    });
    quote!(#number => Some(&[#(#fields),*]),)
}

fn declared_type(wire: &Wire) -> String {
    match wire {
        Wire::Plain(path) => {
            path.segments.last().map(|segment| segment.ident.to_string()).unwrap_or_default()
        }
        Wire::Text => "str".to_owned(),
        Wire::Optional(inner) => format!("{}?", declared_type(inner)),
        Wire::List(item, _) => format!("[{}]", declared_type(item)),
        Wire::Bytes(_) => "bytes".to_owned(),
        Wire::Chars(_) => "chars".to_owned(),
        Wire::FixedChars(_) => "fixed_chars".to_owned(),
    }
}

fn rust_type(wire: &Wire) -> TokenStream {
    match wire {
        Wire::Plain(path) => quote!(#path),
        Wire::Text => quote!(String),
        Wire::Optional(inner) => {
            let inner = rust_type(inner);
            quote!(Option<#inner>)
        }
        Wire::List(item, _) => {
            let item = rust_type(item);
            quote!(Vec<#item>)
        }
        Wire::Bytes(_) | Wire::Chars(_) => quote!(Vec<u8>),
        Wire::FixedChars(length) => quote!([u8; #length]),
    }
}

/// The call that writes `value`, a reference.
fn encode(wire: &Wire, value: &TokenStream) -> TokenStream {
    match wire {
        Wire::Plain(_) | Wire::Text => quote!(crate::xdr::Xdr::encode(#value, encoder)),
        Wire::Optional(inner) => {
            let inner = encode(inner, &quote!(value));
            quote!(crate::xdr::put_optional(#value, encoder, |value, encoder| { #inner; }))
        }
        Wire::List(item, limit) => {
            let item = encode(item, &quote!(value));
            quote!(crate::xdr::put_list(#value, encoder, #limit, |value, encoder| { #item; }))
        }
        Wire::Bytes(limit) => quote!(crate::xdr::put_bytes(#value, encoder, #limit)),
        Wire::Chars(limit) => quote!(crate::xdr::put_chars(#value, encoder, #limit)),
        Wire::FixedChars(_) => quote!(crate::xdr::put_fixed_chars(#value, encoder)),
    }
}

/// The expression that reads a value.
fn decode(wire: &Wire) -> TokenStream {
    match wire {
        Wire::Plain(_) | Wire::Text => quote!(crate::xdr::Xdr::decode(decoder)?),
        Wire::Optional(inner) => {
            let inner = decoder_of(inner);
            quote!(crate::xdr::get_optional(decoder, #inner)?)
        }
        Wire::List(item, limit) => {
            let item = decoder_of(item);
            quote!(crate::xdr::get_list(decoder, #limit, #item)?)
        }
        Wire::Bytes(limit) => quote!(crate::xdr::get_bytes(decoder, #limit)?),
        Wire::Chars(limit) => quote!(crate::xdr::get_chars(decoder, #limit)?),
        Wire::FixedChars(length) => quote!(crate::xdr::get_fixed_chars::<{ #length }>(decoder)?),
    }
}

/// The function that reads an item.
fn decoder_of(wire: &Wire) -> TokenStream {
    match wire {
        Wire::Plain(_) | Wire::Text => quote!(crate::xdr::Xdr::decode),
        other => {
            let value = decode(other);
            quote!(|decoder| Ok(#value))
        }
    }
}

fn wire_name(procedure: &Procedure) -> String {
    procedure.name.to_string().to_ascii_uppercase()
}

/// The structs of arguments and results, or of an event.
fn messages(procedure: &Procedure, prefix: &str) -> TokenStream {
    let (name, number) = (wire_name(procedure), &procedure.number);
    if procedure.kind == Kind::Event {
        let ident = procedure.camel(prefix, "Msg");
        let docs = format!("The event `{name}` ({number}).");
        let body = structure(&quote!(#[doc = #docs]), &quote!(#ident), &procedure.args);
        return quote! {
            #body

            impl crate::procedure::Event for #ident {
                const NUMBER: u32 = #number;
            }
        };
    }
    let ident = procedure.camel(prefix, "Args");
    let docs = format!("What `{name}` ({number}) is called with.");
    let arguments = structure(&quote!(#[doc = #docs]), &quote!(#ident), &procedure.args);
    let (ret, results) = if procedure.ret.is_empty() {
        (quote!(()), TokenStream::new())
    } else {
        let ident = procedure.camel(prefix, "Ret");
        let docs = format!("What `{name}` ({number}) answers.");
        let results = structure(&quote!(#[doc = #docs]), &quote!(#ident), &procedure.ret);
        (quote!(#ident), results)
    };
    quote! {
        #arguments
        #results

        impl crate::procedure::Request for #ident {
            const NUMBER: u32 = #number;
            type Ret = #ret;
        }
    }
}

/// The row of the table.
fn row(procedure: &Procedure) -> TokenStream {
    let (name, number) = (wire_name(procedure), &procedure.number);
    let api = procedure.api.as_ref().map(ToString::to_string).unwrap_or_default();
    let answer = match (procedure.kind, &procedure.relay) {
        (Kind::Call, _) => quote!(Handler),
        (Kind::Core, _) => quote!(Server),
        (Kind::Missing, _) => quote!(Missing),
        (Kind::Event, None) => quote!(Event),
        (_, relay) => quote!(Relay(crate::procedure::Secondary::#relay)),
    };
    let stream = match procedure.stream {
        Stream::None => quote!(None),
        Stream::Read => quote!(Read),
        Stream::Write => quote!(Write),
    };
    let Procedure { high, write, fds_in, fds_out, acl, .. } = procedure;
    quote! {
        crate::procedure::Procedure {
            number: #number,
            name: #name,
            api: #api,
            answer: crate::procedure::Answer::#answer,
            high: #high,
            write: #write,
            stream: crate::procedure::Streaming::#stream,
            fds_in: #fds_in,
            fds_out: #fds_out,
            acl: &[#(#acl),*],
        }
    }
}

/// The types of the parameters and the result of a method.
fn signature(procedure: &Procedure, prefix: &str) -> (TokenStream, TokenStream) {
    let mut parameters = TokenStream::new();
    if !procedure.args.is_empty() {
        let args = procedure.camel(prefix, "Args");
        parameters.extend(quote!(, args: #args));
    }
    if procedure.fds_in {
        parameters.extend(quote!(, fds: Vec<std::os::fd::OwnedFd>));
    }
    if procedure.stream != Stream::None {
        parameters.extend(quote!(, stream: crate::call::Stream));
    }
    let ret = if procedure.ret.is_empty() {
        quote!(())
    } else {
        let ident = procedure.camel(prefix, "Ret");
        quote!(#ident)
    };
    let ret = if procedure.fds_out { quote!((#ret, Vec<std::os::fd::OwnedFd>)) } else { ret };
    (parameters, ret)
}

/// The arms of `recode`.
fn recode(procedure: &Procedure, prefix: &str) -> TokenStream {
    let number = &procedure.number;
    let event = procedure.kind == Kind::Event;
    let args = procedure.camel(prefix, if event { "Msg" } else { "Args" });
    let arguments = quote!((#number, false) => Some(crate::xdr::recode::<#args>(payload)),);
    if procedure.ret.is_empty() {
        return arguments;
    }
    let ret = procedure.camel(prefix, "Ret");
    quote!(#arguments (#number, true) => Some(crate::xdr::recode::<#ret>(payload)),)
}

fn method(procedure: &Procedure, prefix: &str) -> TokenStream {
    let (parameters, ret) = signature(procedure, prefix);
    let name = &procedure.name;
    let api = procedure.api.as_ref().map(ToString::to_string).unwrap_or_default();
    let docs = format!("Serves `{}` ({}), `{api}`.", wire_name(procedure), procedure.number);
    let errors = "# Errors\nWhat the client is told.";
    quote! {
        #[doc = #docs]
        #[doc = ""]
        #[doc = #errors]
        fn #name(&self, client: &crate::client::ClientContext #parameters) -> Result<#ret, crate::error::Error>;
    }
}

/// The checks of arguments, those that come first or the others.
fn needs(procedure: &Procedure, first: bool) -> TokenStream {
    let mut checks = TokenStream::new();
    for Need { field, name, must, .. } in procedure.needs.iter().filter(|need| need.first == first) {
        let wire = procedure.args.iter().find(|arg| arg.name == *field).map(|arg| &arg.wire);
        let lacks = match wire {
            Some(Wire::Optional(_)) => quote!(args.#field.is_none()),
            Some(Wire::Plain(_)) if must.contains("greater") => quote!(args.#field <= 0),
            Some(Wire::Plain(_)) => quote!(args.#field == 0),
            _ => quote!(args.#field.is_empty()),
        };
        checks.extend(quote!(if #lacks { return Err(call.bad_argument(#name, #must)); }));
    }
    checks
}

/// The arm of `dispatch`.
fn arm(procedure: &Procedure, prefix: &str) -> TokenStream {
    let Procedure { name, number, .. } = procedure;
    let api = procedure.api.as_ref().map(ToString::to_string).unwrap_or_default();
    let mut steps = TokenStream::new();
    let mut values = quote!(call.client());
    if procedure.args.is_empty() {
        steps.extend(quote!(call.begin()?;));
    } else {
        let args = procedure.camel(prefix, "Args");
        steps.extend(quote!(let args: #args = call.arguments()?;));
        values.extend(quote!(, args));
    }
    steps.extend(needs(procedure, true));
    if procedure.write {
        steps.extend(quote!(call.refuse_read_only(#api)?;));
        steps.extend(needs(procedure, false));
    }
    if let Some((mask, text)) = &procedure.write_if {
        let check = match text {
            Some(text) => quote!(call.refuse_read_only_with(#text)?),
            None => quote!(call.refuse_read_only(#api)?),
        };
        steps.extend(quote!(if args.flags & #mask != 0 { #check; }));
    }
    if procedure.fds_in {
        steps.extend(quote!(let fds = call.take_descriptors();));
        values.extend(quote!(, fds));
    }
    if procedure.stream != Stream::None {
        steps.extend(quote!(let stream = call.open_stream()?;));
        values.extend(quote!(, stream));
    }
    let answer = format_ident!("{}", if procedure.fds_out { "answer_with_descriptors" } else { "answer" });
    quote! {
        #number => Some((|| {
            #steps
            let ret = handler.#name(#values)?;
            call.#answer(ret)
        })()),
    }
}
