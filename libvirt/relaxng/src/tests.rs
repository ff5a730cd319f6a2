//! Small schemas, and libvirt's own.

use crate::{Error, Schema};
use roxmltree::Document;
use std::path::Path;

fn check(body: &str, document: &str) -> Result<(), Error> {
    let head = "<grammar xmlns='http://relaxng.org/ns/structure/1.0'>";
    let schema = Schema::from_text(&format!("{head}{body}</grammar>"));
    schema.validate(&Document::parse(document).expect("XML"))
}

#[test]
fn order_number_and_names() {
    let body = "<start><element name='a'>
        <optional><attribute name='x'><data type='unsignedInt'/></attribute></optional>
        <interleave>
          <oneOrMore><element name='b'><text/></element></oneOrMore>
          <optional><element name='c' ns='urn:x'><choice><value>one</value><value>two</value></choice></element></optional>
        </interleave>
        <zeroOrMore><ref name='any'/></zeroOrMore>
      </element></start>
      <define name='any'><element><anyName><except><name>b</name><nsName ns='urn:x'/></except></anyName>
        <zeroOrMore><choice><attribute><anyName/></attribute><text/><ref name='any'/></choice></zeroOrMore></element></define>";
    for good in [
        "<a><b/></a>",
        "<a x=' 7 '><b>t</b><c xmlns='urn:x'> two </c><b/></a>",
        "<a>\n<!-- c --><b/><z q='1'>t<y/>u</z></a>",
    ] {
        assert_eq!(check(body, good), Ok(()), "{good}");
    }
    let invalid = |document: &str| match check(body, document) {
        Err(Error::Invalid(text)) => text,
        other => panic!("{document}: {other:?}"),
    };
    assert_eq!(invalid("<b/>"), "Did not expect element b there\nElement b failed to validate content");
    assert!(invalid("<a/>").starts_with("Expecting more in element a\n"));
    assert_eq!(
        invalid("<a><b/><z/><b/></a>"),
        "Did not expect element b there\nElement a failed to validate content"
    );
    assert!(invalid("<a x='-1'><b/></a>").starts_with("Invalid attribute x for element a\n"));
    assert!(invalid("<a x='1' y='2'><b/></a>").starts_with("Invalid attribute y for element a\n"));
    assert!(invalid("<a>text<b/></a>").starts_with("Did not expect text in element a content\n"));
    assert!(invalid("<a><b/><c xmlns='urn:x'>three</c></a>").contains("element c"));
    assert!(invalid("<a><b/><c>one</c><z><b/></z></a>").contains("element b there\nElement z"));
}

#[test]
fn schemas_that_are_not_built_are_refused() {
    let refused = |body: &str| matches!(check(body, "<a/>"), Err(Error::Schema(_)));
    assert!(refused("<start><ref name='none'/></start>"));
    assert!(refused("<start><list><empty/></list></start>"));
    assert!(refused("<start><element name='a'><data type='what'/></element></start>"));
    assert!(refused("<start><ref name='x'/></start><define name='x'><group><ref name='x'/></group></define>"));
    assert!(refused("<start><ref name='x'/></start><define name='x'><empty/></define><define name='x'><empty/></define>"));
    assert!(Schema::read(Path::new("/nonexistent/x.rng")).is_err());
}

#[test]
fn documents_cannot_take_all_there_is() {
    // Every order of many elements, none of which comes twice: what is left differs each time.
    let names: Vec<String> = (0..60).map(|number| format!("e{number}")).collect();
    let each = |of: &str| names.iter().map(|name| of.replace('N', name)).collect::<String>();
    let body = format!(
        "<start><element name='a'><zeroOrMore><interleave>{}</interleave></zeroOrMore></element></start>",
        each("<optional><element name='N'><empty/></element></optional>")
    );
    let document = format!("<a>{}</a>", each("<N/>").repeat(20));
    // A verdict or a refusal, in no time.
    let begin = std::time::Instant::now();
    let _ = check(&body, &document);
    assert!(begin.elapsed() < std::time::Duration::from_secs(20));
    let any = "<start><ref name='x'/></start><define name='x'><element name='a'><optional><ref name='x'/></optional>\
               </element></define>";
    assert_eq!(check(any, "<a><a><a/></a></a>"), Ok(()));
    let deep = format!("{}{}", "<a>".repeat(500), "</a>".repeat(500));
    assert_eq!(check(any, &deep), Err(Error::TooComplex));
}

#[test]
fn libvirts_schema() {
    let path = Path::new("/usr/share/libvirt/schemas/domain.rng");
    if !path.exists() {
        println!("SKIPPED libvirts_schema: no {}", path.display());
        return;
    }
    let schema = Schema::read(path).expect("a schema");
    let check = |text: &str| schema.validate(&Document::parse(text).expect("XML"));
    let domain = |rest: &str| {
        format!(
            "<domain type='kvm'><name>x</name><memory unit='KiB'>1</memory><os><type arch='x86_64'>hvm</type></os>{rest}</domain>"
        )
    };
    assert_eq!(check(&domain("")), Ok(()));
    assert_eq!(check(&domain("<vcpu>2</vcpu><devices><input type='tablet' bus='usb'/></devices>")), Ok(()));
    let metadata = "<metadata><a:b xmlns:a='urn:x' c='d'>t<e/></a:b></metadata>";
    assert_eq!(check(&domain(metadata)), Ok(()));
    for wrong in ["<vcpus/>", "<vcpu>x</vcpu>", "<devices><input type='x'/></devices>", "<name>y</name>"] {
        assert!(matches!(check(&domain(wrong)), Err(Error::Invalid(_))), "{wrong}");
    }
}
