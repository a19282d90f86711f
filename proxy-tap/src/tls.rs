//! Encryption: between proxies TLS in which both sides show a certificate, and towards endpoints what the policy says
//! ([`Toward`]). Certificates and keys are in files that may change.
//!
//! TLS 1.3 and 1.2 as rustls offers them; certificates are checked against the given authorities and the name that
//! was asked for. Nothing falls back to plaintext: a handshake that fails ends the connection.

mod client;
mod toward;

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use bytes::Bytes;
use rustls::crypto::{self, CryptoProvider};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::{TlsAcceptor, TlsStream};

use crate::io::{Io, Tcp};
use client::{Clients, Shown};

pub(crate) use client::Carries;
pub(crate) use toward::{Toward, mistakes};

/// How long a caller's handshake may take.
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
    clients: Clients,
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
    pub(crate) async fn connect(
        &self,
        name: &ServerName<'static>,
        carries: Carries,
        io: Tcp,
    ) -> io::Result<Io> {
        let configs = self.current.load_full();
        configs.clients.connect(name, carries, io).await
    }
}

fn read(files: &TlsFiles) -> Result<[Vec<u8>; 3], TlsError> {
    Ok([read_file(&files.cert)?, read_file(&files.key)?, read_file(&files.ca)?])
}

fn read_file(file: &Path) -> Result<Vec<u8>, TlsError> {
    std::fs::read(file).map_err(|error| wrong(file, &error.to_string()))
}

fn wrong(file: &Path, problem: &str) -> TlsError {
    TlsError::File { file: file.display().to_string(), problem: problem.to_owned() }
}

/// The authorities in a file's content.
fn authorities(pem: &[u8], file: &Path) -> Result<Arc<RootCertStore>, TlsError> {
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(CertificateDer::pem_slice_iter(pem).filter_map(Result::ok));
    if roots.is_empty() {
        return Err(wrong(file, "no certificate in PEM"));
    }
    Ok(Arc::new(roots))
}

/// The chain and the key in the contents of two files; which of them is wrong, `cert` or `key`.
fn chain_and_key(cert: (&[u8], &Path), key: (&[u8], &Path)) -> Result<Shown, (&'static str, TlsError)> {
    let chain: Vec<_> = CertificateDer::pem_slice_iter(cert.0).filter_map(Result::ok).collect();
    if chain.is_empty() {
        return Err(("cert", wrong(cert.1, "no certificate in PEM")));
    }
    let parsed = PrivateKeyDer::from_pem_slice(key.0);
    Ok((chain, parsed.map_err(|_| ("key", wrong(key.1, "no private key in PEM")))?))
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(crypto::aws_lc_rs::default_provider())
}

impl Configs {
    fn of(contents: [Vec<u8>; 3], files: &TlsFiles) -> Result<Self, TlsError> {
        let [cert, key, ca] = &contents;
        let shown = chain_and_key((cert, &files.cert), (key, &files.key)).map_err(|(_, error)| error)?;
        let roots = authorities(ca, &files.ca)?;
        let rejected = |error: rustls::Error| TlsError::Rejected(error.to_string());
        let callers = WebPkiClientVerifier::builder_with_provider(Arc::clone(&roots), provider())
            .build()
            .map_err(|error| TlsError::Rejected(error.to_string()))?;
        let mut server = ServerConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()
            .map_err(rejected)?
            .with_client_cert_verifier(callers)
            .with_single_cert(shown.0.clone(), shown.1.clone_key())
            .map_err(rejected)?;
        server.alpn_protocols = vec![HTTP2.to_vec(), HTTP1.to_vec()];
        let clients = Clients::new(&roots, &[], Some(&shown))?;
        Ok(Self { server: Arc::new(server), clients, contents })
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
