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
