use std::borrow::Cow;

use http::{HeaderMap, HeaderValue, Method, StatusCode};

use crate::files::{File, Site};
use crate::respond::{Answer, respond};

/// The files of [`Site::Sample`]: a page, a script with its compressed forms, and a file outside `assets/`.
pub(crate) fn sample(path: &str) -> Option<File> {
    let (content, etag) = match path {
        "index.html" => ("<title>the app</title>", "\"page\""),
        "assets/app-1a2b.js" => ("plain script", "\"plain\""),
        "assets/app-1a2b.js.br" => ("br script", "\"br\""),
        "assets/app-1a2b.js.gz" => ("gz script", "\"gz\""),
        "icon.svg" => ("<svg/>", "\"icon\""),
        _ => return None,
    };
    Some(File { content: Cow::Borrowed(content.as_bytes()), etag: etag.to_owned() })
}

fn get(site: Site, path: &str, headers: &[(&'static str, &'static str)]) -> Answer {
    let headers: HeaderMap = headers
        .iter()
        .map(|(name, value)| (http::HeaderName::from_static(name), HeaderValue::from_static(value)))
        .collect();
    respond(site, &Method::GET, path, &headers)
}

fn body(answer: &Answer) -> String {
    String::from_utf8_lossy(answer.body()).into_owned()
}

fn header(answer: &Answer, name: &str) -> String {
    answer.headers().get(name).map(|value| value.to_str().unwrap().to_owned()).unwrap_or_default()
}

#[test]
fn without_a_bundle_a_page_says_how_to_build_one() {
    let answer = get(Site::Fallback, "/", &[]);
    assert_eq!(answer.status(), StatusCode::OK);
    assert_eq!(header(&answer, "content-type"), "text/html; charset=utf-8");
    for word in ["make ui", "/api/graph", "/api/sql", "/fallback.js"] {
        assert!(body(&answer).contains(word), "the page does not mention `{word}`");
    }
    assert!(!body(&answer).contains("<script>"), "its policy forbids inline scripts");
    let script = get(Site::Fallback, "/fallback.js", &[]);
    assert_eq!(header(&script, "content-type"), "text/javascript; charset=utf-8");
    assert!(!body(&script).contains("innerHTML"), "names from telemetry must stay text");
}

#[test]
fn the_embedded_site_is_the_bundle_where_there_is_one() {
    let page = body(&get(Site::embedded(), "/", &[]));
    assert_eq!(crate::has_bundle(), page.contains("/assets/"));
    assert_eq!(crate::has_bundle(), !page.contains("make ui"));
    if std::env::var("WEIR_UI_STRICT").is_ok_and(|value| value == "1") {
        assert!(crate::has_bundle(), "WEIR_UI_STRICT=1 and no bundle in `web/dist`: run `make ui`");
    }
}

#[test]
fn addresses_of_the_app_get_its_page() {
    for path in
        ["/", "/index.html", "/sql", "/traces/4bf92f3577b34da6a3ce929d0e0e4736", "/health/", "/apiary"]
    {
        let answer = get(Site::Sample, path, &[]);
        assert_eq!(
            (answer.status(), body(&answer)),
            (StatusCode::OK, "<title>the app</title>".into()),
            "{path}"
        );
        assert_eq!(header(&answer, "cache-control"), "no-cache", "{path}");
    }
}

