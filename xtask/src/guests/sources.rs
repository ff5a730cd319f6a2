//! The machine's own package sources, read so that guests come from the mirrors that it already uses.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

/// One archive that packages come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Source {
    /// The archives' addresses.
    pub uris: Vec<String>,
    /// The suites (distribution names).
    pub suites: Vec<String>,
    /// The components.
    pub components: Vec<String>,
    /// What `signed-by` says, if anything.
    pub signed_by: Option<String>,
}

/// The Debian release's code name from the text of os-release.
pub fn codename(os_release: &str) -> Option<&str> {
    os_release
        .lines()
        .find_map(|line| line.strip_prefix("VERSION_CODENAME="))
        .map(|name| name.trim_matches('"'))
}

/// Reads all active binary-package sources of the machine below `etc` (usually `/etc/apt`).
pub fn read(etc: &Path) -> Result<Vec<Source>> {
    let mut files: Vec<PathBuf> = vec![etc.join("sources.list")];
    if let Ok(entries) = etc.join("sources.list.d").read_dir() {
        let mut parts: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
        parts.sort();
        files.extend(parts);
    }
    let mut sources = Vec::new();
    for file in files {
        let parse = match file.extension().and_then(|e| e.to_str()) {
            Some("list") => one_line,
            Some("sources") => deb822,
            _ => continue,
        };
        if file.is_file() {
            let text =
                std::fs::read_to_string(&file).with_context(|| format!("cannot read {}", file.display()))?;
            sources.extend(parse(&text));
        }
    }
    Ok(sources)
}

/// The sources of a private package root: those of the release itself with its updates, and its backports
/// from where the release comes from. Sources of others are left out.
pub fn of_release(machine: &[Source], codename: &str) -> Result<Vec<Source>> {
    let aliases = [codename, "stable", "oldstable", "oldoldstable"];
    let of_debian = |suite: &str| {
        let base = suite.split(['-', '/']).next().unwrap_or(suite);
        aliases.contains(&base) && !suite.ends_with("-backports") && !suite.ends_with("-proposed-updates")
    };
    let mut chosen = Vec::new();
    for source in machine {
        let suites: Vec<String> = source.suites.iter().filter(|suite| of_debian(suite)).cloned().collect();
        if suites.is_empty() {
            continue;
        }
        let main_archive = suites.iter().any(|suite| aliases.contains(&suite.as_str()));
        let mut kept = Source { suites, ..source.clone() };
        if main_archive {
            kept.suites.push(format!("{codename}-backports"));
        }
        kept.components = vec!["main".to_owned()];
        if !chosen.contains(&kept) {
            chosen.push(kept);
        }
    }
    if !chosen.iter().any(|source| source.suites.iter().any(|suite| aliases.contains(&suite.as_str()))) {
        bail!("no source of Debian {codename} is among the machine's package sources");
    }
    Ok(chosen)
}

/// What a private package root is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Content {
    /// Packages, for both architectures that guests have.
    Packages,
    /// What packages are built from.
    Sources,
}

/// The deb822 text of a private root's sources.
pub fn render(sources: &[Source], content: Content) -> String {
    let (kind, architectures) = match content {
        Content::Packages => ("deb", "Architectures: amd64 i386\n"),
        Content::Sources => ("deb-src", ""),
    };
    let mut text = String::new();
    for source in sources {
        text.push_str(&format!(
            "Types: {kind}\nURIs: {}\nSuites: {}\nComponents: {}\n{architectures}",
            source.uris.join(" "),
            source.suites.join(" "),
            source.components.join(" ")
        ));
        if let Some(keys) = &source.signed_by {
            // A key given in place has several lines, already indented.
            text.push_str(&format!("Signed-By: {keys}\n"));
        }
        text.push('\n');
    }
    text
}

/// Parses the old format: `deb [option=value ...] uri suite component...` a line (sources.list(5)).
fn one_line(text: &str) -> Vec<Source> {
    text.lines().filter_map(one_line_entry).collect()
}

fn one_line_entry(line: &str) -> Option<Source> {
    let line = line.split('#').next()?.trim();
    let rest = line.strip_prefix("deb")?;
    let rest = rest.strip_prefix([' ', '\t'])?.trim_start();
    let (options, rest) = match rest.strip_prefix('[') {
        Some(bracketed) => bracketed.split_once(']')?,
        None => ("", rest),
    };
    let mut words = rest.split_ascii_whitespace().map(str::to_owned);
    let (uri, suite) = (words.next()?, words.next()?);
    let signed_by = options
        .split_ascii_whitespace()
        .find_map(|option| option.strip_prefix("signed-by="))
        .map(str::to_owned);
    Some(Source { uris: vec![uri], suites: vec![suite], components: words.collect(), signed_by })
}

