//! The machine and the state of the code, as they stand beside figures.

use std::path::Path;
use std::process::Command;

use crate::workshop::{Workshop, read};

/// What a reader has to know to compare with figures of his own.
pub(crate) fn describe(workshop: &Workshop, data: &Path) -> Vec<(&'static str, String)> {
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    vec![
        ("commit", commit(workshop)),
        ("processor", format!("{}, {cores} cores", processor(&slurp("/proc/cpuinfo")))),
        ("memory", format!("{} GiB", memory_gib(&slurp("/proc/meminfo")))),
        ("kernel", slurp("/proc/sys/kernel/osrelease").trim().to_owned()),
        ("file system", file_system(data)),
    ]
}

/// Today, as folders are named; in UTC.
pub(crate) fn today() -> String {
    read(Command::new("date").args(["--utc", "+%Y-%m-%d"]))
        .map_or_else(|_| "undated".to_owned(), |date| date.trim().to_owned())
}

fn slurp(path: &str) -> String {
    std::fs::read_to_string(path).unwrap_or_default()
}

fn commit(workshop: &Workshop) -> String {
    let git = |arguments: &[&str]| read(workshop.command("git").args(arguments)).ok();
    let Some(commit) = git(&["rev-parse", "--short=12", "HEAD"]) else { return "unknown".to_owned() };
    // Results and pages are what a run itself writes.
    let changed = git(&["status", "--porcelain", "--", "crates", "xtask", "Cargo.toml", "Cargo.lock"]);
    let changed = changed.is_none_or(|changed| !changed.trim().is_empty());
    format!("{}{}", commit.trim(), if changed { " with changes" } else { "" })
}

fn processor(cpuinfo: &str) -> String {
    let name = cpuinfo.lines().find_map(|line| line.strip_prefix("model name"));
    name.and_then(|rest| rest.split_once(':')).map_or("unknown", |(_, name)| name.trim()).to_owned()
}

fn memory_gib(meminfo: &str) -> u64 {
    let total = meminfo.lines().find_map(|line| line.strip_prefix("MemTotal:"));
    let kib: Option<u64> = total.and_then(|rest| rest.trim().strip_suffix("kB")?.trim().parse().ok());
    // What the kernel keeps for itself is not in it.
    (kib.unwrap_or(0) as f64 / f64::from(1 << 20)).round() as u64
}

/// Its kind, as `stat` names it; a sync in memory says nothing about a disk.
fn file_system(data: &Path) -> String {
    let kind = read(Command::new("stat").args(["--file-system", "--format=%T"]).arg(data));
    let kind = kind.map_or_else(|_| "unknown".to_owned(), |kind| kind.trim().to_owned());
    if kind == "tmpfs" { "tmpfs: in memory, NOT on a disk".to_owned() } else { kind }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_processor_and_the_memory_are_read_as_the_kernel_tells_them() {
        assert_eq!(processor("processor\t: 0\nmodel name\t: Some CPU @ 3 GHz\n"), "Some CPU @ 3 GHz");
        assert_eq!(processor(""), "unknown");
        assert_eq!(memory_gib("MemTotal:       16316412 kB\n"), 16);
    }
}
