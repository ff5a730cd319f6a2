//! Sound cards, and what plays and records at the host.

use xml::{element, words};

use crate::address::Info;
use crate::words::YesNo;

/// Where sound goes to at the host.
#[words]
pub enum AudioType {
    None,
    Alsa,
    Coreaudio,
    Jack,
    Oss,
    Pulseaudio,
    Sdl,
    Spice,
    File,
    Dbus,
}

/// A form of samples.
#[element]
pub struct AudioSettings {
    #[attr]
    pub frequency: Option<u32>,
    #[attr]
    pub channels: Option<u32>,
    #[attr]
    pub format: Option<String>,
}

/// One direction of sound. Which parts count depends on the type.
#[element]
pub struct AudioDirection {
    #[attr("mixingEngine")]
    pub mixing_engine: Option<YesNo>,
    #[attr("fixedSettings")]
    pub fixed_settings: Option<YesNo>,
    #[attr]
    pub voices: Option<u32>,
    #[attr("bufferLength")]
    pub buffer_length: Option<u32>,
    #[attr]
    pub dev: Option<String>,
    #[attr("serverName")]
    pub server_name: Option<String>,
    #[attr("clientName")]
    pub client_name: Option<String>,
    #[attr("connectPorts")]
    pub connect_ports: Option<String>,
    #[attr("exactName")]
    pub exact_name: Option<YesNo>,
    #[attr("bufferCount")]
    pub buffer_count: Option<u32>,
    #[attr("tryPoll")]
    pub try_poll: Option<YesNo>,
    #[attr]
    pub name: Option<String>,
    #[attr("streamName")]
    pub stream_name: Option<String>,
    #[attr]
    pub latency: Option<u32>,
    #[child]
    pub settings: Option<AudioSettings>,
}

/// The host's end of sound cards.
#[element]
pub struct Audio {
    #[attr]
    pub id: u32,
    #[attr("type")]
    pub kind: AudioType,
    #[attr("timerPeriod")]
    pub timer_period: Option<u32>,
    #[attr("tryMMap")]
    pub try_mmap: Option<YesNo>,
    #[attr]
    pub exclusive: Option<YesNo>,
    #[attr("dspPolicy")]
    pub dsp_policy: Option<i32>,
    #[attr("serverName")]
    pub server_name: Option<String>,
    #[attr]
    pub driver: Option<String>,
    #[attr]
    pub path: Option<String>,
    #[child]
    pub input: Option<AudioDirection>,
    #[child]
    pub output: Option<AudioDirection>,
}

/// Which [`Audio`] is used.
#[element]
pub struct AudioId {
    #[attr]
    pub id: u32,
}

/// Models of sound cards.
#[words]
pub enum SoundModel {
    Sb16,
    Es1370,
    Pcspk,
    Ac97,
    Ich6,
    Ich9,
    Usb,
    Ich7,
}

/// What turns samples into sound.
#[element]
pub struct Codec {
    #[attr("type")]
    pub kind: CodecType,
}

/// Kinds of codecs.
#[words]
pub enum CodecType {
    Duplex,
    Micro,
    Output,
}

/// A sound card.
#[element]
pub struct Sound {
    #[attr]
    pub model: SoundModel,
    /// More than two channels; of USB cards.
    #[attr]
    pub multichannel: Option<YesNo>,
    #[child]
    pub codec: Vec<Codec>,
    #[child]
    pub audio: Option<AudioId>,
    #[flatten]
    pub info: Info,
}
