use weir_storage::{Keep, Sampling, Slow, Table};

use super::*;

fn load_text(text: &str, overrides: Overrides) -> Result<Config, String> {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("weir.toml");
    std::fs::write(&path, text).unwrap();
    load(Some(&path), overrides).map_err(|e| e.to_string().replace(&path.display().to_string(), "FILE"))
}

#[test]
fn nothing_written_means_the_defaults() {
    let config = load(None, Overrides::default()).unwrap();
    assert_eq!(config.http, SocketAddr::from(([127, 0, 0, 1], 4319)));
    assert_eq!(config.hints, Mode::DryRun);
    assert_eq!(load_text("", Overrides::default()), Ok(config));
}

#[test]
fn the_annotated_example_spells_out_the_defaults() {
    let example = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/weir.toml");
    let config = load(Some(&example), Overrides::default()).unwrap();
    assert_eq!(config, load(None, Overrides::default()).unwrap());
}

#[test]
fn rows_are_kept_by_age_and_size_for_all_or_for_some() {
    let text = "[retention]\nage = '30d'\nsize = '10GiB'\n[retention.spans]\nage = '7d'\n\
                [tenants.audit.retention]\nage = 'forever'\n[tenants.audit.retention.logs]\nsize = 'unbounded'";
    let retention = load_text(text, Overrides::default()).unwrap().retention;
    let days = |days: u64| Some(Duration::from_secs(days * 86_400));
    let audit = || TenantId::new("audit");
    let mut expected = Retention::default();
    expected.set(None, None, Keep { age: days(30), bytes: Some(10 << 30) });
    expected.set(None, Some(Table::Spans), Keep { age: days(7), bytes: None });
    expected.set(audit(), None, Keep { age: Some(Duration::MAX), bytes: None });
    expected.set(audit(), Some(Table::Logs), Keep { age: None, bytes: Some(u64::MAX) });
    assert_eq!(retention, expected);

    let wrong = "[retention]\nage = '12h'\nspans = '3d'\n[retention.traces]\nage = '1d'\n[retention.series]\nage = '1d'\n\
                 [retention.logs]\nsize = 'all'\n[tenants.'a b'.retention]\nage = '1d'";
    let error = load_text(wrong, Overrides::default()).unwrap_err();
    for part in [
        "retention.age: expected days, as in `30d`, or `forever`, found `12h`",
        "retention.spans: no such key",
        "retention.traces: there is no table `traces`; there are `spans`, `logs`",
        "retention.series: labels are kept as long as what they name",
        "retention.logs.size: expected a size, as in `100GiB`, or `unbounded`, found `all`",
        "tenants.a b.retention: `a b` is no name of a tenant",
    ] {
        assert!(error.contains(part), "`{part}` is missing in:\n{error}");
    }
}

#[test]
fn traces_are_sampled_as_it_is_said() {
    let of = |text: &str| load_text(text, Overrides::default()).map(|config| config.samplings);
    assert_eq!(of(""), Ok(Samplings::default()));
    let text = "[sampling]\nrate = 0.1\nslow = '2s'\n[tenants.audit.sampling]\nrate = 1\n[tenants.shop.sampling]\nslow = 'p95'\nrare = 5";
    let default = Sampling { rate: 0.1, slow: Slow::From(Duration::from_secs(2)), rare: 100 };
    let tenants = [
        ("audit", Sampling { rate: 1.0, ..default }),
        ("shop", Sampling { slow: Slow::Quantile(0.95), rare: 5, ..default }),
    ];
    let tenants = tenants.map(|(name, sampling)| (TenantId::new(name).unwrap(), sampling));
    assert_eq!(of(text), Ok(Samplings { default, tenants: HashMap::from(tenants) }));
    let error =
        of("[sampling]\nrate = 0\nslow = 'p100'\nrare = -1\nfast = 1\n[tenants.'a b'.sampling]\nrate = 1")
            .unwrap_err();
    for part in [
        "sampling.rate: expected a share above 0 and up to 1, found `0`",
        "sampling.slow: expected a quantile, as in `p99`, a duration, as in `2s`, or `never`, found `p100`",
        "sampling.rare: expected a number of spans, found `-1`",
        "sampling.fast: no such key",
        "tenants.a b.sampling: `a b` is no name of a tenant",
    ] {
        assert!(error.contains(part), "`{part}` is missing in:\n{error}");
    }
}

