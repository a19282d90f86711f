//! Encryption between proxies: TLS in which both sides show a certificate, from files that may change.
//!
//! TLS 1.3 and 1.2 as rustls offers them; certificates are checked against the given authorities and the name that
//! was asked for. Nothing falls back to plaintext: a handshake that fails ends the connection.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use bytes::Bytes;
use rustls::client::WebPkiServerVerifier;
use rustls::server::WebPkiClientVerifier;
use rustls::{ClientConfig, RootCertStore, ServerConfig, crypto};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::{TlsAcceptor, TlsConnector, TlsStream};

use crate::io::{Io, Tcp};

/// How long a handshake may take.
const HANDSHAKE: Duration = Duration::from_secs(5);
const HTTP1: &[u8] = b"http/1.1";
const HTTP2: &[u8] = b"h2";

/// The files of an identity, in PEM.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TlsFiles {
    /// The certificate, and those between it and its authority.
    pub cert: PathBuf,
    /// Its private key.
    pub key: PathBuf,
    /// The authorities that vouch for others.
    pub ca: PathBuf,
}

/// Why there is no encryption.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file is missing or is not what it should be.
    #[error("`{file}`: {problem}")]
    File {
        /// The file.
        file: String,
        /// What is wrong with it.
        problem: String,
    },
    /// Key and certificate do not fit, or there is no authority.
    #[error("{0}")]
    Rejected(String),
}

/// Who the proxy is, to others.
#[derive(Debug)]
pub(crate) struct Identity {
    files: TlsFiles,
    current: ArcSwap<Configs>,
}

#[derive(Debug)]
struct Configs {
    server: Arc<ServerConfig>,
    http1: Arc<ClientConfig>,
    http2: Arc<ClientConfig>,
    /// What the files held.
    contents: [Vec<u8>; 3],
}

impl Identity {
    /// Reads the files.
    pub(crate) fn load(files: TlsFiles) -> Result<Arc<Self>, TlsError> {
        let configs = Configs::of(read(&files)?, &files)?;
        Ok(Arc::new(Self { files, current: ArcSwap::from_pointee(configs) }))
    }

    /// Reads the files again; says whether they have changed. Connections keep the identity they began with.
    pub(crate) fn reload(&self) -> Result<bool, TlsError> {
        let contents = read(&self.files)?;
        if contents == self.current.load().contents {
            return Ok(false);
        }
        self.current.store(Arc::new(Configs::of(contents, &self.files)?));
        Ok(true)
    }

    /// The files that it is read from.
    pub(crate) fn files(&self) -> &TlsFiles {
        &self.files
    }

    /// The chain that is shown to others, and the authorities that vouch for them.
    pub(crate) fn certificates(&self) -> (Vec<CertificateDer<'static>>, Vec<CertificateDer<'static>>) {
        let [cert, _, ca] = &self.current.load().contents;
        let all = |pem: &[u8]| CertificateDer::pem_slice_iter(pem).filter_map(Result::ok).collect();
        (all(cert), all(ca))
    }

    /// Takes a caller's handshake; it must show a certificate.
    pub(crate) async fn accept(&self, first: Bytes, stream: TcpStream) -> io::Result<TlsStream<Tcp>> {
        let acceptor = TlsAcceptor::from(Arc::clone(&self.current.load().server));
        let accepted = timeout(HANDSHAKE, acceptor.accept(Tcp::new(first, stream))).await;
        Ok(TlsStream::Server(accepted.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))??))
    }

    /// Opens a connection to whoever proves to be `name`.
    pub(crate) async fn connect(&self, name: &ServerName<'static>, http2: bool, io: Tcp) -> io::Result<Io> {
        let configs = self.current.load();
        let config = if http2 { &configs.http2 } else { &configs.http1 };
        let connector = TlsConnector::from(Arc::clone(config));
        let connected = timeout(HANDSHAKE, connector.connect(name.clone(), io)).await;
        let stream = connected.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))??;
        Ok(Io::Tls(Box::new(TlsStream::Client(stream))))
    }
}

fn read(files: &TlsFiles) -> Result<[Vec<u8>; 3], TlsError> {
    let read = |file: &PathBuf| {
        std::fs::read(file)
            .map_err(|error| TlsError::File { file: file.display().to_string(), problem: error.to_string() })
    };
    Ok([read(&files.cert)?, read(&files.key)?, read(&files.ca)?])
}

impl Configs {
    fn of(contents: [Vec<u8>; 3], files: &TlsFiles) -> Result<Self, TlsError> {
        let [cert, key, ca] = &contents;
        let wrong = |file: &PathBuf, problem: &str| TlsError::File {
            file: file.display().to_string(),
            problem: problem.to_owned(),
        };
        let chain: Vec<CertificateDer<'static>> =
            CertificateDer::pem_slice_iter(cert).filter_map(Result::ok).collect();
        if chain.is_empty() {
            return Err(wrong(&files.cert, "no certificate in PEM"));
        }
        let key =
            PrivateKeyDer::from_pem_slice(key).map_err(|_| wrong(&files.key, "no private key in PEM"))?;
        let mut roots = RootCertStore::empty();
        roots.add_parsable_certificates(CertificateDer::pem_slice_iter(ca).filter_map(Result::ok));
        if roots.is_empty() {
            return Err(wrong(&files.ca, "no certificate in PEM"));
        }
        let roots = Arc::new(roots);
        let provider = Arc::new(crypto::aws_lc_rs::default_provider());
        let rejected = |error: rustls::Error| TlsError::Rejected(error.to_string());
        let callers = WebPkiClientVerifier::builder_with_provider(Arc::clone(&roots), Arc::clone(&provider))
            .build()
            .map_err(|error| TlsError::Rejected(error.to_string()))?;
        let mut server = ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()
            .map_err(rejected)?
            .with_client_cert_verifier(callers)
            .with_single_cert(chain.clone(), key.clone_key())
            .map_err(rejected)?;
        server.alpn_protocols = vec![HTTP2.to_vec(), HTTP1.to_vec()];
        let client = |protocol: &[u8]| {
            let servers =
                WebPkiServerVerifier::builder_with_provider(Arc::clone(&roots), Arc::clone(&provider))
                    .build()
                    .map_err(|error| TlsError::Rejected(error.to_string()))?;
            let mut client = ClientConfig::builder_with_provider(Arc::clone(&provider))
                .with_safe_default_protocol_versions()
                .map_err(rejected)?
                .with_webpki_verifier(servers)
                .with_client_auth_cert(chain.clone(), key.clone_key())
                .map_err(rejected)?;
            client.alpn_protocols = vec![protocol.to_vec()];
            Ok(Arc::new(client))
        };
        let (http1, http2) = (client(HTTP1)?, client(HTTP2)?);
        Ok(Self { server: Arc::new(server), http1, http2, contents })
    }
}

/// Whether the handshake agreed on HTTP/2.
pub(crate) fn is_http2(stream: &TlsStream<Tcp>) -> bool {
    stream.get_ref().1.alpn_protocol() == Some(HTTP2)
}

/// The name that a server of `host` has to prove.
pub(crate) fn server_name(host: &str) -> Option<ServerName<'static>> {
    let host = host
        .rsplit_once(':')
        .map_or(host, |(name, port)| if port.bytes().all(|b| b.is_ascii_digit()) { name } else { host });
    ServerName::try_from(host.trim_matches(['[', ']']).to_owned()).ok()
}
