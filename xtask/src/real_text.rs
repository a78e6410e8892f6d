//! Real text through the real program, killed twice: every acknowledged line comes back.
//!
//! ```text
//! corpus ─ pub --lines ─▶ broker ✗ kill -9 at ⅓ ─ restart ─ pub --skip acked ─▶ ✗ kill -9 at ⅔ ─ restart ─ … end
//! broker ─ sub --from earliest --raw ─▶ compared byte for byte with what each run had stored
//! ```
//!
//! What must hold. Run *k* starts at line `s` of the corpus, is told that `a` lines are
//! acknowledged, and leaves `t` more messages in the topic. Then `t ≥ a`: nothing acknowledged is
//! lost; the topic holds exactly lines `s .. s + t`, in order; and the next run starts at `s + a`,
//! so that the `t − a` lines stored but not acknowledged appear twice, there and nowhere else.

use std::io::{BufReader, Read};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use ratatoskr_proto::message_broker_client::MessageBrokerClient;
use ratatoskr_proto::{CreateTopicRequest, DescribeTopicRequest};

use crate::broker_process::{BrokerProcess, BrokerSetup};
use crate::corpus::Corpus;
use crate::failed::{Failed, Outcome, While};
use crate::workshop::{Profile, Workshop};

const TOPIC: &str = "real-text";
/// How often the topic is looked at while it fills; the kill comes within this of its mark.
const LOOK_EVERY: Duration = Duration::from_millis(20);
/// How long one run of `pub` may take.
const PUBLISH_SECONDS_MAX: u64 = 900;
/// Bytes compared at a time.
const COMPARE_BYTES: usize = 1 << 20;

/// How much text, and which build.
#[derive(clap::Args)]
pub(crate) struct RealTextOptions {
    /// Bytes of text to send at least
    #[arg(long, default_value_t = 100 * 1_000_000)]
    pub(crate) bytes_min: u64,
    /// The build of the broker
    #[arg(long, value_enum, default_value = "release")]
    pub(crate) profile: Profile,
}

/// One run of `pub`.
struct PublishRun {
    /// The corpus line it started with.
    start: usize,
    /// Lines it said were acknowledged.
    acknowledged: usize,
    /// Messages it left in the topic, acknowledged or not.
    stored: usize,
    /// From its start to its end.
    took: Duration,
    /// How long the broker's start after it took; none after the last run.
    restart_took: Option<Duration>,
}

/// Everything one exercise works with.
struct Exercise {
    setup: BrokerSetup,
    corpus: Corpus,
    runtime: tokio::runtime::Runtime,
}

/// Runs the exercise and prints a table.
pub(crate) fn run(workshop: &Workshop, options: &RealTextOptions) -> Outcome {
    let program = workshop.broker_program(options.profile)?;
    let folder = tempfile::tempdir_in(&workshop.target).when("creating a folder for the broker")?;
    let corpus = Corpus::collect(&folder.path().join("corpus.txt"), options.bytes_min)?;
    println!(
        "corpus: {:.1} MB, {} lines: {}",
        corpus.bytes.len() as f64 / 1e6,
        corpus.lines(),
        corpus.sources
    );
    let setup = BrokerSetup::new(program, folder.path())?;
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().when("starting a runtime")?;
    let exercise = Exercise { setup, corpus, runtime };

    let mut broker = exercise.setup.start()?;
    exercise.create_topic()?;
    let lines = exercise.corpus.lines();
    let mut runs: Vec<PublishRun> = Vec::new();
    for mark in [lines / 3, lines * 2 / 3] {
        let (run, restarted) =
            exercise.publish_until_killed(broker, next_line(&runs), stored(&runs), mark)?;
        broker = restarted;
        runs.push(run);
    }
    runs.push(exercise.publish_to_the_end(next_line(&runs), stored(&runs))?);
    let read_took = exercise.compare(&runs)?;
    broker.stop()?;
    print_table(&exercise.corpus, &runs, read_took);
    check_runs(&runs, lines)
}

impl Exercise {
    fn create_topic(&self) -> Outcome {
        self.runtime.block_on(async {
            let mut client = self.client().await?;
            let request = CreateTopicRequest { name: TOPIC.into(), settings: None };
            let response = client.create_topic(request).await?.into_inner();
            if response.created {
                Ok(())
            } else {
                Err(Failed::new(format!("the topic was not created: {}", response.error)))
            }
        })
    }

