//! How HTTP is spoken to targets, discovery servers and Alertmanagers: credentials, TLS, proxies, headers.

use std::path::{Path, PathBuf};

use super::secret::{Secret, Sourced};
use super::unsupported;
use crate::yaml::{Fields, Node};

/// A client's settings.
#[derive(Debug, Clone, PartialEq)]
pub struct HttpClient {
    /// User and password.
    pub basic_auth: Option<BasicAuth>,
    /// Any other `Authorization` header; `bearer_token` is one.
    pub authorization: Option<Authorization>,
    /// Tokens from an OAuth 2.0 server.
    pub oauth2: Option<OAuth2>,
    /// TLS.
    pub tls: Tls,
    /// Whether redirects are followed.
    pub follow_redirects: bool,
    /// Whether HTTP/2 may be spoken.
    pub enable_http2: bool,
    /// Further headers.
    pub headers: Vec<(String, Headers)>,
    /// A proxy.
    pub proxy: Option<Proxy>,
}

impl Default for HttpClient {
    fn default() -> Self {
        Self {
            basic_auth: None,
            authorization: None,
            oauth2: None,
            tls: Tls::default(),
            follow_redirects: true,
            enable_http2: true,
            headers: Vec::new(),
            proxy: None,
        }
    }
}

/// The section `basic_auth`.
#[derive(Debug, Clone, PartialEq)]
pub struct BasicAuth {
    /// Who.
    pub username: Option<Sourced<String>>,
    /// The password.
    pub password: Option<Sourced<Secret>>,
}

/// The section `authorization`.
#[derive(Debug, Clone, PartialEq)]
pub struct Authorization {
    /// The scheme, `Bearer` where nothing is said.
    pub scheme: String,
    /// What follows it.
    pub credentials: Option<Sourced<Secret>>,
}

/// The section `oauth2`, for the grant of client credentials.
#[derive(Debug, Clone, PartialEq)]
pub struct OAuth2 {
    /// Who.
    pub client_id: String,
    /// The secret.
    pub client_secret: Option<Sourced<Secret>>,
    /// What is asked for.
    pub scopes: Vec<String>,
    /// Where.
    pub token_url: String,
    /// Further parameters of the request.
    pub endpoint_params: Vec<(String, String)>,
    /// TLS to that server.
    pub tls: Tls,
}

/// The values of a header: written here, secret, or in files.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Headers {
    /// Written here.
    pub values: Vec<String>,
    /// Written here, and not to be shown.
    pub secrets: Vec<Secret>,
    /// In files, one each.
    pub files: Vec<PathBuf>,
}

/// A proxy for requests.
#[derive(Debug, Clone, PartialEq)]
pub struct Proxy {
    /// Its address; may carry a password.
    pub url: Secret,
    /// Hosts that are reached without it, as in the variable `no_proxy`.
    pub no_proxy: String,
}

/// A version of TLS.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum TlsVersion {
    /// 1.2
    Tls12,
    /// 1.3
    Tls13,
}

/// The section `tls_config`.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Tls {
    /// Certificates of authorities to trust instead of the system's, in PEM.
    pub ca: Option<Sourced<String>>,
    /// The client's certificate, in PEM.
    pub cert: Option<Sourced<String>>,
    /// Its key, in PEM.
    pub key: Option<Sourced<Secret>>,
    /// The name that the server's certificate must have, and that the server is asked for.
    pub server_name: Option<String>,
    /// Whether any certificate will do.
    pub insecure_skip_verify: bool,
    /// The lowest version.
    pub min_version: Option<TlsVersion>,
    /// The highest version.
    pub max_version: Option<TlsVersion>,
}

const REFERENCES: &str = "has no effect: secrets of a secret manager are not supported; use a file";

