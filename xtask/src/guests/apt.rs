//! A private package root: apt with its own state and cache, which neither sees nor changes what is installed.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

use super::sources;

/// A package of a certain version.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Package {
    /// Name, with `:architecture`.
    pub name: String,
    /// Version.
    pub version: String,
}

/// The private root.
pub struct Apt {
    root: PathBuf,
    /// The release's code name.
    pub codename: String,
    sources: Vec<sources::Source>,
}

impl Apt {
    /// Sets the root up in `root` and fetches the package lists unless they are there and `refresh` is false.
    pub fn new(root: &Path, content: sources::Content, refresh: bool) -> Result<Self> {
        let os_release = std::fs::read_to_string("/etc/os-release").context("cannot read /etc/os-release")?;
        let codename = sources::codename(&os_release).context("not a Debian release")?.to_owned();
        let sources = sources::of_release(&sources::read(Path::new("/etc/apt"))?, &codename)?;
        for folder in ["state/lists/partial", "cache/archives/partial", "sources.d"] {
            std::fs::create_dir_all(root.join(folder))?;
        }
        std::fs::write(root.join("sources.d/debian.sources"), sources::render(&sources, content))?;
        std::fs::write(root.join("state/status"), "")?;
        let here = root.display();
        // The machine's own settings (proxies, for one) stay in force; its hooks do not.
        let conf = format!(
            "#clear APT::Update::Post-Invoke;\n\
             #clear APT::Update::Post-Invoke-Success;\n\
             #clear Acquire::IndexTargets::deb::DEP-11;\n\
             #clear Acquire::IndexTargets::deb::DEP-11-icons-small;\n\
             #clear Acquire::IndexTargets::deb::DEP-11-icons;\n\
             #clear Acquire::IndexTargets::deb::DEP-11-icons-large;\n\
             #clear APT::Default-Release;\n\
             Dir::State \"{here}/state\";\n\
             Dir::State::status \"{here}/state/status\";\n\
             Dir::Cache \"{here}/cache\";\n\
             Dir::Etc::sourcelist \"/dev/null\";\n\
             Dir::Etc::sourceparts \"{here}/sources.d\";\n\
             Dir::Etc::preferences \"/dev/null\";\n\
             Dir::Etc::preferencesparts \"/dev/null\";\n\
             APT::Sandbox::User \"\";\n\
             APT::Architecture \"amd64\";\n\
             #clear APT::Architectures;\n\
             APT::Architectures {{ \"amd64\"; \"i386\"; }};\n\
             Acquire::Languages \"none\";\n\
             Acquire::Retries \"3\";\n"
        );
        std::fs::write(root.join("apt.conf"), conf)?;
        let apt = Self { root: root.to_owned(), codename, sources };
        let stamp = root.join("updated");
        if refresh || !stamp.is_file() {
            // A mirror in the middle of an update may lack one list; what matters shows when packages are named.
            apt.run("apt-get", &["update", "-qq"]).or_else(|error| {
                eprintln!("guests: {error:#}; going on with the lists that came");
                Ok::<_, anyhow::Error>(String::new())
            })?;
            if apt.run("apt-cache", &["madison", "busybox"])?.is_empty() {
                bail!("the mirrors gave no package lists");
            }
            std::fs::write(stamp, "")?;
        }
        Ok(apt)
    }

    /// The address of the archive that holds the release itself, and its keyring if one is named.
    pub fn archive(&self) -> (&str, Option<&str>) {
        let source = &self.sources[0];
        (&source.uris[0], source.signed_by.as_deref().filter(|path| path.starts_with('/')))
    }

