//! `cargo xtask layers`: the folders are layers; this finds the dependencies that cross them the wrong way,
//! the crates that do not forbid unsafe code, and the source files that no module is made of.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, bail};
use serde_json::Value;

/// The layers from the lowest up. Those in one row stand side by side and must not use each other.
const LAYERS: &[&[&str]] =
    &[&["ground"], &["platform"], &["backend"], &["cpu", "hardware"], &["machine"], &["control"], &["bin"]];

/// Folders that stand beside the emulator's layers: they use `ground`, [`SHARED`] and themselves.
const ASIDE: &[&str] = &["helpers", "libvirt"];

/// What folders beside the layers may use from above `ground`: the description of the monitor protocol.
const SHARED: &[&str] = &["qapi"];

/// The crates of `hardware` that others of `hardware` may use: buses, not devices.
const BUSES: &[&str] = &["isa", "pci", "virtio", "scsi", "usb"];

/// Within `backend`, `cpu` and the rest, crates may use each other. These pairs (user, used) may not, though
/// the order of the layers would allow them.
const BANS: &[(&str, &str)] = &[("cpu", "backend")];

/// The crates that may hold unsafe code.
const UNSAFE: &[&str] = &[
    "hostio",
    "guestmem",
    "engine",
    "kvm",
    "netdev",
    "scsi_pr",
    "daemon",
    "difftest",
    // Their entry point has the C library's name; nothing else.
    "qemu-pr-helper",
    "qemu-vmsr-helper",
];

/// What is looked at of a workspace member.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Member {
    name: String,
    /// The first component of its path in the repository.
    folder: String,
    /// The names of the members that it uses outside of tests.
    uses: Vec<String>,
    /// The source files that are roots of a library or program.
    roots: Vec<String>,
}

/// Runs the task, which takes no arguments.
pub fn main(arguments: &[String]) -> Result<()> {
    if let Some(argument) = arguments.first() {
        bail!("unexpected argument {argument}");
    }
    let output = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
        .args(["metadata", "--no-deps", "--format-version", "1", "--offline"])
        .current_dir(blackbox::paths::repository())
        .output()
        .context("cannot run cargo")?;
    if !output.status.success() {
        bail!("cargo metadata: {}", String::from_utf8_lossy(&output.stderr));
    }
    let members = members(&serde_json::from_slice(&output.stdout)?)?;
    let mut faults: Vec<String> = members.iter().flat_map(|member| edges(member, &members)).collect();
    for member in &members {
        for root in &member.roots {
            let text = std::fs::read_to_string(root).with_context(|| format!("cannot read {root}"))?;
            faults.extend(unsafe_fault(&member.name, root, &text));
        }
        faults.extend(orphans(&sources(&member.roots)?, &member.roots));
    }
    for fault in &faults {
        println!("{fault}");
    }
    if !faults.is_empty() {
        bail!("{} faults", faults.len());
    }
    println!("layers: {} crates in order", members.len());
    Ok(())
}

/// Reads the output of `cargo metadata`.
fn members(metadata: &Value) -> Result<Vec<Member>> {
    let workspace = Path::new(metadata["workspace_root"].as_str().context("no workspace_root")?);
    let packages = metadata["packages"].as_array().context("no packages")?;
    packages
        .iter()
        .map(|package| {
            let text = |value: &Value| value.as_str().map(str::to_owned);
            let name = text(&package["name"]).context("a package without a name")?;
            let manifest = Path::new(package["manifest_path"].as_str().context("no manifest_path")?);
            let inside = manifest
                .strip_prefix(workspace)
                .with_context(|| format!("{name} lies outside of the workspace"))?;
            let folder = inside.iter().next().context("a path")?.to_string_lossy().into_owned();
            let list = |value: &Value| value.as_array().cloned().unwrap_or_default();
            let uses = list(&package["dependencies"])
                .iter()
                .filter(|dependency| dependency["path"].is_string() && dependency["kind"] != "dev")
                .filter_map(|dependency| text(&dependency["name"]))
                .collect();
            let is_root = |target: &&Value| {
                list(&target["kind"]).iter().any(|kind| {
                    matches!(kind.as_str(), Some("lib" | "bin" | "proc-macro" | "rlib" | "cdylib"))
                })
            };
            let roots = list(&package["targets"])
                .iter()
                .filter(is_root)
                .filter_map(|target| text(&target["src_path"]))
                .collect();
            Ok(Member { name, folder, uses, roots })
        })
        .collect()
}

