//! Targets that are spoken to in TLS, know their clients by certificates, and go by another name than their address.

use std::path::Path;
use std::process::Command;

use super::support::python::run;
use super::support::{Process, Server, until};
use super::{free_address, query, until_value, write};

/// A server in Python, which takes clients with certificates and a password only.
const SERVER: &str = r#"
import http.server, ssl, sys
host, port = sys.argv[1].split(":")
class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def do_GET(self):
        known = self.headers.get("Authorization") == "Basic bWU6c2VjcmV0"
        body = b"secured 1\n" if known else b""
        self.send_response(200 if known else 401)
        self.send_header("Content-Type", "text/plain")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
    def log_message(self, *args):
        pass
context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
context.load_cert_chain("server.pem", "server.key")
context.load_verify_locations("ca.pem")
context.verify_mode = ssl.CERT_REQUIRED
server = http.server.ThreadingHTTPServer((host, int(port)), Handler)
server.socket = context.wrap_socket(server.socket, server_side=True)
print("ready", file=sys.stderr, flush=True)
server.serve_forever()
"#;

/// A key and a certificate for `name`, of the authority in the same folder, which is made for the name `ca`.
fn certificate(dir: &Path, name: &str, extension: &str) {
    let mut openssl = Command::new("openssl");
    openssl.current_dir(dir).args(["req", "-x509", "-nodes", "-days", "2", "-newkey", "ec"]);
    openssl.args(["-pkeyopt", "ec_paramgen_curve:prime256v1", "-subj", &format!("/CN={name}")]);
    openssl.args(["-keyout", &format!("{name}.key"), "-out", &format!("{name}.pem"), "-addext", extension]);
    if name != "ca" {
        openssl.args(["-CA", "ca.pem", "-CAkey", "ca.key", "-addext", "basicConstraints=critical,CA:FALSE"]);
    }
    run(&mut openssl);
}

#[tokio::test(flavor = "multi_thread")]
async fn targets_in_tls_are_scraped_by_their_own_name() {
    let dir = tempfile::tempdir().unwrap();
    certificate(dir.path(), "ca", "keyUsage=critical,keyCertSign");
    certificate(dir.path(), "server", "subjectAltName=DNS:node.internal");
    certificate(dir.path(), "client", "extendedKeyUsage=clientAuth");
    write(dir.path(), "server.py", SERVER);
    write(dir.path(), "password", "secret\n");
    let address = free_address();
    let mut command = Command::new("python3");
    let mut target =
        Process::start("server in TLS", command.args(["server.py", &address]).current_dir(dir.path()));
    target.ready();
    let config = format!(
        r#"
global: {{scrape_interval: 500ms}}
scrape_configs:
- job_name: known
  scheme: https
  static_configs: [{{targets: ['{address}']}}]
  tls_config: &tls {{ca_file: ca.pem, cert_file: client.pem, key_file: client.key, server_name: node.internal}}
  basic_auth: &auth {{username: me, password_file: password}}
- job_name: unknown_name
  scheme: https
  static_configs: [{{targets: ['{address}']}}]
  tls_config: {{<<: *tls, server_name: other.internal}}
  basic_auth: *auth
- job_name: no_certificate
  scheme: https
  static_configs: [{{targets: ['{address}']}}]
  tls_config: {{ca_file: ca.pem, server_name: node.internal}}
  basic_auth: *auth
- job_name: no_password
  scheme: https
  static_configs: [{{targets: ['{address}']}}]
  tls_config: *tls
- job_name: any_name
  scheme: https
  static_configs: [{{targets: ['{address}']}}]
  tls_config: {{insecure_skip_verify: true, cert_file: client.pem, key_file: client.key}}
  basic_auth: *auth
"#
    );
    write(dir.path(), "prometheus.yml", &config);
    let file = dir.path().join("prometheus.yml");
    let server = Server::start(&dir.path().join("data"), &["--prometheus-config", file.to_str().unwrap()]);
    let expected = [
        ("known", 1.0),
        ("any_name", 1.0),
        ("unknown_name", 0.0),
        ("no_certificate", 0.0),
        ("no_password", 0.0),
    ];
    for (job, up) in expected {
        until_value(&server, &format!("up{{job=\"{job}\"}}"), Some(up)).await;
    }
    assert_eq!(query(&server, "secured").await.len(), 2);
    let told = until("reason why a name is not taken", 10, async || {
        let targets = server.get("/api/v1/targets?scrapePool=unknown_name").await;
        targets["data"]["activeTargets"][0]["lastError"].as_str().map(str::to_owned)
    })
    .await;
    assert!(told.contains("certificate"), "{told}");
    let refused = server.get("/api/v1/targets?scrapePool=no_password").await;
    let said = &refused["data"]["activeTargets"][0]["lastError"];
    assert_eq!(said, "server returned HTTP status 401 Unauthorized");
    server.process.stop();
}