impl HttpClient {
    /// Takes the keys of a client out of `fields`.
    pub(super) fn read(fields: &mut Fields<'_>) -> Self {
        let mut authorization = fields.take("authorization").and_then(|node| Authorization::read(&node));
        let basic_auth = fields.take("basic_auth").and_then(|node| BasicAuth::read(&node));
        let oauth2 = fields.take("oauth2").and_then(|node| OAuth2::read(&node));
        let bearer = Sourced::read(fields, "bearer_token", Secret::new);
        let ways = [
            ("basic_auth", basic_auth.is_some()),
            ("authorization", authorization.is_some()),
            ("oauth2", oauth2.is_some()),
            ("bearer_token", bearer.is_some()),
        ];
        let set: Vec<&str> = ways.into_iter().filter(|(_, set)| *set).map(|(name, _)| name).collect();
        if set.len() > 1 {
            fields.of().mistake(format!("at most one way to log in may be set, found {}", set.join(" and ")));
        }
        if let Some(credentials) = bearer {
            authorization =
                Some(Authorization { scheme: "Bearer".to_owned(), credentials: Some(credentials) });
        }
        Self {
            basic_auth,
            authorization,
            oauth2,
            tls: fields.take("tls_config").map(|node| Tls::read(&node)).unwrap_or_default(),
            follow_redirects: fields.flag("follow_redirects", true),
            enable_http2: fields.flag("enable_http2", true),
            headers: headers(fields),
            proxy: proxy(fields),
        }
    }

    /// Takes relative paths as relative to `dir`.
    pub(super) fn set_directory(&mut self, dir: &Path) {
        if let Some(auth) = &mut self.basic_auth {
            auth.username.iter_mut().for_each(|source| source.set_directory(dir));
            auth.password.iter_mut().for_each(|source| source.set_directory(dir));
        }
        if let Some(auth) = &mut self.authorization {
            auth.credentials.iter_mut().for_each(|source| source.set_directory(dir));
        }
        if let Some(oauth2) = &mut self.oauth2 {
            oauth2.client_secret.iter_mut().for_each(|source| source.set_directory(dir));
            oauth2.tls.set_directory(dir);
        }
        self.tls.set_directory(dir);
        for (_, headers) in &mut self.headers {
            headers.files.iter_mut().for_each(|path| *path = dir.join(&*path));
        }
    }
}

fn headers(fields: &mut Fields<'_>) -> Vec<(String, Headers)> {
    const OWN: [&str; 10] = [
        "authorization",
        "host",
        "content-encoding",
        "content-length",
        "content-type",
        "user-agent",
        "connection",
        "keep-alive",
        "proxy-authenticate",
        "proxy-authorization",
    ];
    let entries = fields.take("http_headers").map(|node| node.entries()).unwrap_or_default();
    let read = entries.into_iter().filter_map(|(name, node)| {
        if OWN.contains(&name.to_ascii_lowercase().as_str()) {
            node.mistake("this header is set by the client itself and cannot be set here");
        }
        let mut fields = node.fields()?;
        let headers = Headers {
            values: fields.texts("values"),
            secrets: fields.texts("secrets").into_iter().map(Secret::new).collect(),
            files: fields.texts("files").into_iter().map(PathBuf::from).collect(),
        };
        fields.finish();
        Some((name, headers))
    });
    read.collect()
}

fn proxy(fields: &mut Fields<'_>) -> Option<Proxy> {
    unsupported(
        fields,
        &["proxy_from_environment"],
        "has no effect: libraries read no environment; use `proxy_url`",
    );
    unsupported(fields, &["proxy_connect_header"], "has no effect: proxies get no further headers");
    let node = fields.take("proxy_url");
    let no_proxy = fields.take("no_proxy");
    let url = node.and_then(|node| {
        node.parsed("a URL such as `http://proxy:3128`", |text| is_url(text).then(|| Secret::new(text)))
    });
    match (url, no_proxy) {
        (Some(url), no_proxy) => {
            Some(Proxy { url, no_proxy: no_proxy.and_then(|node| node.text()).unwrap_or_default() })
        }
        (None, Some(node)) => {
            node.mistake("needs a `proxy_url` beside it");
            None
        }
        (None, None) => None,
    }
}

/// Whether a text is a URL of HTTP with a host.
pub(super) fn is_url(text: &str) -> bool {
    let rest = text.strip_prefix("http://").or_else(|| text.strip_prefix("https://"));
    rest.is_some_and(|rest| !rest.is_empty() && !rest.starts_with('/') && !rest.contains(char::is_whitespace))
}

impl BasicAuth {
    fn read(node: &Node<'_>) -> Option<Self> {
        let mut fields = node.fields()?;
        let auth = Self {
            username: Sourced::read(&mut fields, "username", |text| text),
            password: Sourced::read(&mut fields, "password", Secret::new),
        };
        unsupported(&mut fields, &["username_ref", "password_ref"], REFERENCES);
        fields.finish();
        Some(auth)
    }
}

