//! The administration of the servers.

use super::connection::Connection;
use super::{Server, Workers};
use crate::client::ClientContext;
use crate::error::{Code, Error, Origin};
use crate::protocol::admin::*;
use crate::protocol::types::{TypedParam, TypedValue};
use std::sync::{Arc, OnceLock};

/// What the administration changes outside of the servers.
pub trait LogControl: Send + Sync {
    /// The log's outputs as in the configuration, and how many.
    fn outputs(&self) -> (String, u32);

    /// The log's filters as in the configuration, and how many.
    fn filters(&self) -> (Option<String>, u32);

    /// Changes the outputs; empty or none: the default.
    ///
    /// # Errors
    /// The text is none.
    fn set_outputs(&self, outputs: Option<&str>) -> Result<(), Error>;

    /// Changes the filters.
    ///
    /// # Errors
    /// The text is none.
    fn set_filters(&self, filters: Option<&str>) -> Result<(), Error>;

    /// Changes after how many idle seconds the daemon ends; 0: it does not.
    fn set_timeout(&self, seconds: u32);

    /// The names of a user and of its group.
    fn names(&self, uid: u32, gid: u32) -> (Option<String>, Option<String>);
}

/// Answers for all servers of the daemon.
pub struct Administration {
    version: u64,
    control: Box<dyn LogControl>,
    servers: OnceLock<Vec<Arc<Server>>>,
}

impl Administration {
    /// The administration of a daemon that says it is `version` (major * 1000000 + minor * 1000 + release).
    pub fn new(version: u64, control: Box<dyn LogControl>) -> Self {
        Self { version, control, servers: OnceLock::new() }
    }

    /// The servers, its own among them.
    pub fn set_servers(&self, servers: Vec<Arc<Server>>) {
        let _ = self.servers.set(servers);
    }

    fn servers(&self) -> &[Arc<Server>] {
        self.servers.get().map_or(&[], Vec::as_slice)
    }

    fn server(&self, name: &str) -> Result<&Arc<Server>, Error> {
        self.servers()
            .iter()
            .find(|server| server.name() == name)
            .ok_or_else(|| Error::new(Origin::Rpc, Code::NoServer, format!("No server named '{name}'")))
    }

    /// As [`Administration::server`], in the words of those functions that say it again.
    fn server_again(&self, name: &str) -> Result<&Arc<Server>, Error> {
        self.server(name).map_err(|_| {
            Error::new(Origin::Admin, Code::NoServer, format!("no server with matching name '{name}' found"))
        })
    }

    fn client(server: &Server, id: u64) -> Result<Arc<Connection>, Error> {
        server.connection(id).ok_or_else(|| {
            Error::new(Origin::Rpc, Code::NoClient, format!("No client with matching ID '{id}'"))
        })
    }
}

fn check(flags: u32, function: &str) -> Result<(), Error> {
    Error::check_flags(Origin::Admin, flags, 0, function)
}

fn describe(server: &Server, connection: &Connection) -> AdminClient {
    AdminClient {
        srv: AdminServer { name: server.name().to_owned() },
        id: connection.id(),
        timestamp: connection.since,
        transport: 0,
    }
}

/// The value of each of `names` in `params`, which must have no other and be of type unsigned.
fn unsigned<const N: usize>(params: &[TypedParam], names: [&str; N]) -> Result<[Option<u32>; N], Error> {
    TypedParam::check(Origin::None, params, &names.map(|name| (name, "uint")))?;
    Ok(names.map(|name| {
        params.iter().find(|param| param.field == name).and_then(|param| match param.value {
            TypedValue::Uint(value) => Some(value),
            _ => None,
        })
    }))
}

impl Admin for Administration {
    fn connect_get_lib_version(&self, _: &ClientContext) -> Result<AdminConnectGetLibVersionRet, Error> {
        Ok(AdminConnectGetLibVersionRet { lib_ver: self.version })
    }

    fn connect_list_servers(
        &self,
        _: &ClientContext,
        args: AdminConnectListServersArgs,
    ) -> Result<AdminConnectListServersRet, Error> {
        check(args.flags, "adminConnectListServers")?;
        let names = self.servers().iter().map(|server| AdminServer { name: server.name().to_owned() });
        let servers: Vec<_> = names.collect();
        let ret = u32::try_from(servers.len()).unwrap_or(u32::MAX);
        Ok(AdminConnectListServersRet {
            servers: if args.need_results != 0 { servers } else { Vec::new() },
            ret,
        })
    }

