//! The grammar of `protocol!`.

use proc_macro2::{Span, TokenStream};
use syn::parse::{Parse, ParseStream};
use syn::punctuated::Punctuated;
use syn::{
    Attribute, Error, Ident, LitInt, LitStr, Path, Result, Token, braced, bracketed, parenthesized, token,
};

/// A whole declaration.
pub(crate) struct Protocol {
    pub(crate) docs: Vec<Attribute>,
    pub(crate) handler: Option<Ident>,
    pub(crate) prefix: Option<LitStr>,
    pub(crate) structs: Vec<Struct>,
    pub(crate) procedures: Vec<Procedure>,
}

/// `struct NAME { FIELD: TYPE, ... }`: a part of arguments or results.
pub(crate) struct Struct {
    pub(crate) docs: Vec<Attribute>,
    pub(crate) name: Ident,
    pub(crate) fields: Vec<Field>,
}

/// `NAME: TYPE`.
pub(crate) struct Field {
    pub(crate) name: Ident,
    pub(crate) wire: Wire,
}

/// A type on the wire.
pub(crate) enum Wire {
    /// A type of Rust that has the trait `Xdr`.
    Plain(Path),
    /// `str`.
    Text,
    /// `TYPE?`: an optional.
    Optional(Box<Wire>),
    /// `[TYPE; LIMIT]`.
    List(Box<Wire>, TokenStream),
    /// `bytes<LIMIT>`: opaque data of variable length.
    Bytes(TokenStream),
    /// `chars<LIMIT>`: characters of one XDR unit each.
    Chars(TokenStream),
    /// `fixed_chars<LENGTH>`: the same, without a count.
    FixedChars(TokenStream),
}

/// Who answers a procedure.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Call,
    Core,
    Missing,
    Relay,
    Event,
}

/// `nonnull(FIELD)`, `nonzero(FIELD as NAME)`, `positive(FIELD)`: what libvirt's functions ask of an argument before they
/// look at anything else.
pub(crate) struct Need {
    pub(crate) field: Ident,
    /// The name that clients know.
    pub(crate) name: String,
    /// What it must be or not be.
    pub(crate) must: &'static str,
    /// It stands before `write`, and is looked at before that too.
    pub(crate) first: bool,
}

/// Where a stream's data goes.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stream {
    None,
    Read,
    Write,
}

/// One line: `KIND NUMBER NAME(FIELDS) -> (FIELDS): API, attributes;`.
pub(crate) struct Procedure {
    pub(crate) kind: Kind,
    pub(crate) relay: Option<Ident>,
    pub(crate) number: LitInt,
    pub(crate) name: Ident,
    pub(crate) args: Vec<Field>,
    pub(crate) ret: Vec<Field>,
    pub(crate) api: Option<Ident>,
    pub(crate) high: bool,
    pub(crate) write: bool,
    pub(crate) needs: Vec<Need>,
    pub(crate) write_if: Option<(LitInt, Option<LitStr>)>,
    pub(crate) stream: Stream,
    pub(crate) fds_in: bool,
    pub(crate) fds_out: bool,
    pub(crate) acl: Vec<LitStr>,
}

mod keyword {
    syn::custom_keyword!(handler);
    syn::custom_keyword!(prefix);
}

impl Parse for Protocol {
    fn parse(input: ParseStream<'_>) -> Result<Self> {
        let docs = input.call(Attribute::parse_outer)?;
        if !input.peek(keyword::handler) {
            let mut this = Self {
                docs: Vec::new(),
                handler: None,
                prefix: None,
                structs: Vec::new(),
                procedures: Vec::new(),
            };
            this.items(input, docs)?;
            return Ok(this);
        }
        input.parse::<keyword::handler>()?;
        let handler = Some(input.parse()?);
        let mut prefix = None;
        if input.peek(Token![,]) {
            input.parse::<Token![,]>()?;
            input.parse::<keyword::prefix>()?;
            prefix = Some(input.parse()?);
        }
        input.parse::<Token![;]>()?;
        let mut this = Self { docs, handler, prefix, structs: Vec::new(), procedures: Vec::new() };
        let docs = input.call(Attribute::parse_outer)?;
        this.items(input, docs)?;
        Ok(this)
    }
}

impl Protocol {
    /// Structs and procedures to the end; `docs` stand before the first of them.
    fn items(&mut self, input: ParseStream<'_>, mut docs: Vec<Attribute>) -> Result<()> {
        while !input.is_empty() {
            if input.peek(Token![struct]) {
                input.parse::<Token![struct]>()?;
                let name = input.parse()?;
                let body;
                braced!(body in input);
                self.structs.push(Struct { docs, name, fields: fields(&body)? });
            } else {
                if let Some(first) = docs.first() {
                    return Err(Error::new_spanned(first, "a procedure's documentation is its API's name"));
                }
                let procedure: Procedure = input.parse()?;
                if procedure.kind == Kind::Call && self.handler.is_none() {
                    return Err(Error::new(procedure.name.span(), "there is no `handler` to call"));
                }
                self.procedures.push(procedure);
            }
            docs = input.call(Attribute::parse_outer)?;
        }
        match docs.first() {
            Some(first) => Err(Error::new_spanned(first, "documentation of nothing")),
            None => Ok(()),
        }
    }
}

fn fields(input: ParseStream<'_>) -> Result<Vec<Field>> {
    Ok(Punctuated::<Field, Token![,]>::parse_terminated(input)?.into_iter().collect())
}

impl Parse for Field {
    fn parse(input: ParseStream<'_>) -> Result<Self> {
        let name = input.parse()?;
        input.parse::<Token![:]>()?;
        Ok(Self { name, wire: input.parse()? })
    }
}