    async fn client(&self) -> Outcome<MessageBrokerClient<tonic::transport::Channel>> {
        let uri = self.setup.uri();
        MessageBrokerClient::connect(uri.clone()).await.when(format_args!("connecting to {uri}"))
    }

    /// The offset the topic's next message will get, which is how many it ever held.
    async fn next_offset(&self) -> Outcome<usize> {
        let request = DescribeTopicRequest { name: TOPIC.into() };
        let response = self.client().await?.describe_topic(request).await?.into_inner();
        let topic = response.topic.ok_or_else(|| Failed::new("DescribeTopic answered without a topic"))?;
        usize::try_from(topic.next_offset).when("reading the next offset")
    }

    /// Publishes from `start` on, kills the broker once the topic holds `mark` messages, starts it again.
    fn publish_until_killed(
        &self,
        broker: BrokerProcess,
        start: usize,
        stored_before: usize,
        mark: usize,
    ) -> Outcome<(PublishRun, BrokerProcess)> {
        let started = Instant::now();
        let mut publisher = self.start_publisher(start)?;
        loop {
            if self.runtime.block_on(self.next_offset())? >= mark {
                break;
            }
            if let Some(status) = publisher.try_wait().when("watching `pub`")? {
                return Err(Failed::new(format!("`pub` ended with {status} before the broker was killed")));
            }
            if started.elapsed() > Duration::from_secs(PUBLISH_SECONDS_MAX) {
                return Err(Failed::new(format!(
                    "`pub` has not reached line {mark} after {PUBLISH_SECONDS_MAX} s"
                )));
            }
            std::thread::sleep(LOOK_EVERY);
        }
        broker.kill_nine()?;
        let (succeeded, acknowledged) = finish(publisher)?;
        if succeeded {
            return Err(Failed::new(
                "`pub` succeeded though its broker was killed in the middle; use more text",
            ));
        }
        let took = started.elapsed();
        let restarted = self.setup.start()?;
        let stored = self.runtime.block_on(self.next_offset())? - stored_before;
        let restart_took = Some(restarted.start_took);
        Ok((PublishRun { start, acknowledged, stored, took, restart_took }, restarted))
    }

    fn publish_to_the_end(&self, start: usize, stored_before: usize) -> Outcome<PublishRun> {
        let started = Instant::now();
        let (succeeded, acknowledged) = finish(self.start_publisher(start)?)?;
        if !succeeded {
            return Err(Failed::new("the last run of `pub` failed though its broker was left alone"));
        }
        let took = started.elapsed();
        let stored = self.runtime.block_on(self.next_offset())? - stored_before;
        Ok(PublishRun { start, acknowledged, stored, took, restart_took: None })
    }

    fn start_publisher(&self, start: usize) -> Outcome<Child> {
        let mut command = self.command_line("pub");
        command
            .args([TOPIC, "--lines", "--json", "--skip", &start.to_string(), "--file"])
            .arg(&self.corpus.path);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command.spawn().when("starting `ratatoskr pub`")
    }

    fn command_line(&self, subcommand: &str) -> Command {
        let mut command = Command::new(&self.setup.program);
        command.args([subcommand, "--server", &self.setup.grpc.to_string()]).current_dir(&self.setup.folder);
        command
    }

    /// Reads the topic back and compares it with what the runs stored.
    fn compare(&self, runs: &[PublishRun]) -> Outcome<Duration> {
        let started = Instant::now();
        let mut command = self.command_line("sub");
        command.args([TOPIC, "--from", "earliest", "--raw", "--count", &stored(runs).to_string()]);
        let mut subscriber =
            command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().when("starting `ratatoskr sub`")?;
        let stdout = subscriber.stdout.take().expect("standard output was asked to be a pipe");
        let mut delivered = BufReader::with_capacity(COMPARE_BYTES, stdout);
        let compared = runs.iter().try_for_each(|run| self.compare_run(&mut delivered, run));
        if compared.is_err() {
            subscriber.kill().when("ending `sub` early")?;
        }
        let status = subscriber.wait().when("waiting for `sub`")?;
        compared?;
        let mut rest = Vec::new();
        delivered.read_to_end(&mut rest).when("reading the end of `sub`")?;
        if !rest.is_empty() || !status.success() {
            return Err(Failed::new(format!(
                "`sub` ended with {status} and {} bytes that nobody sent",
                rest.len()
            )));
        }
        Ok(started.elapsed())
    }

