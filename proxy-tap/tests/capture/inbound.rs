//! Connections to the application and to other ports beside it.

use serde_json::json;

use crate::actors::{Answer, Peer, Proxy, eventually};
use crate::net::{CLIENT, Net, SERVER, capture, redirected};
use crate::{CAPTURE_INBOUND, MARK, counted};

#[test]
fn the_port_of_the_application_leads_to_it_and_others_keep_their_meaning() {
    let Some(net) = Net::new() else { return };
    let (caller, machine) = (Peer::on(&net.client), Peer::on(&net.server));
    // The application is on loopback alone; so is a server that is nobody else's business.
    machine.serves("web", "app", "127.0.0.1", 8080);
    machine.serves("greeting", "private", "127.0.0.1", 9100);
    for at in SERVER {
        machine.serves("web", "second", at, 8081);
        machine.serves("greeting", "database", at, 9000);
    }
    let flags = [
        &["--app", "127.0.0.1:8080", "--capture-inbound", "[::]:15006", "--capture", "[::]:15001"][..],
        &["--mark", MARK],
    ];
    let _proxy = Proxy::on(&net.server, &flags.concat());
    capture(&net.server, "up", &[("APP_PORTS", "8080, 8081, 9000, 9100")]);
    for at in SERVER {
        assert_eq!(caller.gets(at, 8080, "web"), Answer::ok("app /"), "{at}");
        assert_eq!(caller.gets(at, 8081, "web"), Answer::ok("second /"), "{at}");
        let talk = |port: u16| caller.does(json!({"do": "talk", "at": [at, port], "listens": true}));
        assert_eq!(talk(9000)["heard"], "220 database\n", "{at}");
        assert_ne!(talk(9100)["heard"], "220 private\n", "{at}: loopback is not for others");
        let refused = caller.gets(at, CAPTURE_INBOUND, "web");
        let body = "the connection was not redirected here\n".to_owned();
        assert_eq!(refused, Answer { status: 400, body }, "{at}");
    }
    let inbound = ["reporter=\"destination\"", "\"200\""];
    eventually("the requests are counted", || counted(&machine, &inbound) == 4.0);
    assert_eq!(redirected(&net.server, "incoming"), 8);
    assert_eq!(redirected(&net.server, "outgoing"), 0, "what the proxy forwards is not captured again");
    // The other way round the application's own connections are captured at the same time.
    caller.serves("web", "outside", CLIENT[0], 80);
    assert_eq!(machine.gets(CLIENT[0], 80, "outside"), Answer::ok("outside /"));
    assert_eq!(redirected(&net.server, "outgoing"), 1);
}