    fn connect_lookup_server(
        &self,
        _: &ClientContext,
        args: AdminConnectLookupServerArgs,
    ) -> Result<AdminConnectLookupServerRet, Error> {
        self.server(&args.name)?;
        Ok(AdminConnectLookupServerRet { srv: AdminServer { name: args.name } })
    }

    fn server_get_threadpool_parameters(
        &self,
        _: &ClientContext,
        args: AdminServerGetThreadpoolParametersArgs,
    ) -> Result<AdminServerGetThreadpoolParametersRet, Error> {
        let server = self.server(&args.srv.name)?;
        check(args.flags, "adminServerGetThreadPoolParameters")?;
        let (workers, load) = (server.workers(), server.load());
        let params = [
            ("minWorkers", workers.min),
            ("maxWorkers", workers.max),
            ("nWorkers", load.threads),
            ("freeWorkers", load.threads.saturating_sub(load.active)),
            ("prioWorkers", workers.priority),
            ("jobQueueDepth", load.queued),
        ];
        let params = params.map(|(name, value)| TypedParam::new(name, value)).into();
        Ok(AdminServerGetThreadpoolParametersRet { params })
    }

    fn server_set_threadpool_parameters(
        &self,
        _: &ClientContext,
        args: AdminServerSetThreadpoolParametersArgs,
    ) -> Result<(), Error> {
        let server = self.server_again(&args.srv.name)?;
        check(args.flags, "adminServerSetThreadPoolParameters")?;
        let [min, max, priority] = unsigned(&args.params, ["minWorkers", "maxWorkers", "prioWorkers"])?;
        let now = server.workers();
        let workers = Workers {
            min: min.unwrap_or(now.min),
            max: max.unwrap_or(now.max),
            priority: priority.unwrap_or(now.priority),
        };
        let invalid = |text| Err(Error::new(Origin::Thread, Code::InvalidArg, text));
        if workers.min > workers.max {
            return invalid("minWorkers cannot be larger than maxWorkers");
        }
        if (workers.max == 0) != (now.max == 0) {
            return invalid("maxWorkers must not be switched from zero to non-zero and vice versa");
        }
        server.set_workers(workers);
        Ok(())
    }

    fn server_list_clients(
        &self,
        _: &ClientContext,
        args: AdminServerListClientsArgs,
    ) -> Result<AdminServerListClientsRet, Error> {
        let server = self.server(&args.srv.name)?;
        check(args.flags, "adminServerListClients")?;
        let connections: Vec<_> = server.connections.lock().values().cloned().collect();
        let ret = u32::try_from(connections.len()).unwrap_or(u32::MAX);
        let clients = connections.iter().filter(|_| args.need_results != 0);
        let clients = clients.map(|connection| describe(server, connection)).collect();
        Ok(AdminServerListClientsRet { clients, ret })
    }

    fn server_lookup_client(
        &self,
        _: &ClientContext,
        args: AdminServerLookupClientArgs,
    ) -> Result<AdminServerLookupClientRet, Error> {
        let server = self.server(&args.srv.name)?;
        check(args.flags, "adminServerLookupClient")?;
        let connection = Self::client(server, args.id)?;
        Ok(AdminServerLookupClientRet { clnt: describe(server, &connection) })
    }

    fn client_get_info(
        &self,
        _: &ClientContext,
        args: AdminClientGetInfoArgs,
    ) -> Result<AdminClientGetInfoRet, Error> {
        let server = self.server_again(&args.clnt.srv.name)?;
        let id = args.clnt.id;
        let connection = Self::client(server, id).map_err(|_| {
            Error::new(Origin::Admin, Code::NoClient, format!("no client with matching id '{id}' found"))
        })?;
        check(args.flags, "adminClientGetInfo")?;
        let identity = connection.context.identity();
        let (user, group) = self.control.names(identity.uid, identity.gid);
        let mut params = vec![
            TypedParam::new("readonly", connection.context.read_only()),
            TypedParam::new("unix_user_id", identity.uid.cast_signed()),
        ];
        params.extend(user.map(|name| TypedParam::new("unix_user_name", name)));
        params.push(TypedParam::new("unix_group_id", identity.gid.cast_signed()));
        params.extend(group.map(|name| TypedParam::new("unix_group_name", name)));
        params.push(TypedParam::new("unix_process_id", identity.pid));
        Ok(AdminClientGetInfoRet { params })
    }

