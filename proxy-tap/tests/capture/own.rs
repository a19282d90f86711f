//! What the proxy does of its own accord: it asks the DNS and talks to the collector, past its own listener.

use serde_json::json;

use crate::actors::{Answer, Peer, Proxy, eventually};
use crate::net::{Net, REPLICA, SERVER, capture, on, redirected, rules};
use crate::{MARK, counted};

#[test]
fn the_proxys_own_connections_bear_its_mark() {
    let Some(net) = Net::new() else { return };
    let servers = Peer::on(&net.server);
    servers.serves("listening", "collector", SERVER[0], 4317);
    let dns = json!({"do": "dns", "name": "dns", "at": [SERVER[0], 53], "address": REPLICA[0]});
    assert_eq!(servers.does(dns), json!({}));
    servers.serves("web", "shop", REPLICA[0], 8080);
    capture(&net.client, "up", &[("EXCEPT_PORTS", "1")]);
    // Whatever does not bear the mark does not reach the DNS.
    rules(
        &net.client,
        "table inet test { chain outgoing { type filter hook output priority 0; \
         udp dport 53 meta mark != 1337 drop; }; }",
    );
    let (dns, collector) = (format!("{}:53", SERVER[0]), format!("{}:4317", SERVER[0]));
    let flags = [
        &["--capture", "[::]:15001", "--mark", MARK, "--dns-server", &dns][..],
        &["--resolve", "shop=dns://shop.test:8080", "--collector", &collector],
    ];
    let _proxy = Proxy::on(&net.client, &flags.concat());
    eventually("the DNS and the collector are asked", || {
        let seen = servers.seen();
        ["dns", "collector"].iter().all(|name| seen.iter().any(|seen| seen["server"] == *name))
    });
    assert_eq!(redirected(&net.client, "outgoing"), 0);
    let app = Peer::on(&net.client);
    eventually("the service is known by its name", || {
        app.gets(SERVER[0], 80, "shop") == Answer::ok("shop /")
    });
    assert_eq!(counted(&app, &["4317"]), 0.0);
}

#[test]
fn rules_come_and_go_without_a_trace() {
    let Some(net) = Net::new() else { return };
    let (app, servers) = (Peer::on(&net.client), Peer::on(&net.server));
    servers.serves("web", "outside", SERVER[0], 80);
    let _proxy = Proxy::on(&net.client, &["--capture", "[::]:15001", "--mark", MARK]);
    // Taking away what is not there, and setting up twice, are no mistakes.
    for what in ["down", "up", "up"] {
        capture(&net.client, what, &[]);
    }
    assert_eq!(app.gets(SERVER[0], 80, "outside"), Answer::ok("outside /"));
    eventually("the request is counted", || counted(&app, &["10.77.0.2:80"]) == 1.0);
    capture(&net.client, "down", &[]);
    assert_eq!(app.gets(SERVER[0], 80, "outside"), Answer::ok("outside /"));
    assert_eq!(counted(&app, &["10.77.0.2:80"]), 1.0, "the second went past the proxy");
}

#[test]
fn a_proxy_that_may_not_mark_its_connections_says_so_and_does_not_start() {
    let Some(net) = Net::new() else { return };
    let without = "-net_admin,-net_raw";
    let mut command = on(&net.client, "timeout");
    command.args(["5", "setpriv", "--bounding-set", without, "--inh-caps", without]);
    command.arg(env!("CARGO_BIN_EXE_weir-proxy"));
    command.args(["--service", "web", "--collector", "none", "--capture", "[::]:15001", "--mark", MARK]);
    let ended = command.output().unwrap();
    let said = String::from_utf8_lossy(&ended.stderr).into_owned();
    assert_eq!(ended.status.code(), Some(1), "{said}");
    assert!(said.contains("cannot mark connections with 1337"), "{said}");
    assert!(said.contains("CAP_NET_ADMIN"), "{said}");
}
