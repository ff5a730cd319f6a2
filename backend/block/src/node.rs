//! `-blockdev`: nodes of the block graph, as typed descriptions.

use crate::options::{Aio, UNBUILT_FORMATS, detect_zeroes, locking};
use crate::{BlockError, BlockOptions, Discard};
use json::{Dict, Value};

/// How deep nodes may be described within nodes.
const MAX_DEPTH: usize = 16;

/// A node: a file, or a raw disk within one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Node {
    /// `node-name`; only the outermost node needs one.
    pub name: Option<String>,
    /// What it does. [`BlockOptions::file`] is set for files.
    pub options: BlockOptions,
    /// For a raw node: what lies below.
    pub child: Option<Child>,
}

/// A node below another.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Child {
    /// One that exists.
    Named(String),
    /// One that is described in place.
    Inline(Box<Node>),
}

/// The members of one node's description while they are read.
struct Members {
    dict: Dict,
    /// Dotted path of the node in the outermost one.
    path: String,
    /// From `key=value`: all values are text.
    text: bool,
}

fn error<T>(text: String) -> Result<T, BlockError> {
    Err(BlockError(text))
}

impl Members {
    fn full(&self, key: &str) -> String {
        format!("{}{key}", self.path)
    }

    fn string(&mut self, key: &str) -> Result<Option<String>, BlockError> {
        match self.dict.remove(key) {
            None => Ok(None),
            Some(Value::Str(text)) => Ok(Some(text)),
            Some(_) => error(format!("Invalid parameter type for '{}', expected: string", self.full(key))),
        }
    }

    fn bool(&mut self, key: &str) -> Result<Option<bool>, BlockError> {
        let full = self.full(key);
        match self.dict.remove(key) {
            None => Ok(None),
            Some(Value::Bool(on)) if !self.text => Ok(Some(on)),
            Some(Value::Str(text)) if self.text => {
                keyval::parse_bool(&full, &text).map(Some).map_err(|e| BlockError(e.0))
            }
            Some(_) => error(format!("Invalid parameter type for '{full}', expected: boolean")),
        }
    }

    fn int(&mut self, key: &str) -> Result<Option<u64>, BlockError> {
        let full = self.full(key);
        let number = match self.dict.remove(key) {
            None => return Ok(None),
            Some(Value::Int(number)) if !self.text => number,
            Some(Value::Str(text)) if self.text => match text.parse() {
                Ok(number) => number,
                Err(_) => return error(format!("Parameter '{full}' expects integer")),
            },
            Some(_) => return error(format!("Invalid parameter type for '{full}', expected: integer")),
        };
        u64::try_from(number)
            .map(Some)
            .or_else(|_| error(format!("Parameter '{full}' expects a non-negative integer")))
    }

    /// One of a list of names.
    fn choice<T>(&mut self, key: &str, find: impl Fn(&str) -> Option<T>) -> Result<Option<T>, BlockError> {
        let full = self.full(key);
        let Some(text) = self.string(key)? else { return Ok(None) };
        match find(&text) {
            Some(value) => Ok(Some(value)),
            None => error(format!("Parameter '{full}' does not accept value '{text}'")),
        }
    }

    /// Refuses members that nobody has read.
    fn finish(&self) -> Result<(), BlockError> {
        match self.dict.iter().next() {
            Some((key, _)) => error(format!("Parameter '{}' is unexpected", self.full(key))),
            None => Ok(()),
        }
    }
}

impl Node {
    /// Reads the argument of `-blockdev`. `text`: it was given as `key=value`, so that all values are strings.
    ///
    /// # Errors
    /// A member is missing, unknown or of the wrong type, or something is not built: QEMU's texts where it has one.
    pub fn parse(dict: &Dict, text: bool) -> Result<Self, BlockError> {
        let node = Self::inner(Members { dict: dict.clone(), path: String::new(), text }, 0)?;
        match &node.name {
            None => error("'node-name' must be specified for the root node".to_owned()),
            Some(name) => check_name(name).map(|()| node),
        }
    }

    fn inner(mut members: Members, depth: usize) -> Result<Self, BlockError> {
        if depth > MAX_DEPTH {
            return error("nodes are nested too deeply".to_owned());
        }
        let full = members.full("driver");
        let Some(driver) = members.string("driver")? else {
            return error(format!("Parameter '{full}' is missing"));
        };
        if !matches!(driver.as_str(), "file" | "raw") {
            return error(if UNBUILT_FORMATS.contains(&driver.as_str()) {
                format!("block driver '{driver}' is not supported by this build")
            } else {
                format!("Parameter '{full}' does not accept value '{driver}'")
            });
        }
        let name = members.string("node-name")?;
        let mut options = BlockOptions { format: Some("raw".to_owned()), ..BlockOptions::default() };
        let discard = |name: &str| match name {
            "ignore" | "off" => Some(Discard::Ignore),
            "unmap" | "on" => Some(Discard::Unmap),
            _ => None,
        };
        options.discard = members.choice("discard", discard)?.unwrap_or_default();
        if let Some(cache) = members.dict.remove("cache") {
            let Value::Dict(dict) = cache else {
                return error(format!(
                    "Invalid parameter type for '{}', expected: object",
                    members.full("cache")
                ));
            };
            let mut inner = Members { dict, path: members.full("cache."), text: members.text };
            options.cache.direct = inner.bool("direct")?.unwrap_or(false);
            options.cache.no_flush = inner.bool("no-flush")?.unwrap_or(false);
            inner.finish()?;
        }
        options.read_only = members.bool("read-only")?.unwrap_or(false);
        options.auto_read_only = members.bool("auto-read-only")?.unwrap_or(false);
        options.force_share = members.bool("force-share")?.unwrap_or(false);
        options.detect_zeroes = members.choice("detect-zeroes", detect_zeroes)?.unwrap_or_default();
        let child = if driver == "file" {
            file_members(&mut members, &mut options)?;
            None
        } else {
            Some(raw_members(&mut members, &mut options, depth)?)
        };
        members.finish()?;
        Ok(Self { name, options, child })
    }
}

