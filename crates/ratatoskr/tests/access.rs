//! Access as an operator sets it up: the commands of docs/access.md, a reload by signal, and no secret anywhere.
#![allow(clippy::unwrap_used, reason = "a test may stop where it stands")]

#[path = "../../ratatoskr-server/tests/support/authority.rs"]
mod authority;
#[allow(dead_code, reason = "each test program uses its part")]
mod program;

use std::process::{Command, Output};
use std::sync::Arc;

use authority::Authority;
use program::{Broker, failed, program, until};
use rcgen as _; // `authority` makes certificates with it.
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::ServerName;
use tokio_rustls::rustls::{ClientConfig, RootCertStore};

/// Makes a token as people do; answers it, and what it wants in the policy file.
fn make_token(name: &str) -> (String, String) {
    let made = program().args(["access", "token", name]).output().unwrap();
    let advice = String::from_utf8(made.stderr).unwrap();
    let (_, lines) = advice.split_once("\n\n").unwrap();
    (String::from_utf8(made.stdout).unwrap().trim().to_owned(), lines.to_owned())
}

const ROLES: &str = r#"
[roles.all]
allow = [{ actions = ["publish", "subscribe", "manage", "admin"], topics = ["*"] }]
[roles.reader]
allow = [{ actions = ["subscribe"], topics = ["*"] }]
"#;

/// A broker with TLS and a policy file, and two tokens for it.
struct Site {
    folder: tempfile::TempDir,
    authority: Authority,
    broker: Broker,
    root: String,
    reader: String,
    identities: String,
}

impl Site {
    fn open() -> Site {
        let (folder, authority) = (tempfile::tempdir().unwrap(), Authority::new());
        let ((root, root_lines), (reader, reader_lines)) = (make_token("root"), make_token("reader"));
        let identities = format!(
            "{}{}",
            root_lines.replace("roles = []", "roles = [\"all\"]"),
            reader_lines.replace("roles = []", "roles = [\"reader\"]")
        );
        std::fs::write(folder.path().join("access.toml"), format!("{identities}{ROLES}")).unwrap();
        let files = authority.server_files();
        let settings = [
            "--access",
            "access.toml",
            "--audit-log",
            "audit.jsonl",
            "--log-level",
            "trace",
            "--tls-cert",
            files.cert.to_str().unwrap(),
            "--tls-key",
            files.key.to_str().unwrap(),
        ];
        let broker = Broker::start_with(folder.path(), "127.0.0.1:0", &settings);
        Site { folder, authority, broker, root, reader, identities }
    }

    /// A command that shows a token by the environment.
    fn command(&self, token: &str, arguments: &[&str]) -> Command {
        let mut command = self.broker.command(arguments);
        command.arg("--tls-ca").arg(self.authority.ca_file()).env("RATATOSKR_TOKEN", token);
        command
    }

    fn run(&self, token: &str, arguments: &[&str]) -> Output {
        self.command(token, arguments).output().unwrap()
    }

    fn read(&self, name: &str) -> String {
        std::fs::read_to_string(self.folder.path().join(name)).unwrap()
    }
}

fn succeeded(output: &Output) -> String {
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout.clone()).unwrap()
}

