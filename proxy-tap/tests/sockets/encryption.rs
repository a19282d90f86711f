//! Encryption towards endpoints as the policy says, against servers that say what they were asked for.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;
use weir_proxy_tap::config::{Protocol, TlsFiles};
use weir_proxy_tap::{Config, Running};

use crate::support::*;

/// What a handshake asked for: a name, a protocol, and whether a certificate was shown.
type Asked = (Option<String>, Option<String>, bool);

/// A server that ends TLS before an application.
struct Front {
    address: SocketAddr,
    asked: Arc<Mutex<Vec<Asked>>>,
}

impl Front {
    /// Shows this certificate, and asks for one where it is `mutual`.
    async fn start(behind: SocketAddr, files: &TlsFiles, mutual: bool) -> Self {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()
            .unwrap();
        let builder = if mutual {
            let mut roots = RootCertStore::empty();
            roots.add(CertificateDer::from_pem_file(&files.ca).unwrap()).unwrap();
            let callers = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider);
            builder.with_client_cert_verifier(callers.build().unwrap())
        } else {
            builder.with_no_client_auth()
        };
        let chain = vec![CertificateDer::from_pem_file(&files.cert).unwrap()];
        let key = PrivateKeyDer::from_pem_file(&files.key).unwrap();
        let mut config = builder.with_single_cert(chain, key).unwrap();
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        let acceptor = TlsAcceptor::from(Arc::new(config));
        let listener = TcpListener::bind(any_port()).await.unwrap();
        let front = Self { address: listener.local_addr().unwrap(), asked: Arc::default() };
        let asked = Arc::clone(&front.asked);
        tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let (acceptor, asked) = (acceptor.clone(), Arc::clone(&asked));
                tokio::spawn(async move {
                    let Ok(mut stream) = acceptor.accept(stream).await else { return };
                    let session = stream.get_ref().1;
                    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
                    let certificate = session.peer_certificates().is_some();
                    let name = session.server_name().map(str::to_owned);
                    asked.lock().unwrap().push((name, session.alpn_protocol().map(text), certificate));
                    let mut app = TcpStream::connect(behind).await.unwrap();
                    let _ = copy_bidirectional(&mut stream, &mut app).await;
                });
            }
        });
        front
    }

    fn asked(&self) -> Vec<Asked> {
        self.asked.lock().unwrap().clone()
    }
}

/// A policy of `payments` with this encryption.
fn encrypted(told: &str) -> String {
    format!("[[service]]\nhost = \"payments\"\n[service.destination.tls]\n{told}\n")
}

async fn calling(told: &str, protocol: Protocol, endpoint: SocketAddr, own: Option<TlsFiles>) -> Running {
    let mut config = cart(&[endpoint]);
    config.endpoints.values_mut().flatten().for_each(|one| one.protocol = protocol);
    let policy = toml::from_str(&encrypted(told)).unwrap();
    start(Config { policy, tls: own.and_then(tls), ..config }).await
}

fn shown(told: &TlsFiles) -> String {
    format!("ca = {:?}\ncert = {:?}\nkey = {:?}", told.ca, told.cert, told.key)
}

#[tokio::test]
async fn each_protocol_is_agreed_on_under_the_name_that_is_asked_for() {
    let authority = Authority::new();
    let files = authority.identity("pay.example.com");
    let app = App::always(200, "behind").await;
    let name = Some("pay.example.com".to_owned());
    let told = format!("mode = \"simple\"\nca = {:?}\nsni = \"pay.example.com\"", files.ca);
    for (protocol, agreed) in [(Protocol::Http, "http/1.1"), (Protocol::Http2, "h2")] {
        let front = Front::start(app.address, &files, false).await;
        let proxy = calling(&told, protocol, front.address, None).await;
        for _ in 0..2 {
            assert_eq!(get(to_payments(&proxy), "/").await.text(), "behind");
        }
        assert_eq!(front.asked(), [(name.clone(), Some(agreed.to_owned()), false)]);
        assert!(app.seen().last().unwrap().header("x-weir-peer").is_some());
    }
    let over_http2 = app.seen().last().unwrap().parts.uri.clone();
    assert_eq!(over_http2.scheme_str(), Some("https"));
    let front = Front::start(app.address, &files, false).await;
    let proxy = calling(&told, Protocol::Tcp, front.address, None).await;
    assert_eq!(get(to_payments(&proxy), "/").await.text(), "behind");
    assert_eq!(front.asked(), [(name, None, false)]);
}

