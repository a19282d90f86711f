//! HTTP to targets and discovery servers as a job asks for it: TLS, credentials, proxies, headers.

use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::header::{AUTHORIZATION, CONTENT_TYPE};
use http::{HeaderMap, HeaderName, HeaderValue};
use reqwest::redirect::Policy;
use reqwest::{Certificate, Client, Identity, Method, NoProxy, Proxy, RequestBuilder, Response, tls};
use tokio::sync::Mutex;
use weir_model::prometheus::{HttpClient, OAuth2, Secret, Sourced, Tls, TlsVersion};

use super::files;

/// Names and the addresses they have here, whatever the DNS says.
pub type Hosts = Vec<(String, IpAddr)>;

/// A client made to measure.
#[derive(Debug)]
pub struct Http {
    client: Client,
    config: HttpClient,
    token: Mutex<Option<(Secret, Instant)>>,
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum HttpError {
    /// A file that the settings name cannot be had.
    #[error(transparent)]
    File(#[from] files::FileError),
    /// There can be no such request.
    #[error("{0}")]
    Setup(String),
    /// The request failed.
    #[error("{}", chain(.0))]
    Request(#[from] reqwest::Error),
    /// The answer is no good one.
    #[error("server returned HTTP status {0}")]
    Status(http::StatusCode),
    /// The answer is longer than it may be.
    #[error("body is larger than {0} bytes")]
    TooLarge(u64),
    /// There is no token to be had.
    #[error("the token server: {0}")]
    Token(String),
}

/// An error with what is behind it: reqwest's own text alone says little.
fn chain(error: &reqwest::Error) -> String {
    let mut text = error.to_string();
    let mut source = std::error::Error::source(error);
    while let Some(inner) = source {
        text.push_str(&format!(": {inner}"));
        source = inner.source();
    }
    text
}

/// Idle connections to one target.
const IDLE: usize = 2;

impl Http {
    /// A client with these settings, for whom `hosts` are known. A server name in the settings of TLS is spoken to
    /// at `target`, where that is said.
    pub async fn new(
        config: &HttpClient,
        hosts: &Hosts,
        target: Option<(&str, u16)>,
    ) -> Result<Self, HttpError> {
        let redirects = if config.follow_redirects { Policy::limited(10) } else { Policy::none() };
        let mut builder = Client::builder()
            .user_agent(concat!("Weir/", env!("CARGO_PKG_VERSION")))
            .redirect(redirects)
            .pool_max_idle_per_host(IDLE);
        for (name, address) in hosts {
            builder = builder.resolve(name, SocketAddr::new(*address, 0));
        }
        if let (Some(name), Some((host, port))) = (&config.tls.server_name, target) {
            let addresses: Vec<SocketAddr> = match hosts.iter().find(|(known, _)| known == host) {
                Some((_, address)) => vec![SocketAddr::new(*address, port)],
                None => tokio::net::lookup_host((host, port))
                    .await
                    .map_err(|error| HttpError::Setup(format!("cannot find `{host}`: {error}")))?
                    .collect(),
            };
            builder = builder.resolve_to_addrs(name, &addresses);
        }
        if let Some(proxy) = &config.proxy {
            let made = Proxy::all(proxy.url.reveal())?.no_proxy(NoProxy::from_string(&proxy.no_proxy));
            builder = builder.proxy(made);
        }
        let client = with_tls(builder, &config.tls)?.build()?;
        Ok(Self { client, config: config.clone(), token: Mutex::default() })
    }

    /// A request with everything the settings say.
    pub(super) async fn request(&self, method: Method, url: &str) -> Result<RequestBuilder, HttpError> {
        let mut headers = HeaderMap::new();
        for (name, written) in &self.config.headers {
            let bad = || HttpError::Setup(format!("`{name}` is no header, or its value cannot be sent"));
            let name_of: HeaderName = name.parse().map_err(|_| bad())?;
            let mut add = |value: &str, secret: bool| {
                let mut value = HeaderValue::from_str(value).map_err(|_| bad())?;
                value.set_sensitive(secret);
                headers.append(&name_of, value);
                Ok::<(), HttpError>(())
            };
            written.values.iter().try_for_each(|value| add(value, false))?;
            written.secrets.iter().try_for_each(|value| add(value.reveal(), true))?;
            for file in &written.files {
                add(files::read(file)?.trim(), true)?;
            }
        }
        let mut request = self.client.request(method, url).headers(headers);
        if let Some(auth) = &self.config.basic_auth {
            let username = auth.username.as_ref().map(text_of).transpose()?.unwrap_or_default();
            let password = auth.password.as_ref().map(secret_of).transpose()?;
            request = request.basic_auth(username, password);
        }
        if let Some(auth) = &self.config.authorization
            && let Some(credentials) = &auth.credentials
        {
            request = request.header(AUTHORIZATION, sensitive(&auth.scheme, &secret_of(credentials)?)?);
        }
        if let Some(oauth2) = &self.config.oauth2 {
            request = request.header(AUTHORIZATION, sensitive("Bearer", self.token(oauth2).await?.reveal())?);
        }
        Ok(request)
    }

    /// Posts `body` as JSON; the status of the answer, which may take `timeout`.
    pub async fn post_json(
        &self,
        url: &str,
        body: Vec<u8>,
        timeout: Duration,
    ) -> Result<http::StatusCode, HttpError> {
        let request = self.request(Method::POST, url).await?.header(CONTENT_TYPE, "application/json");
        Ok(request.body(body).timeout(timeout).send().await?.status())
    }

    /// A token that is still good, asked for where there is none.
    async fn token(&self, oauth2: &OAuth2) -> Result<Secret, HttpError> {
        let mut held = self.token.lock().await;
        if let Some((token, until)) = &*held
            && Instant::now() < *until
        {
            return Ok(token.clone());
        }
        let client = with_tls(Client::builder(), &oauth2.tls)?.build()?;
        let secret = oauth2.client_secret.as_ref().map(secret_of).transpose()?.unwrap_or_default();
        let answer = client
            .post(&oauth2.token_url)
            .basic_auth(&oauth2.client_id, Some(secret))
            .header(CONTENT_TYPE, "application/x-www-form-urlencoded")
            .body(token_form(oauth2))
            .send()
            .await?;
        let answer = body(ok(answer)?, TOKEN_BYTES).await?;
        let answer: Token =
            serde_json::from_slice(&answer).map_err(|error| HttpError::Token(error.to_string()))?;
        let life = Duration::from_secs(answer.expires_in.unwrap_or(3600));
        let token = Secret::new(answer.access_token);
        *held = Some((token.clone(), Instant::now() + life.saturating_sub(TOKEN_MARGIN)));
        Ok(token)
    }
}

fn token_form(oauth2: &OAuth2) -> String {
    let mut form = url::form_urlencoded::Serializer::new(String::new());
    form.append_pair("grant_type", "client_credentials");
    if !oauth2.scopes.is_empty() {
        form.append_pair("scope", &oauth2.scopes.join(" "));
    }
    for (name, value) in &oauth2.endpoint_params {
        form.append_pair(name, value);
    }
    form.finish()
}

#[derive(serde::Deserialize)]
struct Token {
    access_token: String,
    expires_in: Option<u64>,
}

/// Bytes of an answer with a token.
const TOKEN_BYTES: u64 = 1 << 20;
/// How long before its end a token is no longer used.
const TOKEN_MARGIN: Duration = Duration::from_secs(10);

fn with_tls(mut builder: reqwest::ClientBuilder, config: &Tls) -> Result<reqwest::ClientBuilder, HttpError> {
    if let Some(ca) = &config.ca {
        builder = builder.tls_certs_only(Certificate::from_pem_bundle(text_of(ca)?.as_bytes())?);
    }
    if let (Some(cert), Some(key)) = (&config.cert, &config.key) {
        let pem = format!("{}\n{}", secret_of(key)?, text_of(cert)?);
        builder = builder.identity(Identity::from_pem(pem.as_bytes())?);
    }
    let version = |version| match version {
        TlsVersion::Tls12 => tls::Version::TLS_1_2,
        TlsVersion::Tls13 => tls::Version::TLS_1_3,
    };
    if let Some(least) = config.min_version {
        builder = builder.tls_version_min(version(least));
    }
    if let Some(most) = config.max_version {
        builder = builder.tls_version_max(version(most));
    }
    Ok(builder.tls_danger_accept_invalid_certs(config.insecure_skip_verify))
}

fn sensitive(scheme: &str, credentials: &str) -> Result<HeaderValue, HttpError> {
    let mut value = HeaderValue::from_str(&format!("{scheme} {credentials}"))
        .map_err(|_| HttpError::Setup("the credentials cannot be sent in a header".to_owned()))?;
    value.set_sensitive(true);
    Ok(value)
}

fn text_of(source: &Sourced<String>) -> Result<String, HttpError> {
    match source {
        Sourced::Here(text) => Ok(text.clone()),
        Sourced::File(path) => trimmed(path),
    }
}

fn secret_of(source: &Sourced<Secret>) -> Result<String, HttpError> {
    match source {
        Sourced::Here(secret) => Ok(secret.reveal().to_owned()),
        Sourced::File(path) => trimmed(path),
    }
}

fn trimmed(path: &Path) -> Result<String, HttpError> {
    Ok(files::read(path)?.trim().to_owned())
}

/// The answer, where it is a good one.
pub(super) fn ok(response: Response) -> Result<Response, HttpError> {
    let status = response.status();
    if status == http::StatusCode::OK { Ok(response) } else { Err(HttpError::Status(status)) }
}

/// The body of an answer, as long as it has at most `most` bytes.
pub(super) async fn body(mut response: Response, most: u64) -> Result<Bytes, HttpError> {
    let mut out = Vec::new();
    while let Some(piece) = response.chunk().await? {
        if out.len() as u64 + piece.len() as u64 > most {
            return Err(HttpError::TooLarge(most));
        }
        if out.is_empty() && response.content_length() == Some(piece.len() as u64) {
            return Ok(piece);
        }
        out.extend_from_slice(&piece);
    }
    Ok(out.into())
}
