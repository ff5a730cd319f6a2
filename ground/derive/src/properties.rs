//! `#[derive(Properties)]`.

use proc_macro2::TokenStream;
use quote::quote;
use syn::{Data, DeriveInput, Error, Expr, ExprLit, Field, Fields, Lit, LitStr, Meta, Result};

/// What the attributes of one field say.
struct Attributes {
    name: String,
    help: String,
    default: Option<Expr>,
    flatten: bool,
    part: bool,
}

impl Attributes {
    fn of(field: &Field) -> Result<Self> {
        let ident =
            field.ident.as_ref().ok_or_else(|| Error::new_spanned(field, "a property needs a name"))?;
        let mut this = Self {
            name: ident.to_string().replace('_', "-"),
            help: String::new(),
            default: None,
            flatten: false,
            part: false,
        };
        for attribute in &field.attrs {
            if attribute.path().is_ident("doc")
                && let Meta::NameValue(pair) = &attribute.meta
                && let Expr::Lit(ExprLit { lit: Lit::Str(text), .. }) = &pair.value
            {
                if !this.help.is_empty() {
                    this.help.push(' ');
                }
                this.help.push_str(text.value().trim());
            }
            if attribute.path().is_ident("prop") {
                attribute.parse_nested_meta(|meta| {
                    if meta.path.is_ident("flatten") {
                        this.flatten = true;
                    } else if meta.path.is_ident("part") {
                        this.part = true;
                    } else if meta.path.is_ident("default") {
                        this.default = Some(meta.value()?.parse()?);
                    } else if meta.path.is_ident("name") {
                        this.name = meta.value()?.parse::<LitStr>()?.value();
                    } else {
                        return Err(meta.error("expected `default`, `name`, `part` or `flatten`"));
                    }
                    Ok(())
                })?;
            }
        }
        // The help line ends without a full stop, as QEMU's do.
        if this.help.ends_with('.') {
            this.help.pop();
        }
        Ok(this)
    }
}

pub(crate) fn expand(input: &DeriveInput) -> Result<TokenStream> {
    let Data::Struct(data) = &input.data else {
        return Err(Error::new_spanned(input, "Properties can be derived for structs only"));
    };
    let Fields::Named(fields) = &data.fields else {
        return Err(Error::new_spanned(input, "Properties needs named fields"));
    };
    let mut visits = Vec::new();
    let mut defaults = Vec::new();
    for field in &fields.named {
        let attributes = Attributes::of(field)?;
        let ident = &field.ident;
        let Attributes { name, help, part, .. } = &attributes;
        visits.push(if attributes.flatten {
            quote! { ::qdev::Properties::visit(&mut self.#ident, visitor); }
        } else {
            quote! { visitor(&::qdev::PropertyInfo { name: #name, help: #help, part: #part }, &mut self.#ident); }
        });
        defaults.push(match &attributes.default {
            Some(value) => quote! { #ident: ::core::convert::Into::into(#value) },
            None => quote! { #ident: ::core::default::Default::default() },
        });
    }
    let ident = &input.ident;
    Ok(quote! {
        impl ::core::default::Default for #ident {
            fn default() -> Self {
                Self { #(#defaults,)* }
            }
        }

        impl ::qdev::Properties for #ident {
            fn visit(&mut self, visitor: &mut dyn FnMut(&'static ::qdev::PropertyInfo, &mut dyn ::qdev::PropertyField)) {
                #(#visits)*
            }
        }
    })
}
