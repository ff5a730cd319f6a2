//! A processor described by names.

/// Whether a description is of a host's processor or of what a guest shall see.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Kind {
    /// A host's; its features are simply there.
    Host,
    /// A guest's; its features have a [`Policy`].
    #[default]
    Guest,
}

/// Where a guest's processor comes from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Mode {
    /// The named model.
    #[default]
    Custom,
    /// The named model that is nearest to the host's processor.
    HostModel,
    /// The host's processor as it is.
    HostPassthrough,
    /// All that the hypervisor can do.
    Maximum,
}

/// How the host's processor must relate to a guest's.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Match {
    /// At least the guest's; the guest gets the host's.
    Minimum,
    /// At least the guest's; the guest gets its own.
    #[default]
    Exact,
    /// Exactly the guest's.
    Strict,
}

/// What is checked when a guest starts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Check {
    /// As the mode asks for.
    #[default]
    Default,
    /// Nothing.
    None,
    /// That the host can do it, before the start.
    Partial,
    /// That the guest has just what was asked for.
    Full,
}

/// What a guest wants of a feature.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Policy {
    /// Shown, whatever the host can do.
    Force,
    /// Shown; the host must have it.
    Require,
    /// Shown if the host has it.
    Optional,
    /// Not shown.
    Disable,
    /// Not shown; the host must not have it either.
    Forbid,
}

/// A feature by name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Feature {
    /// libvirt's name.
    pub name: String,
    /// `None` in a host's description.
    pub policy: Option<Policy>,
}

/// A processor described by names.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Cpu {
    /// Host's or guest's.
    pub kind: Kind,
    /// A host's architecture.
    pub arch: Option<String>,
    /// Where a guest's comes from.
    pub mode: Mode,
    /// How the host's must relate to it.
    pub matching: Match,
    /// What is checked at start.
    pub check: Check,
    /// The nearest model.
    pub model: Option<String>,
    /// Whether a guest's model may be replaced by one that the hypervisor knows.
    pub fallback: bool,
    /// The maker, by libvirt's name.
    pub vendor: Option<String>,
    /// The maker as the guest shall see it (12 characters).
    pub vendor_id: Option<String>,
    /// Features besides those of the model.
    pub features: Vec<Feature>,
}

impl Cpu {
    /// Gives `name` the policy, adding it if it is not there.
    pub fn set_feature(&mut self, name: &str, policy: Option<Policy>) {
        match self.features.iter_mut().find(|f| f.name == name) {
            Some(feature) => feature.policy = policy,
            None => self.features.push(Feature { name: name.to_owned(), policy }),
        }
    }

    /// Adds `name` unless it is there with whatever policy.
    pub fn set_feature_if_missing(&mut self, name: &str, policy: Policy) {
        if !self.features.iter().any(|f| f.name == name) {
            self.features.push(Feature { name: name.to_owned(), policy: Some(policy) });
        }
    }

    /// Takes the model, its features, maker and fallback from `other`.
    pub(crate) fn take_model(&mut self, other: Self) {
        self.model = other.model;
        self.vendor = other.vendor;
        self.vendor_id = other.vendor_id;
        self.features = other.features;
    }
}
