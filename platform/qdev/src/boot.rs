//! Which devices firmware tries to boot from, and in which order.

use crate::DeviceError;
use parking_lot::Mutex;

/// The devices with a `bootindex`; among a machine's links under [`BootOrder::LINK`].
#[derive(Default)]
pub struct BootOrder {
    entries: Mutex<Vec<(i32, String)>>,
}

impl BootOrder {
    /// Its name among the links.
    pub const LINK: &'static str = "bootorder";

    /// Adds the device that firmware knows as `path` (an Open Firmware device path). A negative index is none.
    ///
    /// # Errors
    /// Another device has the index.
    pub fn add(&self, index: i32, path: String) -> Result<(), DeviceError> {
        if index < 0 {
            return Ok(());
        }
        let mut entries = self.entries.lock();
        match entries.binary_search_by_key(&index, |(index, _)| *index) {
            Ok(_) => Err(DeviceError::new(format!("The bootindex {index} has already been used"))),
            Err(at) => {
                entries.insert(at, (index, path));
                Ok(())
            }
        }
    }

    /// The contents of the fw_cfg file `bootorder`: paths by line, with a NUL at the end; empty without entries.
    /// `strict` (`-boot strict=on`) ends the list with `HALT`: nothing else is tried.
    pub fn file(&self, strict: bool) -> Vec<u8> {
        let mut paths: Vec<_> = self.entries.lock().iter().map(|(_, path)| path.clone()).collect();
        if paths.is_empty() {
            return Vec::new();
        }
        if strict {
            paths.push("HALT".to_owned());
        }
        let mut file = paths.join("\n").into_bytes();
        file.push(0);
        file
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_file_lists_paths_by_index() {
        let order = BootOrder::default();
        assert!(order.file(true).is_empty());
        order.add(5, "/b".to_owned()).expect("b");
        order.add(1, "/a".to_owned()).expect("a");
        order.add(-1, "/never".to_owned()).expect("none");
        assert_eq!(
            order.add(5, "/c".to_owned()).expect_err("twice").0,
            "The bootindex 5 has already been used"
        );
        assert_eq!(order.file(false), b"/a\n/b\0");
        assert_eq!(order.file(true), b"/a\n/b\nHALT\0");
    }
}