/// Parses the newer format: paragraphs of `Field: value`, continued by indented lines.
fn deb822(text: &str) -> Vec<Source> {
    let without_comments: String = text
        .lines()
        .filter(|line| !line.starts_with('#'))
        .map(|line| format!("{}\n", line.trim_end()))
        .collect();
    without_comments.split("\n\n").filter_map(paragraph).collect()
}

fn paragraph(text: &str) -> Option<Source> {
    let mut fields: Vec<(String, String)> = Vec::new();
    for line in text.lines() {
        if line.starts_with([' ', '\t']) {
            if let Some((_, value)) = fields.last_mut() {
                value.push('\n');
                value.push_str(line);
            }
        } else if let Some((name, value)) = line.split_once(':') {
            fields.push((name.to_ascii_lowercase(), value.trim().to_owned()));
        }
    }
    let field = |name: &str| fields.iter().find(|(n, _)| n == name).map(|(_, value)| value.as_str());
    let words = |name: &str| -> Vec<String> {
        field(name).unwrap_or_default().split_ascii_whitespace().map(str::to_owned).collect()
    };
    if field("enabled").is_some_and(|value| value.eq_ignore_ascii_case("no"))
        || !words("types").iter().any(|kind| kind == "deb")
    {
        return None;
    }
    let source = Source {
        uris: words("uris"),
        suites: words("suites"),
        components: words("components"),
        signed_by: field("signed-by").map(str::to_owned),
    };
    (!source.uris.is_empty() && !source.suites.is_empty()).then_some(source)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn source(uri: &str, suites: &[&str], components: &[&str], signed_by: Option<&str>) -> Source {
        let owned = |words: &[&str]| words.iter().map(|w| (*w).to_owned()).collect();
        Source {
            uris: vec![uri.to_owned()],
            suites: owned(suites),
            components: owned(components),
            signed_by: signed_by.map(str::to_owned),
        }
    }

    #[test]
    fn one_line_entries() {
        let text = "# a comment\n\
                    deb http://m/debian trixie main contrib # why\n\
                    deb-src http://m/debian trixie main\n\
                    deb [arch=amd64 signed-by=/k.gpg] https://m/sec trixie-security main\n\
                    debris x y z\n";
        assert_eq!(
            one_line(text),
            [
                source("http://m/debian", &["trixie"], &["main", "contrib"], None),
                source("https://m/sec", &["trixie-security"], &["main"], Some("/k.gpg")),
            ]
        );
    }

    #[test]
    fn paragraphs() {
        let text = "Types: deb deb-src\n# comment\nURIs: http://m/debian\nSuites: trixie trixie-updates\n\
                    Components: main\nSigned-By: /k.gpg\n\n\
                    Enabled: no\nTypes: deb\nURIs: http://n\nSuites: x\nComponents: y\n\n\
                    Types: deb-src\nURIs: http://n\nSuites: x\nComponents: y\n";
        assert_eq!(
            deb822(text),
            [source("http://m/debian", &["trixie", "trixie-updates"], &["main"], Some("/k.gpg"))]
        );
    }

    #[test]
    fn keys_in_place_keep_their_lines() {
        let text =
            "Types: deb\nURIs: http://m\nSuites: s\nComponents: c\nSigned-By:\n -----BEGIN-----\n .\n x\n";
        let sources = deb822(text);
        assert_eq!(sources[0].signed_by.as_deref(), Some("\n -----BEGIN-----\n .\n x"));
        assert_eq!(deb822(&render(&sources, Content::Packages)), sources);
    }

    #[test]
    fn backports_come_from_the_release_archive_and_others_stay_out() {
        let machine = [
            source("http://m/debian", &["trixie", "trixie-updates"], &["main", "contrib"], None),
            source("http://m/security", &["trixie-security"], &["main"], None),
            source("http://other", &["nodistro"], &["main"], None),
        ];
        assert_eq!(
            of_release(&machine, "trixie").unwrap(),
            [
                source("http://m/debian", &["trixie", "trixie-updates", "trixie-backports"], &["main"], None),
                source("http://m/security", &["trixie-security"], &["main"], None),
            ]
        );
        assert!(of_release(&machine, "forky").is_err());
    }

    #[test]
    fn the_code_name() {
        assert_eq!(codename("ID=debian\nVERSION_CODENAME=trixie\n"), Some("trixie"));
        assert_eq!(codename("ID=void\n"), None);
    }
}
