//! The invented shop that generated telemetry speaks of: its services, operations, users and attributes.

use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue, any_value};
use opentelemetry_proto::tonic::resource::v1::Resource;
use prost::Message;

/// How many of each there are.
#[derive(Debug, Clone, Copy)]
pub(super) struct World {
    pub(super) services: usize,
    pub(super) operations: usize,
    pub(super) users: usize,
    pub(super) attributes: usize,
}

const SERVICES: [&str; 10] = [
    "storefront",
    "cart",
    "catalog",
    "checkout",
    "payments",
    "shipping",
    "inventory",
    "search",
    "accounts",
    "email",
];
const NOUNS: [&str; 12] = [
    "orders",
    "products",
    "baskets",
    "invoices",
    "addresses",
    "reviews",
    "vouchers",
    "sessions",
    "parcels",
    "prices",
    "stock",
    "refunds",
];
const METHODS: [&str; 4] = ["GET", "POST", "PUT", "DELETE"];
const AGENTS: [&str; 4] = [
    "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0",
    "Shop/7.31.0 (Android 16; Pixel 10) okhttp/5.1.0",
    "Mozilla/5.0 (iPhone; CPU iPhone OS 19_1 like Mac OS X) AppleWebKit/605.1.15",
    "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 Chrome/142.0",
];

impl World {
    /// The name of service `index`: the plain names first, then numbered ones.
    pub(super) fn service(&self, index: usize) -> String {
        let name = SERVICES[index % SERVICES.len()];
        match index / SERVICES.len() {
            0 => name.to_owned(),
            round => format!("{name}-{}", round + 1),
        }
    }

    /// The service that operation `index` belongs to.
    pub(super) fn service_of(&self, operation: usize) -> usize {
        operation % self.services
    }

    /// The request method and route of operation `index`.
    pub(super) fn route(&self, operation: usize) -> (&'static str, String) {
        let number = operation / self.services;
        let noun = NOUNS[number % NOUNS.len()];
        let method = METHODS[(number / NOUNS.len()) % METHODS.len()];
        (method, format!("/api/v{}/{noun}/{{id}}", 1 + number / (NOUNS.len() * METHODS.len())))
    }

    /// What service `index` says of itself, seen from load worker `worker`.
    pub(super) fn resource(&self, index: usize, worker: usize) -> Resource {
        let service = self.service(index);
        let attributes = vec![
            text("service.name", &service),
            text("service.namespace", "shop"),
            text("service.instance.id", &format!("{service}-{worker}")),
            text("service.version", "1.4.2"),
            text("host.name", &format!("node-{:02}", index % 12)),
            text("telemetry.sdk.language", "rust"),
        ];
        Resource { attributes, ..Resource::default() }
    }

    /// The attributes of a call of `operation`, without the user: `attributes - 1` of them. The first
    /// ten are HTTP's, further ones the application's own.
    pub(super) fn call_attributes(&self, operation: usize, status: i64, variant: usize) -> Vec<KeyValue> {
        let (method, route) = self.route(operation);
        let path = route.replace("{id}", &format!("{}", 10_000 + operation * 7 + variant));
        let url = format!("https://www.shop.example{path}?campaign=autumn-{variant:02}&lang=en");
        let mut all = vec![
            text("http.request.method", method),
            text("http.route", &route),
            text("url.full", &url),
            number("http.response.status_code", status),
            text("server.address", &format!("{}.shop.example", self.service(self.service_of(operation)))),
            number("server.port", 8080),
            text("user_agent.original", AGENTS[variant % AGENTS.len()]),
            text("client.address", &format!("10.{}.{}.17", variant % 250, operation % 250)),
            text("network.protocol.version", if variant.is_multiple_of(2) { "1.1" } else { "2" }),
            float("shop.order.total", 10.0 + (operation % 90) as f64 + 0.99),
        ];
        let wanted = self.attributes.saturating_sub(1);
        all.extend(
            (all.len()..wanted).map(|n| text(&format!("shop.field.{n:03}"), &format!("value-{variant}"))),
        );
        all.truncate(wanted);
        all
    }
}

/// A text attribute.
pub(super) fn text(key: &str, value: &str) -> KeyValue {
    attribute(key, any_value::Value::StringValue(value.to_owned()))
}

/// An integer attribute.
pub(super) fn number(key: &str, value: i64) -> KeyValue {
    attribute(key, any_value::Value::IntValue(value))
}

/// A floating point attribute.
pub(super) fn float(key: &str, value: f64) -> KeyValue {
    attribute(key, any_value::Value::DoubleValue(value))
}

fn attribute(key: &str, value: any_value::Value) -> KeyValue {
    KeyValue { key: key.to_owned(), value: Some(AnyValue { value: Some(value) }), ..KeyValue::default() }
}

/// The attribute that names the user of a call, encoded once; only the digits change.
#[derive(Debug)]
pub(super) struct UserAttribute {
    encoded: Vec<u8>,
    users: usize,
}

impl UserAttribute {
    /// Digits of a user number.
    const DIGITS: usize = 7;

    pub(super) fn new(world: &World) -> Self {
        let encoded = text("enduser.id", &format!("u{:0width$}", 0, width = Self::DIGITS)).encode_to_vec();
        Self { encoded, users: world.users }
    }

    /// The encoded attribute of a random user.
    pub(super) fn draw(&mut self, rng: &mut fastrand::Rng) -> &[u8] {
        let mut user = rng.usize(..self.users);
        // The value is the message's last field, so its digits are the last bytes.
        for digit in self.encoded.iter_mut().rev().take(Self::DIGITS) {
            *digit = b'0' + (user % 10) as u8;
            user /= 10;
        }
        &self.encoded
    }
}
