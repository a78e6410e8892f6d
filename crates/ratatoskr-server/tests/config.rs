//! The configuration as its users meet it: which source wins, and what mistakes are told.
#![allow(clippy::unwrap_used, reason = "a test may stop where it stands")]

use std::ffi::OsString;
use std::io::Write as _;
use std::net::SocketAddr;

use ratatoskr_broker::{Durability, MEMORY_BYTES_DEFAULT, MEMORY_BYTES_MIN, TopicSettings};
use ratatoskr_server::ClientLimits;
use ratatoskr_server::config::{Config, ConfigError, Given, LogFormat, SETTINGS, load};

fn file(text: &str) -> tempfile::NamedTempFile {
    let mut file = tempfile::Builder::new().suffix(".toml").tempfile().unwrap();
    file.write_all(text.as_bytes()).unwrap();
    file
}

fn variables(given: &[(&str, &str)]) -> Vec<(OsString, OsString)> {
    given.iter().map(|&(name, text)| (name.into(), text.into())).collect()
}

fn value_and_source(given: &Given, key: &str) -> (String, String) {
    let loaded = load(given).unwrap();
    let effective = loaded.settings.iter().find(|effective| effective.setting.key == key).unwrap();
    (effective.shown(), effective.source.to_string())
}

fn error_with_file(text: &str) -> String {
    let file = file(text);
    let error = load(&Given { file: Some(file.path().to_owned()), ..Given::default() }).unwrap_err();
    error.to_string().replace(&file.path().display().to_string(), "FILE")
}

fn error_with_flag(key: &'static str, text: &str) -> String {
    load(&Given { flags: vec![(key, text.to_owned())], ..Given::default() }).unwrap_err().to_string()
}

#[test]
fn without_anything_given_every_field_has_its_documented_default() {
    let Config {
        data_dir,
        grpc_addr,
        http_addr,
        http_hosts,
        insecure_listen,
        access,
        audit_log,
        tls_cert,
        tls_key,
        tls_client_ca,
        threads,
        segment_bytes,
        journal_file_bytes,
        memory,
        connections_max,
        client_limits,
        topic_defaults,
        log_level,
        log_format,
    } = load(&Given::default()).unwrap().config;
    assert_eq!(data_dir.to_str(), Some("./data"));
    assert_eq!(grpc_addr, SocketAddr::from(([127, 0, 0, 1], 50051)));
    assert_eq!(http_addr, SocketAddr::from(([127, 0, 0, 1], 8080)));
    assert!(!insecure_listen && http_hosts.is_empty());
    assert_eq!([access, audit_log, tls_cert, tls_key, tls_client_ca], [const { None }; 5]);
    assert_eq!(threads, 0);
    assert_eq!((segment_bytes, journal_file_bytes), (100 << 20, 32 << 20));
    assert!((MEMORY_BYTES_MIN..=MEMORY_BYTES_DEFAULT).contains(&memory));
    assert_eq!((connections_max, client_limits), (None, ClientLimits::default()));
    assert_eq!(topic_defaults, TopicSettings::default());
    assert_eq!((log_level, log_format), ("info", LogFormat::Text));
}

#[test]
fn flags_win_over_variables_over_the_file_over_the_defaults() {
    let file = file("# mine\n\nretention_age = \"1d\"\nthreads = 3\ndurability = \"written\"\n");
    let mut given = Given { file: Some(file.path().to_owned()), ..Given::default() };
    let place = format!("{}:4", file.path().display());
    assert_eq!(value_and_source(&given, "threads"), ("3".into(), place));
    given.environment = variables(&[("RATATOSKR_THREADS", "5"), ("RATATOSKR_RETENTION_AGE", "2d")]);
    assert_eq!(value_and_source(&given, "threads"), ("5".into(), "RATATOSKR_THREADS".into()));
    given.flags = vec![("threads", "7".to_owned())];
    assert_eq!(value_and_source(&given, "threads"), ("7".into(), "--threads".into()));
    assert_eq!(value_and_source(&given, "retention_age").0, "2d");
    assert_eq!(value_and_source(&given, "log_level"), ("info".into(), "default".into()));
    assert_eq!(load(&given).unwrap().config.topic_defaults.durability, Durability::Written);
}

