//! The files that packages install and that derive from a program's table.

use crate::Program;
use std::fs;
use std::path::Path;

impl Program {
    /// Path below the packaging folder and text of each derived file.
    #[must_use]
    pub fn generated(&self) -> [(String, String); 3] {
        [
            (format!("man/{}.{}", self.name, self.section), self.manual()),
            (format!("completion/bash/{}", self.name), self.bash_completion()),
            (format!("completion/zsh/_{}", self.name), self.zsh_completion()),
        ]
    }

    /// Compares the derived files below `folder` with the table, or with `update` writes them.
    ///
    /// # Errors
    /// A letter or name that two options share; the first file that is not what the table says, or cannot be written.
    pub fn check_generated(&self, folder: &Path, update: bool) -> Result<(), String> {
        for (index, option) in self.options().enumerate() {
            if self.options().take(index).any(|o| o.short == option.short || o.long == option.long) {
                return Err(format!("-{}/--{} stands twice in the table", option.short, option.long));
            }
        }
        for (name, text) in self.generated() {
            let path = folder.join(name);
            if update {
                let made = path.parent().map_or(Ok(()), fs::create_dir_all);
                made.and_then(|()| fs::write(&path, &text))
                    .map_err(|e| format!("{}: {e}", path.display()))?;
            } else if fs::read_to_string(&path).unwrap_or_default() != text {
                return Err(format!(
                    "{} is not what the option table says; run the test with UPDATE=1",
                    path.display()
                ));
            }
        }
        Ok(())
    }
}
