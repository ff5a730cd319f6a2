//! Schemas: their files, and what they turn into.

use crate::Error;
use crate::datatype::{Datatype, collapse};
use crate::pattern::{EMPTY, Id, NOT_ALLOWED, Patterns, TEXT};
use roxmltree::{Document, Node};
use std::collections::HashMap;
use std::path::{Path, PathBuf};

const NAMESPACE: &str = "http://relaxng.org/ns/structure/1.0";
/// The longest file, in bytes.
const LONGEST: usize = 4 << 20;
/// Most files of a schema.
const MOST_FILES: usize = 64;
/// Definitions that are used within each other without an element between them.
const DEPTH: usize = 200;

/// The texts of a schema's files.
#[derive(Debug)]
pub struct Schema {
    path: PathBuf,
    texts: Vec<String>,
}

fn refuse<T>(detail: impl Into<String>) -> Result<T, Error> {
    Err(Error::Schema(detail.into()))
}

impl Schema {
    /// Reads the schema at `path`, and what it includes.
    ///
    /// # Errors
    /// A file cannot be read, or is no XML.
    pub fn read(path: &Path) -> Result<Self, Error> {
        let folder = path.parent().unwrap_or(Path::new("."));
        let mut files = vec![path.to_owned()];
        let mut texts: Vec<String> = Vec::new();
        while let Some(file) = files.get(texts.len()).cloned() {
            let shown = file.display();
            let text = std::fs::read_to_string(&file);
            // In libxml2's words, which does not tell why.
            let missing = || Error::Schema(format!("xmlRelaxNGParse: could not load {shown}"));
            let text = text.ok().filter(|text| text.len() <= LONGEST).ok_or_else(missing)?;
            let document = Document::parse(&text).map_err(|_| missing())?;
            if !is(&document.root_element(), "grammar") {
                return refuse(format!("xmlRelaxNGParse: {shown} is empty"));
            }
            let includes = document.descendants().filter(|node| is(node, "include"));
            for include in includes {
                if include.children().any(|child| child.is_element()) {
                    return refuse(format!("{shown}: definitions within an include are not built"));
                }
                let file = folder.join(include.attribute("href").unwrap_or_default());
                if !files.contains(&file) {
                    files.push(file);
                }
            }
            if files.len() > MOST_FILES {
                return refuse("too many files");
            }
            texts.push(text);
        }
        Ok(Self { path: path.to_owned(), texts })
    }

    /// A schema of one file.
    pub fn from_text(text: &str) -> Self {
        Self { path: PathBuf::new(), texts: vec![text.to_owned()] }
    }

    /// The path of its first file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Whether the document is as the schema wants it.
    ///
    /// # Errors
    /// It is not; or the schema has what is not built.
    pub fn validate(&self, document: &Document<'_>) -> Result<(), Error> {
        let parsed: Result<Vec<_>, _> = self.texts.iter().map(|text| Document::parse(text)).collect();
        let parsed = parsed.map_err(|error| Error::Schema(error.to_string()))?;
        let mut grammar = Grammar::new(&parsed)?;
        let Some(lines) = crate::validate::validate(&mut grammar, document)? else { return Ok(()) };
        Err(Error::Invalid(lines.join("\n")))
    }
}

/// A name that an element or attribute may have.
#[derive(Debug, Clone)]
pub(crate) enum NameClass {
    Any { but: Option<Box<NameClass>> },
    Namespace { namespace: String, but: Option<Box<NameClass>> },
    Name { namespace: String, local: String },
    OneOf(Vec<NameClass>),
}

impl NameClass {
    pub(crate) fn has(&self, namespace: &str, local: &str) -> bool {
        let none = |but: &Option<Box<Self>>| but.as_ref().is_none_or(|but| !but.has(namespace, local));
        match self {
            Self::Any { but } => none(but),
            Self::Namespace { namespace: wanted, but } => wanted == namespace && none(but),
            Self::Name { namespace: wanted, local: name } => wanted == namespace && name == local,
            Self::OneOf(list) => list.iter().any(|class| class.has(namespace, local)),
        }
    }

    /// As errors show it.
    pub(crate) fn shown(&self) -> &str {
        match self {
            Self::Name { local, .. } => local,
            _ => "noname",
        }
    }
}

pub(crate) fn is(node: &Node<'_, '_>, name: &str) -> bool {
    node.is_element() && node.tag_name().namespace() == Some(NAMESPACE) && node.tag_name().name() == name
}

pub(crate) fn parts<'a, 'i>(node: Node<'a, 'i>) -> impl Iterator<Item = Node<'a, 'i>> {
    node.children().filter(|child| child.is_element() && child.tag_name().namespace() == Some(NAMESPACE))
}

/// An element of the schema.
struct Element<'a> {
    name: NameClass,
    node: Node<'a, 'a>,
    content: Option<Id>,
}

