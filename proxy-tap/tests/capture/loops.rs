//! Connections that would come back to the proxy: made to its listener, or by itself.

use serde_json::json;

use crate::actors::{Answer, Peer, Proxy};
use crate::net::{CLIENT, Net, SERVER, capture, redirected, rules};
use crate::{CAPTURE, Stage, counted};

const NOT_REDIRECTED: &str = "the connection was not redirected here\n";

#[test]
fn a_connection_to_the_listener_itself_is_refused() {
    let Some(stage) = Stage::new(&[]) else { return };
    let refused = Answer { status: 400, body: NOT_REDIRECTED.to_owned() };
    for at in ["127.0.0.1", "127.0.0.2", "::1", CLIENT[0], CLIENT[1]] {
        assert_eq!(stage.app.gets(at, CAPTURE, "shop"), refused, "{at} from the same machine");
        let told = stage.app.does(json!({"do": "talk", "at": [at, CAPTURE], "say": "\u{1}"}));
        assert_eq!(told["heard"].as_str().unwrap_or_default().get(..12), Some("HTTP/1.1 400"), "{told}");
    }
    for at in CLIENT {
        assert_eq!(stage.servers.gets(at, CAPTURE, "shop"), refused, "{at} from another machine");
    }
    // Other rules than the example's may redirect what stays on the machine, to another of its addresses.
    let all = "table inet test { chain outgoing { type nat hook output priority -101; \
               meta mark 1337 return; tcp dport 15001 redirect to :15001; }; }";
    rules(&stage.net.client, all);
    for at in CLIENT {
        assert_eq!(stage.app.gets(at, CAPTURE, "shop"), refused, "{at} redirected");
    }
    assert_eq!(counted(&stage.app, &[]), 0.0, "a refusal is no call");
}

#[test]
fn the_listeners_port_on_another_machine_is_a_port_like_others() {
    let Some(stage) = Stage::new(&[]) else { return };
    for at in SERVER {
        stage.servers.serves("web", at, at, CAPTURE);
        assert_eq!(stage.app.gets(at, CAPTURE, "shop"), Answer::ok(&format!("{at} /")));
    }
}

#[test]
fn rules_that_redirect_the_proxy_itself_are_noticed() {
    let Some(net) = Net::new() else { return };
    // The rules let another mark pass than the proxy's.
    let proxy = Proxy::on(&net.client, &["--capture", "[::]:15001", "--mark", "7", "--retries", "0"]);
    capture(&net.client, "up", &[]);
    let (app, servers) = (Peer::on(&net.client), Peer::on(&net.server));
    for at in SERVER {
        servers.serves("web", at, at, 80);
        servers.serves("greeting", at, at, 9000);
        servers.serves("greeting", at, at, 3306);
        let refused = app.gets(at, 80, "shop");
        assert_eq!(refused.status, 508, "{refused:?}");
        let told = app.does(json!({"do": "talk", "at": [at, 9000], "say": "\u{1}"}));
        assert!(!told["heard"].as_str().unwrap_or_default().contains("220"), "{told}");
        let told = app.does(json!({"do": "talk", "at": [at, 3306], "listens": true}));
        assert!(!told["heard"].as_str().unwrap_or_default().contains("220"), "{told}");
    }
    proxy.says("redirects the proxy's own connections to it");
    // A few each: those of the application, and one of the proxy's for each try.
    let n = redirected(&net.client, "outgoing");
    assert!((12..=40).contains(&n), "{n} connections were redirected");
    assert_eq!(servers.seen(), Vec::<serde_json::Value>::new());
}