/// The forbidden dependencies of one member.
fn edges(member: &Member, members: &[Member]) -> Vec<String> {
    let known = layer(&member.folder).is_some()
        || ASIDE.contains(&member.folder.as_str())
        || ["xtask", "tests"].contains(&member.folder.as_str());
    if !known {
        return vec![format!("{} lies in {}, which is no layer", member.name, member.folder)];
    }
    member
        .uses
        .iter()
        .filter_map(|used| members.iter().find(|other| other.name == *used))
        .filter_map(|used| Some(format!("{} uses {}: {}", member.name, used.name, forbidden(member, used)?)))
        .collect()
}

fn layer(folder: &str) -> Option<usize> {
    LAYERS.iter().position(|row| row.contains(&folder))
}

/// Why `user` must not use `used`, if so.
fn forbidden(user: &Member, used: &Member) -> Option<String> {
    let (above, below) = (user.folder.as_str(), used.folder.as_str());
    if below == "xtask" || (below == "tests" && above != "xtask") {
        return Some("tools and tests are used by no one".to_owned());
    }
    if above == "xtask" || above == "tests" {
        return None;
    }
    if ASIDE.contains(&above) {
        let allowed = below == "ground" || below == above || SHARED.contains(&used.name.as_str());
        return (!allowed).then(|| format!("{above} may use ground only"));
    }
    if ASIDE.contains(&below) {
        return (above != "bin").then(|| format!("{below} stands beside the emulator; only programs use it"));
    }
    if BANS.contains(&(above, below)) {
        return Some(format!("{above} never knows {below}"));
    }
    if above == below {
        let device = above == "hardware" && !BUSES.contains(&used.name.as_str());
        return device.then(|| "devices never know a sibling".to_owned());
    }
    (layer(above) <= layer(below)).then(|| format!("{above} is not above {below}"))
}

/// What is wrong with a crate root, if it does not forbid unsafe code and has no leave to hold it.
fn unsafe_fault(name: &str, root: &str, text: &str) -> Option<String> {
    let forbids = text.lines().any(|line| line.trim_start().starts_with("#![forbid(unsafe_code)]"));
    (!forbids && !UNSAFE.contains(&name)).then(|| format!("{root} lacks #![forbid(unsafe_code)]"))
}

/// The paths and texts of the Rust files beside and below the roots.
fn sources(roots: &[String]) -> Result<Vec<(String, String)>> {
    let mut folders: Vec<_> = roots.iter().filter_map(|root| Path::new(root).parent()).collect();
    folders.sort_unstable();
    folders.dedup();
    let mut left: Vec<_> = folders.into_iter().map(Path::to_owned).collect();
    let mut found = BTreeMap::new();
    while let Some(folder) = left.pop() {
        for entry in
            std::fs::read_dir(&folder).with_context(|| format!("cannot read {}", folder.display()))?
        {
            let path = entry?.path();
            if path.is_dir() {
                left.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let text = std::fs::read_to_string(&path)?;
                found.insert(path.to_string_lossy().into_owned(), text);
            }
        }
    }
    Ok(found.into_iter().collect())
}