/// Everything an output shows.
fn all_of(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

#[test]
fn commands_show_who_they_are_and_are_told_what_they_may_not() {
    let site = Site::open();
    let line = "access     by access.toml, over TLS";
    assert!(site.broker.banner.contains(line), "{}", site.broker.banner);
    succeeded(&site.run(&site.root, &["pub", "orders", "one"]));
    assert_eq!(
        succeeded(&site.run(&site.reader, &["sub", "orders", "--from", "earliest", "--until-end", "--raw"])),
        "one\n"
    );

    let (code, complaint) = failed(&site.run(&site.reader, &["pub", "orders", "two"]));
    assert_eq!(code, 4);
    assert!(complaint.contains("\"reader\" may not publish to"), "{complaint}");
    let (code, complaint) = failed(&site.run("rtk_wrong", &["topic", "ls"]));
    assert_eq!(code, 4);
    assert!(
        complaint.contains("stands for no identity") && complaint.contains("access token"),
        "{complaint}"
    );
    let mut nobody = site.command("", &["topic", "ls"]);
    let (code, complaint) = failed(&nobody.env_remove("RATATOSKR_TOKEN").output().unwrap());
    assert_eq!(code, 4);
    assert!(complaint.contains("--token-file"), "{complaint}");

    // The same token from a file.
    let path = site.folder.path().join("token");
    std::fs::write(&path, format!("{}\n", site.reader)).unwrap();
    let mut command = site.command("", &["topic", "ls", "--quiet"]);
    command.env_remove("RATATOSKR_TOKEN").arg("--token-file").arg(&path);
    assert_eq!(succeeded(&command.output().unwrap()), "orders\n");
}

#[test]
fn a_broker_that_asks_for_tls_and_a_token_is_measured_like_any_other() {
    let site = Site::open();
    let load = ["--msgs", "50", "--verify", "--no-progress"];
    for work in [&["pub"][..], &["fanout", "--subscribers", "3"]] {
        let output = site.run(&site.root, &[&["bench"][..], work, &load].concat());
        assert!(succeeded(&output).contains("lost"), "{}", all_of(&output));
        assert!(!all_of(&output).contains(&site.root));
    }
    let (code, complaint) = failed(&site.run(&site.reader, &["bench", "pub", "--msgs", "1"]));
    assert_eq!(code, 1);
    assert!(complaint.contains("the broker refused"), "{complaint}");
    // What cannot be shown is not left out in silence.
    for (flags, says) in [
        (&["--client-cert", "a", "--client-key", "b"][..], "shows no certificate"),
        (&["--server", "https://localhost"], "--tls-ca"),
    ] {
        let (code, complaint) = failed(&program().args(flags).args(["bench", "pub"]).output().unwrap());
        assert_eq!(code, 2, "{complaint}");
        assert!(complaint.contains(says), "{complaint}");
    }
    let mut own = program();
    own.args(["bench", "pub", "--tls-ca"]).arg(site.authority.ca_file());
    let (code, complaint) = failed(&own.output().unwrap());
    assert_eq!((code, complaint.contains("name another one with --server")), (2, true), "{complaint}");
}

#[test]
fn a_signal_takes_the_policy_over_and_opens_the_audit_log_again() {
    let site = Site::open();
    succeeded(&site.run(&site.root, &["topic", "create", "orders"]));
    let reads = || site.run(&site.reader, &["topic", "show", "orders"]).status.success();
    assert!(reads());
    std::fs::rename(site.folder.path().join("audit.jsonl"), site.folder.path().join("audit.1")).unwrap();
    let without = site.identities.replace("[\"reader\"]", "[]");
    std::fs::write(site.folder.path().join("access.toml"), format!("{without}{ROLES}")).unwrap();
    site.broker.hang_up();
    until("the reader may not", || (!reads()).then_some(()));
    until("the audit log is written anew", || {
        let text = std::fs::read_to_string(site.folder.path().join("audit.jsonl")).unwrap_or_default();
        text.contains("\"who\":\"reader\"").then_some(())
    });
}

#[test]
fn no_secret_is_in_the_log_the_settings_the_metrics_the_audit_log_or_an_error() {
    let site = Site::open();
    let wrong = make_token("nobody").0;
    let mut shown = site.broker.banner.clone();
    for (token, arguments) in [
        (&site.root, &["pub", "orders", "one"][..]),
        (&site.root, &["topic", "ls", "--json"]),
        (&site.root, &["stats", "--json"]),
        (&site.reader, &["topic", "delete", "orders"]),
        (&wrong, &["pub", "orders", "two"]),
    ] {
        shown += &all_of(&site.run(token, arguments));
    }
    // Broken and whole again, so that reading it is logged both ways.
    let path = site.folder.path().join("access.toml");
    let policy = std::fs::read_to_string(&path).unwrap();
    std::fs::write(&path, format!("[identities.oops]\ntoken_sha256 = \"{wrong}\"\n")).unwrap();
    site.broker.hang_up();
    until("the mistake is logged", || site.read("broker.log").contains("is not taken over").then_some(()));
    std::fs::write(&path, policy).unwrap();
    site.broker.hang_up();
    until("the policy is taken over", || site.read("broker.log").contains("is in force").then_some(()));

    let config = |arguments: &[&str]| {
        let mut command = program();
        command.arg("config").args(arguments).current_dir(site.folder.path());
        command.env("RATATOSKR_TOKEN", &site.root).env("RATATOSKR_ACCESS", "access.toml");
        all_of(&command.output().unwrap())
    };
    shown += &config(&[]);
    shown += &config(&["--json"]);
    shown += &all_of(&site.command(&site.root, &["--help"]).output().unwrap());
    shown += &metrics(&site);
    shown += &site.read("broker.log");
    shown += &site.read("audit.jsonl");
    assert!(shown.contains("ratatoskr_denied_calls_total{action=\"manage\"} 1"), "it has the metrics");
    assert!(shown.contains("\"call\":\"DeleteTopic\""), "it has the audit log");
    assert!(shown.contains("access\taccess.toml\tRATATOSKR_ACCESS"), "it has the settings");
    let key = std::fs::read_to_string(site.authority.ca_file().with_file_name("server.key")).unwrap();
    let key_line = key.lines().nth(1).unwrap();
    for secret in [&site.root, &site.reader, &wrong, key_line] {
        // Half of it is too much, too.
        let half = &secret[secret.len() / 2..];
        assert!(!shown.contains(half), "{half} is shown: {}", around(&shown, half));
    }
}

/// The metrics, as the operator sees them.
fn metrics(site: &Site) -> String {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    let line = site.broker.banner.lines().find_map(|line| line.trim().strip_prefix("HTTP")).unwrap();
    let address = line.split("https://").nth(1).unwrap().split(' ').next().unwrap();
    let mut roots = RootCertStore::empty();
    roots.add(site.authority.certificate.der().clone()).unwrap();
    let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()));
    let config = config.with_safe_default_protocol_versions().unwrap();
    let connector = TlsConnector::from(Arc::new(config.with_root_certificates(roots).with_no_client_auth()));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let stream = tokio::net::TcpStream::connect(address).await.unwrap();
        let mut stream = connector.connect(ServerName::try_from("localhost").unwrap(), stream).await.unwrap();
        let (head, token) = ("GET /metrics HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n", &site.root);
        let request = format!("{head}authorization: Bearer {token}\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut text = String::new();
        stream.read_to_string(&mut text).await.unwrap();
        text
    })
}

