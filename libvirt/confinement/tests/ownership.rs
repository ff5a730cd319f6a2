//! Owners of real files change and come back. Without a harness, as `launch`.

use std::os::unix::fs::{MetadataExt as _, chown};
use std::path::PathBuf;

use confinement::dac::{Owner, Transaction};
use confinement::launch::{Launcher, run_if_asked};

const QEMU: Owner = Owner { user: 64055, group: 994 };
const NAMES: [&str; 3] = ["dac", "ref_dac", "timestamp_dac"];

struct Scene {
    folder: PathBuf,
}

impl Scene {
    fn new(name: &str) -> Self {
        let folder = std::env::temp_dir().join(format!("confinement-owner-{}-{name}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        Self { folder }
    }

    fn file(&self, name: &str) -> String {
        let path = self.folder.join(name);
        std::fs::write(&path, "image").unwrap();
        chown(&path, Some(1234), Some(5678)).unwrap();
        path.display().to_string()
    }
}

impl Drop for Scene {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

fn owner(path: &str) -> (u32, u32) {
    let found = std::fs::metadata(path).unwrap();
    (found.uid(), found.gid())
}

fn record(path: &str) -> [Option<String>; 3] {
    NAMES.map(|name| {
        let mut value = [0; 100];
        let name = format!("trusted.libvirt.security.{name}");
        let length = rustix::fs::getxattr(path, &*name, &mut value[..]).ok()?;
        Some(String::from_utf8(value[..length].to_vec()).unwrap())
    })
}

fn write(path: &str, name: &str, value: &str) {
    let name = format!("trusted.libvirt.security.{name}");
    rustix::fs::setxattr(path, &*name, value.as_bytes(), rustix::fs::XattrFlags::empty()).unwrap();
}

fn set(path: &str, to: Owner) -> confinement::Result<()> {
    let mut transaction = Transaction::new();
    transaction.set(path, to, true);
    transaction.commit(&Launcher::default(), None, true, None)
}

fn restore(path: &str) -> confinement::Result<()> {
    let mut transaction = Transaction::new();
    transaction.restore(path, true);
    transaction.commit(&Launcher::default(), None, true, None)
}

fn owners_are_remembered_and_counted() {
    let scene = Scene::new("counted");
    let path = scene.file("disk");
    set(&path, QEMU).unwrap();
    assert_eq!(owner(&path), (64055, 994));
    let [label, users, stamp] = record(&path);
    assert_eq!((label.as_deref(), users.as_deref()), (Some("+1234:+5678"), Some("1")));
    let stamp: u64 = stamp.unwrap().parse().unwrap();
    assert!(stamp > 1_600_000_000);
    set(&path, QEMU).unwrap();
    assert_eq!(record(&path)[1].as_deref(), Some("2"));
    // Somebody else's guest may not take it away.
    let error = set(&path, Owner { user: 7, group: 7 }).unwrap_err();
    let text = format!(
        "Requested operation is not valid: Setting different DAC user or group on {path} which is already in use"
    );
    assert_eq!((error.message, error.code.number()), (text, 55));
    assert_eq!(record(&path)[1].as_deref(), Some("2"), "the failed one does not count");
    restore(&path).unwrap();
    assert_eq!((owner(&path), record(&path)[1].as_deref()), ((64055, 994), Some("1")));
    restore(&path).unwrap();
    assert_eq!((owner(&path), record(&path)), ((1234, 5678), [None, None, None]));
    // Once more is once too often: nobody knows whose it was.
    restore(&path).unwrap();
    assert_eq!(owner(&path), (0, 0));
}

fn a_record_of_libvirts_is_taken_over_and_an_old_one_is_not() {
    let scene = Scene::new("foreign");
    let path = scene.file("disk");
    set(&path, QEMU).unwrap();
    let stamp = record(&path)[2].clone().unwrap();
    restore(&path).unwrap();
    write(&path, "dac", "+42:+43");
    write(&path, "ref_dac", "1");
    write(&path, "timestamp_dac", &stamp);
    restore(&path).unwrap();
    assert_eq!((owner(&path), record(&path)), ((42, 43), [None, None, None]));
    write(&path, "dac", "+9:+9");
    write(&path, "ref_dac", "3");
    write(&path, "timestamp_dac", "1000000000");
    set(&path, QEMU).unwrap();
    assert_eq!(record(&path), [Some("+42:+43".into()), Some("1".into()), Some(stamp)]);
    write(&path, "ref_dac", "many");
    let error = restore(&path).unwrap_err();
    assert_eq!(error.message, format!("internal error: malformed refcount many on {path}"));
}

fn a_record_moves_to_what_takes_the_files_place() {
    let scene = Scene::new("moved");
    let (old, new) = (scene.file("old"), scene.file("new"));
    set(&old, QEMU).unwrap();
    let before = record(&old);
    confinement::dac::move_record(&Launcher::default(), None, &old, Some(&new)).unwrap();
    assert_eq!((record(&old), record(&new)), ([None, None, None], before));
    confinement::dac::move_record(&Launcher::default(), None, &new, None).unwrap();
    assert_eq!(record(&new), [None, None, None]);
}

fn all_or_nothing() {
    let scene = Scene::new("all");
    let (first, second) = (scene.file("a"), scene.file("b"));
    let missing = scene.folder.join("missing").display().to_string();
    let mut transaction = Transaction::new();
    for path in [&first, &second, &missing] {
        transaction.set(path, QEMU, true);
    }
    for remember in [true, false] {
        let error = transaction.commit(&Launcher::default(), None, remember, None).unwrap_err();
        assert_eq!(error.message, format!("unable to stat: {missing}: No such file or directory"));
        let back = if remember { (1234, 5678) } else { (0, 0) };
        assert_eq!((owner(&first), owner(&second)), (back, back));
        assert_eq!(record(&first), [None, None, None]);
    }
}

fn directories_links_and_pipes() {
    let scene = Scene::new("kinds");
    let folder = scene.folder.join("ram");
    std::fs::create_dir(&folder).unwrap();
    let target = scene.file("target");
    let link = scene.folder.join("link");
    std::os::unix::fs::symlink(&target, &link).unwrap();
    let mut transaction = Transaction::new();
    transaction.set(folder.to_str().unwrap(), QEMU, true);
    transaction.set(link.to_str().unwrap(), QEMU, true);
    // The same file twice is locked once, and counted twice.
    transaction.set(&target, QEMU, true);
    transaction.commit(&Launcher::default(), None, true, None).unwrap();
    assert_eq!((owner(folder.to_str().unwrap()), owner(&target)), ((64055, 994), (64055, 994)));
    assert_eq!(record(folder.to_str().unwrap()), [None, None, None], "directories cannot be locked");
    assert_eq!(record(&target)[1].as_deref(), Some("2"));
}

fn a_locked_file_is_waited_for() {
    let scene = Scene::new("locked");
    let path = scene.file("disk");
    let script = format!(
        "import fcntl, time; f = open({path:?}, 'r+'); fcntl.lockf(f, fcntl.LOCK_EX, 1, 1); print('x', flush=True); \
         time.sleep(1)"
    );
    let python = std::process::Command::new("python3")
        .args(["-c", &script])
        .stdout(std::process::Stdio::piped())
        .spawn();
    let mut python = python.unwrap();
    let mut word = [0; 2];
    std::io::Read::read_exact(python.stdout.as_mut().unwrap(), &mut word).unwrap();
    let start = std::time::Instant::now();
    set(&path, QEMU).unwrap();
    assert!(start.elapsed().as_millis() > 400, "{:?}", start.elapsed());
    python.wait().unwrap();
    assert_eq!(owner(&path), (64055, 994));
}

/// Whether attributes of this kind can be had here.
fn missing() -> Option<String> {
    if !rustix::process::geteuid().is_root() {
        return Some("needs root".into());
    }
    let scene = Scene::new("probe");
    let path = scene.file("probe");
    let name = "trusted.libvirt.security.probe";
    let set = rustix::fs::setxattr(&*path, name, b"1", rustix::fs::XattrFlags::empty());
    set.err().map(|error| format!("no trusted attributes in {}: {error}", scene.folder.display()))
}

fn main() {
    run_if_asked();
    let missing = missing();
    let python = std::process::Command::new("python3").arg("-V").output().is_ok();
    let tests: [(&str, fn(), bool); 6] = [
        ("owners_are_remembered_and_counted", owners_are_remembered_and_counted, true),
        (
            "a_record_of_libvirts_is_taken_over_and_an_old_one_is_not",
            a_record_of_libvirts_is_taken_over_and_an_old_one_is_not,
            true,
        ),
        ("a_record_moves_to_what_takes_the_files_place", a_record_moves_to_what_takes_the_files_place, true),
        ("all_or_nothing", all_or_nothing, true),
        ("directories_links_and_pipes", directories_links_and_pipes, true),
        ("a_locked_file_is_waited_for", a_locked_file_is_waited_for, python),
    ];
    for (name, test, tools) in tests {
        match &missing {
            Some(reason) => println!("SKIPPED {name}: {reason}"),
            None if !tools => println!("SKIPPED {name}: no python3"),
            None => {
                test();
                println!("ok {name}");
            }
        }
    }
}
