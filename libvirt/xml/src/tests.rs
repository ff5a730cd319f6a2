//! Tests of reading and writing by declaration.

use super::*;

/// Words.
#[words]
enum Colour {
    Red,
    DarkBlue,
    #[word("2")]
    Two,
}

/// The part that others have too.
#[element]
struct Common {
    #[attr]
    note: Option<String>,
    #[child]
    inner: Vec<Inner>,
}

/// An element with text.
#[element]
struct Inner {
    #[attr]
    unit: Option<String>,
    #[content]
    value: u64,
}

/// An element with everything.
#[element]
struct Outer {
    #[attr("colour")]
    colour: Colour,
    #[attr(default)]
    slot: Hex<2>,
    #[flatten]
    common: Common,
    #[text("serial")]
    serial: Option<String>,
    #[flag("readonly")]
    read_only: bool,
    #[verbatim("kept")]
    kept: Option<Tree>,
    #[child]
    outer: Option<Box<Outer>>,
}

const TEXT: &str = "\
<outer colour='dark-blue' slot='0x0a' note='a&apos;b'>
  <inner unit='k'>5</inner>
  <inner>6</inner>
  <serial>&lt;x&gt;</serial>
  <readonly/>
  <kept>
    <p:x xmlns:p=\"urn:p\" a=\"1\">
      <p:y>text</p:y>
    </p:x>
  </kept>
  <outer colour='2' slot='0x00'/>
</outer>
";

#[test]
fn what_is_read_is_written() {
    let outer: Outer = from_str(TEXT, "outer").unwrap();
    assert_eq!(outer.colour, Colour::DarkBlue);
    assert_eq!(outer.slot, Hex(10));
    assert_eq!(outer.common.inner[1].value, 6);
    assert!(outer.read_only);
    assert_eq!(outer.outer.as_ref().unwrap().colour, Colour::Two);
    assert_eq!(to_string(&outer, "outer"), TEXT);
}

#[test]
fn what_is_wrong_is_named() {
    let error = |text: &str| from_str::<Outer>(text, "outer").unwrap_err().to_string();
    assert_eq!(error("<outer/>"), "XML error: Missing required attribute 'colour' in element 'outer'");
    assert_eq!(
        error("<outer colour='green'/>"),
        "XML error: Invalid value for attribute 'colour' in element 'outer': 'green'."
    );
    assert_eq!(
        error("<outer colour='red' slot='-1'/>"),
        "XML error: Invalid value for attribute 'slot' in element 'outer': '-1'. Expected non-negative integer value"
    );
    assert_eq!(
        error("<outer colour='red' x='1'/>"),
        "unsupported configuration: attribute 'x' of element 'outer' is not supported"
    );
    assert_eq!(
        error("<outer colour='red'><y/></outer>"),
        "unsupported configuration: element 'y' in element 'outer' is not supported"
    );
    assert_eq!(
        error("<outer colour='red'>word</outer>"),
        "unsupported configuration: text in element 'outer' is not supported"
    );
    assert_eq!(error("<inner/>"), "XML error: expecting root element of 'outer', not 'inner'");
    assert!(error("<outer").starts_with("(domain_definition):"));
    assert!(error(&"<outer>".repeat(100_000)).contains("nested"));
    assert!(error("<!DOCTYPE x [<!ENTITY a 'b'>]><outer/>").starts_with("(domain_definition):"));
}

#[test]
fn elements_enter_and_leave_name_spaces() {
    let metadata =
        "<metadata xmlns:o='urn:o'><o:a/><p:x xmlns:p='urn:p'><p:y a='1'/><z/></p:x><bare/><o:b/></metadata>";
    let mut tree = Tree::parse(metadata, "(text)").unwrap();
    tree.one_of_each_namespace();
    assert_eq!(tree.child_of_namespace("urn:p").unwrap().text(), "<x>\n  <y a=\"1\"/>\n  <z/>\n</x>");
    assert_eq!(tree.child_of_namespace("urn:o").unwrap().text(), "<a/>");
    assert_eq!(tree.child_of_namespace("urn:none"), None);
    let mut new = Tree::parse("<n><m>t</m><k xmlns='urn:k'/></n>", "(text)").unwrap();
    new.enter_namespace("q", "urn:p");
    assert_eq!(new.text(), "<q:n xmlns:q=\"urn:p\">\n  <q:m>t</q:m>\n  <k xmlns=\"urn:k\"/>\n</q:n>");
    tree.replace_namespace("urn:p", Some(new));
    assert_eq!(
        tree.child_of_namespace("urn:p").unwrap().text(),
        "<n>\n  <m>t</m>\n  <k xmlns=\"urn:k\"/>\n</n>"
    );
    tree.replace_namespace("urn:p", None);
    assert_eq!(tree.text(), "<metadata xmlns:o=\"urn:o\">\n  <o:a/>\n</metadata>");
    assert!(Tree::parse("<a>", "(text)").unwrap_err().to_string().starts_with("(text):"));
}
