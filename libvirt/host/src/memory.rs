//! Settings and counters of same-page merging.

use crate::parse::number;
use rpc::TypedParam;
use std::path::{Path, PathBuf};

/// Clients' names, the kernel's files, and whether they are settings (numbers of 32 bits) or counters.
const FIELDS: &[(&str, &str, bool)] = &[
    ("shm_pages_to_scan", "pages_to_scan", true),
    ("shm_sleep_millisecs", "sleep_millisecs", true),
    ("shm_pages_shared", "pages_shared", false),
    ("shm_pages_sharing", "pages_sharing", false),
    ("shm_pages_unshared", "pages_unshared", false),
    ("shm_pages_volatile", "pages_volatile", false),
    ("shm_full_scans", "full_scans", false),
    ("shm_merge_across_nodes", "merge_across_nodes", true),
];

/// How many there may be.
pub(crate) const COUNT: i32 = FIELDS.len() as i32;

/// The file of a setting.
pub(crate) fn setting(root: &Path, name: &str) -> Option<PathBuf> {
    let (_, file, _) = FIELDS.iter().find(|(field, _, is_setting)| *field == name && *is_setting)?;
    Some(root.join("sys/kernel/mm/ksm").join(file))
}

/// All that the kernel has.
pub(crate) fn parameters(root: &Path) -> Vec<TypedParam> {
    let directory = root.join("sys/kernel/mm/ksm");
    let field = |(name, file, is_setting): &(&str, &str, bool)| {
        let path = directory.join(file);
        if *is_setting {
            Some(TypedParam::new(*name, number::<u32>(&path)?))
        } else {
            Some(TypedParam::new(*name, number::<u64>(&path)?))
        }
    };
    FIELDS.iter().filter_map(field).collect()
}
