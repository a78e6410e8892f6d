//! Half-open connections: from one moment on, nothing that one side sends reaches the other, and nobody is told.
//!
//! ```text
//!   chore ──10.199.7.1── veth ──10.199.7.2── network namespace with the broker      the member that is cut off
//!         ──10.199.8.1──      ──10.199.8.2──                                        everybody else
//!             frames one way go to an address that nobody has: sent, and never seen again
//! ```

use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use ratatoskr_proto as wire;
use ratatoskr_proto::consume_request::Step as Ask;
use ratatoskr_proto::consume_response::Step as Tell;
use tokio_stream::wrappers::UnboundedReceiverStream;

use super::arena::{Arena, converse, in_ms};
use super::load::{TOPIC, batch_of, create_topic};
use super::{Fault, Tried};
use crate::failed::{Failed, Outcome, While};

const LEASE_MS: i64 = 2_000;
/// A lease, and as long again for the way.
const RETURN_MAX: Duration = Duration::from_millis(2 * LEASE_MS as u64);
/// A connection that gives no sign of life is closed within 30 s; then everything the dead member was given comes back.
const REAPED_MAX: Duration = Duration::from_secs(45);
const NOBODY: &str = "02:00:00:00:07:99";
const MESSAGES: u64 = 10;

pub(super) const FAULT: Fault = Fault {
    name: "cut-off",
    what: "half-open connections: one way of a member's network drops everything (network namespaces)",
    promise: "what the member held goes to the others when its lease ends (2 s); within 30 s it is found out, and gets nothing more",
    run: |arena| converse(run(arena)),
};

/// A namespace and the wire into it; both go when it is dropped.
struct Wire {
    name: String,
    near: String,
}

impl Wire {
    fn lay() -> Outcome<Option<Wire>> {
        let number = std::process::id();
        let wire = Wire { name: format!("torture{number}"), near: format!("tor{number}") };
        let Wire { name, near } = &wire;
        let far = format!("{near}f");
        let steps = [
            format!("netns add {name}"),
            format!("link add {near} type veth peer name {far} netns {name}"),
            format!("addr add 10.199.7.1/30 dev {near}"),
            format!("addr add 10.199.8.1/30 dev {near}"),
            format!("link set {near} up"),
            format!("-n {name} addr add 10.199.7.2/30 dev {far}"),
            format!("-n {name} addr add 10.199.8.2/30 dev {far}"),
            format!("-n {name} link set {far} up"),
            format!("-n {name} link set lo up"),
        ];
        for step in &steps {
            if !ip(step)? {
                return Ok(None);
            }
        }
        Ok(Some(wire))
    }

    /// Lets one way drop everything until the answer is dropped.
    fn cut(&self, way: Way) -> Outcome<Cut> {
        let far = format!("{}f", self.near);
        let (within, whom) = match way {
            Way::ToBroker => (String::new(), format!("10.199.7.2 dev {}", self.near)),
            Way::FromBroker => (format!("-n {} ", self.name), format!("10.199.7.1 dev {far}")),
        };
        let step = format!("{within}neigh replace {whom} lladdr {NOBODY} nud permanent");
        if ip(&step)? {
            Ok(Cut(format!("{within}neigh del {whom}")))
        } else {
            Err(Failed::new(format!("`ip {step}` failed")))
        }
    }
}

/// A way that drops everything; whole again when this is dropped.
struct Cut(String);

impl Drop for Cut {
    fn drop(&mut self) {
        let _ = ip(&self.0);
    }
}

impl Drop for Wire {
    fn drop(&mut self) {
        let _ = ip(&format!("link del {}", self.near));
        let _ = ip(&format!("netns del {}", self.name));
    }
}

#[derive(Clone, Copy, Debug)]
enum Way {
    ToBroker,
    FromBroker,
}

fn ip(words: &str) -> Outcome<bool> {
    let mut command = Command::new("ip");
    command.args(words.split(' ')).stdout(Stdio::null()).stderr(Stdio::null());
    match command.status() {
        Ok(status) => Ok(status.success()),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error).when("starting ip"),
    }
}

async fn run(arena: &Arena<'_>) -> Outcome<Tried> {
    let Some(wire) = Wire::lay()? else {
        return Ok(Tried::not_here("network namespaces can be made by root only, with `ip`"));
    };
    let (times, mut returned, mut lost) = (arena.times(1, 3), Vec::new(), 0);
    for _ in 0..times {
        for way in [Way::ToBroker, Way::FromBroker] {
            let (took, missing) = once(arena, &wire, way).await?;
            returned.push(took);
            lost += missing;
        }
    }
    let tried = format!("{times} times each way, {MESSAGES} messages held");
    Ok(Tried { how_often: tried, lost, recovered: in_ms(&mut returned), ..Tried::default() })
}

