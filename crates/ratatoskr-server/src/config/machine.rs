//! How much memory this machine, or the group of processes we run in, has.

use std::path::{Path, PathBuf};

use ratatoskr_broker::{MEMORY_BYTES_DEFAULT, MEMORY_BYTES_MIN};

/// What `memory = auto` stands for: a quarter of what there is, at most 1 GiB, at least 64 MiB.
pub(super) fn memory_auto() -> u64 {
    let there_is = [machine_bytes(), group_bytes(), old_group_bytes()].into_iter().flatten().min();
    share_of(there_is)
}

fn share_of(there_is: Option<u64>) -> u64 {
    there_is.map_or(MEMORY_BYTES_DEFAULT, |bytes| (bytes / 4).clamp(MEMORY_BYTES_MIN, MEMORY_BYTES_DEFAULT))
}

/// `MemTotal` of proc(5), which counts in KiB.
fn machine_bytes() -> Option<u64> {
    let text = std::fs::read_to_string("/proc/meminfo").ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok().map(|kib| kib << 10)
}

/// The smallest limit of the control groups (version 2) that this process is in.
fn group_bytes() -> Option<u64> {
    let groups = std::fs::read_to_string("/proc/self/cgroup").ok()?;
    let group = groups.lines().find_map(|line| line.strip_prefix("0::/"))?;
    let root = Path::new("/sys/fs/cgroup");
    let limit = |folder: PathBuf| {
        let text = std::fs::read_to_string(folder.join("memory.max")).ok()?;
        text.trim().parse().ok()
    };
    Path::new(group).ancestors().filter_map(|group| limit(root.join(group))).min()
}

/// The same of version 1, where a container sees its own group at the root.
fn old_group_bytes() -> Option<u64> {
    std::fs::read_to_string("/sys/fs/cgroup/memory/memory.limit_in_bytes").ok()?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quarter_of_what_there_is_within_bounds() {
        assert_eq!(share_of(Some(1 << 30)), 256 << 20);
        assert_eq!(share_of(Some(64 << 30)), 1 << 30);
        assert_eq!(share_of(Some(16 << 20)), 64 << 20);
        assert_eq!(share_of(None), 1 << 30);
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn linux_says_how_much_there_is() {
        assert!(machine_bytes().is_some_and(|bytes| bytes > 64 << 20));
    }
}