/// A schema as documents are compared with it.
pub(crate) struct Grammar<'a> {
    pub(crate) patterns: Patterns,
    elements: Vec<Element<'a>>,
    by_node: HashMap<(usize, u32), usize>,
    pub(crate) names: Vec<NameClass>,
    pub(crate) data: Vec<Datatype>,
    /// Texts, and whether blanks in them matter.
    pub(crate) values: Vec<(String, bool)>,
    pub(crate) definitions: HashMap<&'a str, Vec<Node<'a, 'a>>>,
    compiled: HashMap<&'a str, Id>,
    pub(crate) start: Id,
    pub(crate) starts: Vec<Node<'a, 'a>>,
}

/// The attribute of the node or the nearest one around it that has it.
fn inherited<'a>(node: Node<'a, 'a>, name: &str) -> &'a str {
    node.ancestors().find_map(|node| node.attribute(name)).unwrap_or_default()
}

impl<'a> Grammar<'a> {
    fn new(documents: &'a [Document<'a>]) -> Result<Self, Error> {
        let mut this = Self {
            patterns: Patterns::default(),
            elements: Vec::new(),
            by_node: HashMap::new(),
            names: Vec::new(),
            data: Vec::new(),
            values: Vec::new(),
            definitions: HashMap::new(),
            compiled: HashMap::new(),
            start: NOT_ALLOWED,
            starts: Vec::new(),
        };
        let mut starts = Vec::new();
        for document in documents {
            let root = document.root_element();
            if !is(&root, "grammar") {
                return refuse("the schema is no grammar");
            }
            for node in parts(root) {
                match node.tag_name().name() {
                    "start" => starts.push(node),
                    "define" => {
                        let name = node.attribute("name").unwrap_or_default();
                        let known = this.definitions.entry(name).or_default();
                        let combines = |node: &Node<'_, '_>| node.attribute("combine") == Some("choice");
                        if known.iter().filter(|node| !combines(node)).count() + usize::from(!combines(&node))
                            > 1
                        {
                            return refuse(format!("the definition '{name}' is there twice"));
                        }
                        known.push(node);
                    }
                    "include" => {}
                    other => return refuse(format!("<{other}> in <grammar> is not built")),
                }
            }
        }
        let all: Result<Vec<_>, _> = starts.iter().map(|start| this.group_of(*start, 0)).collect();
        this.start = this.patterns.choice(all?);
        this.starts = starts;
        Ok(this)
    }

    /// The parts of a node, one behind the other.
    fn group_of(&mut self, node: Node<'a, 'a>, depth: usize) -> Result<Id, Error> {
        self.all_of(parts(node), depth)
    }

    fn all_of(&mut self, nodes: impl Iterator<Item = Node<'a, 'a>>, depth: usize) -> Result<Id, Error> {
        let parts: Result<Vec<_>, _> = nodes.map(|node| self.compile(node, depth)).collect();
        Ok(parts?.into_iter().rev().fold(EMPTY, |rest, part| self.patterns.group(part, rest)))
    }

    pub(crate) fn compile(&mut self, node: Node<'a, 'a>, depth: usize) -> Result<Id, Error> {
        if depth > DEPTH {
            return refuse("definitions contain themselves");
        }
        let depth = depth + 1;
        Ok(match node.tag_name().name() {
            "empty" => EMPTY,
            "notAllowed" => NOT_ALLOWED,
            "text" => TEXT,
            "group" => self.group_of(node, depth)?,
            "optional" => {
                let content = self.group_of(node, depth)?;
                self.patterns.choice([content, EMPTY])
            }
            "zeroOrMore" => {
                let content = self.group_of(node, depth)?;
                let content = self.patterns.one_or_more(content);
                self.patterns.choice([content, EMPTY])
            }
            "oneOrMore" => {
                let content = self.group_of(node, depth)?;
                self.patterns.one_or_more(content)
            }
            "mixed" => {
                let content = self.group_of(node, depth)?;
                self.patterns.interleave(content, TEXT)
            }
            "choice" => {
                let all: Result<Vec<_>, _> = parts(node).map(|part| self.compile(part, depth)).collect();
                self.patterns.choice(all?)
            }
            "interleave" => {
                let all: Result<Vec<_>, _> = parts(node).map(|part| self.compile(part, depth)).collect();
                all?.into_iter().fold(EMPTY, |rest, part| self.patterns.interleave(part, rest))
            }
            "ref" => self.definition(node.attribute("name").unwrap_or_default(), depth)?,
            "attribute" => {
                let (name, mut content) = self.named(node, true)?;
                let value = match content.next() {
                    None => TEXT,
                    Some(first) => self.all_of(std::iter::once(first).chain(content), depth)?,
                };
                self.names.push(name);
                self.patterns.attribute(self.names.len() - 1, value)
            }
            "element" => {
                let key = (node.document() as *const Document<'_> as usize, node.id().get());
                let element = match self.by_node.get(&key) {
                    Some(element) => *element,
                    None => {
                        let (name, _) = self.named(node, false)?;
                        self.elements.push(Element { name, node, content: None });
                        self.by_node.insert(key, self.elements.len() - 1);
                        self.elements.len() - 1
                    }
                };
                self.patterns.element(element)
            }
            "value" => {
                let exact = node.attribute("type") == Some("string");
                let text = node.text().unwrap_or_default();
                let text = if exact { text.to_owned() } else { collapse(text) };
                self.values.push((text, exact));
                self.patterns.value(self.values.len() - 1)
            }
            "data" => {
                let params: Vec<_> = parts(node)
                    .filter(|part| is(part, "param"))
                    .map(|part| (part.attribute("name").unwrap_or_default(), part.text().unwrap_or_default()))
                    .collect();
                let mut but = Vec::new();
                for part in parts(node).filter(|part| !is(part, "param")) {
                    but.extend(exceptions(part)?);
                }
                let data = Datatype::new(node.attribute("type").unwrap_or_default(), &params, but);
                self.data.push(data.map_err(Error::Schema)?);
                self.patterns.data(self.data.len() - 1)
            }
            other => return refuse(format!("<{other}> is not built")),
        })
    }

    /// What a definition stands for; compiled once.
    fn definition(&mut self, name: &'a str, depth: usize) -> Result<Id, Error> {
        if let Some(id) = self.compiled.get(name) {
            return Ok(*id);
        }
        let Some(nodes) = self.definitions.get(name).cloned() else {
            return refuse(format!("there is no definition '{name}'"));
        };
        let all: Result<Vec<_>, _> = nodes.into_iter().map(|node| self.group_of(node, depth)).collect();
        let id = self.patterns.choice(all?);
        self.compiled.insert(name, id);
        Ok(id)
    }

    /// The name class of an element or attribute, and the parts behind it.
    pub(crate) fn named(
        &self,
        node: Node<'a, 'a>,
        attribute: bool,
    ) -> Result<(NameClass, impl Iterator<Item = Node<'a, 'a>> + use<'a>), Error> {
        let skipped = usize::from(node.attribute("name").is_none());
        let class = match node.attribute("name") {
            // Attributes are in no namespace unless they say so themselves.
            Some(name) if attribute => qualified(node, name, node.attribute("ns").unwrap_or_default()),
            Some(name) => qualified(node, name, inherited(node, "ns")),
            None => {
                let first = parts(node).next();
                name_class(first.ok_or_else(|| Error::Schema("an element without a name".to_owned()))?)?
            }
        };
        Ok((class, parts(node).skip(skipped)))
    }

    /// The name class of an element.
    pub(crate) fn name_of(&self, element: usize) -> &NameClass {
        &self.elements[element].name
    }

    /// What an element contains.
    pub(crate) fn content_of(&mut self, element: usize) -> Result<Id, Error> {
        if let Some(content) = self.elements[element].content {
            return Ok(content);
        }
        let (_, content) = self.named(self.elements[element].node, false)?;
        let content = self.all_of(content, 0)?;
        self.elements[element].content = Some(content);
        Ok(content)
    }
}

