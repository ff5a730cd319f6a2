use super::*;

fn guest(model: &str, features: &[(&str, Policy)]) -> Cpu {
    let feature = |(name, policy): &(&str, Policy)| Feature { name: (*name).into(), policy: Some(*policy) };
    Cpu { model: Some(model.into()), features: features.iter().map(feature).collect(), ..Cpu::default() }
}

#[test]
fn every_model_is_found_again_by_its_own_bits() {
    let map = Map::get();
    for model in map.models().iter().filter(|m| m.for_guest) {
        let bits = map.identified_bits(&guest(model.name, &[])).expect(model.name);
        let cpu = map.decode(&Cpu::default(), &bits, None, &[model.name]).expect(model.name);
        assert_eq!(cpu.model.as_deref(), Some(model.name));
        // Transactional memory of early Haswells is never believed.
        let known = |name: &str| model.removed.contains(&name) || matches!(name, "hle" | "rtm");
        assert!(cpu.features.iter().all(|f| known(&f.name)), "{}: {:?}", model.name, cpu.features);
    }
}

#[test]
fn names_of_qemu_are_understood() {
    let map = Map::get();
    let bits = map.bits_of_qemu(["sse4_1", "pni", "no-such-thing"], Some("GenuineIntel"), (6, 60, 3));
    assert!(map.has(&bits, "sse4.1").expect("known") && map.has(&bits, "pni").expect("known"));
    assert_eq!(bits.get(Place::Cpuid(1, 0, Half::Eax)), 0x0003_06c3);
    assert_eq!(
        map.has(&bits, "sse4_1"),
        Err(CpuError::Internal("unknown CPU feature sse4_1".into())),
        "QEMU's names are not libvirt's"
    );
}

#[test]
fn policies_decide_what_the_host_must_have() {
    let map = Map::get();
    let host = Cpu { kind: Kind::Host, ..guest("Penryn", &[]) };
    let compare = |cpu: &Cpu| map.compare(Some(&host), cpu).expect("known names");
    assert_eq!(compare(&guest("Penryn", &[])), Comparison::Identical);
    assert_eq!(compare(&guest("Conroe", &[])), Comparison::Superset);
    assert_eq!(
        compare(&guest("Penryn", &[("avx", Policy::Require), ("aes", Policy::Require)])),
        Comparison::Incompatible(Some("Host CPU does not provide required features: aes, avx".into()))
    );
    assert_eq!(compare(&guest("Penryn", &[("avx", Policy::Force)])), Comparison::Identical);
    assert_eq!(
        compare(&guest("Conroe", &[("sse4.1", Policy::Forbid)])),
        Comparison::Incompatible(Some("Host CPU provides forbidden features: sse4.1".into()))
    );
    let strict = Cpu { matching: Match::Strict, ..guest("Conroe", &[]) };
    assert!(
        matches!(compare(&strict), Comparison::Incompatible(Some(text)) if text.ends_with("Extra features: cx16, sse4.1")
        || text.contains("Extra features"))
    );
    assert_eq!(map.compare(None, &strict), Ok(Comparison::Incompatible(Some("unknown host CPU".into()))));
}

#[test]
fn a_processor_that_never_ends_its_lists_is_read_in_bounds() {
    let mut asked = 0;
    let _ = read_leaves(|_, _| {
        asked += 1;
        [u32::MAX; 4]
    });
    assert!(asked < 2000, "{asked} questions");
}
