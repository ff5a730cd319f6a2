//! `info jit`.

use crate::vcpus::Vcpus;
use accel::JitStatus;

/// What the processors' tiers have done, in the reference's words where it has the same.
pub(crate) fn jit(vcpus: &Vcpus) -> String {
    let statuses: Option<Vec<_>> =
        (0..vcpus.count()).map(|n| vcpus.with(n, |vcpu| vcpu.jit_status()).flatten()).collect();
    match statuses {
        Some(statuses) => describe(&statuses.into_iter().fold(JitStatus::default(), JitStatus::and)),
        None => "JIT information is only available with accel=tcg\n".to_owned(),
    }
}

fn describe(s: &JitStatus) -> String {
    let each = |total: u64| total.checked_div(s.blocks).unwrap_or(0);
    let part = |count: u64| (count * 100).checked_div(s.blocks).unwrap_or(0);
    let ratio = if s.guest == 0 { 0.0 } else { s.code as f64 / s.guest as f64 };
    let mut text = format!(
        "Translation buffer state:\n\
         tier                {}\n\
         gen code size       {}/{}\n\
         TB count            {}\n\
         TB avg target size  {} max={} bytes\n\
         TB avg host size    {} bytes (expansion ratio: {ratio:.1})\n\
         cross page TB count {} ({}%)\n\
         direct jump count   {} ({}%)\n\
         tier 1 TB count     {}\n\
         \n\
         Statistics:\n\
         TB flush count      {} (longest {:.1} ms)\n\
         TB invalidate count {}\n\
         TB made             {} ({} bytes of guest code in {:.1} ms)\n\
         TB searches         {}\n\
         TLB full flushes    {}\n\
         TLB page flushes    {}\n\
         TLB fills           {}\n\
         tier 1 executed     {} TBs, {} instructions by themselves, {} for tier 2\n\
         tier 2 entered      {} times\n",
        s.tier,
        s.code,
        s.room,
        s.blocks,
        each(s.guest),
        s.largest,
        each(s.code),
        s.crossing,
        part(s.crossing),
        s.links,
        part(s.links),
        s.decoded,
        s.flushes,
        s.longest_flush as f64 / 1e6,
        s.invalidated,
        s.made,
        s.made_bytes,
        s.translating as f64 / 1e6,
        s.searched,
        s.tlb_flushes,
        s.tlb_pages,
        s.tlb_fills,
        s.interpreted_blocks,
        s.careful,
        s.interpreted,
        s.entered,
    );
    if s.refused != 0 {
        text += "user processes      the host does not allow them\n";
    }
    if s.processes.0 == 0 {
        return text;
    }
    let [calls, instructions, jumps, lookups, faults, called] = s.reasons;
    text + &format!(
        "user processes      {} started, {} alive; promoted {} times, demoted {}\n\
         in them             {} stays, {} reports, {} pages asked for, {} TBs\n\
         they reported       {calls} system calls, {instructions} instructions, {jumps} jumps, {lookups} indirect jumps, \
         {faults} faults, {called} calls\n\
         they took           {:.1} ms, translation {:.1} ms; {} pages compared\n",
        s.processes.0,
        s.processes.1,
        s.promoted.0,
        s.promoted.1,
        s.stays.0,
        s.stays.1,
        s.pages,
        s.pieces,
        s.lane_times.0 as f64 / 1e6,
        s.lane_times.1 as f64 / 1e6,
        s.compared,
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn vcpus_are_added_up() {
        let one = JitStatus {
            tier: 2,
            code: 3000,
            room: 1 << 20,
            blocks: 10,
            guest: 500,
            largest: 80,
            crossing: 1,
            longest_flush: 1_500_000,
            ..JitStatus::default()
        };
        let text = describe(&one.and(JitStatus { largest: 20, ..one }));
        for line in [
            "tier                2",
            "gen code size       6000/2097152",
            "TB count            20",
            "TB avg target size  50 max=80 bytes",
            "TB avg host size    300 bytes (expansion ratio: 6.0)",
            "cross page TB count 2 (10%)",
            "TB flush count      0 (longest 1.5 ms)",
        ] {
            assert!(text.lines().any(|l| l == line), "{line}: {text}");
        }
        let lane = JitStatus { processes: (3, 1), stays: (5, 70), ..one };
        assert!(describe(&lane).contains("user processes      3 started, 1 alive; promoted 0 times"));
        assert!(describe(&lane).contains("5 stays, 70 reports") && !text.contains("user processes"));
        assert!(
            describe(&JitStatus::default()).contains("TB avg host size    0 bytes (expansion ratio: 0.0)")
        );
    }
}
