//! `#[element]`: one declaration of an XML element gives its reader, its writer and its documentation.

use proc_macro2::TokenStream;
use quote::quote;
use syn::parse::{Parse, ParseStream};
use syn::{Data, DeriveInput, Error, Expr, Field, Fields, Ident, Lit, LitStr, Meta, Result, Token, Type};

/// Where a field stands in the element.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Attribute,
    Child,
    Text,
    Flag,
    Content,
    Flatten,
    Verbatim,
    Skip,
}

/// The argument of a field's attribute: a name, and whether a missing one has a default value.
struct Argument {
    name: Option<String>,
    default: bool,
}

impl Parse for Argument {
    fn parse(input: ParseStream<'_>) -> Result<Self> {
        let mut this = Self { name: None, default: false };
        while !input.is_empty() {
            if input.peek(LitStr) {
                this.name = Some(input.parse::<LitStr>()?.value());
            } else {
                let word: Ident = input.parse()?;
                if word != "default" {
                    return Err(Error::new_spanned(word, "expected `default` or a name"));
                }
                this.default = true;
            }
            if !input.is_empty() {
                input.parse::<Token![,]>()?;
            }
        }
        Ok(this)
    }
}

/// What is known about a field.
struct Description {
    ident: Ident,
    kind: Kind,
    name: String,
    default: bool,
    optional: bool,
}

fn is_option(ty: &Type) -> bool {
    matches!(ty, Type::Path(path) if path.path.segments.last().is_some_and(|last| last.ident == "Option"))
}

impl Description {
    fn take(field: &mut Field) -> Result<Self> {
        let ident = field.ident.clone().ok_or_else(|| Error::new_spanned(&*field, "a field needs a name"))?;
        let kinds = [
            ("attr", Kind::Attribute),
            ("child", Kind::Child),
            ("text", Kind::Text),
            ("flag", Kind::Flag),
            ("content", Kind::Content),
            ("flatten", Kind::Flatten),
            ("verbatim", Kind::Verbatim),
            ("skip", Kind::Skip),
        ];
        let mut found = None;
        let mut rest = Vec::new();
        for attribute in field.attrs.drain(..) {
            match kinds.iter().find(|(name, _)| attribute.path().is_ident(name)) {
                Some(&(_, kind)) => {
                    let argument = match &attribute.meta {
                        Meta::Path(_) => Argument { name: None, default: false },
                        _ => attribute.parse_args()?,
                    };
                    found = Some((kind, argument));
                }
                None => rest.push(attribute),
            }
        }
        field.attrs = rest;
        let (kind, argument) =
            found.ok_or_else(|| Error::new_spanned(&*field, "the field says not where it stands"))?;
        let plain = ident.to_string().trim_start_matches("r#").to_owned();
        Ok(Self {
            name: argument.name.unwrap_or(plain),
            default: argument.default,
            optional: is_option(&field.ty),
            ident,
            kind,
        })
    }

    fn documentation(&self) -> String {
        let name = &self.name;
        match self.kind {
            Kind::Attribute => format!("Attribute `{name}`."),
            Kind::Child => format!("Element `<{name}>`."),
            Kind::Text => format!("Text of the element `<{name}>`."),
            Kind::Flag => format!("Whether the element `<{name}/>` is there."),
            Kind::Content => "The element's own text.".to_owned(),
            Kind::Flatten => "Attributes and elements shared with other elements.".to_owned(),
            Kind::Verbatim => format!("Element `<{name}>`, kept as it is."),
            Kind::Skip => "Not part of the text.".to_owned(),
        }
    }
}

/// Whether a documentation comment is among the attributes.
fn documented(field: &Field) -> bool {
    field.attrs.iter().any(|attribute| attribute.path().is_ident("doc"))
}

