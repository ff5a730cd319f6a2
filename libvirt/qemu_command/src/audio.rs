//! Sound cards, and where their sound goes.

use crate::command::Builder;
use crate::{Error, Props, Result};
use domain_xml::address::HasInfo as _;
use domain_xml::audio::{Audio, AudioDirection, AudioId, AudioType, CodecType, Sound, SoundModel};
use domain_xml::words::yes;

impl Builder<'_> {
    pub(crate) fn audio_backends(&mut self) -> Result<()> {
        for audio in &self.devices().audio {
            if audio.kind == AudioType::Sdl
                && let Some(driver) = &audio.driver
            {
                self.env("SDL_AUDIODRIVER", driver.clone());
            }
            self.option("-audiodev", backend(audio).argument());
        }
        Ok(())
    }

    /// The name of the back end that a device uses: the one that it names, or the first.
    pub(crate) fn audio_name(&self, id: Option<&AudioId>) -> Result<String> {
        let audios = &self.devices().audio;
        let found = match id {
            Some(id) => audios.iter().find(|a| a.id == id.id),
            None => audios.first(),
        };
        found
            .map(|audio| format!("audio{}", audio.id))
            .ok_or_else(|| Error::internal("unable to find audio backend for sound device"))
    }

    pub(crate) fn sound_cards(&mut self) -> Result<()> {
        for sound in &self.devices().sound {
            self.sound_card(sound)?;
        }
        Ok(())
    }

    fn sound_card(&mut self, sound: &Sound) -> Result<()> {
        let alias = sound.info.name();
        if sound.multichannel.is_some() && sound.model != SoundModel::Usb {
            return Err(Error::unsupported("only USB sound cards have an attribute 'multichannel'"));
        }
        let (driver, codecs) = match sound.model {
            SoundModel::Pcspk => {
                self.option("-soundhw", "pcspk");
                return Ok(());
            }
            SoundModel::Sb16 => ("sb16", false),
            SoundModel::Es1370 => ("ES1370", false),
            SoundModel::Ac97 => ("AC97", false),
            SoundModel::Usb => ("usb-audio", false),
            SoundModel::Ich6 => ("intel-hda", true),
            SoundModel::Ich9 => ("ich9-intel-hda", true),
            SoundModel::Ich7 => {
                return Err(Error::unsupported("sound card model 'ich7' is not supported by qemu"));
            }
        };
        let audio = self.audio_name(sound.audio.as_ref())?;
        let props = Props::device(driver).put("id", alias).some("audiodev", (!codecs).then(|| audio.clone()));
        let props = props.answer("multi", sound.multichannel);
        let props = self.place(props, &sound.info)?;
        self.device(props)?;
        if !codecs {
            return Ok(());
        }
        let kinds: Vec<CodecType> = if sound.codec.is_empty() {
            vec![CodecType::Duplex]
        } else {
            sound.codec.iter().map(|codec| codec.kind).collect()
        };
        for (number, kind) in kinds.into_iter().enumerate() {
            let driver = match kind {
                CodecType::Duplex => "hda-duplex",
                CodecType::Micro => "hda-micro",
                CodecType::Output => "hda-output",
            };
            let props = Props::device(driver)
                .put("id", format!("{alias}-codec{number}"))
                .put("bus", format!("{alias}.0"))
                .put("cad", number as u64)
                .put("audiodev", audio.clone());
            self.device(props)?;
        }
        Ok(())
    }
}

fn backend(audio: &Audio) -> Props {
    let driver = match audio.kind {
        AudioType::Pulseaudio => "pa",
        AudioType::File => "wav",
        other => other.as_str(),
    };
    let mut props = Props::default()
        .put("id", format!("audio{}", audio.id))
        .put("driver", driver)
        .positive("timer-period", audio.timer_period.unwrap_or(0));
    match audio.kind {
        AudioType::Oss => {
            props = props
                .answer("try-mmap", audio.try_mmap)
                .answer("exclusive", audio.exclusive)
                .some("dsp-policy", audio.dsp_policy.map(i64::from));
        }
        AudioType::Pulseaudio => props = props.some("server", audio.server_name.clone()),
        AudioType::File => props = props.some("path", audio.path.clone()),
        _ => {}
    }
    for (name, side) in [("in", &audio.input), ("out", &audio.output)] {
        if let Some(side) = side.as_ref().map(|side| direction(audio.kind, side)).filter(|p| !p.is_empty()) {
            props = props.put(name, side);
        }
    }
    props
}

fn direction(kind: AudioType, side: &AudioDirection) -> Props {
    let fixed = side.settings.as_ref().filter(|_| yes(side.fixed_settings));
    let props = Props::default()
        .answer("mixing-engine", side.mixing_engine)
        .answer("fixed-settings", side.fixed_settings)
        .positive("voices", side.voices.unwrap_or(0))
        .positive("buffer-length", side.buffer_length.unwrap_or(0))
        .positive("frequency", fixed.and_then(|f| f.frequency).unwrap_or(0))
        .positive("channels", fixed.and_then(|f| f.channels).unwrap_or(0))
        .some("format", fixed.and_then(|f| f.format.clone()));
    match kind {
        AudioType::Alsa => props.some("dev", side.dev.clone()),
        AudioType::Coreaudio | AudioType::Sdl => {
            props.positive("buffer-count", side.buffer_count.unwrap_or(0))
        }
        AudioType::Jack => props
            .some("server-name", side.server_name.clone())
            .some("client-name", side.client_name.clone())
            .some("connect-ports", side.connect_ports.clone())
            .answer("exact-name", side.exact_name),
        AudioType::Oss => props
            .some("dev", side.dev.clone())
            .positive("buffer-count", side.buffer_count.unwrap_or(0))
            .answer("try-poll", side.try_poll),
        AudioType::Pulseaudio => props
            .some("name", side.name.clone())
            .some("stream-name", side.stream_name.clone())
            .positive("latency", side.latency.unwrap_or(0)),
        _ => props,
    }
}
