//! What the child is to do, and how it is told.

use json::{Dict, Value, dict};

use crate::namespace::PrivateDev;
use crate::process::MemoryPolicy;
use crate::{Error, Result};

/// User, group and supplementary groups of a process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// Numeric user id.
    pub user: u32,
    /// Numeric group id.
    pub group: u32,
    /// Supplementary groups, the group itself included.
    pub groups: Vec<u32>,
}

/// Resource limits; `None` leaves what the daemon has. Each is soft and hard limit in one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Limits {
    /// Bytes that may be locked in memory (`RLIMIT_MEMLOCK`); `u64::MAX`: no limit.
    pub locked_memory: Option<u64>,
    /// Processes and threads of the user (`RLIMIT_NPROC`).
    pub processes: Option<u64>,
    /// Open files; the limit set is one more, as libvirt's (`RLIMIT_NOFILE`).
    pub files: Option<u64>,
    /// Size of a core dump in bytes (`RLIMIT_CORE`); `u64::MAX`: no limit.
    pub core: Option<u64>,
}

/// Which threads of the host may share a core with the process (`sched_core` of qemu.conf).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum CoreScheduling {
    /// All that the daemon's may.
    #[default]
    Inherit,
    /// Its own only.
    New,
    /// Those of this process.
    With(i32),
}

/// A label for the program to come.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SelinuxLabel {
    /// The context.
    pub context: String,
    /// Whether a refusal ends the start: the host enforces its policy.
    pub enforcing: bool,
}

/// All that the child does before it becomes the program. [`Launch`](super::Launch) makes one.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    pub(crate) binary: String,
    pub(crate) arguments: Vec<String>,
    pub(crate) environment: Vec<(String, String)>,
    pub(crate) descriptors: Vec<i32>,
    pub(crate) pid_file: Option<String>,
    pub(crate) umask: Option<u32>,
    pub(crate) limits: Limits,
    pub(crate) selinux: Option<SelinuxLabel>,
    pub(crate) apparmor: Option<String>,
    pub(crate) core_scheduling: CoreScheduling,
    pub(crate) identity: Option<Identity>,
    pub(crate) capabilities: u64,
    pub(crate) clear_capabilities: bool,
    pub(crate) directory: Option<String>,
    pub(crate) oom_score_adjust: Option<i32>,
    pub(crate) private_dev: Option<PrivateDev>,
    pub(crate) mounts_of: Option<i32>,
    pub(crate) memory_policy: Option<MemoryPolicy>,
}

/// A value or JSON's null.
pub(crate) fn optional<T: Into<Value>>(value: Option<T>) -> Value {
    value.map_or(Value::Null, Into::into)
}

/// Reads the members of an object.
pub(crate) struct Reader<'a>(pub &'a Value);

impl Reader<'_> {
    fn bad(key: &str) -> Error {
        Error::internal(format!("malformed launch plan: '{key}'"))
    }

    pub fn value(&self, key: &str) -> Result<&Value> {
        self.0.get(key).ok_or_else(|| Self::bad(key))
    }

    pub fn text(&self, key: &str) -> Result<String> {
        self.optional_text(key)?.ok_or_else(|| Self::bad(key))
    }

    pub fn optional_text(&self, key: &str) -> Result<Option<String>> {
        match self.value(key)? {
            Value::Null => Ok(None),
            Value::Str(text) => Ok(Some(text.clone())),
            _ => Err(Self::bad(key)),
        }
    }

    pub fn texts(&self, key: &str) -> Result<Vec<String>> {
        self.list(key, |item| item.as_str().map(str::to_owned))
    }

    pub fn list<T>(&self, key: &str, item: impl Fn(&Value) -> Option<T>) -> Result<Vec<T>> {
        let items = self.value(key)?.as_list().ok_or_else(|| Self::bad(key))?;
        items.iter().map(|value| item(value).ok_or_else(|| Self::bad(key))).collect()
    }

    pub fn number<T: TryFrom<u64>>(&self, key: &str) -> Result<T> {
        self.optional_number(key)?.ok_or_else(|| Self::bad(key))
    }

    pub fn optional_number<T: TryFrom<u64>>(&self, key: &str) -> Result<Option<T>> {
        match self.value(key)? {
            Value::Null => Ok(None),
            value => value.as_u64().and_then(|n| n.try_into().ok()).map(Some).ok_or_else(|| Self::bad(key)),
        }
    }

    pub fn signed(&self, key: &str) -> Result<Option<i32>> {
        match self.value(key)? {
            Value::Null => Ok(None),
            value => value.as_i64().and_then(|n| n.try_into().ok()).map(Some).ok_or_else(|| Self::bad(key)),
        }
    }

    pub fn truth(&self, key: &str) -> Result<bool> {
        self.value(key)?.as_bool().ok_or_else(|| Self::bad(key))
    }
}

fn small(value: &Value) -> Option<u32> {
    value.as_u64()?.try_into().ok()
}

