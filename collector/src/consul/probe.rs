//! Checks that are run from here: a request, or a connection.

use std::sync::OnceLock;
use std::time::Duration;

use reqwest::redirect::Policy;
use reqwest::{Client, Method};
use tokio::net::TcpStream;
use weir_model::limits;

use super::definition::{HttpProbe, Kind, Status};

/// Redirects that are followed, as Go's client does.
const REDIRECTS: usize = 10;

/// Makes requests and connections.
#[derive(Debug, Default)]
pub(super) struct Prober {
    /// By whether certificates are verified and redirects followed.
    clients: [OnceLock<Result<Client, String>>; 4],
}

impl Prober {
    /// What a check finds. Only those that are run from here find anything.
    pub(super) async fn run(&self, kind: &Kind) -> (Status, String) {
        let Some((_, timeout)) = kind.timing() else {
            return (Status::Critical, "nobody runs this check".to_owned());
        };
        let found = async {
            match kind {
                Kind::Http(probe) => self.http(probe).await,
                Kind::Tcp { address, .. } => tcp(address).await,
                Kind::Ttl(_) => Err("nobody runs this check".to_owned()),
            }
        };
        let late = || Err(format!("no answer within {}", super::duration::format(timeout)));
        let found = tokio::time::timeout(timeout, found).await.unwrap_or_else(|_| late());
        found.unwrap_or_else(|why| (Status::Critical, why))
    }

    /// Passing with a status of 200 to 299, a warning with 429, critical with anything else.
    async fn http(&self, probe: &HttpProbe) -> Result<(Status, String), String> {
        let client = self.client(probe.tls_skip_verify, probe.follow_redirects)?;
        let method: Method = probe.method.parse().map_err(|_| format!("`{}` is no method", probe.method))?;
        let mut request = client.request(method, &probe.url).body(probe.body.clone());
        for (name, value) in &probe.headers {
            request = request.header(name, value);
        }
        let failed = |error: reqwest::Error| {
            let mut text = error.to_string();
            let mut source = std::error::Error::source(&error);
            while let Some(inner) = source {
                text.push_str(&format!(": {inner}"));
                source = inner.source();
            }
            text
        };
        let mut answer = request.send().await.map_err(failed)?;
        let status = match answer.status().as_u16() {
            200..=299 => Status::Passing,
            429 => Status::Warning,
            _ => Status::Critical,
        };
        let mut body = Vec::new();
        while body.len() < limits::AGENT_OUTPUT_BYTES {
            let Some(piece) = answer.chunk().await.map_err(failed)? else { break };
            let room = limits::AGENT_OUTPUT_BYTES - body.len();
            body.extend_from_slice(&piece[..piece.len().min(room)]);
        }
        let body = String::from_utf8_lossy(&body);
        Ok((status, format!("HTTP {} {}: {} Output: {body}", probe.method, probe.url, answer.status())))
    }

    fn client(&self, insecure: bool, redirects: bool) -> Result<&Client, String> {
        let made = self.clients[usize::from(insecure) * 2 + usize::from(redirects)].get_or_init(|| {
            let policy = if redirects { Policy::limited(REDIRECTS) } else { Policy::none() };
            let client = Client::builder()
                .user_agent(concat!("Weir/", env!("CARGO_PKG_VERSION"), " health check"))
                .redirect(policy)
                // Neither a proxy of the environment nor a connection of the last time says how the instance is now.
                .no_proxy()
                .pool_max_idle_per_host(0)
                .pool_idle_timeout(Duration::ZERO)
                .tls_danger_accept_invalid_certs(insecure)
                .build();
            client.map_err(|error| error.to_string())
        });
        made.as_ref().map_err(Clone::clone)
    }
}

/// Passing when the connection is taken.
async fn tcp(address: &str) -> Result<(Status, String), String> {
    match TcpStream::connect(address).await {
        Ok(_) => Ok((Status::Passing, format!("TCP connect {address}: Success"))),
        Err(error) => Err(format!("TCP connect {address}: {error}")),
    }
}

#[cfg(test)]
mod tests;