fn file_members(members: &mut Members, options: &mut BlockOptions) -> Result<(), BlockError> {
    let Some(path) = members.string("filename")? else {
        return error(format!("Parameter '{}' is missing", members.full("filename")));
    };
    options.file = Some(path);
    options.locking = members.choice("locking", |name| locking("", name).ok())?.unwrap_or_default();
    options.aio = members.choice("aio", Aio::by_name)?.unwrap_or_default();
    for key in ["pr-manager", "aio-max-batch", "drop-cache", "x-check-cache-dropped"] {
        if members.dict.get(key).is_some() {
            return error(format!("'{}' is not supported by this build", members.full(key)));
        }
    }
    Ok(())
}

fn raw_members(members: &mut Members, options: &mut BlockOptions, depth: usize) -> Result<Child, BlockError> {
    let full = members.full("file");
    let child = match members.dict.remove("file") {
        None => return error(format!("Parameter '{full}' is missing")),
        Some(Value::Str(name)) => Child::Named(name),
        Some(Value::Dict(dict)) => {
            let below = Members { dict, path: format!("{full}."), text: members.text };
            Child::Inline(Box::new(Node::inner(below, depth + 1)?))
        }
        Some(_) => return error(format!("Invalid parameter type for '{full}', expected: BlockdevRef")),
    };
    options.offset = members.int("offset")?.unwrap_or(0);
    options.size = members.int("size")?;
    Ok(child)
}

/// Checks a node's name.
///
/// # Errors
/// It is too long or not an identifier.
pub fn check_name(name: &str) -> Result<(), BlockError> {
    if name.len() > 31 {
        return error("Node name too long".to_owned());
    }
    let good = name.starts_with(|c: char| c.is_ascii_alphabetic())
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_'));
    if good { Ok(()) } else { error(format!("Invalid node-name: '{name}'")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(line: &str) -> Result<Node, BlockError> {
        Node::parse(&keyval::dict(line, Some("driver")).expect(line), true)
    }

    fn json(line: &str) -> Result<Node, BlockError> {
        Node::parse(&keyval::dict(line, None).expect(line), false)
    }

    #[test]
    fn nodes_are_read_from_both_syntaxes() {
        let node = text("raw,node-name=r,offset=512,file.driver=file,file.filename=x,file.locking=off")
            .expect("raw");
        let Some(Child::Inline(file)) = &node.child else { panic!("no file") };
        assert_eq!((node.options.offset, file.options.file.as_deref()), (512, Some("x")));
        assert_eq!(file.options.locking, crate::Locking::Off);
        let node = json(
            r#"{"driver":"raw","node-name":"r","file":"f","read-only":true,"cache":{"direct":true,"no-flush":false}}"#,
        )
        .expect("raw");
        assert_eq!(node.child, Some(Child::Named("f".to_owned())));
        assert!(node.options.read_only && node.options.cache.direct);
    }

    #[test]
    fn errors_are_worded_as_in_qemu() {
        for (line, wanted) in [
            ("foo,node-name=a", "Parameter 'driver' does not accept value 'foo'"),
            ("qcow2,node-name=a", "block driver 'qcow2' is not supported by this build"),
            ("raw", "Parameter 'file' is missing"),
            ("file,node-name=a", "Parameter 'filename' is missing"),
            ("file,filename=x", "'node-name' must be specified for the root node"),
            ("file,filename=x,node-name=1", "Invalid node-name: '1'"),
            ("file,filename=x,node-name=a,foo=1", "Parameter 'foo' is unexpected"),
            ("file,filename=x,node-name=a,cache.foo=1", "Parameter 'cache.foo' is unexpected"),
            ("file,filename=x,node-name=a,read-only=foo", "Parameter 'read-only' expects 'on' or 'off'"),
            ("raw,node-name=a,file=f,offset=1M", "Parameter 'offset' expects integer"),
            ("raw,node-name=a,file.driver=file", "Parameter 'file.filename' is missing"),
            ("file,filename=x,node-name=a,aio=foo", "Parameter 'aio' does not accept value 'foo'"),
        ] {
            assert_eq!(text(line).expect_err(line).0, wanted, "{line}");
        }
        for (line, wanted) in [
            (
                r#"{"driver":"file","filename":5,"node-name":"f"}"#,
                "Invalid parameter type for 'filename', expected: string",
            ),
            (
                r#"{"driver":"file","filename":"x","node-name":"f","read-only":"on"}"#,
                "Invalid parameter type for 'read-only', expected: boolean",
            ),
            (
                r#"{"driver":"raw","file":5,"node-name":"r"}"#,
                "Invalid parameter type for 'file', expected: BlockdevRef",
            ),
        ] {
            assert_eq!(json(line).expect_err(line).0, wanted, "{line}");
        }
    }
}
