//! What the server itself answers: opening, authentication, registrations.

use super::connection::{Auth, Connection};
use super::{Server, Service};
use crate::call::Call;
use crate::client::Identity;
use crate::error::{Code, Error, Origin};
use crate::protocol::admin::AdminConnectOpenArgs;
use crate::protocol::session::*;
use crate::protocol::types::{TypedParam, TypedValue};
use crate::protocol::{ADMIN_PROGRAM, QEMU_PROGRAM};
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// `VIR_CONNECT_RO`.
const CONNECT_RO: u32 = 1;

/// Features that the server has (`VIR_DRV_FEATURE_...`).
mod feature {
    pub(super) const FD_PASSING: i32 = 8;
    pub(super) const TYPED_PARAM_STRING: i32 = 9;
    pub(super) const PROGRAM_KEEPALIVE: i32 = 10;
    pub(super) const REMOTE_EVENT_CALLBACK: i32 = 14;
    pub(super) const REMOTE_CLOSE_CALLBACK: i32 = 15;
    pub(super) const NETWORK_UPDATE_HAS_CORRECT_ORDER: i32 = 16;
}

/// What [`crate::protocol::types::WireError`] `auth` lists.
mod auth_type {
    pub(super) const NONE: i32 = 0;
    pub(super) const POLKIT: i32 = 2;
}

impl Server {
    pub(super) fn session_call(
        self: &Arc<Self>,
        connection: &Arc<Connection>,
        call: &mut Call<'_>,
    ) -> Result<(), Error> {
        match (call.header().program, call.number()) {
            (ADMIN_PROGRAM, 1) => {
                let AdminConnectOpenArgs { flags } = call.early_arguments()?;
                Error::check_flags(Origin::Admin, flags, 0, "adminDispatchConnectOpen")?;
                connection.context.set_open(true);
                call.answer(())
            }
            (_, 2) => call.answer(()),
            (QEMU_PROGRAM, 4) => self.register_monitor(connection, call),
            (QEMU_PROGRAM, 5) => self.deregister_monitor(connection, call),
            (_, 1) => self.open(connection, call),
            (_, 60) => self.supports_feature(connection, call),
            (_, 66) => self.auth_list(connection, call),
            (_, 67..=69) => Err(Error::new(Origin::Rpc, Code::AuthFailed, "authentication failed")),
            (_, 70) => self.auth_polkit(connection, call),
            (_, 105) => self.register_lifecycle(connection, call),
            (_, 106) => self.deregister_lifecycle(connection, call),
            (_, 149) => {
                call.begin()?;
                // A Unix socket's data cannot be seen by others.
                call.answer(ConnectIsSecureRet { secure: 1 })
            }
            (_, 167) => self.register_any(connection, call),
            (_, 168) => self.deregister_any(connection, call),
            (_, 316) => self.register_callback(connection, call),
            (_, 317) => self.deregister_callback(connection, call),
            // The connection to the driver never closes before the client's.
            (_, 360 | 361) => {
                call.begin()?;
                call.answer(())
            }
            (_, 419) => Self::set_identity(connection, call),
            _ => Err(call.unsupported()),
        }
    }

    fn open(&self, connection: &Connection, call: &mut Call<'_>) -> Result<(), Error> {
        let ConnectOpenArgs { name, flags } = call.early_arguments()?;
        let Service::Hypervisor { driver, .. } = &self.service else { return Err(call.unsupported()) };
        // Two calls to open may be served at once.
        let _guard = connection.opening.lock();
        if connection.context.is_open() {
            return Err(Error::internal(Origin::Rpc, "connection already open"));
        }
        if flags & CONNECT_RO != 0 {
            connection.context.set_read_only();
        }
        driver.open(&connection.context, name.as_deref())?;
        connection.context.set_open(true);
        call.answer(())
    }

