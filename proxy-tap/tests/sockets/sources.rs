//! Where endpoints come from, while that changes.

use weir_proxy_tap::Config;

use crate::support::*;

#[tokio::test]
async fn a_policy_that_changes_has_other_names_resolved_and_those_of_before_no_longer() {
    let apps =
        [App::always(200, "one").await, App::always(200, "two").await, App::always(200, "three").await];
    let service = |resolve: &str| format!("[[service]]\nhost = \"payments\"\nresolve = {resolve}\n");
    let by_name = |app: &App| service(&format!("{{ dns = \"localhost:{}\" }}", app.address.port()));
    let listed = service(&format!("\"static\"\n[[service.endpoint]]\naddress = \"{}\"", apps[2].address));
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("policy.toml");
    let write = |policy: &str| std::fs::write(&file, policy).unwrap();
    write(&by_name(&apps[0]));
    let policy = toml::from_str(&by_name(&apps[0])).unwrap();
    let config = Config { policy, policy_file: Some(file.clone()), ..cart(&[]) };
    let proxy = start(Config { endpoints: Default::default(), ..config }).await;
    let becomes = async |text: &str| {
        until(text, async || get(to_payments(&proxy), "/").await.text().contains(text).then_some(())).await;
    };
    let questions = async || metric(&proxy, "weir_proxy_dns_events_total", &["lookups", "payments"]).await;
    becomes("one").await;
    assert!(questions().await > 0.5);
    write(&by_name(&apps[1]));
    becomes("two").await;
    write(&listed);
    becomes("three").await;
    until("the name to be asked for no longer", async || (questions().await < 0.5).then_some(())).await;
    assert_eq!(json(&proxy, "/endpoints").await["endpoints"].as_array().unwrap().len(), 1);
    write(&service("{ srv = \"no name\" }"));
    until("the mistake to be told", async || {
        (metric(&proxy, "weir_proxy_policy_file_mistakes", &[]).await > 0.5).then_some(())
    })
    .await;
    assert_eq!(get(to_payments(&proxy), "/").await.text(), "three");
    // Nobody says where it is any more.
    write("");
    becomes("no endpoint").await;
    write(&by_name(&apps[0]));
    becomes("one").await;
}

#[tokio::test]
async fn a_service_that_a_policy_adds_is_resolved() {
    let app = App::always(200, "ledger").await;
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("policy.toml");
    std::fs::write(&file, "").unwrap();
    let config = Config { policy_file: Some(file.clone()), http_proxy: Some(any_port()), ..cart(&[]) };
    let proxy = start(config).await;
    let name = app.address.port();
    let policy = format!("[[service]]\nhost = \"ledger\"\nresolve = {{ dns = \"localhost:{name}\" }}\n");
    std::fs::write(&file, policy).unwrap();
    until("an answer", async || {
        let asked = request(http::Method::GET, "http://ledger/").body(empty()).unwrap();
        (ask(proxy.http_proxy.unwrap(), asked).await.text() == "ledger").then_some(())
    })
    .await;
    assert_eq!(app.seen()[0].header("host"), Some("ledger"));
}
