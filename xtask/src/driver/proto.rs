//! The wire contract: lint it, and compare it with the one clients were built against.

use std::fs::{self, File};

use crate::failed::{Outcome, While};
use crate::tools::Tools;
use crate::workshop::{Workshop, read, run};

/// Runs buf's lint, and its breaking-change check against the last release or commit.
pub(super) fn check(workshop: &Workshop) -> Outcome {
    let tools = Tools::install(workshop)?;
    run(workshop.command(tools.buf()).arg("lint"))?;
    println!("buf lint: ok");
    let Some(baseline) = baseline(workshop) else {
        println!(
            "!!! BREAKING CHANGES NOT CHECKED: this clone has neither a release nor an earlier commit with proto/ in it"
        );
        return Ok(());
    };
    let before = workshop.target.join("proto-before");
    if before.exists() {
        fs::remove_dir_all(&before).when(format_args!("emptying {}", before.display()))?;
    }
    fs::create_dir_all(&before).when(format_args!("creating {}", before.display()))?;
    let archive = before.join("proto.tar");
    let mut git = workshop.command("git");
    run(git.args(["archive", "--format=tar", "--output"]).arg(&archive).args([
        baseline.as_str(),
        "proto",
        "buf.yaml",
    ]))?;
    let tar = File::open(&archive).when("opening the archive git wrote")?;
    run(workshop.command("tar").arg("-x").arg("-C").arg(&before).stdin(tar))?;
    run(workshop.command(tools.buf()).arg("breaking").arg("--against").arg(&before))?;
    println!("buf breaking: nothing breaks clients built against {baseline}");
    Ok(())
}

/// The newest release, else the commit before this one; only if the contract was there.
fn baseline(workshop: &Workshop) -> Option<String> {
    let release = read(workshop.command("git").args(["describe", "--tags", "--abbrev=0", "--match", "v*"]));
    let candidates = release.ok().map(|tag| tag.trim().to_owned()).into_iter().chain(["HEAD~1".to_owned()]);
    candidates.into_iter().find(|commit| {
        let file = format!("{commit}:proto/ratatoskr.proto");
        let module = format!("{commit}:buf.yaml");
        [file, module]
            .iter()
            .all(|object| read(workshop.command("git").args(["cat-file", "-e", object])).is_ok())
    })
}