#[test]
fn the_environment_can_name_the_file() {
    let file = file("threads = 2\n");
    let path = file.path().to_str().unwrap();
    let given = Given { environment: variables(&[("RATATOSKR_CONFIG", path)]), ..Given::default() };
    assert_eq!(value_and_source(&given, "threads").0, "2");
}

#[test]
fn every_key_of_the_table_can_be_given_in_each_way() {
    for setting in SETTINGS {
        let file = file(&format!("{} = \"{}\"\n", setting.key, setting.default));
        let given = Given {
            file: Some(file.path().to_owned()),
            environment: variables(&[(&setting.variable(), setting.default)]),
            flags: vec![(setting.key, setting.default.to_owned())],
        };
        let (_, source) = value_and_source(&given, setting.key);
        assert_eq!(source, format!("--{}", setting.flag()));
    }
}

#[test]
fn an_unknown_key_names_its_place_and_the_nearest_one() {
    assert_eq!(
        error_with_file("threads = 2\nretension_age = 3\n"),
        "unknown setting \"retension_age\" (FILE:2); did you mean retention_age?"
    );
    assert_eq!(
        error_with_file("[zzz]\nq = 1\n"),
        "unknown setting \"zzz\" (FILE:1); `ratatoskr config` lists all settings"
    );
    let given = Given { environment: variables(&[("RATATOSKR_GRPC_ADR", "x")]), ..Given::default() };
    assert_eq!(
        load(&given).unwrap_err().to_string(),
        "unknown setting \"RATATOSKR_GRPC_ADR\" (RATATOSKR_GRPC_ADR); did you mean RATATOSKR_GRPC_ADDR?"
    );
}

#[test]
fn variables_of_others_and_of_the_client_side_are_passed_over() {
    let environment = variables(&[
        ("PATH", "/bin"),
        ("RATATOSKR_SERVER", "localhost:1"),
        ("RATATOSKR_TOKEN", "secret"),
        ("RATATOSKR_TOKEN_FILE", "/run/token"),
        ("RATATOSK", "x"),
    ]);
    assert!(load(&Given { environment, ..Given::default() }).is_ok());
}

#[test]
fn a_bad_value_names_the_setting_the_value_the_place_and_what_is_allowed() {
    assert_eq!(error_with_flag("threads", "257"), "threads is \"257\" (--threads): allowed are 0 to 256");
    assert_eq!(
        error_with_flag("threads", "many"),
        "threads is \"many\" (--threads): expected a whole number such as 1000"
    );
    assert_eq!(
        error_with_flag("segment_bytes", "1KiB"),
        "segment_bytes is \"1KiB\" (--segment-bytes): allowed are 1MiB to 2GiB"
    );
    assert_eq!(
        error_with_flag("durability", "fsnc"),
        "durability is \"fsnc\" (--durability): did you mean fsync? allowed are fsync, written, memory"
    );
    assert_eq!(
        error_with_flag("grpc_addr", "50051"),
        "grpc_addr is \"50051\" (--grpc-addr): expected IP:PORT, such as 127.0.0.1:50051 or [::1]:50051"
    );
    assert_eq!(
        error_with_file("retention_age = 7\n"),
        "retention_age is \"7\" (FILE:1): unit \"\" is unknown; allowed are ms, s, m, h, d and w"
    );
    assert_eq!(
        error_with_file("retention_bytes = 1.5\n"),
        "retention_bytes is \"1.5\" (FILE:1): expected a text in quotes, a whole decimal number, true or false"
    );
    assert!(error_with_flag("retention_messages", "0").ends_with("allowed are 1 or more, or none"));
}

#[test]
fn a_bad_value_is_told_even_where_a_flag_overrides_it() {
    let environment = variables(&[("RATATOSKR_THREADS", "lots")]);
    let given = Given { environment, flags: vec![("threads", "1".to_owned())], ..Given::default() };
    assert!(matches!(load(&given), Err(ConfigError::BadValue { key: "threads", .. })));
}