#[test]
fn own_spans_are_made_where_they_are_asked_for() {
    let of = |text: &str| load_text(text, Overrides::default()).map(|config| config.telemetry);
    assert_eq!(of(""), Ok(telemetry::Settings { sample: 0.0, endpoint: None }));
    let endpoint = Some("http://127.0.0.1:4317".to_owned());
    let settings = of("[telemetry]\nendpoint = 'http://127.0.0.1:4317'");
    assert_eq!(settings, Ok(telemetry::Settings { sample: 0.01, endpoint }));
    assert_eq!(of("[telemetry]\nsample = 1"), Ok(telemetry::Settings { sample: 1.0, endpoint: None }));
    let error = of("[telemetry]\nsample = 1.5\nendpoint = 'nowhere'").unwrap_err();
    for part in [
        "telemetry.sample: expected a share from 0 to 1, found `1.5`",
        "telemetry.endpoint: expected an address and port, as in `http://127.0.0.1:4317`, found `nowhere`",
    ] {
        assert!(error.contains(part), "`{part}` is missing in:\n{error}");
    }
}

#[test]
fn tenants_may_be_acknowledged_differently() {
    let text = "[storage]\nack = 'os'\n[tenants.audit]\nack = 'object'\n[tenants.shop]\nack = 'fsync'";
    let acks = load_text(text, Overrides::default()).unwrap().acks;
    let tenants = [("audit", Ack::Object), ("shop", Ack::Fsync)];
    let tenants = tenants.map(|(name, ack)| (TenantId::new(name).unwrap(), ack));
    assert_eq!(acks, Acks { default: Ack::Os, tenants: HashMap::from(tenants) });

    let wrong = "[storage]\nack = 'disk'\n[tenants.'a b']\nack = 'os'\n[tenants.shop]\nack = 1";
    let error = load_text(wrong, Overrides::default()).unwrap_err();
    for part in [
        "storage.ack: expected fsync, os or object, found `disk`",
        "tenants.a b.ack: `a b` is no name of a tenant",
        "tenants.shop.ack: expected fsync, os or object, found `1`",
    ] {
        assert!(error.contains(part), "`{part}` is missing in:\n{error}");
    }
}

#[test]
fn a_flag_wins_over_the_file() {
    let flags = Overrides { http: Some("127.0.0.1:1".into()), ..Overrides::default() };
    let config = load_text("http = '127.0.0.1:2'\notlp_http = '127.0.0.1:3'", flags).unwrap();
    assert_eq!((config.http.port(), config.otlp_http.port()), (1, 3));
}

#[test]
fn all_mistakes_are_listed_with_path_and_expectation() {
    let text =
        "http = '0.0.0.0:4319'\ntenant = 'a/b'\nspeed = 9\n[storage]\nflush_age = '30'\nflush_bytes = []";
    let error = load_text(text, Overrides::default()).unwrap_err();
    for part in [
        "5 mistakes",
        "http: `0.0.0.0:4319` is reachable from other machines",
        "tenant: expected a name of at most 64 letters, digits, `-` and `_`, found `a/b`",
        "speed: no such key",
        "storage.flush_age: expected a duration from 100ms to 1h, as in `30s`, found `30`",
        "storage.flush_bytes: expected text, a number or a truth value, found array",
    ] {
        assert!(error.contains(part), "`{part}` is missing in:\n{error}");
    }
}

#[test]
fn an_open_door_must_be_asked_for_by_name() {
    assert!(load_text("http = '0.0.0.0:1'\ninsecure_listen = true", Overrides::default()).is_ok());
}

#[test]
fn what_is_not_toml_says_where() {
    let error = load_text("http = ", Overrides::default()).unwrap_err();
    assert!(error.contains("line 1"), "{error}");
}
