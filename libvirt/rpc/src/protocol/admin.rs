//! The program on the admin socket.

use super::limits::{
    ADMIN_CLIENT_INFO_PARAMETERS_MAX, ADMIN_CLIENT_LIST_MAX, ADMIN_SERVER_CLIENT_LIMITS_MAX,
    ADMIN_SERVER_LIST_MAX, ADMIN_SERVER_THREADPOOL_PARAMETERS_MAX,
};
use super::types::TypedParam;

derive::protocol! {
    /// The administration of the daemon: its servers, their workers and clients, its log.
    handler Admin, prefix "Admin";

    /// A server of the daemon.
    struct AdminServer {
        name: str,
    }

    /// A client: seconds since 1970 when it connected, and how (0 Unix, 1 TCP, 2 TLS).
    struct AdminClient {
        srv: AdminServer,
        id: u64,
        timestamp: i64,
        transport: u32,
    }

    core 1 connect_open(flags: u32): virAdmConnectOpen;
    core 2 connect_close(): virAdmConnectClose;
    call 3 connect_get_lib_version() -> (lib_ver: u64): virAdmConnectGetLibVersion;
    call 4 connect_list_servers(need_results: u32, flags: u32)
        -> (servers: [AdminServer; ADMIN_SERVER_LIST_MAX], ret: u32):
        virAdmConnectListServers;
    call 5 connect_lookup_server(name: str, flags: u32) -> (srv: AdminServer): virAdmConnectLookupServer;
    call 6 server_get_threadpool_parameters(srv: AdminServer, flags: u32)
        -> (params: [TypedParam; ADMIN_SERVER_THREADPOOL_PARAMETERS_MAX]):
        virAdmServerGetThreadPoolParameters;
    call 7 server_set_threadpool_parameters(
        srv: AdminServer, params: [TypedParam; ADMIN_SERVER_THREADPOOL_PARAMETERS_MAX], flags: u32
    ):
        virAdmServerSetThreadPoolParameters;
    call 8 server_list_clients(srv: AdminServer, need_results: u32, flags: u32)
        -> (clients: [AdminClient; ADMIN_CLIENT_LIST_MAX], ret: u32):
        virAdmServerListClients;
    call 9 server_lookup_client(srv: AdminServer, id: u64, flags: u32) -> (clnt: AdminClient): virAdmServerLookupClient;
    call 10 client_get_info(clnt: AdminClient, flags: u32)
        -> (params: [TypedParam; ADMIN_CLIENT_INFO_PARAMETERS_MAX]):
        virAdmClientGetInfo;
    call 11 client_close(clnt: AdminClient, flags: u32): virAdmClientClose;
    call 12 server_get_client_limits(srv: AdminServer, flags: u32)
        -> (params: [TypedParam; ADMIN_SERVER_CLIENT_LIMITS_MAX]):
        virAdmServerGetClientLimits;
    call 13 server_set_client_limits(
        srv: AdminServer, params: [TypedParam; ADMIN_SERVER_CLIENT_LIMITS_MAX], flags: u32
    ):
        virAdmServerSetClientLimits;
    call 14 connect_get_logging_outputs(flags: u32) -> (outputs: str, noutputs: u32):
        virAdmConnectGetLoggingOutputs;
    call 15 connect_get_logging_filters(flags: u32) -> (filters: str?, nfilters: u32):
        virAdmConnectGetLoggingFilters;
    call 16 connect_set_logging_outputs(outputs: str?, flags: u32): virAdmConnectSetLoggingOutputs;
    call 17 connect_set_logging_filters(filters: str?, flags: u32): virAdmConnectSetLoggingFilters;
    call 18 server_update_tls_files(srv: AdminServer, flags: u32): virAdmServerUpdateTlsFiles;
    call 19 connect_set_daemon_timeout(timeout: u32, flags: u32): virAdmConnectSetDaemonTimeout;
}
