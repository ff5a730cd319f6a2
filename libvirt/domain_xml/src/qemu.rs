//! What is passed to the emulator as it stands: elements of the name space `qemu`.

use xml::element;

/// A word of the command line.
#[element]
pub struct Arg {
    #[attr]
    pub value: String,
}

/// A variable of the environment.
#[element]
pub struct Env {
    #[attr]
    pub name: String,
    #[attr]
    pub value: Option<String>,
}

/// Words and variables.
#[element]
pub struct CommandLine {
    #[child("qemu:arg")]
    pub arg: Vec<Arg>,
    #[child("qemu:env")]
    pub env: Vec<Env>,
}

/// A name of a capability.
#[element]
pub struct Capability {
    #[attr]
    pub capability: String,
}

/// Changes of what the emulator is believed to do.
#[element]
pub struct Capabilities {
    #[child("qemu:add")]
    pub add: Vec<Capability>,
    #[child("qemu:del")]
    pub del: Vec<Capability>,
}

/// What happens when something deprecated is used.
#[element]
pub struct Deprecation {
    #[attr]
    pub behavior: String,
}

/// A property that is set.
#[element]
pub struct Property {
    #[attr]
    pub name: String,
    #[attr("type")]
    pub kind: String,
    #[attr]
    pub value: Option<String>,
}

/// Properties that are set.
#[element]
pub struct Frontend {
    #[child("qemu:property")]
    pub property: Vec<Property>,
}

/// A device whose properties are set.
#[element]
pub struct OverrideDevice {
    #[attr]
    pub alias: String,
    #[child("qemu:frontend")]
    pub frontend: Option<Frontend>,
}

/// Devices whose properties are set.
#[element]
pub struct Override {
    #[child("qemu:device")]
    pub device: Vec<OverrideDevice>,
}
