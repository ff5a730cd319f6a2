//! Derive macros of the house.
#![forbid(unsafe_code)]

mod properties;

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
