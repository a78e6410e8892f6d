//! The steps of the test run, in order: cheap and telling ones first.

use super::{proto, supply};
use crate::corpus::MEBIBYTE;
use crate::failed::{Failed, Outcome, While};
use crate::instructions::InstructionsOptions;
use crate::real_text::RealTextOptions;
use crate::soak::SoakOptions;
use crate::tools::Tools;
use crate::torture::broken::TEST_FAILED;
use crate::workers::Broken;
use crate::workshop::{Profile, Workshop, read, run};
use crate::{coverage, instructions, real_text, soak, tidy, torture};

/// For each target of [`fuzz`].
const FUZZ_SECONDS: &str = "60";

/// One layer of the test run.
pub(super) struct Step {
    /// The word that runs it alone: `./test NAME`.
    pub(super) name: &'static str,
    /// What it shows, for the log.
    pub(super) purpose: &'static str,
    /// Runs it.
    pub(super) run: fn(&Workshop) -> Outcome,
}

/// All steps.
pub(super) const STEPS: &[Step] = &[
    Step { name: "tools", purpose: "install what the other steps need, inside target/", run: install },
    Step { name: "fmt", purpose: "the code is formatted", run: format },
    Step { name: "tidy", purpose: "the house style, as far as a machine can check it", run: tidy::run },
    Step { name: "clippy", purpose: "no lint of the workspace fires", run: clippy },
    Step { name: "tests", purpose: "unit, integration and crash tests, and the examples build", run: tests },
    Step { name: "mutants", purpose: "the crash tests notice deliberately broken builds", run: mutants },
    Step {
        name: "workers",
        purpose: "a subscription worked through under kills; three broken builds noticed",
        run: workers,
    },
    Step {
        name: "torture",
        purpose: "a broker killed, stopped, starved, cut off; a broken build for each fault noticed",
        run: torture,
    },
    Step {
        name: "fuzz",
        purpose: "bytes that nobody wrote, other ones each time, for a minute each",
        run: fuzz,
    },
    Step { name: "doctests", purpose: "every example in the documentation runs", run: doc_tests },
    Step { name: "docs", purpose: "the documentation builds without a warning", run: docs },
    Step {
        name: "instructions",
        purpose: "no piece of the hot path needs more instructions than it did",
        run: count_instructions,
    },
    Step {
        name: "deny",
        purpose: "licences, sources, bans and known vulnerabilities of dependencies",
        run: supply::check,
    },
    Step { name: "proto", purpose: "the contract is well formed and breaks no client", run: proto::check },
    Step { name: "python", purpose: "stock Python stubs and grpcurl against the real program", run: python },
    Step {
        name: "crashes",
        purpose: "8 MiB of real text, the broker killed twice, every byte compared",
        run: crashes,
    },
    Step {
        name: "load",
        purpose: "20 seconds of publishers and subscribers, every delivery checked",
        run: load,
    },
    Step { name: "coverage", purpose: "how much of log and broker their tests run", run: coverage::run },
];

fn install(workshop: &Workshop) -> Outcome {
    Tools::install(workshop).map(|_| ())
}

fn format(workshop: &Workshop) -> Outcome {
    workshop.cargo(&["fmt", "--all", "--check"])
}

fn clippy(workshop: &Workshop) -> Outcome {
    workshop.cargo(&[
        "clippy",
        "--workspace",
        "--all-targets",
        "--locked",
        "--quiet",
        "--keep-going",
        "--",
        "--deny",
        "warnings",
    ])
}

fn tests(workshop: &Workshop) -> Outcome {
    workshop.cargo(&["test", "--workspace", "--all-targets", "--locked", "--no-fail-fast"])
}

