//! Words that many elements share.

use xml::words;

/// Yes or no.
#[words]
pub enum YesNo {
    Yes,
    No,
}

/// On or off.
#[words]
pub enum OnOff {
    On,
    Off,
}

impl From<bool> for YesNo {
    fn from(value: bool) -> Self {
        if value { Self::Yes } else { Self::No }
    }
}

impl From<bool> for OnOff {
    fn from(value: bool) -> Self {
        if value { Self::On } else { Self::Off }
    }
}

/// Whether an optional choice was made for yes.
pub fn yes(value: Option<YesNo>) -> bool {
    value == Some(YesNo::Yes)
}

/// Whether an optional switch was turned on.
pub fn on(value: Option<OnOff>) -> bool {
    value == Some(OnOff::On)
}
