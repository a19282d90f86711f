//! Connections of the application: where they go, by address, by `Host` and by the name that TLS asks for.

use std::time::{Duration, Instant};

use serde_json::json;

use crate::actors::{Answer, Folder, eventually};
use crate::net::{REPLICA, SERVER, redirected};
use crate::{Stage, counted};

/// Time that a server which speaks first may be waited for less than detection would take.
const AT_ONCE: Duration = Duration::from_millis(800);

/// `shop` on the second address of the server's machine, in both families.
fn shop(folder: &Folder, port: u16) -> String {
    let at = |n: usize| json!({"address": format!("[{}]:{port}", REPLICA[n])});
    let first = json!({"address": format!("{}:{port}", REPLICA[0])});
    folder.file("endpoints.json", &json!({"shop": [first], "shop6": [at(1)]}).to_string())
}

#[test]
fn requests_go_where_they_were_going_and_are_counted() {
    let Some(stage) = Stage::new(&[]) else { return };
    for at in SERVER {
        stage.servers.serves("web", at, at, 80);
        for _ in 0..2 {
            assert_eq!(stage.app.gets(at, 80, "www.example.test"), Answer::ok(&format!("{at} /")));
        }
    }
    // One address has many names: the server is told which one was meant.
    let hosts: Vec<_> = stage.servers.seen().iter().map(|seen| seen["host"].clone()).collect();
    assert_eq!(hosts, [(); 4].map(|()| json!("www.example.test")));
    eventually("the requests are counted", || {
        counted(&stage.app, &["destination_service_name=\"10.77.0.2:80\"", "\"200\""]) == 2.0
            && counted(&stage.app, &["destination_service_name=\"[fd77::2]:80\"", "\"200\""]) == 2.0
    });
    // Nothing was redirected but what the application did.
    assert_eq!(redirected(&stage.net.client, "outgoing"), 4);
}

#[test]
fn a_service_of_the_mesh_is_known_by_its_host_and_by_its_address() {
    let folder = Folder::new("host");
    let Some(stage) = Stage::new(&["--endpoints", &shop(&folder, 8080)]) else { return };
    stage.servers.serves("web", "outside", SERVER[0], 80);
    stage.servers.serves("web", "shop", REPLICA[0], 8080);
    stage.servers.serves("web", "shop6", REPLICA[1], 8080);
    assert_eq!(stage.app.gets(SERVER[0], 80, "shop"), Answer::ok("shop /"));
    assert_eq!(stage.app.gets(SERVER[0], 80, "shop6:80"), Answer::ok("shop6 /"));
    assert_eq!(stage.app.gets(REPLICA[0], 8080, "whatever"), Answer::ok("shop /"));
    assert_eq!(stage.app.gets(REPLICA[1], 8080, "whatever"), Answer::ok("shop6 /"));
    assert_eq!(stage.app.gets(SERVER[0], 80, "elsewhere"), Answer::ok("outside /"));
    eventually("the requests are counted by service", || {
        counted(&stage.app, &["destination_service_name=\"shop\""]) == 2.0
            && counted(&stage.app, &["destination_service_name=\"shop6\""]) == 2.0
    });
}

#[test]
fn a_server_may_speak_first() {
    let folder = Folder::new("first");
    let at = format!("{}:9100", REPLICA[0]);
    let known = json!({"queue": [{"address": at, "protocol": "tcp"}]}).to_string();
    let Some(stage) = Stage::new(&["--endpoints", &folder.file("endpoints.json", &known)]) else { return };
    let talks = |at: &str, port: u16| {
        let began = Instant::now();
        let told =
            stage.app.does(json!({"do": "talk", "at": [at, port], "listens": true, "say": "\u{1}and you?"}));
        (told["heard"].clone(), began.elapsed())
    };
    for at in SERVER {
        stage.servers.serves("greeting", at, at, 9000);
        assert_eq!(talks(at, 9000).0, format!("220 {at}\n\u{1}and you?"));
    }
    // Of these it is known beforehand that nothing need come: one by its port, one by what the mesh says of it.
    stage.servers.serves("greeting", "mysql", SERVER[0], 3306);
    stage.servers.serves("greeting", "queue", REPLICA[0], 9100);
    for (at, port, name) in [(SERVER[0], 3306, "mysql"), (REPLICA[0], 9100, "queue")] {
        let (heard, took) = talks(at, port);
        assert_eq!(heard, format!("220 {name}\n\u{1}and you?"));
        assert!(took < AT_ONCE, "{name} took {took:?}");
    }
    // Who has nothing to say still wants to hear.
    let told = stage.app.does(json!({"do": "talk", "at": [SERVER[0], 9000]}));
    assert_eq!(told["heard"], format!("220 {}\n", SERVER[0]));
}

