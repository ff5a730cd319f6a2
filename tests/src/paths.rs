//! Where things are: the sources, the build directory, the programs under test.

use std::path::{Path, PathBuf};

/// The repository's root folder.
pub fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the package lies in the repository").to_owned()
}

/// Cargo's build directory: the one that holds the running executable, else `target` in the repository.
pub fn target_dir() -> PathBuf {
    let exe = std::env::current_exe().unwrap_or_default();
    exe.ancestors()
        .skip(1)
        .find(|folder| folder.join("CACHEDIR.TAG").is_file())
        .map_or_else(|| repository().join("target"), Path::to_owned)
}

/// A program of this repository: the path in `variable` if that is set, else the newest build of `name`
/// among the profiles. The error says how to build it.
pub fn program(name: &str, variable: &str) -> Result<PathBuf, String> {
    if let Some(path) = std::env::var_os(variable) {
        return Ok(path.into());
    }
    let target = target_dir();
    ["quick", "release", "debug"]
        .iter()
        .map(|profile| target.join(profile).join(name))
        .filter_map(|path| Some((path.metadata().ok()?.modified().ok()?, path)))
        .max()
        .map(|(_, path)| path)
        .ok_or_else(|| format!("{name} is not built: cargo build --profile quick -p {name}"))
}

/// A fresh folder of the calling test's own below the build directory; what an earlier run left there is removed.
pub fn scratch(name: &str) -> PathBuf {
    let folder = target_dir().join("scratch").join(name.replace("::", "."));
    let _ = std::fs::remove_dir_all(&folder);
    std::fs::create_dir_all(&folder).expect("the build directory is writable");
    folder
}