/// A member takes messages and is cut off; another one, over loopback, gets them. Answers when, and how many are missing or came twice.
async fn once(arena: &Arena<'_>, wire: &Wire, way: Way) -> Outcome<(Duration, u64)> {
    let mut ground = arena.ground()?;
    let setup = &mut ground.setup;
    setup.run_by = ["ip", "netns", "exec", &wire.name].map(str::to_owned).to_vec();
    setup.grpc = ([10, 199, 8, 2], setup.grpc.port()).into();
    setup.http = ([10, 199, 8, 2], setup.http.port()).into();
    setup.listens_on = Some([0, 0, 0, 0].into());
    setup.arguments = vec!["--insecure-listen".to_owned()];
    let broker = setup.start()?;
    create_topic(&setup.uri()).await?;
    let mut cut_off = Held::open(&format!("http://10.199.7.2:{}", setup.grpc.port()), "cut off").await?;
    super::load::connect(&setup.uri()).await?.publish_batch(batch_of(0..MESSAGES)).await?;
    if cut_off.take(MESSAGES as usize, super::arena::PATIENCE, Then::Hold).await?.len() as u64 != MESSAGES {
        return Err(Failed::new("a member did not get what was published"));
    }
    let cut = wire.cut(way)?;
    let cut_at = Instant::now();
    let mut other = Held::open(&setup.uri(), "other").await?;
    // While the dead one is taken for a member, it gets its share of what returns: again and again until it is found out.
    let patience = if arena.is_long { REAPED_MAX } else { RETURN_MAX };
    let wanted = if arena.is_long { MESSAGES as usize } else { MESSAGES as usize / 2 };
    let offsets = other.take(wanted, patience, Then::Ack).await?;
    let took = cut_at.elapsed();
    drop(cut);
    drop(cut_off);
    let distinct: std::collections::BTreeSet<_> = offsets.iter().collect();
    let wrong = wanted.saturating_sub(distinct.len()) + (offsets.len() - distinct.len());
    broker.kill_nine()?;
    Ok((took, wrong as u64))
}

/// A member by hand.
struct Held {
    responses: tonic::Streaming<wire::ConsumeResponse>,
    steps: tokio::sync::mpsc::UnboundedSender<wire::ConsumeRequest>,
    sequence: u64,
}

impl Held {
    async fn open(uri: &str, member: &str) -> Outcome<Held> {
        let endpoint = tonic::transport::Endpoint::from_shared(uri.to_owned()).when("reading an address")?;
        let channel = endpoint.connect().await.when("connecting a member")?;
        let mut client = wire::message_broker_client::MessageBrokerClient::new(channel);
        let (steps, requests) = tokio::sync::mpsc::unbounded_channel();
        let name = wire::SubscriptionName { topic: TOPIC.to_owned(), subscription: "half-open".to_owned() };
        // Until it is found out, the dead one uses up attempts: with a lease that is short against the 30 s, many.
        let settings = wire::SubscriptionSettings {
            lease_ms: Some(LEASE_MS),
            attempts_max: Some(100),
            ..wire::SubscriptionSettings::default()
        };
        let open = wire::ConsumeOpen {
            name: Some(name),
            member: member.to_owned(),
            window: Some(wire::Window { messages: 100, bytes: 0 }),
            settings: Some(settings),
            ..wire::ConsumeOpen::default()
        };
        let _ = steps.send(wire::ConsumeRequest { step: Some(Ask::Open(open)) });
        let responses = client.consume(UnboundedReceiverStream::new(requests)).await?.into_inner();
        Ok(Held { responses, steps, sequence: 0 })
    }

    /// Offsets of so many deliveries, or of those that came in time.
    async fn take(&mut self, count: usize, patience: Duration, then: Then) -> Outcome<Vec<u64>> {
        let (mut offsets, end) = (Vec::new(), Instant::now() + patience);
        while offsets.len() < count {
            let left = end.saturating_duration_since(Instant::now());
            let Ok(response) = tokio::time::timeout(left, self.responses.message()).await else { break };
            let Some(Tell::Deliveries(deliveries)) = response?.and_then(|response| response.step) else {
                continue;
            };
            offsets.extend(deliveries.messages.iter().map(|message| message.offset as u64));
            if then == Then::Ack {
                self.sequence += 1;
                let acks = deliveries.messages.iter().map(|message| message.token.clone()).collect();
                let settle = wire::ConsumeSettle { sequence: self.sequence, acks, settlements: Vec::new() };
                let _ = self.steps.send(wire::ConsumeRequest { step: Some(Ask::Settle(settle)) });
            }
        }
        Ok(offsets)
    }
}

/// What a member does with what it was given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Then {
    Hold,
    Ack,
}