#[test]
fn encryption_is_passed_on_untouched() {
    let folder = Folder::new("tls");
    let known = shop(&folder, 8443);
    let Some(stage) = Stage::new(&["--endpoints", &known]) else { return };
    let serves = |name: &str, at: &str, port: u16| {
        let made = rcgen::generate_simple_self_signed([name.to_owned()]).unwrap();
        let cert = folder.file(&format!("{name}.pem"), &made.cert.pem());
        let key = folder.file(&format!("{name}.key"), &made.signing_key.serialize_pem());
        let order = json!({"do": "web", "name": name, "at": [at, port], "cert": cert, "key": key});
        assert_eq!(stage.servers.does(order), json!({}));
        cert
    };
    // The client takes a certificate of this very server, so nobody stands between them.
    let gets = |at: &str, sni: &str, ca: &str| {
        Answer::of(stage.app.does(json!({"do": "get", "at": [at, 443], "sni": sni, "ca": ca, "host": sni})))
    };
    let outside = serves("outside.test", SERVER[0], 443);
    let outside6 = serves("outside6.test", SERVER[1], 443);
    let shop = serves("shop", REPLICA[0], 8443);
    assert_eq!(gets(SERVER[0], "outside.test", &outside), Answer::ok("outside.test /"));
    assert_eq!(gets(SERVER[1], "outside6.test", &outside6), Answer::ok("outside6.test /"));
    assert_eq!(gets(SERVER[0], "shop", &shop), Answer::ok("shop /"));
    let refused = gets(SERVER[0], "outside.test", &shop);
    assert!(refused.body.contains("CERTIFICATE_VERIFY_FAILED"), "{refused:?}");
    assert_eq!(redirected(&stage.net.client, "outgoing"), 4);
}

#[test]
fn what_only_looks_like_tls_is_passed_on() {
    let Some(stage) = Stage::new(&[]) else { return };
    stage.servers.serves("greeting", "odd", SERVER[0], 9000);
    // A ClientHello by its head, of one byte.
    let told = stage.app.does(json!({"do": "talk", "at": [SERVER[0], 9000], "hex": "16030100050100000178"}));
    assert_eq!(told["heard"], "220 odd\n\u{16}\u{3}\u{1}\u{0}\u{5}\u{1}\u{0}\u{0}\u{1}x");
}

#[test]
fn who_is_spoken_to_with_http2_is_spoken_to_with_http2() {
    let Some(stage) = Stage::new(&[]) else { return };
    stage.servers.serves("listening", "h2", SERVER[0], 80);
    // Empty SETTINGS, and on stream 1 HEADERS of GET, http and `/` from the static table and the authority `a`
    // (RFC 9113 section 6, RFC 7541 appendix A).
    let preface: String = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".iter().map(|b| format!("{b:02x}")).collect();
    let frames = "000000040000000000000006010500000001828684410161";
    let hex = preface + frames;
    assert_eq!(stage.app.does(json!({"do": "begin", "at": [SERVER[0], 80], "hex": hex})), json!({}));
    eventually("the server is greeted as HTTP/2", || {
        stage.servers.seen().iter().any(|seen| seen["heard"] == "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")
    });
}

#[test]
fn hosts_that_nobody_knows_can_be_denied() {
    let folder = Folder::new("deny");
    let known = shop(&folder, 8080);
    let Some(stage) = Stage::new(&["--unknown-hosts", "deny", "--endpoints", &known]) else { return };
    for at in SERVER {
        stage.servers.serves("web", at, at, 80);
        stage.servers.serves("greeting", at, at, 9000);
        let refused = stage.app.gets(at, 80, "outside.test");
        assert_eq!((refused.status, &*refused.body), (503, "`outside.test` is unknown here\n"));
        let told = stage.app.does(json!({"do": "talk", "at": [at, 9000], "say": "\u{1}"}));
        assert_ne!(told["heard"].as_str().map(|heard| heard.contains("220")), Some(true), "{told}");
    }
    stage.servers.serves("web", "shop", REPLICA[0], 8080);
    assert_eq!(stage.app.gets(SERVER[0], 80, "shop"), Answer::ok("shop /"));
    let seen = stage.servers.seen();
    assert!(seen.iter().all(|seen| seen["server"] == "shop"), "{seen:?}");
}