/// `<LIMIT>`: a number or a constant's name.
fn limit(input: ParseStream<'_>) -> Result<TokenStream> {
    input.parse::<Token![<]>()?;
    let value = limit_value(input)?;
    input.parse::<Token![>]>()?;
    Ok(value)
}

fn limit_value(input: ParseStream<'_>) -> Result<TokenStream> {
    if input.peek(LitInt) {
        let number: LitInt = input.parse()?;
        Ok(quote::quote!(#number))
    } else {
        let name: Path = input.parse()?;
        Ok(quote::quote!(#name))
    }
}

impl Parse for Wire {
    fn parse(input: ParseStream<'_>) -> Result<Self> {
        let mut wire = if input.peek(token::Bracket) {
            let inside;
            bracketed!(inside in input);
            let item = inside.parse()?;
            inside.parse::<Token![;]>()?;
            Self::List(Box::new(item), limit_value(&inside)?)
        } else {
            let path: Path = input.call(Path::parse_mod_style)?;
            match path.get_ident().map(ToString::to_string).as_deref() {
                Some("str") => Self::Text,
                Some("bytes") => Self::Bytes(limit(input)?),
                Some("chars") => Self::Chars(limit(input)?),
                Some("fixed_chars") => Self::FixedChars(limit(input)?),
                _ => Self::Plain(path),
            }
        };
        if input.peek(Token![?]) {
            input.parse::<Token![?]>()?;
            wire = Self::Optional(Box::new(wire));
        }
        Ok(wire)
    }
}

impl Parse for Procedure {
    fn parse(input: ParseStream<'_>) -> Result<Self> {
        let word: Ident = input.parse()?;
        let mut relay = None;
        let kind = match word.to_string().as_str() {
            "call" => Kind::Call,
            "core" => Kind::Core,
            "missing" => Kind::Missing,
            "event" => Kind::Event,
            "relay" => {
                relay = Some(input.parse()?);
                Kind::Relay
            }
            _ => return Err(Error::new(word.span(), "expected call, core, missing, event, relay or struct")),
        };
        let number = input.parse()?;
        let name = input.parse()?;
        let body;
        parenthesized!(body in input);
        let args = fields(&body)?;
        let mut ret = Vec::new();
        if input.peek(Token![->]) {
            input.parse::<Token![->]>()?;
            let body;
            parenthesized!(body in input);
            ret = fields(&body)?;
        }
        let mut this = Self {
            kind,
            relay,
            number,
            name,
            args,
            ret,
            api: None,
            high: false,
            write: false,
            needs: Vec::new(),
            write_if: None,
            stream: Stream::None,
            fds_in: false,
            fds_out: false,
            acl: Vec::new(),
        };
        if input.peek(Token![:]) {
            input.parse::<Token![:]>()?;
            this.api = Some(input.parse()?);
        }
        while input.peek(Token![,]) {
            input.parse::<Token![,]>()?;
            this.attribute(input)?;
        }
        input.parse::<Token![;]>()?;
        if this.api.is_none() && matches!(kind, Kind::Call | Kind::Missing) {
            return Err(Error::new(this.name.span(), "which API does this serve? `: virSomething`"));
        }
        Ok(this)
    }
}

impl Procedure {
    fn attribute(&mut self, input: ParseStream<'_>) -> Result<()> {
        let word: Ident = input.parse()?;
        match word.to_string().as_str() {
            "high" => self.high = true,
            "write" => self.write = true,
            "write_if" => {
                let inside;
                parenthesized!(inside in input);
                let mask = inside.parse()?;
                let mut text = None;
                if !inside.is_empty() {
                    inside.parse::<Token![,]>()?;
                    text = Some(inside.parse()?);
                }
                self.write_if = Some((mask, text));
            }
            "nonnull" => self.need(input, "must not be NULL")?,
            "nonzero" => self.need(input, "must not be zero")?,
            "positive" => self.need(input, "must be greater than zero")?,
            "read_stream" => self.stream = Stream::Read,
            "write_stream" => self.stream = Stream::Write,
            "fds_in" => self.fds_in = true,
            "fds_out" => self.fds_out = true,
            "acl" => {
                let inside;
                bracketed!(inside in input);
                self.acl = Punctuated::<LitStr, Token![,]>::parse_terminated(&inside)?.into_iter().collect();
            }
            other => return Err(Error::new(word.span(), format!("unknown attribute {other}"))),
        }
        Ok(())
    }

    fn need(&mut self, input: ParseStream<'_>, must: &'static str) -> Result<()> {
        let inside;
        parenthesized!(inside in input);
        let field: Ident = inside.parse()?;
        if !self.args.iter().any(|arg| arg.name == field) {
            return Err(Error::new(field.span(), "there is no such argument"));
        }
        let mut name = field.to_string();
        if inside.peek(Token![as]) {
            inside.parse::<Token![as]>()?;
            name = inside.parse::<Ident>()?.to_string();
        }
        self.needs.push(Need { field, name, must, first: !self.write });
        Ok(())
    }

    /// `domain_create` as `DomainCreate` + `suffix`.
    pub(crate) fn camel(&self, prefix: &str, suffix: &str) -> Ident {
        let mut name = prefix.to_owned();
        for word in self.name.to_string().split('_') {
            let mut letters = word.chars();
            name.extend(letters.next().map(|first| first.to_ascii_uppercase()));
            name.push_str(letters.as_str());
        }
        name.push_str(suffix);
        Ident::new(&name, Span::call_site())
    }
}
