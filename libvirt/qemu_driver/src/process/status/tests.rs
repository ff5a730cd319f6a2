use super::*;

/// What libvirt writes of what it reads (`tests/qemustatusxml2xmldata` of its source) is what we write of it.
#[test]
fn libvirts_files_are_kept() {
    let tests = match blackbox::guests::libvirt_tests() {
        Ok(tests) => tests,
        Err(reason) => {
            println!("SKIPPED libvirts_files_are_kept: {reason}");
            return;
        }
    };
    let mut count = 0;
    for entry in std::fs::read_dir(tests.join("qemustatusxml2xmldata")).expect("the folder").flatten() {
        let path = entry.path();
        let text = std::fs::read_to_string(&path).expect("a file");
        if !path.to_string_lossy().ends_with("-out.xml") {
            assert!(parse(&text).is_ok(), "{}: {:?}", path.display(), parse(&text).err());
            continue;
        }
        let status = parse(&text).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        let written = status.format();
        let differ = text.lines().zip(written.lines()).find(|(theirs, ours)| theirs != ours);
        assert_eq!(differ, None, "{}", path.display());
        assert_eq!(text.lines().count(), written.lines().count(), "{}", path.display());
        assert_eq!(parse(&written).expect("ours").format(), written);
        count += 1;
    }
    assert!(count >= 11, "{count} files");
}

/// What is written before a guest has a process names what has to be given back.
#[test]
fn what_is_planned_is_known() {
    let text = "<domain type='qemu' id='7'><name>a</name><uuid>c7a5fdbd-edaf-9455-926a-d65c16db1809</uuid>\
        <memory>1024</memory><os><type machine='pc'>hvm</type></os><devices><interface type='network'>\
        <source network='default' portid='2b1ab6c4-9b3c-4e2b-8a53-0f0d2f5b8c11'/></interface></devices></domain>";
    let mut definition = domain_xml::parse(text).expect("xml");
    definition.id = Some(7);
    let directory = Path::new("/lib/domain-7-a");
    let status = Status::planned(&definition, directory, Path::new("/channels")).expect("status");
    let read = parse(&status.format()).expect("ours");
    assert_eq!((read.pid, read.id, read.is_starting()), (0, 7, true));
    assert_eq!(read.journal(), Some(Journal::of(directory)));
    let port =
        |status: &Status| status.definition.devices.interface[0].source.clone().expect("source").portid;
    assert_eq!(port(&read).as_deref(), Some("2b1ab6c4-9b3c-4e2b-8a53-0f0d2f5b8c11"));
}
