//! The command line: commands, and what is said about them.

use clap::builder::styling::{AnsiColor, Styles};
use clap::{Parser, Subcommand};

use ratatoskr_bench::BenchArguments;

use crate::commands::access::AccessCommand;
use crate::commands::config::ConfigArguments;
use crate::commands::consume::ConsumeArguments;
use crate::commands::dead_letters::DeadLettersCommand;
use crate::commands::doctor::DoctorArguments;
use crate::commands::publish::PublishArguments;
use crate::commands::serve::ServeArguments;
use crate::commands::stats::StatsArguments;
use crate::commands::subscribe::SubscribeArguments;
use crate::commands::subscription::SubscriptionCommand;
use crate::commands::topic::TopicCommand;
use crate::commands::trace::TraceArguments;
use crate::connection_flags::ConnectionFlags;
use crate::exit::EXIT_CODES_HELP;

/// At most 80 columns, so that no terminal breaks them. Clap takes braces around an n for a line break; with
/// spaces it does not.
const EXAMPLES: &str = "\
Examples:
  ratatoskr serve                                  start a broker
  ratatoskr pub orders 'order {{ n }}' --count 10  publish ten messages
  ratatoskr sub orders --from earliest             read them, follow the topic";

const STYLES: Styles = Styles::styled()
    .header(AnsiColor::Green.on_default().bold())
    .usage(AnsiColor::Green.on_default().bold())
    .literal(AnsiColor::Cyan.on_default().bold())
    .placeholder(AnsiColor::Cyan.on_default());

/// A lightweight message broker: an ack means the message is on disk.
#[derive(Debug, Parser)]
#[command(name = "ratatoskr", version, styles = STYLES, before_help = EXAMPLES, after_help = EXIT_CODES_HELP)]
#[command(arg_required_else_help = true, disable_help_subcommand = true, max_term_width = 110)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) connection: ConnectionFlags,

    #[command(subcommand)]
    pub(crate) command: Command,
}

/// Everything the program does.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Start a broker
    Serve(ServeArguments),
    /// Create, list, show, change, empty and delete topics
    #[command(subcommand)]
    Topic(TopicCommand),
    /// Publish messages: an argument, standard input, or a file line by line
    Pub(PublishArguments),
    /// Read a topic from any place, and follow it
    Sub(SubscribeArguments),
    /// Create, list, show, change, move and look into durable subscriptions
    #[command(subcommand)]
    Subscription(SubscriptionCommand),
    /// Work through a durable subscription: print and ack, or run a command for each message
    Consume(ConsumeArguments),
    /// Look at what no member could settle, send it again, or drop it
    #[command(subcommand)]
    DeadLetters(DeadLettersCommand),
    /// Tell the life of one message
    Trace(TraceArguments),
    /// Show figures of the broker, or of one topic
    Stats(StatsArguments),
    /// Look at a data directory that no broker uses, and say what is wrong with it
    Doctor(DoctorArguments),
    /// Measure a broker: throughput, latency, memory, recovery
    Bench(BenchArguments),
    /// Make tokens, and check the file that says who may do what
    #[command(subcommand)]
    Access(AccessCommand),
    /// Show every setting in force and where it came from
    Config(ConfigArguments),
    /// Print a completion script for a shell
    Completions {
        /// The shell
        shell: clap_complete::Shell,
    },
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory as _;

    #[test]
    fn the_command_line_is_well_formed() {
        Cli::command().debug_assert();
    }

    #[test]
    fn help_opens_with_three_examples() {
        let help = Cli::command().render_long_help().to_string();
        assert!(help.starts_with("Examples:"), "{help}");
        assert_eq!(help.lines().skip(1).take_while(|line| line.starts_with("  ratatoskr ")).count(), 3);
        assert!(help.contains("Exit codes:"));
    }

    #[test]
    fn the_page_in_docs_names_every_command_option_and_exit_code() {
        let page =
            std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/cli.md")).unwrap();
        let mut command = Cli::command();
        command.build();
        let mut waiting = vec![command];
        while let Some(command) = waiting.pop() {
            assert!(
                page.contains(&format!("`{}", command.get_bin_name().unwrap_or("ratatoskr"))),
                "{command}"
            );
            for option in command.get_arguments().filter_map(|argument| argument.get_long()) {
                let is_setting = crate::setting_flags::is_setting(option);
                let known = is_setting || matches!(option, "help" | "version" | "markdown");
                assert!(
                    known || page.contains(&format!("--{option}")),
                    "docs/cli.md does not name --{option}"
                );
            }
            waiting.extend(command.get_subcommands().cloned());
        }
        for line in EXIT_CODES_HELP.lines().skip(1) {
            let (code, meaning) = line.trim().split_once("  ").unwrap();
            assert!(
                page.contains(&format!("| {code} | {meaning} |")),
                "docs/cli.md does not say: {code} {meaning}"
            );
        }
    }
}
