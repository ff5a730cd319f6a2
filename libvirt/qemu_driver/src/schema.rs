//! Documents of clients who ask for validation are compared with libvirt's schemas.

use crate::error::{Result, xml};
use rpc::{Code, Error, Origin};
use std::path::Path;

/// Where libvirt's packages put their schemas.
const FOLDER: &str = "/usr/share/libvirt/schemas";

/// Compares a document, whose outermost element is `root`, with the schema in a file of that name.
///
/// # Errors
/// It is not as the schema wants it; it is no such document; the schema cannot be read; or the comparison takes more
/// than anybody's documents do.
pub fn validate(text: &str, root: &str, file: &str) -> Result<()> {
    let path = Path::new(FOLDER).join(file);
    let compared = xml::parse(text, root, |node| Ok(compare(&path, node)));
    let Err(error) = compared.map_err(|error| xml(&error))? else { return Ok(()) };
    let shown = path.display();
    let (code, detail) = match error {
        relaxng::Error::Schema(why) => (Code::InternalError, format!("Unable to parse RNG {shown}: {why}\n")),
        relaxng::Error::Invalid(_) | relaxng::Error::TooComplex => {
            (Code::XmlInvalidSchema, format!("Unable to validate doc against {shown}\n{error}\n"))
        }
    };
    Err(Error::new(Origin::Xml, code, detail))
}

fn compare(path: &Path, node: &xml::Node<'_>) -> Result<(), relaxng::Error> {
    relaxng::Schema::read(path)?.validate(node.document())
}
