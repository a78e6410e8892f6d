//! `bench floor`: what the disk and the loopback give without a broker.

use std::path::Path;

use clap::Args;

use crate::arguments::RunFlags;
use crate::error::{Outcome, during};
use crate::floor::{self, Floor};
use crate::pace::Schedule;
use crate::report::{Figure, Report};

/// Arguments of `bench floor`.
#[derive(Clone, Debug, Args)]
pub struct FloorArguments {
    /// Pages to write and sync
    #[arg(long, value_name = "N", default_value_t = 2000, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub samples: u32,
    /// Messages a second, written and synced as they are due
    #[arg(long, value_name = "N", default_value_t = 5000, value_parser = clap::value_parser!(u64).range(1..=1_000_000))]
    pub rate: u64,
    /// For how long
    #[arg(long, value_name = "N", default_value_t = 2, value_parser = clap::value_parser!(u64).range(1..=86_400))]
    pub seconds: u64,
    #[command(flatten)]
    pub(crate) run: RunFlags,
}

/// Tries disk and loopback.
pub(crate) fn run(arguments: &FloorArguments, announce: impl FnOnce(&str)) -> Outcome<Report> {
    let folder = match &arguments.run.data_dir {
        Some(folder) => folder.clone(),
        None => std::env::current_dir().map_err(during("finding the working directory"))?,
    };
    let mut report = Report {
        workload: "floor",
        parameters: vec![
            ("folder", folder.display().to_string()),
            ("samples", arguments.samples.to_string()),
            ("rate", format!("{}/s", arguments.rate)),
            ("seconds", arguments.seconds.to_string()),
            ("rounds", arguments.run.rounds.to_string()),
        ],
        ..Report::default()
    };
    announce(&report.headline());
    std::fs::create_dir_all(&folder).map_err(during(format_args!("creating {}", folder.display())))?;
    for _ in 0..arguments.run.rounds {
        round(arguments, &folder, &mut report)?;
    }
    Ok(report)
}

fn round(arguments: &FloorArguments, folder: &Path, report: &mut Report) -> Outcome {
    let floor = Floor::measure(Some(folder), arguments.samples)?;
    let (rate, messages) = (arguments.rate, arguments.rate * arguments.seconds);
    let paced = floor::paced_sync_times(folder, Schedule::new(rate), messages)?;
    let figures = &mut report.figures;
    figures.extend(Figure::percentiles("write and fdatasync of 4 KiB", floor.sync));
    figures.extend(Figure::percentiles(&format!("{rate}/s, due to synced"), Some(paced)));
    figures.extend(Figure::percentiles("TCP ping-pong of 64 bytes", Some(floor.ping)));
    report.floor = Some(floor);
    Ok(())
}
