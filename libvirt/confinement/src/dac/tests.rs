//! The rules, without files.

use super::*;

const QEMU: Owner = Owner { user: 64055, group: 994 };

fn dac() -> Dac {
    Dac { owner: QEMU, dynamic_ownership: true, mount_namespace: false }
}

fn file(path: &str) -> Image {
    Image { path: Some(path.into()), ..Image::default() }
}

fn made(rules: impl Fn(&mut Transaction)) -> Vec<(String, Option<Owner>, bool)> {
    let mut transaction = Transaction::new();
    rules(&mut transaction);
    transaction.changes.into_iter().map(|change| (change.path, change.owner, change.remember)).collect()
}

#[test]
fn labels_are_written_and_read() {
    assert_eq!(QEMU.label(), "+64055:+994");
    assert_eq!(Owner::parse("+64055:+994").unwrap(), QEMU);
    assert_eq!(Owner::parse("root:root").unwrap(), Owner { user: 0, group: 0 });
    let error = Owner::parse("107").unwrap_err();
    assert_eq!(error.message, "invalid argument: Failed to parse uid and gid from '107'");
    assert_eq!(error.code.number(), 8);
    let own = Owner::of_process(std::process::id().try_into().unwrap()).unwrap();
    assert_eq!(own.user, rustix::process::geteuid().as_raw());
    assert_eq!(dac().base_label(), "+64055:+994");
}

#[test]
fn only_a_written_top_is_remembered() {
    let below = Image { read_only: true, ..file("/base") };
    let got = made(|t| dac().set_images(t, None, &[file("/top"), below.clone()], None, true));
    assert_eq!(got, [("/top".into(), Some(QEMU), true), ("/base".into(), Some(QEMU), false)]);
    let got = made(|t| dac().set_images(t, None, &[file("/top")], None, false));
    assert_eq!(got, [("/top".into(), Some(QEMU), false)]);
    let shared = Image { shared: true, ..file("/s") };
    let got = made(|t| dac().set_images(t, None, std::slice::from_ref(&shared), None, true));
    assert_eq!(got, [("/s".into(), Some(QEMU), false)]);
    for left in [&below, &shared, &Image::default()] {
        assert_eq!(made(|t| dac().restore_image(t, None, left, false)), []);
    }
    assert_eq!(made(|t| dac().restore_image(t, None, &file("/top"), false)), [("/top".into(), None, true)]);
    // Of another host: not there at all is not shared.
    assert_eq!(made(|t| dac().restore_image(t, None, &file("/top"), true)).len(), 1);
}

#[test]
fn labels_of_images_parents_and_domains_are_heard_in_this_order() {
    let own = Owner { user: 1, group: 2 };
    let other = Owner { user: 3, group: 4 };
    let label = |owner| Some(Label { relabel: true, owner });
    let keep = Label { relabel: false, owner: None };
    let image = Image { label: label(Some(own)), ..file("/x") };
    let owners = |domain: Option<Label>, image: Image, parent: Option<Label>| -> Vec<Option<Owner>> {
        made(|t| dac().set_images(t, domain.as_ref(), std::slice::from_ref(&image), parent.as_ref(), true))
            .into_iter()
            .map(|(_, owner, _)| owner)
            .collect()
    };
    assert_eq!(owners(None, image.clone(), label(Some(other))), [Some(own)]);
    assert_eq!(owners(None, file("/x"), label(Some(other))), [Some(other)]);
    assert_eq!(owners(label(Some(other)), file("/x"), None), [Some(other)]);
    assert_eq!(owners(label(None), file("/x"), label(None)), [Some(QEMU)]);
    assert_eq!(owners(None, Image { label: Some(keep.clone()), ..file("/x") }, None), []);
    assert_eq!(owners(None, file("/x"), Some(keep.clone())), []);
    assert_eq!(owners(Some(keep.clone()), image, None), []);
    let off = Dac { dynamic_ownership: false, ..dac() };
    assert_eq!(made(|t| off.set_images(t, None, &[file("/x")], None, true)), []);
    assert_eq!(made(|t| off.set_file(t, None, "/x")), []);
}

#[test]
fn nodes_that_the_host_shares_are_only_changed_in_a_namespace() {
    assert_eq!(made(|t| dac().set_shared_node(t, None, "/dev/sev")), []);
    let inside = Dac { mount_namespace: true, ..dac() };
    assert_eq!(made(|t| inside.set_shared_node(t, None, "/dev/sev")).len(), 1);
    let got = made(|t| {
        dac().set_host_device(t, None, "/dev/vfio/7", true);
        dac().restore_host_device(t, None, "/dev/bus/usb/001/002", false);
    });
    let expected = [("/dev/vfio/7".into(), Some(QEMU), false), ("/dev/bus/usb/001/002".into(), None, true)];
    assert_eq!(got, expected);
}

#[test]
fn character_devices_by_their_kind() {
    let set = |channel: Channel, label: Option<Label>| -> Vec<String> {
        made(|t| dac().set_channel(t, None, &channel, label.as_ref(), true))
            .into_iter()
            .map(|(path, ..)| path)
            .collect()
    };
    let file = |file_by_logd| Channel::File { path: "/log".into(), file_by_logd };
    assert_eq!(set(file(false), None), ["/log"]);
    assert_eq!(set(file(true), None), [""; 0]);
    assert_eq!(set(file(true), Some(Label { relabel: true, owner: None })), ["/log"]);
    assert_eq!(set(file(false), Some(Label { relabel: false, owner: None })), [""; 0]);
    assert_eq!(set(Channel::Other, None), [""; 0]);
    let socket = |path: &str, listen| Channel::Socket { path: path.into(), listen };
    assert_eq!(set(socket("/nonexistent/s", true), None), [""; 0]);
    assert_eq!(set(socket("/dev/null", true), None), ["/dev/null"]);
    assert_eq!(set(socket("/nonexistent/s", false), None), ["/nonexistent/s"]);
    let restored = made(|t| dac().restore_channel(t, None, &socket("/dev/null", true), None, true));
    assert_eq!(restored, []);
    let folder = std::env::temp_dir().join(format!("confinement-pipe-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let pipe = folder.join("p").display().to_string();
    assert_eq!(set(Channel::Pipe(pipe.clone()), None), [&*pipe]);
    std::fs::write(format!("{pipe}.in"), "").unwrap();
    std::fs::write(format!("{pipe}.out"), "").unwrap();
    assert_eq!(set(Channel::Pipe(pipe.clone()), None), [format!("{pipe}.in"), format!("{pipe}.out")]);
    std::fs::remove_dir_all(folder).unwrap();
}
