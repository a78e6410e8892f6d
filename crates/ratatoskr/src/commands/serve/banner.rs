//! What `serve` says when it is ready: where it listens, where the data is, what was recovered, and what an
//! ack means.

use std::fmt::Write as _;
use std::io::{self, Write as _};
use std::time::Duration;

use anstyle::Style;
use ratatoskr_broker::{Durability, RecoveryReport};
use ratatoskr_server::access::AccessRule;
use ratatoskr_server::config::Config;
use ratatoskr_server::{Running, VERSION};

use crate::output::{about_bytes, grouped};

/// Prints the banner to standard output.
pub(super) fn print(config: &Config, recovery: &RecoveryReport, running: &Running) -> io::Result<()> {
    let bold = Style::new().bold();
    let mut text = format!("{bold}ratatoskr {VERSION}{bold:#}\n");
    let mut line = |name: &str, says: String| {
        writeln!(text, "  {bold}{name:<10}{bold:#} {says}").expect("a String takes everything");
    };
    line("gRPC", running.grpc_addr().to_string());
    let scheme = if config.tls().is_some() { "https" } else { "http" };
    line("HTTP", format!("{scheme}://{} (/healthz /readyz /metrics /version)", running.http_addr()));
    if config.access_rule() != AccessRule::Open || config.tls().is_some() {
        line("access", access(config));
    }
    line("data", held(config, recovery));
    line("recovery", recovered(recovery));
    for damage in &recovery.damage {
        line("DAMAGE", damage.clone());
    }
    line("an ack", what_an_ack_means(config.topic_defaults.durability).to_owned());
    if config.insecure_listen && config.access_rule() == AccessRule::Open {
        line("WARNING", "anyone who reaches these addresses may read and delete every topic".to_owned());
    }
    text.push_str("Ready. Ctrl-C stops it.\n");
    let mut out = anstream::stdout().lock();
    out.write_all(text.as_bytes())?;
    out.flush()
}

/// Who is asked what.
fn access(config: &Config) -> String {
    let asked = match config.access_rule() {
        AccessRule::Open => "nobody is asked who they are".to_owned(),
        AccessRule::Certificates => "whoever has a client certificate may do everything".to_owned(),
        AccessRule::Policy(path) => format!("by {}", path.display()),
    };
    let tls = if config.tls().is_some() { "over TLS" } else { "without TLS" };
    format!("{asked}, {tls}")
}

fn held(config: &Config, recovery: &RecoveryReport) -> String {
    let folder = config.data_dir.display();
    match recovery.topics {
        0 => format!("{folder} (no topics yet)"),
        topics => format!(
            "{folder} ({}, {})",
            counted(topics as u64, "topic"),
            counted(recovery.messages, "message")
        ),
    }
}

/// What the last run left behind, and how long it took to take it up.
fn recovered(recovery: &RecoveryReport) -> String {
    let took = in_short(recovery.took);
    if recovery.fresh {
        return format!("a new data folder, made in {took}");
    }
    if recovery.journal_bytes == 0 && recovery.torn_bytes == 0 {
        return format!("none needed, opened in {took}");
    }
    // On a full disk a run that was stopped in order leaves its journal to be read back as well.
    let why = match recovery.full {
        Some(_) => "the disk is full, so the journal stays in use",
        None => "the last run ended without warning",
    };
    let mut says = format!(
        "{why}: {} read back from {} of journal in {took}",
        counted(recovery.replayed_records, "record"),
        about_bytes(recovery.journal_bytes)
    );
    if recovery.torn_bytes > 0 {
        let torn = about_bytes(recovery.torn_bytes);
        write!(says, "; {torn} at its end were half written, never acknowledged, and cut")
            .expect("a String takes everything");
    }
    says
}

fn what_an_ack_means(durability: Durability) -> &'static str {
    match durability {
        Durability::Fsync => "the message is on disk and survives a power cut (durability fsync)",
        Durability::Written => {
            "the operating system has the message: it survives the broker's death, not a power cut (durability written)"
        }
        Durability::Memory => "the message is in memory and survives nothing (durability memory)",
    }
}

fn counted(number: u64, unit: &str) -> String {
    let plural = if number == 1 { "" } else { "s" };
    format!("{} {unit}{plural}", grouped(number))
}

fn in_short(took: Duration) -> String {
    if took < Duration::from_secs(1) {
        format!("{:.1} ms", took.as_secs_f64() * 1e3)
    } else {
        format!("{:.2} s", took.as_secs_f64())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(replayed_records: u64, torn_bytes: u64) -> RecoveryReport {
        RecoveryReport {
            topics: 1,
            messages: 12_345,
            replayed_records,
            journal_bytes: replayed_records * 2048,
            torn_bytes,
            damage: Vec::new(),
            full: None,
            took: Duration::from_micros(12_340),
            fresh: false,
        }
    }

    #[test]
    fn recovery_is_told_in_a_sentence() {
        assert_eq!(recovered(&report(0, 0)), "none needed, opened in 12.3 ms");
        assert_eq!(
            recovered(&report(1, 0)),
            "the last run ended without warning: 1 record read back from 2.00 KiB of journal in 12.3 ms"
        );
        let full = RecoveryReport { full: Some("the disk is full".to_owned()), ..report(1, 0) };
        assert_eq!(
            recovered(&full),
            "the disk is full, so the journal stays in use: 1 record read back from 2.00 KiB of journal in 12.3 ms"
        );
        assert!(
            recovered(&report(1, 100))
                .ends_with("; 100 B at its end were half written, never acknowledged, and cut")
        );
    }
}
