//! Policy files with tokens made for the test, and clients that show them.
#![allow(dead_code)] // each test file uses what it needs

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use ratatoskr_proto::message_broker_client::MessageBrokerClient;
use ratatoskr_server::access::{AccessRule, TokenDigest, new_token};
use tokio::time::{sleep, timeout};
use tonic::metadata::AsciiMetadataValue;
use tonic::service::interceptor::InterceptedService;
use tonic::transport::Channel;
use tonic::{Request, Status};

use super::{Fixture, PATIENCE};

/// Shows a token with every call.
#[derive(Clone)]
pub(crate) struct Show(Option<AsciiMetadataValue>);

impl tonic::service::Interceptor for Show {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        if let Some(value) = &self.0 {
            request.metadata_mut().insert("authorization", value.clone());
        }
        Ok(request)
    }
}

pub(crate) type Client = MessageBrokerClient<InterceptedService<Channel, Show>>;

/// A policy file whose identities have tokens that only the test knows.
pub(crate) struct PolicyFile {
    folder: tempfile::TempDir,
    /// Tokens by identity.
    tokens: BTreeMap<String, String>,
}

impl PolicyFile {
    /// Identities: name and further lines. `rest`: roles and what else there is.
    pub(crate) fn new(identities: &[(&str, &str)], rest: &str) -> PolicyFile {
        let mut policy = PolicyFile { folder: tempfile::tempdir().unwrap(), tokens: BTreeMap::new() };
        for (name, _) in identities {
            policy.tokens.insert((*name).to_owned(), new_token());
        }
        policy.write(identities, rest);
        policy
    }

    /// Writes the file anew, in one step, as a person's editor or a secret store does. Tokens stay what they were.
    pub(crate) fn write(&self, identities: &[(&str, &str)], rest: &str) {
        let mut text = String::new();
        for (name, lines) in identities {
            let digest = TokenDigest::of(&self.tokens[*name]).unwrap().to_hex();
            writeln!(text, "[identities.{name}]\ntoken_sha256 = \"{digest}\"\n{lines}").unwrap();
        }
        text.push_str(rest);
        let new = self.folder.path().join("access.toml.new");
        std::fs::write(&new, text).unwrap();
        std::fs::rename(&new, self.path()).unwrap();
    }

    pub(crate) fn path(&self) -> PathBuf {
        self.folder.path().join("access.toml")
    }

    pub(crate) fn beside(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub(crate) fn rule(&self) -> AccessRule {
        AccessRule::Policy(self.path())
    }

    pub(crate) fn token(&self, name: &str) -> &str {
        &self.tokens[name]
    }

    /// A server that goes by this file, with an audit log beside it.
    pub(crate) fn serve(&self) -> Fixture {
        Fixture::start_with(|options| {
            options.access = self.rule();
            options.audit_log = Some(self.beside("audit.jsonl"));
        })
    }

    /// A client of an identity, on a connection of its own.
    pub(crate) async fn client(&self, fixture: &Fixture, name: &str) -> Client {
        showing(fixture, Some(self.token(name))).await
    }

    /// Lines of the audit log that have been written so far.
    pub(crate) fn audit(&self) -> Vec<serde_json::Value> {
        let text = std::fs::read_to_string(self.beside("audit.jsonl")).unwrap();
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }
}

/// A client that shows a credential, or none.
pub(crate) async fn showing(fixture: &Fixture, credential: Option<&str>) -> Client {
    let value = credential.map(|credential| format!("Bearer {credential}").parse().unwrap());
    MessageBrokerClient::with_interceptor(fixture.channel().await, Show(value))
}

/// Waits until something is so.
pub(crate) async fn until(what: &str, mut is_so: impl AsyncFnMut() -> bool) {
    let waiting = async {
        while !is_so().await {
            sleep(Duration::from_millis(10)).await;
        }
    };
    timeout(PATIENCE, waiting).await.unwrap_or_else(|_| panic!("waited {PATIENCE:?} until {what}"));
}

/// A file's text, with what is not there yet as nothing.
pub(crate) fn text_of(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap_or_default()
}
