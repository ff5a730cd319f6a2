//! The properties of a device, object or back end: JSON in the order in which they are added.

use domain_xml::words::{OnOff, YesNo};
use json::{Dict, Value};

/// Properties under construction.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Props(Dict);

impl Props {
    /// Of a `-device`.
    #[must_use]
    pub fn device(driver: impl Into<String>) -> Self {
        Self::default().put("driver", driver.into())
    }

    /// Of an `-object`.
    #[must_use]
    pub fn object(kind: &str, id: impl Into<String>) -> Self {
        Self::default().put("qom-type", kind).put("id", id.into())
    }

    /// Adds a property.
    #[must_use]
    pub fn put(mut self, key: &str, value: impl Into<Value>) -> Self {
        self.0.insert(key, value.into());
        self
    }

    /// Adds a property that there may be.
    #[must_use]
    pub fn some(self, key: &str, value: Option<impl Into<Value>>) -> Self {
        match value {
            Some(value) => self.put(key, value),
            None => self,
        }
    }

    /// Adds a number that means something unless it is zero.
    #[must_use]
    pub fn positive(self, key: &str, value: impl Into<u64>) -> Self {
        let value = value.into();
        if value == 0 { self } else { self.put(key, value) }
    }

    /// Adds `on` and `off` as a truth value.
    #[must_use]
    pub fn switch(self, key: &str, value: Option<OnOff>) -> Self {
        self.some(key, value.map(|v| v == OnOff::On))
    }

    /// Adds `yes` and `no` as a truth value.
    #[must_use]
    pub fn answer(self, key: &str, value: Option<YesNo>) -> Self {
        self.some(key, value.map(|v| v == YesNo::Yes))
    }

    /// Adds a truth value if it is true.
    #[must_use]
    pub fn if_true(self, key: &str, value: bool) -> Self {
        if value { self.put(key, true) } else { self }
    }

    /// Adds `on` and `off` as words, for properties that know `auto` too.
    #[must_use]
    pub fn word(self, key: &str, value: Option<OnOff>) -> Self {
        self.some(key, value.map(OnOff::as_str))
    }

    /// Adds the properties of another object.
    #[must_use]
    pub fn and(mut self, other: Self) -> Self {
        for (key, value) in other.0.iter() {
            self.0.insert(key, value.clone());
        }
        self
    }

    /// The value of a property.
    #[must_use]
    pub fn get(&self, key: &str) -> Option<&Value> {
        self.0.get(key)
    }

    /// The property as text; empty if there is none.
    #[must_use]
    pub fn text(&self, key: &str) -> &str {
        self.get(key).and_then(Value::as_str).unwrap_or("")
    }

    /// Takes a property away.
    pub fn remove(&mut self, key: &str) {
        self.0.remove(key);
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// As an argument of the command line: JSON without blanks.
    #[must_use]
    pub fn argument(&self) -> String {
        Value::Dict(self.0.clone()).compact()
    }
}

impl From<Props> for Value {
    fn from(props: Props) -> Self {
        Self::Dict(props.0)
    }
}

/// Doubles the commas of a value in an argument of the form `key=value,key=value`.
pub(crate) fn escape(text: &str) -> String {
    text.replace(',', ",,")
}