#[test]
fn a_file_that_is_missing_or_no_toml_is_told_with_its_place() {
    let given = Given { file: Some("/nonexistent/ratatoskr.toml".into()), ..Given::default() };
    let error = load(&given).unwrap_err().to_string();
    assert!(error.starts_with("configuration file /nonexistent/ratatoskr.toml cannot be read"), "{error}");
    let error = error_with_file("threads = 1\nhttp_addr = = 2\n");
    assert!(error.starts_with("FILE:2: "), "{error}");
}

#[test]
fn listening_beyond_loopback_has_to_be_asked_for_by_name() {
    let mut given = Given { flags: vec![("http_addr", "0.0.0.0:8080".to_owned())], ..Given::default() };
    let error = load(&given).unwrap_err().to_string();
    assert!(error.starts_with("http_addr is 0.0.0.0:8080 (--http-addr): everyone who reaches"), "{error}");
    given.flags.push(("insecure_listen", "true".to_owned()));
    assert!(load(&given).unwrap().config.insecure_listen);
    let ipv6 = Given { flags: vec![("grpc_addr", "[::1]:0".to_owned())], ..Given::default() };
    assert!(load(&ipv6).is_ok());
}

#[test]
fn whoever_asks_callers_and_encrypts_may_listen_anywhere() {
    let given = |flags: &[(&'static str, &str)]| {
        let mut flags: Vec<_> = flags.iter().map(|&(key, text)| (key, text.to_owned())).collect();
        flags.push(("grpc_addr", "0.0.0.0:50051".to_owned()));
        load(&Given { flags, ..Given::default() }).map(|_| ()).map_err(|error| error.to_string())
    };
    let tls = [("tls_cert", "cert.pem"), ("tls_key", "key.pem")];
    assert_eq!(given(&[&tls[..], &[("access", "access.toml")]].concat()), Ok(()));
    assert_eq!(given(&[&tls[..], &[("tls_client_ca", "ca.pem")]].concat()), Ok(()));
    let open = given(&tls).unwrap_err();
    assert!(
        open.contains("everyone who reaches that address") && open.contains("--insecure-listen"),
        "{open}"
    );
    let clear = given(&[("access", "access.toml")]).unwrap_err();
    assert!(clear.contains("in the clear") && clear.contains("give tls_cert and tls_key"), "{clear}");
}

#[test]
fn half_of_tls_is_none() {
    let error = error_with_flag("tls_cert", "cert.pem");
    assert_eq!(error, "tls_cert is given (--tls-cert), and tls_key is not; give both, or neither");
    let error = error_with_flag("tls_client_ca", "ca.pem");
    assert_eq!(error, "tls_client_ca is given (--tls-client-ca), and tls_cert is not; give both, or neither");
}

#[test]
fn no_bound_is_written_none() {
    let given = Given { flags: vec![("retention_age", "none".to_owned())], ..Given::default() };
    assert_eq!(load(&given).unwrap().config.topic_defaults.retention_age_ms, None);
    assert_eq!(value_and_source(&given, "retention_age").0, "none");
}

#[test]
fn names_of_hosts_are_listed_with_commas() {
    let given = |text: &str| Given { flags: vec![("http_hosts", text.to_owned())], ..Given::default() };
    let names = load(&given("broker.example, metrics")).unwrap().config.http_hosts;
    assert_eq!(names, ["broker.example", "metrics"]);
    assert_eq!(value_and_source(&given("broker.example, metrics"), "http_hosts").0, "broker.example,metrics");
    assert!(error_with_flag("http_hosts", "broker:8080").contains("http_hosts"));
}

#[test]
fn the_page_in_docs_is_what_the_table_says() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/config.md");
    let page = std::fs::read_to_string(path).unwrap();
    assert!(
        page == ratatoskr_server::config::markdown(),
        "docs/config.md is not what the table says; run `ratatoskr config --markdown > docs/config.md`"
    );
}
