//! The page that says what the files of the proxy's identity hold, so that nobody has to decode them by hand.

use rustls_pki_types::CertificateDer;
use serde_json::{Value, json};
use weir_model::UnixNanos;
use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::FromDer;
use x509_parser::time::ASN1Time;

use crate::run::Proxy;

/// The chain that the proxy shows, its own certificate first, and the authorities that it trusts. Without an
/// identity both are empty.
pub(super) fn page(proxy: &Proxy) -> Value {
    let now = proxy.clock.now();
    let list = |all: &[CertificateDer<'_>]| all.iter().map(|one| certificate(one, now)).collect::<Vec<_>>();
    let Some(identity) = &proxy.own_identity else {
        return json!({ "files": null, "chain": [], "authorities": [] });
    };
    let files = identity.files();
    let (chain, authorities) = identity.certificates();
    json!({
        "files": { "cert": files.cert, "key": files.key, "ca": files.ca },
        "chain": list(&chain),
        "authorities": list(&authorities),
    })
}

fn certificate(der: &CertificateDer<'_>, now: UnixNanos) -> Value {
    let Ok((_, parsed)) = X509Certificate::from_der(der) else {
        return json!({ "error": "not a certificate that this page can read" });
    };
    let validity = parsed.validity();
    let left = validity.not_after.timestamp() - i64::try_from(now.0 / 1_000_000_000).unwrap_or(i64::MAX);
    json!({
        "subject": parsed.subject().to_string(),
        "alternative_names": alternative_names(&parsed),
        "issuer": parsed.issuer().to_string(),
        "serial": parsed.raw_serial_as_string(),
        "not_before": time(validity.not_before),
        "not_after": time(validity.not_after),
        "expires_in_s": left,
        "is_ca": parsed.is_ca(),
    })
}

/// As RFC 3339 has it, to the second.
fn time(at: ASN1Time) -> String {
    let at = at.to_datetime();
    let (month, day) = (u8::from(at.month()), at.day());
    let (hour, minute, second) = at.to_hms();
    format!("{:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z", at.year())
}

/// As `openssl x509 -text` writes them: `DNS:cart`, `URI:spiffe://…`, `IP Address:10.0.0.1`.
fn alternative_names(parsed: &X509Certificate<'_>) -> Vec<String> {
    let found = parsed.subject_alternative_name().ok().flatten();
    let names = found.map(|found| found.value.general_names.as_slice()).unwrap_or_default();
    names.iter().map(name).collect()
}

fn name(name: &GeneralName<'_>) -> String {
    match name {
        GeneralName::DNSName(name) => format!("DNS:{name}"),
        GeneralName::URI(uri) => format!("URI:{uri}"),
        GeneralName::RFC822Name(address) => format!("email:{address}"),
        GeneralName::IPAddress(bytes) => match (<[u8; 4]>::try_from(*bytes), <[u8; 16]>::try_from(*bytes)) {
            (Ok(v4), _) => format!("IP Address:{}", std::net::Ipv4Addr::from(v4)),
            (_, Ok(v6)) => format!("IP Address:{}", std::net::Ipv6Addr::from(v6)),
            _ => "IP Address:malformed".to_owned(),
        },
        other => other.to_string(),
    }
}
