//! Derive macros of the house, and the declaration of RPC programs.
#![forbid(unsafe_code)]

mod element;
mod properties;
mod protocol;

use proc_macro::TokenStream;
use syn::{DeriveInput, parse_macro_input};

/// Derives `qdev::Properties` and `Default` for a struct with named fields, each a device property.
///
/// * The doc comment of a field is its help text; the field's name is the property's name, with `_` turned into `-`.
/// * `#[prop(default = EXPR)]`: the default value (otherwise the type's own default).
/// * `#[prop(name = "x")]`: another name, taken as it is.
/// * `#[prop(flatten)]`: the field is itself a `Properties` struct whose properties are listed with this one's.
#[proc_macro_derive(Properties, attributes(prop))]
pub fn derive_properties(input: TokenStream) -> TokenStream {
    let input = parse_macro_input!(input as DeriveInput);
    properties::expand(&input).unwrap_or_else(syn::Error::into_compile_error).into()
}

/// Makes a struct an element of the crate `xml`: gives it `xml::Element`, `Debug`, `Clone`, `Default` and `PartialEq`.
/// The order of the fields is the order of the text. Each field says where it stands:
///
/// * `#[attr]`, `#[attr("name")]`: an attribute. `Option` fields may be missing; others must be there, or have a
///   default with `#[attr(default)]`.
/// * `#[child("name")]`: an element of its own, as `Option`, `Vec` or `Option<Box<_>>`.
/// * `#[text("name")]`: an element that holds a value as text; `#[flag("name")]`: a `bool`, an empty element;
///   `#[content]`: the text of this element.
/// * `#[flatten]`: another element whose attributes and children stand in this one.
/// * `#[verbatim("name")]`: a `String`, an element that is kept as it is. `#[skip]`: no part of the text.
///
/// The name is the field's own where none is given. Fields without a comment are documented by their declaration.
#[proc_macro_attribute]
pub fn element(_arguments: TokenStream, input: TokenStream) -> TokenStream {
    let input = parse_macro_input!(input as DeriveInput);
    element::expand(input).unwrap_or_else(syn::Error::into_compile_error).into()
}

/// Makes an enum the words that an attribute may have: `as_str`, `from_word`, `ALL` and `xml::Value`. A variant's word
/// is its name in lower case, divided by dashes, or what `#[word("x")]` says. The first variant is the default.
#[proc_macro_attribute]
pub fn words(_arguments: TokenStream, input: TokenStream) -> TokenStream {
    let input = parse_macro_input!(input as DeriveInput);
    element::words(input).unwrap_or_else(syn::Error::into_compile_error).into()
}

/// Declares a part of an RPC program: structs, procedures, events, and the trait that handles the calls.
///
/// ```text
/// /// Documentation of the trait.
/// handler Files, prefix "Admin";      // left out where there is no `call`; the prefix is that of the structs' names
///
/// /// A part of arguments.
/// struct File { name: str, parts: [u32; 16] }
///
/// call 1 file_open(file: File, flags: u32) -> (id: i32): fileOpen, high, write, acl["file:open"];
/// ```
///
/// A procedure's first word says who answers it: `call` a method of the trait; `core` the server itself; `missing`
/// nobody yet (the client is told so by name); `relay X` another daemon; `event` is sent, not called. The name after
/// the colon is that of the API function, for messages. Attributes: `high` (priority), `write` (refused on read-only
/// connections), `write_if(MASK)` or `write_if(MASK, "TEXT")` (refused there with one of these flags), `read_stream`,
/// `write_stream`, `fds_in`, `fds_out`, `acl[...]`.
///
/// Types: any with the trait `Xdr`, `str`, `[TYPE; LIMIT]`, `bytes<LIMIT>`, `chars<LIMIT>`, `fixed_chars<LENGTH>`, and
/// each with `?` for an optional.
#[proc_macro]
pub fn protocol(input: TokenStream) -> TokenStream {
    let input = parse_macro_input!(input as protocol::Protocol);
    protocol::expand(&input).unwrap_or_else(syn::Error::into_compile_error).into()
}