    fn supports_feature(&self, connection: &Connection, call: &mut Call<'_>) -> Result<(), Error> {
        let ConnectSupportsFeatureArgs { feature } = call.early_arguments()?;
        let supported = if feature == feature::PROGRAM_KEEPALIVE {
            connection.start_keepalive();
            self.changed();
            true
        } else {
            call.begin()?;
            match (feature, &self.service) {
                (
                    feature::FD_PASSING
                    | feature::TYPED_PARAM_STRING
                    | feature::REMOTE_EVENT_CALLBACK
                    | feature::REMOTE_CLOSE_CALLBACK
                    | feature::NETWORK_UPDATE_HAS_CORRECT_ORDER,
                    _,
                ) => true,
                (_, Service::Hypervisor { driver, .. }) => {
                    driver.supports_feature(&connection.context, feature)?
                }
                (_, Service::Admin(_)) => false,
            }
        };
        call.answer(ConnectSupportsFeatureRet { supported: supported.into() })
    }

    fn auth_list(&self, connection: &Connection, call: &mut Call<'_>) -> Result<(), Error> {
        let mut auth = connection.auth;
        if auth == Auth::Polkit && connection.context.identity().uid == 0 {
            self.authenticated(connection);
            auth = Auth::None;
        }
        let auth = match auth {
            Auth::None => auth_type::NONE,
            Auth::Polkit => auth_type::POLKIT,
        };
        call.answer(AuthListRet { types: vec![auth] })
    }

    fn authenticated(&self, connection: &Connection) {
        connection.authenticated.store(true, Ordering::Release);
        self.changed();
    }

    fn auth_polkit(&self, connection: &Connection, call: &mut Call<'_>) -> Result<(), Error> {
        if connection.auth != Auth::Polkit {
            return Err(Error {
                message: Some("Library function returned error but did not set virError".to_owned()),
                str1: None,
                str2: None,
                int1: 0,
                int2: 0,
                ..Error::internal(Origin::Rpc, "")
            });
        }
        let action = if connection.context.read_only() {
            "org.libvirt.unix.monitor"
        } else {
            "org.libvirt.unix.manage"
        };
        let Service::Hypervisor { authorize, .. } = &self.service else { return Err(call.unsupported()) };
        authorize(&connection.context.identity(), action)?;
        self.authenticated(connection);
        call.answer(AuthPolkitRet { complete: 1 })
    }

    /// Another daemon, which must run as we do or as root, speaks for a client of its own.
    fn set_identity(connection: &Connection, call: &mut Call<'_>) -> Result<(), Error> {
        let ConnectSetIdentityArgs { params, flags } = call.arguments()?;
        Error::check_flags(Origin::None, flags, 0, "virConnectSetIdentity")?;
        let caller = connection.context.identity();
        if caller.uid != 0 && caller.uid != rustix::process::geteuid().as_raw() {
            return Err(Error::new(Origin::Access, Code::AccessDenied, "only a daemon may speak for others"));
        }
        TypedParam::check(Origin::None, &params, IDENTITY)?;
        // What is not said of the other client is not known of it: its user is the daemon that speaks.
        let mut identity = Identity { pid: 0, ..caller };
        for TypedParam { field, value } in params {
            match (field.as_str(), value) {
                ("unix-user-id", TypedValue::Ullong(id)) => identity.uid = narrow(id)?,
                ("unix-group-id", TypedValue::Ullong(id)) => identity.gid = narrow(id)?,
                ("process-id", TypedValue::Llong(id)) => identity.pid = narrow(id)?,
                // Names follow from numbers, and nobody here looks at the rest.
                _ => {}
            }
        }
        connection.context.set_identity(identity);
        call.answer(())
    }
}

/// What one daemon says to another about its client (`VIR_CONNECT_IDENTITY_...`).
const IDENTITY: &[(&str, &str)] = &[
    ("user-name", "string"),
    ("unix-user-id", "ullong"),
    ("group-name", "string"),
    ("unix-group-id", "ullong"),
    ("process-id", "llong"),
    ("process-time", "ullong"),
    ("sasl-user-name", "string"),
    ("x509-distinguished-name", "string"),
    ("selinux-context", "string"),
    ("system.token", "string"),
];

fn narrow<T: TryFrom<V>, V>(value: V) -> Result<T, Error> {
    T::try_from(value).map_err(|_| Error::new(Origin::Identity, Code::InvalidArg, "an id is out of range"))
}
