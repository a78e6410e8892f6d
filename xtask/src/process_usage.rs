//! What the kernel says about a running process: memory held and processor time used.

use std::fs;
use std::time::Duration;

use crate::failed::{Failed, Outcome, While};

/// Kernel ticks in a second, as `/proc` counts them: fixed at 100 on every Linux architecture we build for.
const TICKS_PER_SECOND: u64 = 100;

/// A process's use of the machine at one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ProcessUsage {
    /// Resident memory.
    pub(crate) rss_bytes: u64,
    /// Processor time since the process started, user and system, over all cores.
    pub(crate) cpu: Duration,
}

impl ProcessUsage {
    /// Reads `/proc/PID`.
    pub(crate) fn read(pid: u32) -> Outcome<ProcessUsage> {
        let read = |file: &str| {
            let path = format!("/proc/{pid}/{file}");
            fs::read_to_string(&path).when(format_args!("reading {path} (has the process ended?)"))
        };
        let rss_bytes = parse_rss(&read("status")?)
            .ok_or_else(|| Failed::new("/proc/PID/status has no VmRSS: the process has ended"))?;
        let ticks = parse_ticks(&read("stat")?)
            .ok_or_else(|| Failed::new("/proc/PID/stat has no processor times"))?;
        Ok(ProcessUsage { rss_bytes, cpu: Duration::from_millis(ticks * 1000 / TICKS_PER_SECOND) })
    }

    /// Share of one core used between an earlier reading and this one, in percent.
    pub(crate) fn cpu_percent_since(&self, earlier: &ProcessUsage, elapsed: Duration) -> f64 {
        (self.cpu.saturating_sub(earlier.cpu)).as_secs_f64() * 100.0 / elapsed.as_secs_f64()
    }
}

fn parse_rss(status: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
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
        assert_eq!(parse_rss("Name:\tx\nVmRSS:\t   14336 kB\nThreads:\t3\n"), Some(14_336 * 1024));
        assert_eq!(parse_rss("Name:\tx\n"), None);
    }

    #[test]
    fn processor_time_is_counted_after_a_name_with_spaces() {
        let stat = "42 (a ) b) S 1 42 42 0 -1 4194560 1 0 0 0 150 50 0 0 20 0 4 0 1 1 1";
        assert_eq!(parse_ticks(stat), Some(200));
    }

    #[test]
    fn this_very_process_can_be_read() {
        let usage = ProcessUsage::read(std::process::id()).unwrap();
        assert!(usage.rss_bytes > 100 * 1024);
        assert!(usage.cpu_percent_since(&usage, Duration::from_secs(1)).abs() < f64::EPSILON);
    }
}
