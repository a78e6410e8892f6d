//! What the kernel says about a running process: memory held and processor time used.

use std::fs;
use std::time::Duration;

use crate::error::{Outcome, during, failed};

/// Kernel ticks in a second, as `/proc` counts them: fixed at 100 on every Linux architecture we build for.
const TICKS_PER_SECOND: u64 = 100;

/// A process's use of the machine at one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Usage {
    /// Resident memory now.
    pub(crate) rss_bytes: u64,
    /// The most resident memory there has been.
    pub(crate) rss_bytes_peak: u64,
    /// Processor time since the process started, user and system, over all cores.
    pub(crate) cpu: Duration,
}

impl Usage {
    /// Reads `/proc/PID`.
    pub(crate) fn read(pid: u32) -> Outcome<Usage> {
        let read = |file: &str| {
            let path = format!("/proc/{pid}/{file}");
            fs::read_to_string(&path).map_err(during(format_args!("reading {path} (has the process ended?)")))
        };
        let status = read("status")?;
        let memory = |name| {
            parse_kib(&status, name)
                .ok_or_else(|| failed(format!("/proc/{pid}/status has no {name}: the process has ended")))
        };
        let ticks = parse_ticks(&read("stat")?)
            .ok_or_else(|| failed(format!("/proc/{pid}/stat has no processor times")))?;
        Ok(Usage {
            rss_bytes: memory("VmRSS:")?,
            rss_bytes_peak: memory("VmHWM:")?,
            cpu: Duration::from_millis(ticks * 1000 / TICKS_PER_SECOND),
        })
    }

    /// Reads what this process uses itself.
    pub(crate) fn own() -> Outcome<Usage> {
        Usage::read(std::process::id())
    }
}

fn parse_kib(status: &str, name: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix(name))?;
    let kibibytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kibibytes * 1024)
}

/// Fields 14 and 15 (user and system time). The second field, the name, may hold spaces: count after it.
fn parse_ticks(stat: &str) -> Option<u64> {
    let (_, after_name) = stat.rsplit_once(')')?;
    let mut fields = after_name.split_whitespace().skip(11);
    let user: u64 = fields.next()?.parse().ok()?;
    let system: u64 = fields.next()?.parse().ok()?;
    Some(user + system)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_read_from_the_status_page() {
        let status = "Name:\tx\nVmHWM:\t   20000 kB\nVmRSS:\t   14336 kB\nThreads:\t3\n";
        assert_eq!(parse_kib(status, "VmRSS:"), Some(14_336 * 1024));
        assert_eq!(parse_kib("Name:\tx\n", "VmRSS:"), None);
    }

    #[test]
    fn processor_time_is_counted_after_a_name_with_spaces() {
        let stat = "42 (a ) b) S 1 42 42 0 -1 4194560 1 0 0 0 150 50 0 0 20 0 4 0 1 1 1";
        assert_eq!(parse_ticks(stat), Some(200));
    }

    #[test]
    fn this_very_process_can_be_read() {
        let usage = Usage::own().unwrap();
        assert!(usage.rss_bytes > 100 * 1024 && usage.rss_bytes_peak >= usage.rss_bytes);
    }
}