/// The files of a crate that are neither roots nor named as a module: nothing compiles them.
fn orphans(sources: &[(String, String)], roots: &[String]) -> Vec<String> {
    let named = |text: &str, module: &str| {
        text.lines().filter_map(|line| line.trim().strip_suffix(';')).any(|line| {
            line.strip_suffix(module)
                .is_some_and(|before| before.ends_with("mod ") && !before.starts_with("//"))
        })
    };
    sources
        .iter()
        .filter(|(path, _)| !roots.contains(path))
        .filter(|(path, _)| {
            let path = Path::new(path);
            let stem = path.file_stem().filter(|stem| *stem != "mod");
            let module = stem.or_else(|| path.parent()?.file_name()).unwrap_or_default().to_string_lossy();
            !sources.iter().any(|(_, text)| named(text, &module))
        })
        .map(|(path, _)| format!("{path} belongs to no module"))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn package(folder: &str, name: &str, uses: &[(&str, Value)]) -> Value {
        let dependencies: Vec<Value> = uses
            .iter()
            .map(|(used, kind)| json!({"name": used, "kind": kind, "path": format!("/w/x/{used}")}))
            .collect();
        json!({
            "name": name,
            "manifest_path": format!("/w/{folder}/{name}/Cargo.toml"),
            "dependencies": dependencies,
            "targets": [
                {"kind": ["lib"], "src_path": format!("/w/{folder}/{name}/src/lib.rs")},
                {"kind": ["test"], "src_path": format!("/w/{folder}/{name}/tests/t.rs")},
            ],
        })
    }

    /// The faults of a workspace in which `user` (folder, name) uses `used` (folder, name).
    fn faults(user: (&str, &str), used: (&str, &str)) -> Vec<String> {
        let metadata = json!({
            "workspace_root": "/w",
            "packages": [package(user.0, user.1, &[(used.1, Value::Null)]), package(used.0, used.1, &[])],
        });
        let members = members(&metadata).unwrap();
        members.iter().flat_map(|member| edges(member, &members)).collect()
    }

    #[test]
    fn downwards_is_allowed() {
        for (user, used) in [
            (("bin", "qemu"), ("control", "vm")),
            (("bin", "virtqemud"), ("libvirt", "rpc")),
            (("control", "vm"), ("cpu", "engine")),
            (("machine", "pc"), ("hardware", "chipset")),
            (("hardware", "ide"), ("backend", "block")),
            (("hardware", "ide"), ("hardware", "pci")),
            (("cpu", "engine"), ("cpu", "x86")),
            (("libvirt", "qemu_driver"), ("platform", "qapi")),
            (("helpers", "rapl"), ("ground", "hostio")),
            (("xtask", "xtask"), ("tests", "blackbox")),
        ] {
            assert!(faults(user, used).is_empty(), "{user:?} {used:?}");
        }
    }

    #[test]
    fn the_bans_hold() {
        for (user, used) in [
            (("ground", "hostio"), ("platform", "irq")),
            (("hardware", "ide"), ("cpu", "accel")),
            (("hardware", "ide"), ("machine", "pc")),
            (("hardware", "ide"), ("control", "vm")),
            (("hardware", "ide"), ("hardware", "chipset")),
            (("cpu", "kvm"), ("hardware", "pci")),
            (("cpu", "kvm"), ("backend", "block")),
            (("backend", "block"), ("hardware", "pci")),
            (("backend", "block"), ("cpu", "accel")),
            (("helpers", "rapl"), ("platform", "irq")),
            (("helpers", "rapl"), ("libvirt", "rpc")),
            (("control", "vm"), ("helpers", "rapl")),
            (("machine", "pc"), ("tests", "blackbox")),
            (("sideways", "thing"), ("ground", "hostio")),
        ] {
            assert_eq!(faults(user, used).len(), 1, "{user:?} {used:?}");
        }
    }

    #[test]
    fn tests_may_reach_further() {
        let metadata = json!({
            "workspace_root": "/w",
            "packages": [package("ground", "a", &[("b", json!("dev"))]), package("platform", "b", &[])],
        });
        let members = members(&metadata).unwrap();
        assert_eq!(members[0].uses, Vec::<String>::new());
        assert_eq!(members[0].roots, ["/w/ground/a/src/lib.rs"]);
    }

    #[test]
    fn files_belong_to_modules() {
        let file = |path: &str, text: &str| (path.to_owned(), text.to_owned());
        let sources = [
            file("src/lib.rs", "mod a;\npub(crate) mod deep;\n"),
            file("src/a.rs", "// mod lost;\n"),
            file("src/deep/mod.rs", "mod tests;\n"),
            file("src/deep/tests.rs", ""),
            file("src/lost.rs", ""),
        ];
        let faults = orphans(&sources, &["src/lib.rs".to_owned()]);
        assert_eq!(faults, ["src/lost.rs belongs to no module"]);
    }

    #[test]
    fn unsafe_code_needs_leave() {
        assert_eq!(unsafe_fault("pci", "r", "//! Doc.\n#![forbid(unsafe_code)]\n"), None);
        assert_eq!(unsafe_fault("engine", "r", "//! Doc.\n"), None);
        assert!(unsafe_fault("pci", "r", "// #![forbid(unsafe_code)]\n").is_some());
    }
}
