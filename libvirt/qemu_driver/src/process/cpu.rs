//! What the emulator made of the processor that was asked for.

use cpu_map::{Bits, Half, Map, Place};
use domain_xml::Domain as Definition;
use domain_xml::cpu::{CpuCheck, CpuFeature, CpuMode};
use json::{Value, dict};
use qemu_command::processor::{described, policy_word};
use qmp::Monitor;

/// Writes into the definition what the guest really has: features that came and that were lost, so that it can be
/// started again with exactly those.
pub(super) fn note_features(definition: &mut Definition, qemu: &Monitor, cpus: &Value) {
    let Some(cpu) = definition.cpu.as_mut().filter(|cpu| cpu.mode == Some(CpuMode::Custom)) else { return };
    let first = cpus.as_list().and_then(|list| list.first()?.get("qom-path")?.as_str());
    let Some(path) = first else { return };
    let words = |property: &str| {
        let reply = qemu.execute("qom-get", dict! { "path" => path, "property" => property });
        reply.ok().as_ref().and_then(bits)
    };
    let (Some(enabled), Some(disabled)) = (words("feature-words"), words("filtered-features")) else {
        return;
    };
    let mut guest = described(cpu);
    if Map::get().update_live(&mut guest, &enabled, &disabled).is_err() {
        // A model that has no name here is left as it was asked for.
        return;
    }
    cpu.check = Some(CpuCheck::Full);
    cpu.feature = guest
        .features
        .into_iter()
        .map(|feature| CpuFeature { policy: Some(policy_word(feature.policy)), name: feature.name })
        .collect();
}

/// The words of `feature-words` or `filtered-features`.
fn bits(reply: &Value) -> Option<Bits> {
    let mut bits = Bits::default();
    for row in reply.as_list()? {
        let number = |key: &str| u32::try_from(row.get(key)?.as_u64()?).ok();
        let (Some(leaf), Some(word)) = (number("cpuid-input-eax"), number("features")) else { continue };
        let subleaf = number("cpuid-input-ecx").unwrap_or(0);
        let register = row.get("cpuid-register").and_then(Value::as_str).unwrap_or_default();
        let Some(half) = Half::named(&register.to_ascii_lowercase()) else { continue };
        bits.set(Place::Cpuid(leaf, subleaf, half), word);
    }
    Some(bits)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words() {
        let text = "[{'cpuid-register': 'EDX', 'cpuid-input-eax': 1, 'features': 5},
            {'cpuid-register': 'EBX', 'cpuid-input-eax': 7, 'cpuid-input-ecx': 1, 'features': 2}, {'odd': 1}]";
        let found = bits(&json::parse(text.as_bytes()).expect("json")).expect("bits");
        assert_eq!(found.get(Place::Cpuid(1, 0, Half::Edx)), 5);
        assert_eq!(found.get(Place::Cpuid(7, 1, Half::Ebx)), 2);
        assert!(bits(&Value::Null).is_none());
    }
}