#[tokio::test]
async fn a_server_that_asks_for_a_certificate_is_shown_one() {
    let authority = Authority::new();
    let (server, own) = (authority.identity("payments"), authority.identity("cart"));
    let app = App::always(200, "behind").await;
    let front = Front::start(app.address, &server, true).await;
    let told = format!("mode = \"simple\"\nca = {:?}", own.ca);
    let without = calling(&told, Protocol::Http, front.address, None).await;
    assert!(matches!(get(to_payments(&without), "/").await.status, 502 | 503));
    let told = format!("mode = \"mutual\"\n{}", shown(&own));
    let proxy = calling(&told, Protocol::Http, front.address, None).await;
    assert_eq!(get(to_payments(&proxy), "/").await.text(), "behind");
    assert!(front.asked().iter().any(|(_, _, certificate)| *certificate));
}

#[tokio::test]
async fn a_certificate_needs_one_of_the_names_and_a_known_authority() {
    let (authority, foreign) = (Authority::new(), Authority::new());
    let spiffe = "spiffe://shop/ns/default/sa/payments";
    let files = authority.identity_of("somebody", &[spiffe]);
    let app = App::always(200, "behind").await;
    let front = Front::start(app.address, &files, false).await;
    let status = async |told: String| {
        let proxy = calling(&told, Protocol::Http, front.address, None).await;
        get(to_payments(&proxy), "/").await.status
    };
    let simple = |ca: &TlsFiles, names: &str| {
        format!("mode = \"simple\"\nca = {:?}\nsubject_alt_names = [{names}]", ca.ca)
    };
    assert_eq!(status(simple(&files, "")).await, 503, "it is not payments");
    assert_eq!(status(simple(&files, "\"payments\", \"somebody\"")).await, 200);
    assert_eq!(status(simple(&files, &format!("{spiffe:?}"))).await, 200);
    assert_eq!(status(simple(&files, "\"spiffe://shop/ns/default/sa/other\", \"x\"")).await, 503);
    assert_eq!(status(simple(&foreign.identity("x"), "\"somebody\"")).await, 503);
}

#[tokio::test]
async fn the_policy_outweighs_the_identity_of_the_proxy() {
    let authority = Authority::new();
    let own = authority.identity("cart");
    let app = App::always(200, "behind").await;
    let plain = calling("mode = \"disable\"", Protocol::Http, app.address, Some(own.clone())).await;
    assert_eq!(get(to_payments(&plain), "/").await.text(), "behind");
    // Another name than the service's, in the mesh.
    let receiver = Config { tls: tls(authority.identity("somebody")), ..payments(app.address) };
    let receiving = start(receiver).await;
    let told = "mode = \"mesh_mutual\"\nsubject_alt_names = [\"somebody\"]";
    for protocol in [Protocol::Http, Protocol::Http2] {
        let proxy = calling(told, protocol, receiving.inbound.unwrap(), Some(own.clone())).await;
        assert_eq!(get(to_payments(&proxy), "/").await.text(), "behind");
    }
    let nobody = calling(told, Protocol::Http, receiving.inbound.unwrap(), None).await;
    let refused = get(to_payments(&nobody), "/").await;
    assert_eq!(refused.status, 503);
    assert!(refused.text().contains("--tls-cert"), "never without: {}", refused.text());
}

#[tokio::test]
async fn files_that_change_are_used_for_new_connections_and_a_policy_for_all() {
    let (authority, foreign) = (Authority::new(), Authority::new());
    let app = App::always(200, "behind").await;
    let front = Front::start(app.address, &authority.identity("payments"), false).await;
    let folder = tempfile::tempdir().unwrap();
    let (ca, file) = (folder.path().join("ca.pem"), folder.path().join("policy.toml"));
    std::fs::copy(foreign.identity("x").ca, &ca).unwrap();
    std::fs::write(&file, encrypted(&format!("mode = \"simple\"\nca = {ca:?}"))).unwrap();
    let policy = toml::from_str(&std::fs::read_to_string(&file).unwrap()).unwrap();
    let proxy = start(Config { policy, policy_file: Some(file.clone()), ..cart(&[front.address]) }).await;
    assert_eq!(get(to_payments(&proxy), "/").await.status, 503);
    std::fs::copy(authority.identity("x").ca, &ca).unwrap();
    let becomes = async |status: u16| {
        until("another answer", async || {
            (get(to_payments(&proxy), "/").await.status == status).then_some(())
        })
        .await;
    };
    becomes(200).await;
    // The connection that is idle by now was encrypted, and the server takes no others.
    std::fs::write(&file, encrypted("mode = \"disable\"")).unwrap();
    becomes(502).await;
    std::fs::write(&file, encrypted(&format!("mode = \"simple\"\nca = {ca:?}"))).unwrap();
    becomes(200).await;
}