impl Authorization {
    fn read(node: &Node<'_>) -> Option<Self> {
        let mut fields = node.fields()?;
        let scheme = fields.text("type").map(|text| text.trim().to_owned()).filter(|text| !text.is_empty());
        let scheme = scheme.unwrap_or_else(|| "Bearer".to_owned());
        if scheme.eq_ignore_ascii_case("basic") {
            node.mistake("`type` cannot be `Basic`; use `basic_auth`");
        }
        let credentials = Sourced::read(&mut fields, "credentials", Secret::new);
        unsupported(&mut fields, &["credentials_ref"], REFERENCES);
        fields.finish();
        Some(Self { scheme, credentials })
    }
}

impl OAuth2 {
    fn read(node: &Node<'_>) -> Option<Self> {
        let mut fields = node.fields()?;
        let oauth2 = Self {
            client_id: fields.text("client_id").unwrap_or_default(),
            client_secret: Sourced::read(&mut fields, "client_secret", Secret::new),
            scopes: fields.texts("scopes"),
            token_url: fields.text("token_url").unwrap_or_default(),
            endpoint_params: fields.take("endpoint_params").map(|node| node.text_map()).unwrap_or_default(),
            tls: fields.take("tls_config").map(|node| Tls::read(&node)).unwrap_or_default(),
        };
        if oauth2.client_id.is_empty() {
            node.mistake("`client_id` is missing");
        }
        if !is_url(&oauth2.token_url) {
            node.mistake("`token_url` is missing, or no URL");
        }
        unsupported(&mut fields, &["client_secret_ref"], REFERENCES);
        unsupported(
            &mut fields,
            &[
                "grant_type",
                "client_certificate_key",
                "client_certificate_key_file",
                "client_certificate_key_ref",
                "client_certificate_key_id",
                "signature_algorithm",
                "iss",
                "audience",
                "claims",
            ],
            "has no effect: tokens are asked for by client id and secret only",
        );
        unsupported(
            &mut fields,
            &["proxy_url", "no_proxy", "proxy_from_environment", "proxy_connect_header"],
            "has no effect: the token server is reached without a proxy",
        );
        fields.finish();
        Some(oauth2)
    }
}

impl Tls {
    pub(super) fn read(node: &Node<'_>) -> Self {
        let Some(mut fields) = node.fields() else { return Self::default() };
        let version = |fields: &mut Fields<'_>, key: &str| {
            let node = fields.take(key)?;
            let version = node.parsed("TLS12 or TLS13", |text| match text {
                "TLS10" | "TLS11" => Some(None),
                "TLS12" => Some(Some(TlsVersion::Tls12)),
                "TLS13" => Some(Some(TlsVersion::Tls13)),
                _ => None,
            })?;
            if version.is_none() {
                node.warn("has no effect: TLS 1.2 is the lowest version that is spoken");
            }
            version
        };
        let tls = Self {
            ca: Sourced::read(&mut fields, "ca", |text| text),
            cert: Sourced::read(&mut fields, "cert", |text| text),
            key: Sourced::read(&mut fields, "key", Secret::new),
            server_name: fields.text("server_name").filter(|name| !name.is_empty()),
            insecure_skip_verify: fields.flag("insecure_skip_verify", false),
            min_version: version(&mut fields, "min_version"),
            max_version: version(&mut fields, "max_version"),
        };
        if tls.cert.is_some() != tls.key.is_some() {
            let (there, missing) = if tls.cert.is_some() { ("cert", "key") } else { ("key", "cert") };
            node.mistake(format!(
                "a `{there}` or `{there}_file` needs a `{missing}` or `{missing}_file` beside it"
            ));
        }
        unsupported(&mut fields, &["ca_ref", "cert_ref", "key_ref"], REFERENCES);
        fields.finish();
        tls
    }

    fn set_directory(&mut self, dir: &Path) {
        self.ca.iter_mut().for_each(|source| source.set_directory(dir));
        self.cert.iter_mut().for_each(|source| source.set_directory(dir));
        self.key.iter_mut().for_each(|source| source.set_directory(dir));
    }
}
