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
    assert_eq!(invalid("<b/>"), "Expecting element a, got b");
    for bad in [
        "<a x='-1'><b/></a>",
        "<a>text<b/></a>",
        "<a><b/><c xmlns='urn:x'>three</c></a>",
        "<a><b/><c>one</c><z><b/></z></a>",
        "<a><b/><z/><b/></a>",
    ] {
        assert!(invalid(bad).ends_with("Element a failed to validate content"), "{bad}");
    }
    assert_eq!(invalid("<a x='1' y='2'><b/></a>"), "Invalid attribute y for element a");
    assert_eq!(
        invalid("<a/>"),
        "Expecting an element b, got nothing\nInvalid sequence in interleave\nElement a failed to validate content"
    );
}

#[test]
fn exceptions_of_types() {
    let body = "<start><element name='a'><data type='string'><except><choice><value>.</value><value>..</value>\
                </choice></except></data></element></start>";
    assert_eq!(check(body, "<a>...</a>"), Ok(()));
    assert!(check(body, "<a>..</a>").is_err());
}

#[test]
fn schemas_that_are_not_built_are_refused() {
    let refused = |body: &str| matches!(check(body, "<a/>"), Err(Error::Schema(_)));
    assert!(refused("<start><ref name='none'/></start>"));
    assert!(refused("<start><list><empty/></list></start>"));
    assert!(refused("<start><element name='a'><data type='what'/></element></start>"));
    assert!(refused(
        "<start><ref name='x'/></start><define name='x'><group><ref name='x'/></group></define>"
    ));
    assert!(refused(
        "<start><ref name='x'/></start><define name='x'><empty/></define><define name='x'><empty/></define>"
    ));
    assert!(Schema::read(Path::new("/nonexistent/x.rng")).is_err());
}

#[test]
fn documents_cannot_take_all_there_is() {
    // Every order of many elements, each of which may be there or not: what is left differs each time.
    let names: Vec<String> = (0..60).map(|number| format!("e{number}")).collect();
    let each = |of: &str| names.iter().map(|name| of.replace('N', name)).collect::<String>();
    let body = format!(
        "<start><element name='a'><zeroOrMore><interleave>{}</interleave></zeroOrMore></element></start>",
        each("<optional><element name='N'><empty/></element></optional>")
    );
    let document = format!("<a>{}</a>", each("<N/>").repeat(20));
    assert_eq!(check(&body, &document), Ok(()));
    // Elements of which nobody can tell which of many they are.
    let body = format!(
        "<start><element name='a'><interleave>{}</interleave></element></start>",
        each(
            "<optional><element name='b'><optional><attribute name='N'/></optional><text/></element></optional>"
        )
    );
    assert_eq!(check(&body, &format!("<a>{}</a>", "<b/>".repeat(40))), Err(Error::TooComplex));
    let any = "<start><ref name='x'/></start><define name='x'><element name='a'><optional><ref name='x'/></optional>\
               </element></define>";
    let deep = |levels: usize| format!("{}{}", "<a>".repeat(levels), "</a>".repeat(levels));
    assert_eq!(check(any, &deep(250)), Ok(()));
    assert_eq!(check(any, &deep(500)), Err(Error::TooComplex));
    let long = format!("<start><element name='a'>{}</element></start>", "<attribute name='b'/>".repeat(700));
    assert_eq!(check(&long, "<a/>"), Err(Error::TooComplex));
    // Long text beside a pattern, and many elements that are as they should be.
    let text = "<start><element name='a'><oneOrMore><element name='b'><data type='string'><param name='pattern'>\
                [a-z]{0,200}</param></data></element></oneOrMore></element></start>";
    let begin = std::time::Instant::now();
    assert!(check(text, &format!("<a><b>{}</b></a>", "a".repeat(4 << 20))).is_err());
    assert_eq!(check(text, &format!("<a>{}</a>", "<b>c</b>".repeat(20_000))), Ok(()));
    assert!(begin.elapsed() < std::time::Duration::from_secs(20));
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
    for wrong in ["<vcpux/>", "<vcpu>x</vcpu>", "<devices><input type='x'/></devices>", "<name>y</name>"] {
        let checked = check(&domain(wrong));
        assert!(matches!(checked, Err(Error::Invalid(_))), "{wrong}: {checked:?}");
    }
    let invalid =
        |lines: &str| Err(Error::Invalid(format!("{lines}Element domain failed to validate content")));
    assert_eq!(
        check(&domain("<vcpu>x</vcpu>")),
        invalid("Extra element vcpu in interleave\nInvalid sequence in interleave\n")
    );
    assert_eq!(
        check(&domain("<devices><input type='x'/></devices>")),
        invalid("Extra element devices in interleave\n")
    );
    assert_eq!(
        check(&domain("<vcpux/>")),
        Err(Error::Invalid("Element domain has extra content: vcpux".to_owned()))
    );
}
