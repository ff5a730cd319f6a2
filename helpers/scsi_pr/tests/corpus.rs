//! The inputs that the fuzz targets have found worth keeping, run through the same code.
#![forbid(unsafe_code)]

#[path = "../../../fuzz/harness/pr_multipath.rs"]
mod pr_multipath;
#[path = "../../../fuzz/harness/pr_request.rs"]
mod pr_request;
#[path = "../../../fuzz/harness/pr_transport_id.rs"]
mod pr_transport_id;

fn replay(target: &str, run: fn(&[u8])) {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../../fuzz/corpus/").to_owned() + target;
    let files: Vec<_> = std::fs::read_dir(&folder).unwrap().map(|e| e.unwrap().path()).collect();
    assert!(!files.is_empty(), "{folder}");
    for file in files {
        println!("{}", file.display());
        run(&std::fs::read(file).unwrap());
    }
}

#[test]
fn requests() {
    replay("pr_request", pr_request::run);
}

#[test]
fn transport_ids() {
    replay("pr_transport_id", pr_transport_id::run);
}

#[test]
fn multipath() {
    replay("pr_multipath", pr_multipath::run);
}