fn around<'a>(text: &'a str, found: &str) -> &'a str {
    let at = text.find(found).unwrap_or(0);
    let start = text[..at].rfind('\n').map_or(0, |newline| newline + 1);
    text[start..].lines().next().unwrap_or_default()
}

#[test]
fn files_with_mistakes_end_the_start_with_what_to_put_right() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("access.toml"), "[identitys.x]\n").unwrap();
    let start = |settings: &[&str]| {
        let mut command = program();
        command.args(["serve", "--grpc-addr", "127.0.0.1:0", "--http-addr", "127.0.0.1:0"]).args(settings);
        failed(&command.current_dir(folder.path()).output().unwrap())
    };
    for (settings, code, says) in [
        (
            &["--access", "access.toml"][..],
            2,
            "access.toml:1: unknown key identitys; did you mean identities?",
        ),
        (&["--access", "gone.toml"], 2, "policy file gone.toml cannot be read"),
        (&["--tls-cert", "a", "--tls-key", "b"], 2, "tls_cert a cannot be read"),
        (&["--tls-cert", "a"], 2, "tls_cert is given (--tls-cert), and tls_key is not"),
        (&["--audit-log", "gone/audit"], 1, "audit_log gone/audit cannot be written"),
    ] {
        let (ended, complaint) = start(settings);
        assert_eq!(ended, code, "{complaint}");
        assert!(complaint.contains(says), "{complaint}");
    }
}
