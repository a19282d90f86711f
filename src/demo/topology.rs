//! The shop: which services there are, what they speak, and whom each route calls.

/// A service of the demo.
#[derive(Debug)]
pub(super) struct Service {
    pub(super) name: &'static str,
    pub(super) replicas: usize,
    /// gRPC instead of plain HTTP.
    pub(super) grpc: bool,
    /// Outside the mesh: it has no proxy, and is reached by its address.
    pub(super) external: bool,
    /// Median of its own work, in milliseconds.
    pub(super) latency_ms: f64,
    /// Share of requests that fail by themselves.
    pub(super) error_rate: f64,
    pub(super) routes: &'static [Route],
}

/// What a service does with a request.
#[derive(Debug)]
pub(super) struct Route {
    pub(super) method: &'static str,
    /// The path; one that ends in `/` takes an id after it.
    pub(super) path: &'static str,
    /// Calls made before answering, one after the other.
    pub(super) calls: &'static [Call],
}

/// A call of another service.
#[derive(Debug)]
pub(super) struct Call {
    pub(super) to: &'static str,
    pub(super) method: &'static str,
    /// The path; where it ends in `/`, the id of the incoming request follows.
    pub(super) path: &'static str,
}

const fn get(to: &'static str, path: &'static str) -> Call {
    Call { to, method: "GET", path }
}

const fn post(to: &'static str, path: &'static str) -> Call {
    Call { to, method: "POST", path }
}

const fn route(method: &'static str, path: &'static str, calls: &'static [Call]) -> Route {
    Route { method, path, calls }
}

const PLAIN: Service = Service {
    name: "",
    replicas: 1,
    grpc: false,
    external: false,
    latency_ms: 1.0,
    error_rate: 0.0,
    routes: &[],
};

/// The service that visitors call.
pub(super) const ENTRY: &str = "storefront";
/// The name of the visitors, who have a proxy so that their side is measured too.
pub(super) const VISITOR: &str = "visitor";

/// Every service, callers before the called.
pub(super) const SERVICES: &[Service] = &[
    Service {
        name: ENTRY,
        latency_ms: 2.0,
        routes: &[
            route("GET", "/", &[post("catalog", "/shop.Catalog/List")]),
            route("GET", "/product/", &[post("catalog", "/shop.Catalog/Get")]),
            route("POST", "/cart", &[post("cart", "/items")]),
            route("POST", "/checkout", &[get("cart", "/items"), post("checkout", "/orders")]),
        ],
        ..PLAIN
    },
    Service {
        name: "cart",
        latency_ms: 1.5,
        routes: &[
            route("GET", "/items", &[get("cart-db", "/carts")]),
            route("POST", "/items", &[get("cart-db", "/carts"), post("cart-db", "/carts")]),
        ],
        ..PLAIN
    },
    Service {
        name: "cart-db",
        latency_ms: 0.5,
        routes: &[route("GET", "/carts", &[]), route("POST", "/carts", &[])],
        ..PLAIN
    },
    Service {
        name: "catalog",
        grpc: true,
        latency_ms: 3.0,
        routes: &[
            route("POST", "/shop.Catalog/List", &[get("recommendations", "/recommendations")]),
            route("POST", "/shop.Catalog/Get", &[get("recommendations", "/recommendations")]),
        ],
        ..PLAIN
    },
    Service {
        name: "recommendations",
        latency_ms: 6.0,
        error_rate: 0.001,
        routes: &[route("GET", "/recommendations", &[])],
        ..PLAIN
    },
    Service {
        name: "checkout",
        latency_ms: 2.0,
        routes: &[route(
            "POST",
            "/orders",
            &[post("shipping", "/shop.Shipping/Quote"), post("payments", "/charges")],
        )],
        ..PLAIN
    },
    Service {
        name: "payments",
        replicas: 3,
        latency_ms: 5.0,
        routes: &[route("POST", "/charges", &[post("bank-api", "/authorizations")])],
        ..PLAIN
    },
    Service {
        name: "shipping",
        grpc: true,
        latency_ms: 2.5,
        routes: &[route("POST", "/shop.Shipping/Quote", &[])],
        ..PLAIN
    },
    Service {
        name: "bank-api",
        external: true,
        latency_ms: 3.0,
        routes: &[route("POST", "/authorizations", &[])],
        ..PLAIN
    },
];

impl Service {
    /// The service called `name`.
    pub(super) fn named(name: &str) -> Option<&'static Self> {
        SERVICES.iter().find(|service| service.name == name)
    }

    /// The names of its instances: `payments-1` and so on.
    pub(super) fn instances(&self) -> impl Iterator<Item = String> {
        (1..=self.replicas).map(|number| format!("{}-{number}", self.name))
    }

    /// The services it calls, each once.
    pub(super) fn upstreams(&self) -> Vec<&'static str> {
        let mut names: Vec<_> =
            self.routes.iter().flat_map(|route| route.calls).map(|call| call.to).collect();
        names.sort_unstable();
        names.dedup();
        names
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_call_meets_a_route_of_a_service_further_down() {
        for (index, service) in SERVICES.iter().enumerate() {
            for call in service.routes.iter().flat_map(|route| route.calls) {
                let to = SERVICES.iter().position(|other| other.name == call.to).unwrap();
                assert!(to > index, "{} calls {}", service.name, call.to);
                let routes = SERVICES[to].routes;
                assert!(routes.iter().any(|route| (route.method, route.path) == (call.method, call.path)));
            }
        }
    }

    #[test]
    fn there_are_eight_services_a_replicated_one_grpc_and_an_external_call() {
        assert_eq!(SERVICES.iter().filter(|service| !service.external).count(), 8);
        assert!(SERVICES.iter().any(|service| service.replicas == 3));
        assert!(SERVICES.iter().any(|service| service.grpc));
        assert!(SERVICES.iter().any(|service| service.external));
    }
}