    fn compare_run(&self, delivered: &mut impl Read, run: &PublishRun) -> Outcome {
        let expected = self.corpus.slice(run.start, run.start + run.stored);
        let origin = self.corpus.slice(0, run.start).len();
        let mut buffer = vec![0; COMPARE_BYTES];
        for (index, wanted) in expected.chunks(COMPARE_BYTES).enumerate() {
            let got = &mut buffer[..wanted.len()];
            delivered.read_exact(got).when("reading what `sub` delivers (it ended early)")?;
            if let Some(at) = got.iter().zip(wanted).position(|(got, wanted)| got != wanted) {
                let line = self.corpus.line_at(origin + index * COMPARE_BYTES + at);
                return Err(Failed::new(format!(
                    "delivered text differs from what was sent at line {} of the corpus",
                    line + 1
                )));
            }
        }
        Ok(())
    }
}

/// Where the next run goes on: at the first line that was not acknowledged.
fn next_line(runs: &[PublishRun]) -> usize {
    runs.last().map_or(0, |run| run.start + run.acknowledged)
}

fn stored(runs: &[PublishRun]) -> usize {
    runs.iter().map(|run| run.stored).sum()
}

/// Waits for `pub` and reads how many lines it says were acknowledged.
fn finish(publisher: Child) -> Outcome<(bool, usize)> {
    let output = publisher.wait_with_output().when("waiting for `pub`")?;
    let said = String::from_utf8_lossy(&output.stdout);
    let acknowledged = acknowledged_in(&said).ok_or_else(|| {
        let complaint = String::from_utf8_lossy(&output.stderr);
        Failed::new(format!(
            "`pub` does not say how many lines were acknowledged; it said: {said}{complaint}"
        ))
    })?;
    Ok((output.status.success(), acknowledged))
}

/// What the account of `pub --json` says.
fn acknowledged_in(said: &str) -> Option<usize> {
    let account: serde_json::Value = serde_json::from_str(said.trim()).ok()?;
    usize::try_from(account["acknowledged"].as_u64()?).ok()
}

/// The arithmetic of the story on top.
fn check_runs(runs: &[PublishRun], lines: usize) -> Outcome {
    for (index, run) in runs.iter().enumerate() {
        if run.stored < run.acknowledged {
            return Err(Failed::new(format!(
                "run {} was told of {} acknowledged lines, but the topic kept {}: acknowledged lines are lost",
                index + 1,
                run.acknowledged,
                run.stored
            )));
        }
    }
    let end = next_line(runs);
    if end == lines {
        Ok(())
    } else {
        Err(Failed::new(format!("{end} of {lines} lines are acknowledged after the last run")))
    }
}

fn print_table(corpus: &Corpus, runs: &[PublishRun], read_took: Duration) {
    println!("run  first line  acknowledged     stored  stored twice   seconds   lines/s  then");
    for (index, run) in runs.iter().enumerate() {
        let then = run.restart_took.map_or("end of the text".into(), |took| {
            format!("kill -9, serving again after {} ms", took.as_millis())
        });
        let seconds = run.took.as_secs_f64();
        println!(
            "{:>3} {:>11} {:>13} {:>10} {:>13} {:>9.2} {:>9.0}  {then}",
            index + 1,
            run.start + 1,
            run.acknowledged,
            run.stored,
            run.stored.saturating_sub(run.acknowledged),
            seconds,
            run.stored as f64 / seconds,
        );
    }
    println!(
        "read back {} messages in {:.2} s: every acknowledged line of {:.1} MB is there, in order, byte for byte",
        stored(runs),
        read_took.as_secs_f64(),
        corpus.bytes.len() as f64 / 1e6,
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run_of(start: usize, acknowledged: usize, stored: usize) -> PublishRun {
        PublishRun { start, acknowledged, stored, took: Duration::ZERO, restart_took: None }
    }

    #[test]
    fn the_next_run_starts_at_the_first_unacknowledged_line() {
        let runs = [run_of(0, 10, 12), run_of(10, 5, 5)];
        assert_eq!((next_line(&runs), stored(&runs)), (15, 17));
        assert!(check_runs(&runs, 15).is_ok());
    }

    #[test]
    fn an_acknowledged_line_that_was_not_kept_is_a_loss() {
        let error = check_runs(&[run_of(0, 10, 9)], 10).unwrap_err().to_string();
        assert!(error.contains("acknowledged lines are lost"), "{error}");
    }

    #[test]
    fn the_count_is_read_from_the_account() {
        assert_eq!(acknowledged_in("{\"acknowledged\": 77, \"refused\": 0}\n"), Some(77));
        assert_eq!(acknowledged_in("{}"), None);
        assert_eq!(acknowledged_in(""), None);
    }
}