fn qualified(node: Node<'_, '_>, name: &str, namespace: &str) -> NameClass {
    let name = name.trim();
    match name.split_once(':') {
        None => NameClass::Name { namespace: namespace.to_owned(), local: name.to_owned() },
        Some((prefix, local)) => NameClass::Name {
            namespace: node.lookup_namespace_uri(Some(prefix)).unwrap_or_default().to_owned(),
            local: local.to_owned(),
        },
    }
}

fn name_class(node: Node<'_, '_>) -> Result<NameClass, Error> {
    let namespace = || node.ancestors().find_map(|node| node.attribute("ns")).unwrap_or_default();
    let but = || {
        let except = parts(node).find(|part| is(part, "except"));
        let classes = except.map(|except| parts(except).map(name_class).collect::<Result<Vec<_>, _>>());
        Ok(classes.transpose()?.map(|classes| Box::new(NameClass::OneOf(classes))))
    };
    Ok(match node.tag_name().name() {
        "name" => qualified(node, node.text().unwrap_or_default(), namespace()),
        "anyName" => NameClass::Any { but: but()? },
        "nsName" => NameClass::Namespace { namespace: namespace().to_owned(), but: but()? },
        "choice" => NameClass::OneOf(parts(node).map(name_class).collect::<Result<_, _>>()?),
        other => return refuse(format!("<{other}> is no class of names")),
    })
}

/// The texts that are excepted from a data type.
fn exceptions(node: Node<'_, '_>) -> Result<Vec<String>, Error> {
    let mut texts = Vec::new();
    for part in parts(node) {
        match part.tag_name().name() {
            "value" => texts.push(collapse(part.text().unwrap_or_default())),
            "choice" => texts.extend(exceptions(part)?),
            other => return refuse(format!("<{other}> as an exception of a data type is not built")),
        }
    }
    Ok(texts)
}
