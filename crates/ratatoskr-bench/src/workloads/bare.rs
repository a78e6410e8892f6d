//! `bench floor`: what the disk and the loopback give without a broker.

use std::path::PathBuf;

use clap::Args;

use crate::arguments::RunFlags;
use crate::error::{Outcome, during};
use crate::floor::Floor;
use crate::report::{Figure, Report};

/// Arguments of `bench floor`.
#[derive(Clone, Debug, Args)]
pub struct FloorArguments {
    /// Pages to write and sync
    #[arg(long, value_name = "N", default_value_t = 2000, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub samples: u32,
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
            ("rounds", arguments.run.rounds.to_string()),
        ],
        ..Report::default()
    };
    announce(&report.headline());
    for _ in 0..arguments.run.rounds {
        let floor = measure(&folder, arguments.samples)?;
        report.figures.extend(Figure::percentiles("write and fdatasync of 4 KiB", floor.sync));
        report.figures.extend(Figure::percentiles("TCP ping-pong of 64 bytes", Some(floor.ping)));
        report.floor = Some(floor);
    }
    Ok(report)
}

fn measure(folder: &PathBuf, samples: u32) -> Outcome<Floor> {
    std::fs::create_dir_all(folder).map_err(during(format_args!("creating {}", folder.display())))?;
    Floor::measure(Some(folder), samples)
}
