//! What every fault works with: the program, a folder, a seed, and how long it may take.

use std::time::{Duration, Instant};

use crate::broker_process::{BrokerProcess, BrokerSetup};
use crate::failed::{Failed, Outcome, While};
use crate::workshop::Workshop;

/// Longer than anything takes that is not broken, on a busy machine.
pub(super) const PATIENCE: Duration = Duration::from_secs(60);
/// How often it is looked whether something has happened.
const LOOK: Duration = Duration::from_millis(5);

/// See the file's head.
pub(crate) struct Arena<'a> {
    pub(super) workshop: &'a Workshop,
    pub(super) program: std::path::PathBuf,
    pub(super) is_long: bool,
    pub(super) seed: u64,
    /// How the broker is broken on purpose.
    pub(super) broken: Option<&'static str>,
}

/// A broker's setup in a folder of its own, which goes with it.
pub(super) struct Ground {
    pub(super) setup: BrokerSetup,
    pub(super) folder: tempfile::TempDir,
}

impl Arena<'_> {
    /// A folder and ports for a broker.
    pub(super) fn ground(&self) -> Outcome<Ground> {
        let folder = tempfile::tempdir_in(&self.workshop.target).when("creating a folder for the broker")?;
        let mut setup = BrokerSetup::new(self.program.clone(), folder.path())?;
        setup.environment.extend(self.broken.map(|word| ("E2E_BROKEN", word.to_owned())));
        Ok(Ground { setup, folder })
    }

    /// A figure for the short or the long form.
    pub(super) fn times(&self, short: u64, long: u64) -> u64 {
        if self.is_long { long } else { short }
    }

    pub(super) fn chance(&self) -> fastrand::Rng {
        fastrand::Rng::with_seed(self.seed)
    }
}

/// Runs a fault's conversation.
pub(super) fn converse<T>(conversation: impl Future<Output = Outcome<T>>) -> Outcome<T> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.when("starting a runtime")?;
    let outcome = runtime.block_on(conversation);
    runtime.shutdown_background();
    outcome
}

/// Waits until something holds, and says what when it does not.
pub(super) async fn until(what: &str, holds: impl AsyncFnMut() -> Outcome<bool>) -> Outcome<Duration> {
    within(PATIENCE, what, holds).await
}

/// [`until`], where how long it may take is part of the promise.
pub(super) async fn within(
    patience: Duration,
    what: &str,
    mut holds: impl AsyncFnMut() -> Outcome<bool>,
) -> Outcome<Duration> {
    let started = Instant::now();
    while !holds().await? {
        if started.elapsed() > patience {
            return Err(Failed::new(format!("waited {} s until {what}", patience.as_secs())));
        }
        tokio::time::sleep(LOOK).await;
    }
    Ok(started.elapsed())
}

/// Runs what blocks on a thread that may.
pub(super) async fn blocking<T: Send + 'static>(
    run: impl FnOnce() -> Outcome<T> + Send + 'static,
) -> Outcome<T> {
    tokio::task::spawn_blocking(run).await.when("a blocking step")?
}

/// Asks a broker to stop and waits for it, while conversations with it go on.
pub(super) async fn stop(broker: BrokerProcess) -> Outcome {
    blocking(move || broker.stop()).await
}

pub(super) fn in_ms(durations: &mut [Duration]) -> String {
    durations.sort_unstable();
    let Some(worst) = durations.last() else { return "–".to_owned() };
    let middle = durations[durations.len() / 2];
    format!("{} ms, at most {}", middle.as_millis(), worst.as_millis())
}
