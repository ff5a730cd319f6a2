//! Definitions from libvirt's own test data, given to libvirt's daemon and to ours: both say the same of what is wrong,
//! and show the same of what is not.

#![forbid(unsafe_code)]

use blackbox::virtqemud::{self, Daemon};
use blackbox::{compare, guests, or_skip, paths};
use std::path::Path;

/// Every so many files is taken: all of them take the original minutes.
const STEP: usize = 6;
/// What begins the outcome of a file.
const MARK: &str = "=== ";

/// The files that are tried: those for this architecture's emulator.
fn files(tests: &Path) -> Vec<String> {
    let mut all: Vec<String> = ["genericxml2xmlindata", "qemuxml2argvdata"]
        .iter()
        .flat_map(|folder| tests.join(folder).read_dir().expect("libvirt's data"))
        .map(|file| file.expect("a file").path())
        .filter(|path| path.extension().is_some_and(|it| it == "xml"))
        .filter(|path| {
            let text = std::fs::read_to_string(path).unwrap_or_default();
            // The original dies of one of them.
            let fatal = path.file_stem().is_some_and(|name| name == "net-hostdev-fail");
            !fatal && (text.contains("qemu-system-x86_64") || text.contains("qemu-system-i386"))
        })
        .map(|path| path.to_string_lossy().into_owned())
        .collect();
    all.sort();
    all.into_iter().step_by(STEP).collect()
}

/// What came of each file.
fn run(daemon: &Daemon, files: &[String]) -> Vec<String> {
    let list = files.join(" ");
    let script = format!(
        r#"for file in {list}; do
  echo "{MARK}$file"
  sed s/qemu-system-i386/qemu-system-x86_64/ "$file" >in.xml
  name=$(sed -n 's:.*<name>\(.*\)</name>.*:\1:p' in.xml | head -n 1)
  virsh -q "define in.xml; dumpxml --inactive '$name'; dumpxml --migratable '$name'; undefine --nvram '$name'" 2>&1
done"#
    );
    let output = String::from_utf8_lossy(&daemon.shell(&script).stdout).into_owned();
    let outcomes: Vec<String> = output.split(MARK).skip(1).map(without_chance).collect();
    assert_eq!(outcomes.len(), files.len(), "each file has an outcome");
    outcomes
}

/// Hardware addresses and UUIDs that were drawn are left out.
fn without_chance(outcome: &str) -> String {
    let drawn = |line: &&str| {
        let line = line.trim_start();
        !(line.starts_with("<mac address='52:54:00:")
            || line.starts_with("<uuid>")
            || line.starts_with("<genid>"))
    };
    outcome.lines().skip(1).filter(drawn).collect::<Vec<_>>().join("\n")
}

/// Every file's outcome is the original's, except where `tests/virsh/definitions` gives a reason; a file that is there
/// without need is an error.
#[test]
fn definitions_are_taken_as_by_the_original() {
    or_skip!(virtqemud::machines());
    let original = or_skip!(virtqemud::original());
    let tests = or_skip!(guests::libvirt_tests());
    let files = files(&tests);
    let [theirs, ours] = virtqemud::on_both(&original, Daemon::alone, |daemon| run(daemon, &files));
    let names = files.iter().map(|file| file.rsplit('/').next().unwrap_or_default().to_owned());
    let outcomes: Vec<_> = names.zip(theirs.into_iter().zip(ours)).collect();
    let allowed = std::fs::read_to_string(paths::repository().join("tests/virsh/definitions"));
    let allowed: Vec<String> = allowed
        .expect("a file of the repository")
        .lines()
        .filter(|line| !line.is_empty() && !line.starts_with('#'))
        .map(str::to_owned)
        .collect();
    let wrong = compare::unexpected(&outcomes, &allowed);
    assert!(wrong.is_empty(), "{wrong}");
}