pub fn expand(mut input: DeriveInput) -> Result<TokenStream> {
    let ident = input.ident.clone();
    let Data::Struct(data) = &mut input.data else {
        return Err(Error::new_spanned(&ident, "an element is a struct"));
    };
    let Fields::Named(fields) = &mut data.fields else {
        return Err(Error::new_spanned(&ident, "an element is a struct with named fields"));
    };
    let mut all = Vec::new();
    for field in &mut fields.named {
        let description = Description::take(field)?;
        if !documented(field) {
            let text = description.documentation();
            field.attrs.push(syn::parse_quote!(#[doc = #text]));
        }
        all.push(description);
    }
    let of = |kind: Kind| all.iter().filter(move |field| field.kind == kind);
    let mut read_attribute = TokenStream::new();
    let mut write_attributes = TokenStream::new();
    let mut required: Vec<&str> = Vec::new();
    for field in &all {
        let (ident, name) = (&field.ident, field.name.as_str());
        match field.kind {
            Kind::Attribute => {
                read_attribute.extend(quote! {
                    #name => { self.#ident = ::xml::FromAttribute::from_attribute(value, name, element)?; return Ok(true); }
                });
                write_attributes.extend(quote! { ::xml::FromAttribute::write(&self.#ident, #name, writer); });
                if !field.optional && !field.default {
                    required.push(name);
                }
            }
            Kind::Flatten => {
                write_attributes.extend(quote! { ::xml::Element::write_attributes(&self.#ident, writer); })
            }
            _ => {}
        }
    }
    let flat: Vec<&Ident> = of(Kind::Flatten).map(|field| &field.ident).collect();
    let mut read_child = TokenStream::new();
    let mut write_content = TokenStream::new();
    for field in &all {
        let (ident, name) = (&field.ident, field.name.as_str());
        match field.kind {
            Kind::Child => {
                read_child.extend(quote! {
                    #name => { ::xml::FromChild::add(&mut self.#ident, node)?; return Ok(true); }
                });
                write_content.extend(quote! { ::xml::FromChild::write(&self.#ident, #name, writer); });
            }
            Kind::Text => {
                read_child.extend(quote! {
                    #name => { ::xml::FromText::add(&mut self.#ident, node)?; return Ok(true); }
                });
                write_content.extend(quote! { ::xml::FromText::write(&self.#ident, #name, writer); });
            }
            Kind::Flag => {
                read_child.extend(quote! {
                    #name => { ::xml::flag(node, &mut self.#ident)?; return Ok(true); }
                });
                write_content.extend(quote! { if self.#ident { writer.empty(#name); } });
            }
            Kind::Verbatim => {
                read_child.extend(quote! {
                    #name => { ::xml::verbatim(node, &mut self.#ident)?; return Ok(true); }
                });
                write_content.extend(quote! { ::xml::write_verbatim(&self.#ident, writer); });
            }
            Kind::Content => write_content.extend(quote! { ::xml::Content::write(&self.#ident, writer); }),
            Kind::Flatten => {
                write_content.extend(quote! { ::xml::Element::write_content(&self.#ident, writer); });
            }
            Kind::Attribute | Kind::Skip => {}
        }
    }
    let contents: Vec<&Ident> = of(Kind::Content).map(|field| &field.ident).collect();
    let read_text = match contents.as_slice() {
        [] if flat.is_empty() => quote! { let _ = (text, element); Ok(false) },
        [] => quote! {
            #(if ::xml::Element::text(&mut self.#flat, text, element)? { return Ok(true); })*
            Ok(false)
        },
        [content] => quote! { ::xml::Content::read(&mut self.#content, text, element)?; Ok(true) },
        [_, second, ..] => return Err(Error::new_spanned(second, "an element has one text")),
    };
    let packed: Vec<&Ident> =
        all.iter().filter(|field| field.kind != Kind::Skip).map(|field| &field.ident).collect();
    let skipped = of(Kind::Skip).map(|field| &field.ident);
    let derives = quote! { #[derive(Debug, Clone, Default, PartialEq)] };
    Ok(quote! {
        #derives
        #input

        impl ::xml::Element for #ident {
            fn required() -> &'static [&'static str] {
                &[#(#required),*]
            }

            fn begin(&mut self, node: &::xml::Node<'_>) -> ::xml::Result<()> {
                #(::xml::Element::begin(&mut self.#flat, node)?;)*
                let _ = node;
                Ok(())
            }

            fn attribute(&mut self, name: &str, value: &str, element: &str) -> ::xml::Result<bool> {
                match name {
                    #read_attribute
                    _ => {}
                }
                #(if ::xml::Element::attribute(&mut self.#flat, name, value, element)? { return Ok(true); })*
                let _ = (value, element);
                Ok(false)
            }

            fn child(&mut self, name: &str, node: &::xml::Node<'_>) -> ::xml::Result<bool> {
                match name {
                    #read_child
                    _ => {}
                }
                #(if ::xml::Element::child(&mut self.#flat, name, node)? { return Ok(true); })*
                let _ = node;
                Ok(false)
            }

            fn text(&mut self, text: &str, element: &str) -> ::xml::Result<bool> {
                #read_text
            }

            fn write_attributes(&self, writer: &mut ::xml::Writer) {
                let _ = &writer;
                #write_attributes
            }

            fn write_content(&self, writer: &mut ::xml::Writer) {
                let _ = &writer;
                #write_content
            }
        }

        impl ::xml::Pack for #ident {
            fn pack(&self, to: &mut ::xml::Packer) {
                let _ = &to;
                #(::xml::Pack::pack(&self.#packed, to);)*
            }

            fn unpack(from: &mut ::xml::Unpacker<'_>) -> ::core::option::Option<Self> {
                let _ = &from;
                Some(Self {
                    #(#packed: ::xml::Pack::unpack(from)?,)*
                    #(#skipped: ::core::default::Default::default(),)*
                })
            }
        }
    })
}

/// The text of one enum value: what `#[word("x")]` says, else the variant's name in lower case with dashes.
fn word(variant: &mut syn::Variant) -> Result<String> {
    let mut chosen = None;
    let mut rest = Vec::new();
    for attribute in variant.attrs.drain(..) {
        if attribute.path().is_ident("word") {
            let expr: Expr = attribute.parse_args()?;
            let Expr::Lit(syn::ExprLit { lit: Lit::Str(text), .. }) = expr else {
                return Err(Error::new_spanned(attribute, "expected a string"));
            };
            chosen = Some(text.value());
        } else {
            rest.push(attribute);
        }
    }
    variant.attrs = rest;
    let name = variant.ident.to_string();
    Ok(chosen.unwrap_or_else(|| {
        let mut text = String::new();
        for (index, character) in name.char_indices() {
            if character.is_ascii_uppercase() && index > 0 {
                text.push('-');
            }
            text.push(character.to_ascii_lowercase());
        }
        text
    }))
}

pub fn words(mut input: DeriveInput) -> Result<TokenStream> {
    let ident = input.ident.clone();
    let Data::Enum(data) = &mut input.data else {
        return Err(Error::new_spanned(&ident, "words are an enum"));
    };
    let mut names = Vec::new();
    let mut variants = Vec::new();
    for (index, variant) in data.variants.iter_mut().enumerate() {
        let text = word(variant)?;
        if !variant.attrs.iter().any(|attribute| attribute.path().is_ident("doc")) {
            let documentation = format!("`{text}`.");
            variant.attrs.push(syn::parse_quote!(#[doc = #documentation]));
        }
        if index == 0 {
            variant.attrs.push(syn::parse_quote!(#[default]));
        }
        names.push(text);
        variants.push(variant.ident.clone());
    }
    Ok(quote! {
        #[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #input

        impl #ident {
            /// All values in their order.
            pub const ALL: &'static [Self] = &[#(Self::#variants),*];

            /// The word that stands for the value.
            pub const fn as_str(self) -> &'static str {
                match self { #(Self::#variants => #names),* }
            }

            /// The value that a word stands for.
            pub fn from_word(word: &str) -> Option<Self> {
                match word { #(#names => Some(Self::#variants),)* _ => None }
            }
        }

        impl ::core::fmt::Display for #ident {
            fn fmt(&self, formatter: &mut ::core::fmt::Formatter<'_>) -> ::core::fmt::Result {
                formatter.write_str(self.as_str())
            }
        }

        impl ::xml::Value for #ident {
            fn parse(text: &str) -> ::core::result::Result<Self, ::xml::Expected> {
                Self::from_word(text).ok_or(::xml::Expected::Word)
            }

            fn format(&self) -> ::std::borrow::Cow<'_, str> {
                self.as_str().into()
            }
        }

        impl ::xml::Pack for #ident {
            fn pack(&self, to: &mut ::xml::Packer) {
                to.number(*self as u64);
            }

            fn unpack(from: &mut ::xml::Unpacker<'_>) -> ::core::option::Option<Self> {
                Self::ALL.get(usize::try_from(from.number()?).ok()?).copied()
            }
        }
    })
}
