//! Which attributes have columns of their own in `spans`.

/// An attribute key that has a column of its own in `spans`.
#[derive(Debug, Clone, Copy)]
pub struct Promoted {
    /// The OTLP attribute key.
    pub key: &'static str,
    /// The column.
    pub column: &'static str,
    /// Whether the column is `bigint`; text otherwise. A value of the other type stays in the maps.
    pub long: bool,
    /// Whether the key is looked for in the resource instead of the span.
    pub resource: bool,
}

const fn text(key: &'static str, column: &'static str) -> Promoted {
    Promoted { key, column, long: false, resource: false }
}

const fn long(key: &'static str, column: &'static str) -> Promoted {
    Promoted { key, column, long: true, resource: false }
}

const fn resource(key: &'static str, column: &'static str) -> Promoted {
    Promoted { key, column, long: false, resource: true }
}

/// Promoted span and resource attributes, in column order. `service.name` is the column `service`.
pub const PROMOTED: &[Promoted] = &[
    resource("service.version", "service_version"),
    resource("service.namespace", "service_namespace"),
    resource("service.instance.id", "service_instance_id"),
    text("http.request.method", "http_method"),
    text("http.route", "http_route"),
    long("http.response.status_code", "http_status"),
    text("url.path", "url_path"),
    text("url.full", "url_full"),
    text("rpc.system", "rpc_system"),
    text("rpc.service", "rpc_service"),
    text("rpc.method", "rpc_method"),
    long("rpc.grpc.status_code", "rpc_grpc_status"),
    text("db.system.name", "db_system"),
    text("db.operation.name", "db_operation"),
    text("db.query.text", "db_query"),
    text("messaging.system", "messaging_system"),
    text("messaging.destination.name", "messaging_destination"),
    text("server.address", "server_address"),
    long("server.port", "server_port"),
    text("client.address", "client_address"),
    text("peer.service", "peer_service"),
    text("error.type", "error_type"),
    text("weir.client", "client"),
    text("weir.server", "server"),
    text("weir.endpoint", "endpoint"),
    text("weir.response_flags", "response_flags"),
    long("weir.retries", "retries"),
    text("weir.route", "route"),
    text("weir.hint_id", "hint_id"),
    text("weir.refused", "refused"),
    text("weir.connection_security_policy", "connection_security_policy"),
    text("weir.direction", "direction"),
];
