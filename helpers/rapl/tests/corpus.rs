//! The inputs that the fuzz target has found worth keeping, run through the same code.
#![forbid(unsafe_code)]

#[path = "../../../fuzz/harness/vmsr_request.rs"]
mod vmsr_request;

#[test]
fn requests() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../../fuzz/corpus/vmsr_request");
    let files: Vec<_> = std::fs::read_dir(folder).unwrap().map(|e| e.unwrap().path()).collect();
    assert!(!files.is_empty());
    for file in files {
        println!("{}", file.display());
        vmsr_request::run(&std::fs::read(file).unwrap());
    }
}
