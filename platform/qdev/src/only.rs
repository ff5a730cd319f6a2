//! Properties of which one value is built.

use crate::{Input, PropertyField};

/// A property that is shown with its default and takes no other value: what it would switch is not built.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Only<T>(T);

impl<T> Only<T> {
    /// The property with the value that is built.
    pub fn new(value: T) -> Self {
        Self(value)
    }
}

impl<T: PropertyField + Clone + PartialEq> PropertyField for Only<T> {
    fn type_name(&self) -> &'static str {
        self.0.type_name()
    }

    fn set(&mut self, owner: &str, name: &str, value: &Input<'_>) -> Result<(), String> {
        let mut wanted = self.0.clone();
        wanted.set(owner, name, value)?;
        if wanted == self.0 {
            return Ok(());
        }
        Err(format!("Property '{owner}.{name}' with a value other than {} is not supported by this build", {
            self.0.default_text().unwrap_or_else(|| "\"\"".to_owned())
        }))
    }

    fn text(&self) -> String {
        self.0.text()
    }

    fn default_text(&self) -> Option<String> {
        self.0.default_text()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_built_value_is_taken_and_others_are_refused_by_name() {
        let mut only = Only::new(true);
        only.set("d", "ats", &Input::Text("on")).expect("default");
        assert_eq!(
            only.set("d", "ats", &Input::Text("off")).expect_err("other"),
            "Property 'd.ats' with a value other than true is not supported by this build"
        );
        assert_eq!(
            only.set("d", "ats", &Input::Text("x")).expect_err("bad"),
            "Parameter 'ats' expects 'on' or 'off'"
        );
    }
}
