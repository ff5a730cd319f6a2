//! The states of a domain, with libvirt's numbers and words.

macro_rules! states {
    ($($state:ident = $number:literal, $word:literal { $($reason:ident = $value:literal, $text:literal;)* })*) => {
        /// A domain's state and why it is in it.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        #[allow(missing_docs, reason = "the words of the table say it")]
        pub enum State {
            $(#[doc = $word] $state($state),)*
        }

        $(
            #[doc = concat!("Why a domain is ", $word, ".")]
            #[derive(Clone, Copy, Debug, PartialEq, Eq)]
            #[allow(missing_docs, reason = "the words of the table say it")]
            pub enum $state {
                $(#[doc = $text] $reason = $value,)*
            }

            impl From<$state> for State {
                fn from(reason: $state) -> Self {
                    Self::$state(reason)
                }
            }
        )*

        impl State {
            /// `virDomainState` and the reason's number.
            pub fn numbers(self) -> (i32, i32) {
                match self {
                    $(Self::$state(reason) => ($number, reason as i32),)*
                }
            }

            /// The words of the status file.
            pub fn words(self) -> (&'static str, &'static str) {
                match self {
                    $($(Self::$state($state::$reason) => ($word, $text),)*)*
                }
            }

            /// The state that the words of a status file mean.
            pub fn from_words(state: &str, reason: &str) -> Option<Self> {
                match (state, reason) {
                    $($(($word, $text) => Some(Self::$state($state::$reason)),)*)*
                    _ => None,
                }
            }
        }
    };
}

states! {
    Running = 1, "running" {
        Unknown = 0, "unknown"; Booted = 1, "booted"; Migrated = 2, "migrated"; Restored = 3, "restored";
        FromSnapshot = 4, "from snapshot"; Unpaused = 5, "unpaused";
        MigrationCanceled = 6, "migration canceled"; SaveCanceled = 7, "save canceled"; Wakeup = 8, "wakeup";
        Crashed = 9, "crashed"; Postcopy = 10, "post-copy"; PostcopyFailed = 11, "post-copy failed";
    }
    Paused = 3, "paused" {
        Unknown = 0, "unknown"; User = 1, "user"; Migration = 2, "migration"; Save = 3, "save";
        Dump = 4, "dump"; IoError = 5, "ioerror"; Watchdog = 6, "watchdog"; FromSnapshot = 7, "from snapshot";
        ShuttingDown = 8, "shutdown"; Snapshot = 9, "snapshot"; Crashed = 10, "panicked";
        StartingUp = 11, "starting up"; Postcopy = 12, "post-copy"; PostcopyFailed = 13, "post-copy failed";
        ApiError = 14, "api error";
    }
    Shutdown = 4, "shutdown" {
        Unknown = 0, "unknown"; User = 1, "user";
    }
    Shutoff = 5, "shutoff" {
        Unknown = 0, "unknown"; Shutdown = 1, "shutdown"; Destroyed = 2, "destroyed"; Crashed = 3, "crashed";
        Migrated = 4, "migrated"; Saved = 5, "saved"; Failed = 6, "failed"; FromSnapshot = 7, "from snapshot";
        Daemon = 8, "daemon";
    }
    Crashed = 6, "crashed" {
        Unknown = 0, "unknown"; Panicked = 1, "panicked";
    }
    PmSuspended = 7, "pmsuspended" {
        Unknown = 0, "unknown";
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_and_words() {
        let state = State::from(Paused::StartingUp);
        assert_eq!(state.numbers(), (3, 11));
        let (word, reason) = state.words();
        assert_eq!(State::from_words(word, reason), Some(state));
        assert_eq!(State::from_words("running", "sideways"), None);
        assert_eq!(State::from(Shutoff::Daemon).numbers(), (5, 8));
    }
}
