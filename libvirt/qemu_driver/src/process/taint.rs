//! What makes a guest's behaviour nobody's promise.

macro_rules! taints {
    ($($name:ident = $word:literal, $text:literal;)*) => {
        /// A reason why a guest may behave as nobody promises.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Taint {
            $(#[doc = $text] $name,)*
        }

        impl Taint {
            /// The word of the status file and of the log.
            pub fn word(self) -> &'static str {
                match self {
                    $(Self::$name => $word,)*
                }
            }

            /// What clients are told.
            pub fn text(self) -> &'static str {
                match self {
                    $(Self::$name => $text,)*
                }
            }

            /// What the word means.
            pub fn from_word(word: &str) -> Option<Self> {
                match word {
                    $($word => Some(Self::$name),)*
                    _ => None,
                }
            }
        }
    };
}

taints! {
    CustomArgv = "custom-argv", "use of custom QEMU command line";
    CustomMonitor = "custom-monitor", "custom control of QEMU";
    HighPrivileges = "high-privileges", "running with undesirable elevated privileges";
    HostCpu = "host-cpu", "use of host CPU passthrough";
    CustomGa = "custom-ga-command", "custom guest agent control";
    Hook = "hook-script", "configuration potentially modified by hook script";
}