/// Without directory syncs is a disk that lies, and part of the ordinary crash tests.
fn mutants(workshop: &Workshop) -> Outcome {
    for broken in ["broken-no-sync", "broken-no-checksum", "broken-late-handle"] {
        workshop.cargo(&[
            "test",
            "-p",
            "ratatoskr-sim",
            "--test",
            "crash",
            "--features",
            broken,
            "--locked",
        ])?;
    }
    // Behind the checksums: whatever bytes come, nothing panics; one that does is noticed.
    let fuzz = |word| {
        let features = "ratatoskr-log/broken-no-checksum,ratatoskr-broker/broken";
        let mut command = workshop.command("cargo");
        command.args([
            "test",
            "-p",
            "ratatoskr-broker",
            "--test",
            "fuzz",
            "--locked",
            "--features",
            features,
        ]);
        read(command.env("E2E_BROKEN", word))
    };
    fuzz("nothing")?;
    match fuzz("ends") {
        Err(failed) if failed.to_string().contains(TEST_FAILED) => {}
        Err(failed) => return Err(failed),
        Ok(_) => return Err(Failed::new("a panic behind the checksums was not noticed by fuzz")),
    }
    for broken in [Broken::Acks, Broken::Dead] {
        let arguments =
            ["test", "-p", "ratatoskr-broker", "--test", "power", "--features", "broken", "--locked"];
        run(workshop.command("cargo").args(arguments).env("E2E_BROKEN", broken.word()))?;
    }
    Ok(())
}

fn workers(workshop: &Workshop) -> Outcome {
    crate::workers::run(workshop, &crate::workers::short(None))?;
    for broken in Broken::ALL {
        crate::workers::run(workshop, &crate::workers::short(Some(broken)))?;
    }
    Ok(())
}

fn torture(workshop: &Workshop) -> Outcome {
    torture::run(workshop, &torture::short(None))?;
    for broken in torture::broken::ALL {
        torture::run(workshop, &torture::short(Some(broken)))?;
    }
    Ok(())
}

/// All targets of a program play beside each other. The tests have played the same inputs as always already.
fn fuzz(workshop: &Workshop) -> Outcome {
    let mut arguments = vec!["test", "--workspace", "--test", "fuzz", "--locked"];
    // A thread for each, however few cores there are.
    arguments.extend(["--", "--nocapture", "--test-threads", "8"]);
    run(workshop.command("cargo").args(arguments).env("RATATOSKR_FUZZ_SECONDS", FUZZ_SECONDS))
}

fn doc_tests(workshop: &Workshop) -> Outcome {
    workshop.cargo(&["test", "--workspace", "--doc", "--locked", "--no-fail-fast"])
}

fn docs(workshop: &Workshop) -> Outcome {
    let arguments = ["doc", "--workspace", "--no-deps", "--locked", "--quiet", "--keep-going"];
    run(workshop.command("cargo").args(arguments).env("RUSTDOCFLAGS", "--deny warnings"))
}

fn count_instructions(workshop: &Workshop) -> Outcome {
    instructions::run_with(workshop, &InstructionsOptions::default())
}

fn python(workshop: &Workshop) -> Outcome {
    let program = workshop.broker_program(Profile::Dev)?;
    let tools = Tools::install(workshop)?;
    let stubs = workshop.target.join("python-stubs");
    std::fs::create_dir_all(&stubs).when(format_args!("creating {}", stubs.display()))?;
    let mut protoc = workshop.command(tools.python());
    protoc.args(["-m", "grpc_tools.protoc", "--proto_path=proto"]);
    protoc.arg(format!("--python_out={}", stubs.display()));
    protoc.arg(format!("--grpc_python_out={}", stubs.display()));
    run(protoc.arg("ratatoskr.proto"))?;
    let mut pytest = workshop.command(tools.python());
    pytest.args(["-m", "pytest", "-q", "-p", "no:cacheprovider", "tests/python"]);
    pytest.env("E2E_PROGRAM", program).env("E2E_STUBS", stubs).env("E2E_GRPCURL", tools.grpcurl());
    run(pytest.env("PYTHONDONTWRITEBYTECODE", "1"))
}

fn crashes(workshop: &Workshop) -> Outcome {
    let options = RealTextOptions { bytes_min: 8 * MEBIBYTE, profile: Profile::Dev };
    real_text::run(workshop, &options)
}

fn load(workshop: &Workshop) -> Outcome {
    soak::run(workshop, &SoakOptions::short())
}