    fn run(&self, program: &str, arguments: &[&str]) -> Result<String> {
        let output = Command::new(program)
            .arg("-c")
            .arg(self.root.join("apt.conf"))
            .args(arguments)
            .env("LC_ALL", "C")
            .env("DEBIAN_FRONTEND", "noninteractive")
            .current_dir(self.root.join("cache/archives"))
            .stdin(Stdio::null())
            .output()
            .with_context(|| format!("cannot run {program}"))?;
        if !output.status.success() {
            let errors = String::from_utf8_lossy(&output.stderr);
            bail!("{program} {}: {}", arguments.join(" "), errors.trim());
        }
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    /// All versions of a package as (version, suite), newest first.
    fn madison(&self, name: &str) -> Result<Vec<(String, String)>> {
        Ok(parse_madison(&self.run("apt-cache", &["madison", name])?))
    }

    /// The newest version of a package in the release with its updates, or in the backports.
    pub fn find(&self, name: &str, architecture: &str, backports: bool) -> Result<Option<Package>> {
        let name = format!("{name}:{architecture}");
        let versions = self.madison(&name)?;
        let found = versions.into_iter().find(|(_, suite)| suite.ends_with("-backports") == backports);
        Ok(found.map(|(version, _)| Package { name, version }))
    }

    /// The newest versions of several packages in the release with its updates, by one question; the error names what
    /// is missing.
    pub fn find_all(&self, names: &[&str], architecture: &str) -> Result<Result<Vec<Package>, String>> {
        let wanted: Vec<String> = names.iter().map(|name| format!("{name}:{architecture}")).collect();
        let mut arguments = vec!["madison"];
        arguments.extend(wanted.iter().map(String::as_str));
        let text = self.run("apt-cache", &arguments)?;
        let find = |name: &&str| {
            let own: String = text
                .lines()
                .filter(|line| line.split('|').next().map(str::trim) == Some(name))
                .flat_map(|line| [line, "\n"])
                .collect();
            let version = parse_madison(&own).into_iter().find(|(_, suite)| !suite.ends_with("-backports"));
            let (version, _) = version.ok_or_else(|| format!("the release has no {name}"))?;
            Ok(Package { name: format!("{name}:{architecture}"), version })
        };
        Ok(names.iter().map(find).collect())
    }

    /// The package that a package without content depends on and whose name starts with `prefix`.
    pub fn dependency(&self, package: &Package, prefix: &str) -> Result<Option<Package>> {
        let spec = format!("{}={}", package.name, package.version);
        let record = self.run("apt-cache", &["show", &spec])?;
        let (_, architecture) = package.name.split_once(':').unwrap_or(("", "amd64"));
        Ok(parse_depends(&record).into_iter().find(|(name, _)| name.starts_with(prefix)).map(
            |(name, version)| Package {
                name: format!("{name}:{architecture}"),
                version: version.unwrap_or_else(|| package.version.clone()),
            },
        ))
    }

    /// Downloads one package; gives its file.
    pub fn download(&self, package: &Package) -> Result<PathBuf> {
        self.download_all(std::slice::from_ref(package))?.pop().context("one package gives one file")
    }

    /// Downloads packages that are not there yet; gives all their files.
    pub fn download_all(&self, packages: &[Package]) -> Result<Vec<PathBuf>> {
        let specs: Vec<String> = packages
            .iter()
            .filter(|package| self.downloaded(package).is_none())
            .map(|package| format!("{}={}", package.name, package.version))
            .collect();
        if !specs.is_empty() {
            let mut arguments = vec!["download", "-qq"];
            arguments.extend(specs.iter().map(String::as_str));
            self.run("apt-get", &arguments)?;
        }
        packages
            .iter()
            .map(|package| {
                self.downloaded(package)
                    .with_context(|| format!("apt-get did not bring {} {}", package.name, package.version))
            })
            .collect()
    }

    fn downloaded(&self, package: &Package) -> Option<PathBuf> {
        let (name, architecture) = package.name.split_once(':').unwrap_or((&package.name, "amd64"));
        let version = package.version.replace(':', "%3a");
        [architecture, "all"]
            .map(|a| self.root.join(format!("cache/archives/{name}_{version}_{a}.deb")))
            .into_iter()
            .find(|file| file.is_file())
    }

    /// Downloads packages with everything that they depend on; gives the files.
    pub fn download_closure(&self, packages: &[&str], backports: bool) -> Result<Vec<PathBuf>> {
        let suite = format!("{}-backports", self.codename);
        let mut arguments = vec!["install", "-qq", "-y", "--no-install-recommends", "--simulate"];
        if backports {
            arguments.extend(["-t", &suite]);
        }
        arguments.extend(packages);
        self.download_all(&parse_plan(&self.run("apt-get", &arguments)?))
    }

    /// Downloads what a package of the release is built from; gives the archive that its authors published.
    pub fn source(&self, name: &str) -> Result<PathBuf> {
        self.run("apt-get", &["source", "-qq", "--download-only", "-t", &self.codename, name])?;
        let folder = self.root.join("cache/archives");
        let published = |path: &PathBuf| {
            let file = path.file_name().unwrap_or_default().to_string_lossy();
            file.starts_with(&format!("{name}_")) && file.contains(".orig.tar.") && !file.ends_with(".asc")
        };
        let files = folder.read_dir()?.flatten().map(|entry| entry.path());
        files.into_iter().find(published).with_context(|| format!("the source of {name} has no archive"))
    }

    /// Forgets the downloaded package files, which are of no use once they are unpacked.
    pub fn clean(&self) -> Result<()> {
        self.run("apt-get", &["clean"]).map(drop)
    }
}

/// Unpacks a package's files below `target`, without those that match one of the tar patterns.
pub fn unpack(package: &Path, target: &Path, without: &[&str]) -> Result<()> {
    std::fs::create_dir_all(target)?;
    let mut reader = Command::new("dpkg-deb")
        .arg("--fsys-tarfile")
        .arg(package)
        .stdout(Stdio::piped())
        .spawn()
        .context("cannot run dpkg-deb")?;
    let stream = reader.stdout.take().context("dpkg-deb has an output")?;
    let status = Command::new("tar")
        .args(["-x", "--no-same-owner", "-C"])
        .arg(target)
        .args(without.iter().map(|pattern| format!("--exclude={pattern}")))
        .stdin(stream)
        .status()
        .context("cannot run tar")?;
    if !reader.wait()?.success() || !status.success() {
        bail!("cannot unpack {}", package.display());
    }
    Ok(())
}

/// Parses lines `name | version | uri suite/component architecture Packages`.
fn parse_madison(text: &str) -> Vec<(String, String)> {
    text.lines()
        .filter_map(|line| {
            let mut columns = line.split('|').map(str::trim);
            let (_, version, place) = (columns.next()?, columns.next()?, columns.next()?);
            let suite = place.split_ascii_whitespace().nth(1)?;
            let suite = suite.rsplit_once('/').map_or(suite, |(suite, _)| suite);
            Some((version.to_owned(), suite.to_owned()))
        })
        .collect()
}

/// The dependencies in a package's record as (name, version if exactly one will do).
fn parse_depends(record: &str) -> Vec<(String, Option<String>)> {
    let Some(list) = record.lines().find_map(|line| line.strip_prefix("Depends: ")) else {
        return Vec::new();
    };
    list.split(',')
        .filter_map(|item| {
            let first = item.split('|').next()?.trim();
            let name = first.split([' ', '(']).next()?.to_owned();
            let version = first.split_once("(= ").map(|(_, rest)| rest.trim_end_matches(')').to_owned());
            Some((name, version))
        })
        .collect()
}

/// The packages to be installed in a simulation: `Inst name (version suites [architecture])`.
fn parse_plan(text: &str) -> Vec<Package> {
    text.lines()
        .filter_map(|line| {
            let rest = line.strip_prefix("Inst ")?;
            let (name, rest) = rest.split_once(" (")?;
            let version = rest.split(' ').next()?.to_owned();
            let architecture = rest.split(')').next()?.rsplit_once('[')?.1.trim_end_matches(']');
            let name = name.split(':').next()?;
            let architecture = if architecture == "all" { "amd64" } else { architecture };
            Some(Package { name: format!("{name}:{architecture}"), version })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn madison_lines() {
        let text = " busybox | 1:2-3 | http://m/debian trixie-backports/main amd64 Packages\n\
                    busybox | 1:1 | http://m/security trixie-security/main amd64 Packages\n";
        let expected = [("1:2-3", "trixie-backports"), ("1:1", "trixie-security")];
        assert_eq!(parse_madison(text), expected.map(|(v, s)| (v.to_owned(), s.to_owned())));
    }

    #[test]
    fn dependencies_of_a_record() {
        let record = "Package: x\nDepends: linux-image-6.1.0-9-amd64 (= 6.1.2-1), a | b, c (>= 2)\nSize: 1\n";
        assert_eq!(
            parse_depends(record),
            [
                ("linux-image-6.1.0-9-amd64".to_owned(), Some("6.1.2-1".to_owned())),
                ("a".to_owned(), None),
                ("c".to_owned(), None)
            ]
        );
        assert!(parse_depends("Package: y\n").is_empty());
    }

    #[test]
    fn planned_packages() {
        let plan = "Inst gcc-12-base (12.2 Debian:12/stable [amd64])\n\
                    Conf gcc-12-base (12.2 Debian:12/stable [amd64])\n\
                    Inst base-files (12.4 Debian:12/stable, Debian-Security:12 [all]) []\n";
        let expected = [("gcc-12-base:amd64", "12.2"), ("base-files:amd64", "12.4")];
        let expected = expected.map(|(n, v)| Package { name: n.to_owned(), version: v.to_owned() });
        assert_eq!(parse_plan(plan), expected);
    }
}
