//! One domain, running or not.

use crate::job::Jobs;
use crate::process::{Live, Progress};
use crate::sessions::Sessions;
use crate::state::{Shutoff, State};
use domain_xml::Domain as Definition;
use parking_lot::{Mutex, MutexGuard};
use rpc::{Domain, Uuid};
use std::sync::Arc;
use std::sync::atomic::{AtomicI32, AtomicU64};

/// Most MiB a second that a migration may be allowed: no limit that a host could reach.
pub const MOST_BANDWIDTH: u64 = (i64::MAX >> 20) as u64;

/// What is known of a domain at a moment.
pub struct Inner {
    /// Its name.
    pub name: String,
    /// Its state.
    pub state: State,
    /// The persistent definition, packed: most domains are only there, and none is looked at often.
    config: Option<Box<[u8]>>,
    /// The running guest.
    pub live: Option<Box<Live>>,
    /// It is started with the host.
    pub autostart: bool,
}

/// A domain.
pub struct Guest {
    /// Its UUID.
    pub uuid: Uuid,
    /// Who changes it. Taken before the lock of `inner`, and held across a whole operation.
    pub jobs: Jobs,
    /// Who speaks with the agent in it. Whoever waits for the agent holds nothing else.
    pub agent_jobs: Jobs,
    /// How many seconds the agent has for an answer, or one of [`crate::agent`]'s numbers for that.
    pub agent_timeout: AtomicI32,
    /// Who is connected with its consoles and channels.
    pub sessions: Sessions,
    /// Whose turn it is to write the status file. Taken before the lock of `inner`.
    pub(crate) status_turn: Mutex<()>,
    /// How what last took long ended, until a client has asked for it.
    pub completed: Mutex<Option<Box<Progress>>>,
    /// The bandwidth that clients allow migrations of it, in MiB a second.
    pub migration_bandwidth: AtomicU64,
    /// Held for moments: never while the monitor or a file is waited for.
    inner: Mutex<Inner>,
}

impl Guest {
    /// A domain that does not run.
    pub fn new(uuid: Uuid, name: String) -> Arc<Self> {
        let state = Shutoff::Unknown.into();
        let inner = Inner { name, state, config: None, live: None, autostart: false };
        Arc::new(Self {
            uuid,
            jobs: Jobs::default(),
            agent_jobs: Jobs::of_agent(),
            agent_timeout: AtomicI32::new(crate::agent::BLOCK),
            sessions: Sessions::default(),
            status_turn: Mutex::default(),
            completed: Mutex::default(),
            migration_bandwidth: AtomicU64::new(MOST_BANDWIDTH),
            inner: Mutex::new(inner),
        })
    }

    /// What is known, locked.
    pub fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock()
    }

    /// How clients refer to it.
    pub fn reference(&self) -> Domain {
        self.lock().reference(self.uuid)
    }
}

impl Inner {
    /// How clients refer to it.
    pub fn reference(&self, uuid: Uuid) -> Domain {
        Domain { name: self.name.clone(), uuid, id: self.id() }
    }

    /// Its number; -1 when it does not run.
    pub fn id(&self) -> i32 {
        self.live.as_ref().map_or(-1, |live| live.id)
    }

    /// Whether it runs, or did and is not cleaned up.
    pub fn is_active(&self) -> bool {
        self.live.is_some()
    }

    /// The persistent definition; none of a transient domain.
    pub fn config(&self) -> Option<Arc<Definition>> {
        let packed = self.config.as_deref()?;
        Some(Arc::new(xml::unpack(packed).expect("only a definition is packed here")))
    }

    /// Whether there is a persistent definition.
    pub fn is_persistent(&self) -> bool {
        self.config.is_some()
    }

    /// From now on the persistent definition is this one; `None`: the domain is transient.
    pub fn set_config(&mut self, definition: Option<&Definition>) {
        self.config = definition.map(xml::pack);
    }

    /// The definition of the running guest.
    fn running(&self) -> Option<Arc<Definition>> {
        self.live.as_ref().map(|live| live.definition.clone())
    }

    /// The definition that is in force now.
    pub fn current(&self) -> Option<Arc<Definition>> {
        self.running().or_else(|| self.config())
    }

    /// The definition of the next start: the persistent one, or a transient domain's only one.
    pub fn inactive(&self) -> Option<Arc<Definition>> {
        self.config().or_else(|| self.running())
    }
}