    fn client_close(&self, _: &ClientContext, args: AdminClientCloseArgs) -> Result<(), Error> {
        let server = self.server(&args.clnt.srv.name)?;
        let connection = Self::client(server, args.clnt.id)?;
        check(args.flags, "adminClientClose")?;
        server.drop_client(&connection);
        Ok(())
    }

    fn server_get_client_limits(
        &self,
        _: &ClientContext,
        args: AdminServerGetClientLimitsArgs,
    ) -> Result<AdminServerGetClientLimitsRet, Error> {
        let server = self.server(&args.srv.name)?;
        check(args.flags, "adminServerGetClientLimits")?;
        let (limits, (clients, anonymous)) = (server.limits(), server.clients());
        let params = [
            ("nclients_max", limits.clients),
            ("nclients", clients),
            ("nclients_unauth_max", limits.anonymous),
            ("nclients_unauth", anonymous),
        ];
        let params = params.map(|(name, value)| TypedParam::new(name, value)).into();
        Ok(AdminServerGetClientLimitsRet { params })
    }

    fn server_set_client_limits(
        &self,
        _: &ClientContext,
        args: AdminServerSetClientLimitsArgs,
    ) -> Result<(), Error> {
        let server = self.server_again(&args.srv.name)?;
        check(args.flags, "adminServerSetClientLimits")?;
        let [clients, anonymous] = unsigned(&args.params, ["nclients_max", "nclients_unauth_max"])?;
        let mut limits = server.limits();
        limits.clients = clients.unwrap_or(limits.clients);
        limits.anonymous = anonymous.unwrap_or(limits.anonymous);
        if limits.clients < limits.anonymous {
            let text = "The overall maximum number of clients waiting for authentication must not be less than the \
                        overall maximum number of clients";
            return Err(Error::new(Origin::Rpc, Code::InvalidArg, text));
        }
        server.set_limits(limits);
        Ok(())
    }

    fn connect_get_logging_outputs(
        &self,
        _: &ClientContext,
        args: AdminConnectGetLoggingOutputsArgs,
    ) -> Result<AdminConnectGetLoggingOutputsRet, Error> {
        check(args.flags, "adminConnectGetLoggingOutputs")?;
        let (outputs, noutputs) = self.control.outputs();
        Ok(AdminConnectGetLoggingOutputsRet { outputs, noutputs })
    }

    fn connect_get_logging_filters(
        &self,
        _: &ClientContext,
        args: AdminConnectGetLoggingFiltersArgs,
    ) -> Result<AdminConnectGetLoggingFiltersRet, Error> {
        check(args.flags, "adminConnectGetLoggingFilters")?;
        let (filters, nfilters) = self.control.filters();
        Ok(AdminConnectGetLoggingFiltersRet { filters, nfilters })
    }

    fn connect_set_logging_outputs(
        &self,
        _: &ClientContext,
        args: AdminConnectSetLoggingOutputsArgs,
    ) -> Result<(), Error> {
        check(args.flags, "adminConnectSetLoggingOutputs")?;
        self.control.set_outputs(args.outputs.as_deref())
    }

    fn connect_set_logging_filters(
        &self,
        _: &ClientContext,
        args: AdminConnectSetLoggingFiltersArgs,
    ) -> Result<(), Error> {
        check(args.flags, "adminConnectSetLoggingFilters")?;
        self.control.set_filters(args.filters.as_deref())
    }

    fn server_update_tls_files(
        &self,
        _: &ClientContext,
        args: AdminServerUpdateTlsFilesArgs,
    ) -> Result<(), Error> {
        self.server(&args.srv.name)?;
        check(args.flags, "adminServerUpdateTlsFiles")?;
        Err(Error::internal(Origin::Rpc, "no tls service found, unable to update tls files"))
    }

    fn connect_set_daemon_timeout(
        &self,
        _: &ClientContext,
        args: AdminConnectSetDaemonTimeoutArgs,
    ) -> Result<(), Error> {
        check(args.flags, "adminConnectSetDaemonTimeout")?;
        self.control.set_timeout(args.timeout);
        Ok(())
    }
}
