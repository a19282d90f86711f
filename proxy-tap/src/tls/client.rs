//! The calling side of TLS: which protocol is asked for, and whose certificate is taken.

use std::io;
use std::sync::Arc;

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{verify_server_cert_signed_by_trust_anchor, verify_server_name};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::server::ParsedCertificate;
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, OtherError, RootCertStore, SignatureScheme,
};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use tokio_rustls::{TlsConnector, TlsStream};
use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::FromDer;

use super::{HTTP1, HTTP2, TlsError, provider};
use crate::io::{Io, Tcp};

/// What a connection is to carry, which is agreed on in the handshake (ALPN).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Carries {
    Http1,
    Http2,
    /// Bytes that nobody looks into: nothing is agreed.
    Bytes,
}

/// A chain and its key, to show.
pub(super) type Shown = (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>);

/// How handshakes are made, by what the connection is to carry.
#[derive(Debug)]
pub(super) struct Clients {
    http1: Arc<ClientConfig>,
    http2: Arc<ClientConfig>,
    bytes: Arc<ClientConfig>,
}

impl Clients {
    /// Takes servers that `roots` vouch for and that have one of `names`, or the asked name where there are none.
    pub(super) fn new(
        roots: &Arc<RootCertStore>,
        names: &[String],
        shown: Option<&Shown>,
    ) -> Result<Self, TlsError> {
        let rejected = |error: rustls::Error| TlsError::Rejected(error.to_string());
        let verifier: Arc<dyn ServerCertVerifier> = match names {
            [] => WebPkiServerVerifier::builder_with_provider(Arc::clone(roots), provider())
                .build()
                .map_err(|error| TlsError::Rejected(error.to_string()))?,
            names => {
                Arc::new(Named { roots: Arc::clone(roots), names: names.to_vec(), provider: provider() })
            }
        };
        let config = |protocols: &[&[u8]]| {
            let builder = ClientConfig::builder_with_provider(provider())
                .with_safe_default_protocol_versions()
                .map_err(rejected)?
                .dangerous()
                .with_custom_certificate_verifier(Arc::clone(&verifier));
            let mut config = match shown {
                Some((chain, key)) => {
                    builder.with_client_auth_cert(chain.clone(), key.clone_key()).map_err(rejected)?
                }
                None => builder.with_no_client_auth(),
            };
            config.alpn_protocols = protocols.iter().map(|name| name.to_vec()).collect();
            Ok(Arc::new(config))
        };
        Ok(Self { http1: config(&[HTTP1])?, http2: config(&[HTTP2])?, bytes: config(&[])? })
    }

    /// Makes a handshake with whoever proves to be `name`.
    pub(super) async fn connect(
        &self,
        name: &ServerName<'static>,
        carries: Carries,
        io: Tcp,
    ) -> io::Result<Io> {
        let config = match carries {
            Carries::Http1 => &self.http1,
            Carries::Http2 => &self.http2,
            Carries::Bytes => &self.bytes,
        };
        let stream = TlsConnector::from(Arc::clone(config)).connect(name.clone(), io).await?;
        if carries == Carries::Http2 && stream.get_ref().1.alpn_protocol() != Some(HTTP2) {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "it does not speak HTTP/2"));
        }
        Ok(Io::Tls(Box::new(TlsStream::Client(stream))))
    }
}

/// Takes certificates with one of these names, whichever was asked for: names of the DNS, addresses, or URIs such as
/// SPIFFE's.
#[derive(Debug)]
struct Named {
    roots: Arc<RootCertStore>,
    names: Vec<String>,
    provider: Arc<CryptoProvider>,
}

impl Named {
    fn is_one(&self, certificate: &CertificateDer<'_>, parsed: &ParsedCertificate<'_>) -> bool {
        let by_name = |name: &String| {
            ServerName::try_from(name.as_str()).is_ok_and(|name| verify_server_name(parsed, &name).is_ok())
        };
        self.names.iter().any(by_name) || uris(certificate).iter().any(|uri| self.names.contains(uri))
    }
}

/// The URIs that a certificate names.
fn uris(certificate: &CertificateDer<'_>) -> Vec<String> {
    let Ok((_, parsed)) = X509Certificate::from_der(certificate) else { return vec![] };
    let found = parsed.subject_alternative_name().ok().flatten();
    let names = found.map(|found| found.value.general_names.as_slice()).unwrap_or_default();
    let uri = |name: &GeneralName<'_>| match name {
        GeneralName::URI(uri) => Some((*uri).to_owned()),
        _ => None,
    };
    names.iter().filter_map(uri).collect()
}

impl ServerCertVerifier for Named {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _asked: &ServerName<'_>,
        _ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let parsed = ParsedCertificate::try_from(end_entity)?;
        let algorithms = self.provider.signature_verification_algorithms.all;
        verify_server_cert_signed_by_trust_anchor(&parsed, &self.roots, intermediates, now, algorithms)?;
        if self.is_one(end_entity, &parsed) {
            return Ok(ServerCertVerified::assertion());
        }
        let problem = format!("the certificate has none of the names `{}`", self.names.join("`, `"));
        let problem = OtherError(Arc::new(io::Error::other(problem)));
        Err(rustls::Error::InvalidCertificate(CertificateError::Other(problem)))
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls12_signature(message, certificate, signed, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls13_signature(message, certificate, signed, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}
