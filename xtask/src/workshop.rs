//! Where things are and how other programs are run.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::failed::{Failed, Outcome, While};

/// The places every chore works in.
pub(crate) struct Workshop {
    /// The repository's top folder.
    pub(crate) root: PathBuf,
    /// Cargo's target folder: everything made or installed by a chore stays inside it.
    pub(crate) target: PathBuf,
}

/// Which build of the broker a chore starts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Profile {
    /// Quick to build; for tests.
    Dev,
    /// Optimised; for every figure that is quoted.
    Release,
}

impl Workshop {
    /// Finds the repository this program was built from.
    pub(crate) fn open() -> Outcome<Workshop> {
        let manifest = Path::new(env!("CARGO_MANIFEST_DIR"));
        let root = manifest.parent().ok_or_else(|| Failed::new("xtask has no parent folder"))?.to_owned();
        let target = std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root.join("target"), PathBuf::from);
        // A relative target folder is relative to where cargo was called, which is not the root for sure.
        let target = std::path::absolute(&target).when("resolving CARGO_TARGET_DIR")?;
        Ok(Workshop { root, target })
    }

    /// Builds the `ratatoskr` program and says where it is.
    pub(crate) fn broker_program(&self, profile: Profile) -> Outcome<PathBuf> {
        // The dev build is chosen as the tests choose it, and the release build as `cargo run --release` does:
        // with other features on, cargo would compile what they share once more.
        let (flags, folder): (&[&str], _) = match profile {
            Profile::Dev => (&["--workspace", "--bin", "ratatoskr"], "debug"),
            Profile::Release => (&["--package", "ratatoskr", "--release"], "release"),
        };
        self.cargo(&[&["build", "--locked", "--quiet"], flags].concat())?;
        Ok(self.target.join(folder).join("ratatoskr"))
    }

    /// Builds a `ratatoskr` program that can be broken on purpose (`crates/ratatoskr-broker/src/broken.rs`), beside the sound one.
    pub(crate) fn broken_program(&self) -> Outcome<PathBuf> {
        let feature = "ratatoskr-broker/broken";
        self.cargo(&[
            "build",
            "--locked",
            "--quiet",
            "--workspace",
            "--bin",
            "ratatoskr",
            "--features",
            feature,
        ])?;
        let folder = self.target.join("broken");
        std::fs::create_dir_all(&folder).when(format_args!("creating {}", folder.display()))?;
        let program = folder.join("ratatoskr");
        std::fs::copy(self.target.join("debug/ratatoskr"), &program).when("keeping the broken program")?;
        Ok(program)
    }

    /// Runs cargo in the repository; its output goes to the terminal.
    pub(crate) fn cargo(&self, arguments: &[&str]) -> Outcome {
        run(self.command("cargo").args(arguments))
    }

    /// A program to be run in the repository's top folder.
    pub(crate) fn command(&self, program: impl AsRef<std::ffi::OsStr>) -> Command {
        let mut command = Command::new(program);
        command.current_dir(&self.root);
        command
    }
}

/// Runs a program to its end; anything but success is a failure that quotes the command.
pub(crate) fn run(command: &mut Command) -> Outcome {
    let line = command_line(command);
    let status = command.status().when(format_args!("starting `{line}`"))?;
    if status.success() { Ok(()) } else { Err(Failed::new(format!("`{line}` ended with {status}"))) }
}

/// Runs a program to its end and returns what it printed on standard output.
pub(crate) fn read(command: &mut Command) -> Outcome<String> {
    let line = command_line(command);
    let output = command.output().when(format_args!("starting `{line}`"))?;
    if !output.status.success() {
        let stderr = String::from_utf8_lossy(&output.stderr);
        return Err(Failed::new(format!("`{line}` ended with {}: {}", output.status, stderr.trim())));
    }
    String::from_utf8(output.stdout).when(format_args!("reading the output of `{line}`"))
}

fn command_line(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    words.map(|word| word.to_string_lossy()).collect::<Vec<_>>().join(" ")
}