#[test]
fn unknown_endpoints_and_files_are_errors_not_pages() {
    for path in [
        "/api",
        "/api/nothing",
        "/metrics",
        "/-/nothing",
        "/tempo/api/x",
        "/assets/old-9f.js",
        "/favicon.ico",
    ] {
        let answer = get(Site::Sample, path, &[]);
        assert_eq!(answer.status(), StatusCode::NOT_FOUND, "{path}");
        assert!(body(&answer).starts_with(r#"{"error":{"code":"not_found""#), "{path}");
    }
}

#[test]
fn no_path_leads_out_of_the_bundle() {
    let outside = [
        "/../Cargo.toml",
        "/assets/../../Cargo.toml",
        "/assets/..%2f..%2fCargo.toml",
        "/%2e%2e/Cargo.toml",
        "//etc/passwd.txt",
        "/..\\Cargo.toml",
        "/.gitignore",
    ];
    for site in [Site::embedded(), Site::Fallback, Site::Sample] {
        for path in outside {
            let answer = get(site, path, &[]);
            assert_eq!(answer.status(), StatusCode::NOT_FOUND, "{site:?} {path}");
            assert!(!body(&answer).contains("[package]"), "{site:?} {path}");
        }
    }
}

#[test]
fn hashed_files_are_kept_for_ever_and_the_rest_is_asked_for_again() {
    let script = get(Site::Sample, "/assets/app-1a2b.js", &[]);
    assert_eq!(header(&script, "cache-control"), "public, max-age=31536000, immutable");
    assert_eq!(header(&script, "content-type"), "text/javascript; charset=utf-8");
    assert_eq!(header(&get(Site::Sample, "/icon.svg", &[]), "cache-control"), "no-cache");
}

#[test]
fn the_smallest_accepted_form_is_sent() {
    let cases = [
        ("gzip, deflate, br", "br", "br script"),
        ("gzip", "gzip", "gz script"),
        ("GZIP;q=0.5", "gzip", "gz script"),
        ("br;q=0, gzip", "gzip", "gz script"),
        ("br;q=0.0,gzip; q=0", "", "plain script"),
        ("identity", "", "plain script"),
        ("", "", "plain script"),
    ];
    for (accept, encoding, content) in cases {
        let headers = if accept.is_empty() { vec![] } else { vec![("accept-encoding", accept)] };
        let answer = get(Site::Sample, "/assets/app-1a2b.js", &headers);
        assert_eq!(
            (header(&answer, "content-encoding"), body(&answer)),
            (encoding.into(), content.into()),
            "{accept}"
        );
        assert_eq!(header(&answer, "vary"), "accept-encoding");
    }
    // A file without compressed forms is sent as it is.
    assert_eq!(header(&get(Site::Sample, "/icon.svg", &[("accept-encoding", "br")]), "content-encoding"), "");
}

#[test]
fn what_the_client_has_is_not_sent_again() {
    let cases = [
        ("\"plain\"", StatusCode::NOT_MODIFIED),
        ("W/\"plain\"", StatusCode::NOT_MODIFIED),
        ("\"other\", \"plain\"", StatusCode::NOT_MODIFIED),
        ("*", StatusCode::NOT_MODIFIED),
        ("\"br\"", StatusCode::OK),
        ("plain", StatusCode::OK),
    ];
    for (tags, status) in cases {
        let answer = get(Site::Sample, "/assets/app-1a2b.js", &[("if-none-match", tags)]);
        assert_eq!(answer.status(), status, "{tags}");
        assert_eq!(answer.body().is_empty(), status == StatusCode::NOT_MODIFIED, "{tags}");
        assert_eq!(header(&answer, "etag"), "\"plain\"", "{tags}");
    }
    // Each form has a tag of its own, so that caches do not mix them up.
    let br = [("accept-encoding", "br"), ("if-none-match", "\"plain\"")];
    assert_eq!(get(Site::Sample, "/assets/app-1a2b.js", &br).status(), StatusCode::OK);
}

#[test]
fn every_answer_carries_the_policy() {
    for path in ["/", "/sql", "/icon.svg", "/api/nothing", "/assets/none.js"] {
        let answer = get(Site::Sample, path, &[]);
        let policy = header(&answer, "content-security-policy");
        assert!(policy.contains("default-src 'self'"), "{path}");
        assert!(policy.contains("frame-ancestors 'none'"), "{path}");
        assert!(!policy.contains("script-src"), "scripts follow default-src: {path}");
        assert_eq!(header(&answer, "x-content-type-options"), "nosniff", "{path}");
    }
}

#[test]
fn nothing_can_be_written() {
    let answer = respond(Site::Sample, &Method::POST, "/sql", &HeaderMap::new());
    assert_eq!(answer.status(), StatusCode::METHOD_NOT_ALLOWED);
    assert_eq!(header(&answer, "allow"), "GET, HEAD");
    let head = respond(Site::Sample, &Method::HEAD, "/", &HeaderMap::new());
    assert_eq!(head.status(), StatusCode::OK);
}
