//! Traces that lead back to their start.
//!
//! Such a trace is emitted twice. The first round is entered from outside and leads into the second one, which leads
//! to itself: there the spans whose addresses stay the same are known already, and the flags need not be put aside
//! between the rounds where they can be made again. Each round looks at the mailbox, and at the other pages of its code.

use super::classify::Kind;
use super::emit::{ColdPath, Emitter};
use super::spans::Holds;
use super::stubs::T1;

impl Emitter<'_> {
    /// Whether the block's last instruction leads back to its start.
    pub(super) fn is_loop(&self, kinds: &[Kind]) -> bool {
        let source = self.source;
        let last = kinds.last().zip(source.instructions.last());
        source.loops
            && last.is_some_and(|(kind, i)| {
                matches!(kind, Kind::Jump | Kind::Condition)
                    && i.near_branch_target() == source.start
                    && i.next_ip() != source.start
            })
    }

    /// Whether instruction `n` is that last one.
    pub(super) fn goes_round(&self, n: usize) -> bool {
        n + 1 == self.kinds.len() && self.is_loop(self.kinds)
    }

    /// Ends a round: on with the next one.
    pub(super) fn go_round(&mut self) {
        let start = self.source.start;
        if self.live_beyond(start) != 0 && self.flags.recipe.is_none() {
            self.flags_to_memory();
        }
        let event = self.a.label();
        self.look_at_mailbox(event);
        self.flags.rflags = false;
        self.push_cold(event, None, ColdPath::Exit { rip: start, site: None, flags_in_rflags: false });
        match self.round {
            None => {
                let round = self.a.label();
                self.a.bind(round);
                self.round = Some((round, self.flags));
            }
            Some((round, flags)) if flags == self.flags => self.a.jmp(round),
            Some(_) => {
                // The mailbox has just been looked at.
                self.unchecked = false;
                self.exit(start, false, self.live_beyond(start));
            }
        }
    }

    /// What is known where the second round begins: nothing that the first one has left in temporaries.
    pub(super) fn begin_second_round(&mut self) {
        self.unchecked = false;
        self.group_end = 0;
        self.t0 = Holds::Nothing;
        self.fpu = false;
        if self.source.others.is_empty() {
            return;
        }
        let [away, stale] = [None, Some(super::STALE)].map(|site| {
            let label = self.a.label();
            let rip = self.source.start;
            self.push_cold(label, None, ColdPath::Exit { rip, site, flags_in_rflags: false });
            label
        });
        self.a.load(T1, self.slots.code);
        for page in self.source.others {
            self.check_page(*page, away, stale);
        }
    }
}