impl Plan {
    pub(crate) fn to_json(&self) -> Dict {
        let environment = self.environment.iter().map(|(name, value)| vec![name.as_str(), value.as_str()]);
        let descriptors: Vec<i64> = self.descriptors.iter().copied().map(i64::from).collect();
        let identity = self.identity.as_ref().map(|identity| {
            dict! { "user" => identity.user, "group" => identity.group, "groups" => identity.groups.clone() }
        });
        let selinux = self
            .selinux
            .as_ref()
            .map(|label| dict! { "context" => label.context.as_str(), "enforcing" => label.enforcing });
        let core = match self.core_scheduling {
            CoreScheduling::Inherit => Value::Null,
            CoreScheduling::New => Value::Int(-1),
            CoreScheduling::With(pid) => Value::Int(pid.into()),
        };
        dict! {
            "binary" => self.binary.as_str(),
            "arguments" => self.arguments.clone(),
            "environment" => environment.collect::<Vec<_>>(),
            "descriptors" => descriptors,
            "pid-file" => optional(self.pid_file.as_deref()),
            "umask" => optional(self.umask),
            "locked-memory" => optional(self.limits.locked_memory),
            "processes" => optional(self.limits.processes),
            "files" => optional(self.limits.files),
            "core" => optional(self.limits.core),
            "selinux" => optional(selinux),
            "apparmor" => optional(self.apparmor.as_deref()),
            "core-scheduling" => core,
            "identity" => optional(identity),
            "capabilities" => self.capabilities,
            "clear-capabilities" => self.clear_capabilities,
            "directory" => optional(self.directory.as_deref()),
            "oom-score-adjust" => optional(self.oom_score_adjust.map(i64::from)),
            "memory-policy" => optional(self.memory_policy.as_ref().map(MemoryPolicy::to_json)),
            "private-dev" => optional(self.private_dev.as_ref().map(PrivateDev::to_json)),
            "mounts-of" => optional(self.mounts_of.map(i64::from)),
        }
    }

    pub(crate) fn from_json(value: &Value) -> Result<Self> {
        let reader = Reader(value);
        let pair = |item: &Value| match item.as_list()? {
            [name, value] => Some((name.as_str()?.to_owned(), value.as_str()?.to_owned())),
            _ => None,
        };
        let identity = match reader.value("identity")? {
            Value::Null => None,
            value => {
                let reader = Reader(value);
                let groups = reader.list("groups", small)?;
                Some(Identity { user: reader.number("user")?, group: reader.number("group")?, groups })
            }
        };
        let selinux = match reader.value("selinux")? {
            Value::Null => None,
            value => {
                let reader = Reader(value);
                Some(SelinuxLabel { context: reader.text("context")?, enforcing: reader.truth("enforcing")? })
            }
        };
        Ok(Self {
            binary: reader.text("binary")?,
            arguments: reader.texts("arguments")?,
            environment: reader.list("environment", pair)?,
            descriptors: reader.list("descriptors", |item| item.as_i64()?.try_into().ok())?,
            pid_file: reader.optional_text("pid-file")?,
            umask: reader.optional_number("umask")?,
            limits: Limits {
                locked_memory: reader.optional_number("locked-memory")?,
                processes: reader.optional_number("processes")?,
                files: reader.optional_number("files")?,
                core: reader.optional_number("core")?,
            },
            selinux,
            apparmor: reader.optional_text("apparmor")?,
            core_scheduling: match reader.signed("core-scheduling")? {
                None => CoreScheduling::Inherit,
                Some(-1) => CoreScheduling::New,
                Some(pid) => CoreScheduling::With(pid),
            },
            identity,
            capabilities: reader.number("capabilities")?,
            clear_capabilities: reader.truth("clear-capabilities")?,
            directory: reader.optional_text("directory")?,
            oom_score_adjust: reader.signed("oom-score-adjust")?,
            memory_policy: match reader.value("memory-policy")? {
                Value::Null => None,
                value => Some(MemoryPolicy::from_json(value)?),
            },
            private_dev: match reader.value("private-dev")? {
                Value::Null => None,
                value => Some(PrivateDev::from_json(value)?),
            },
            mounts_of: reader.signed("mounts-of")?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plan_survives_the_way_to_the_child() {
        let plan = Plan {
            binary: "/usr/bin/x y".into(),
            arguments: vec!["-name".into(), "guest=ä\"\n,x".into()],
            environment: vec![("A".into(), "b=c".into())],
            descriptors: vec![3, 40],
            pid_file: Some("/run/x.pid".into()),
            umask: Some(2),
            limits: Limits { locked_memory: Some(u64::MAX), processes: Some(7), files: None, core: Some(0) },
            selinux: Some(SelinuxLabel { context: "a:b:c:d".into(), enforcing: true }),
            apparmor: Some("libvirt-1".into()),
            core_scheduling: CoreScheduling::With(12),
            identity: Some(Identity { user: 64055, group: 994, groups: vec![994, 103] }),
            capabilities: 1 << 17,
            clear_capabilities: true,
            directory: Some("/".into()),
            oom_score_adjust: Some(-17),
            memory_policy: Some(MemoryPolicy { mode: crate::process::MemoryMode::Preferred, nodes: vec![1] }),
            private_dev: Some(PrivateDev {
                nodes: vec!["/dev/null".into()],
                selinux_context: Some("x".into()),
            }),
            mounts_of: Some(7),
        };
        let text = Value::from(plan.to_json()).to_string();
        assert_eq!(Plan::from_json(&json::parse(text.as_bytes()).unwrap()).unwrap(), plan);
        let text = Value::from(Plan::default().to_json()).to_string();
        assert_eq!(Plan::from_json(&json::parse(text.as_bytes()).unwrap()).unwrap(), Plan::default());
        let error = Plan::from_json(&json::parse(b"{}").unwrap()).unwrap_err();
        assert_eq!(error.message, "internal error: malformed launch plan: 'identity'");
    }
}
