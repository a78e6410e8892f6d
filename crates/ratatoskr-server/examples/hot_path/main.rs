//! The hot path in named pieces, each done as often as told: what `cargo xtask instructions` counts the instructions of.
//!
//! ```text
//!   hot_path               ──▶ the names of the pieces, one a line
//!   hot_path PIECE ROUNDS  ──▶ does the piece so often, and prints how many operations that were
//! ```
//!
//! Invariants: the same work each time, whatever the clock says and without randomness of its own; what is counted happens on the main thread,
//! because the threads of a broker do other things as time goes by; inputs pass through [`black_box`](std::hint::black_box), or the compiler would do the work once.
//! It stands on public interfaces alone, so it is done here as the server's door does it, and not by the door. What it does not do: measure time
//! (`ratatoskr bench` does).

mod http2;
mod publishing;
mod subscribing;

use std::process::ExitCode;

/// One part of the hot path.
struct Piece {
    name: &'static str,
    /// What a count is for: calls, messages … of one round.
    operations: u64,
    /// Makes all that is needed ready; what it gives does one round.
    prepare: fn() -> Box<dyn FnMut()>,
}

const PIECES: &[Piece] = &[
    Piece { name: "hpack", operations: 1, prepare: http2::hpack },
    Piece { name: "call", operations: 1, prepare: http2::call },
    Piece { name: "feed", operations: 1, prepare: http2::feed },
    Piece { name: "read", operations: 1, prepare: publishing::read },
    Piece { name: "draft", operations: 1, prepare: publishing::draft },
    Piece { name: "batch", operations: publishing::BATCH_MESSAGES, prepare: publishing::batch },
    Piece { name: "receipt", operations: 1, prepare: publishing::receipt },
    Piece { name: "follow", operations: subscribing::MESSAGES, prepare: subscribing::follow },
    Piece { name: "frames", operations: subscribing::MESSAGES, prepare: subscribing::frames },
];

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [name, rounds] = arguments.as_slice() else {
        for piece in PIECES {
            println!("{}", piece.name);
        }
        return ExitCode::SUCCESS;
    };
    let piece = PIECES.iter().find(|piece| piece.name == name);
    let (Some(piece), Ok(rounds)) = (piece, rounds.parse::<u64>()) else {
        eprintln!("usage: hot_path PIECE ROUNDS; without arguments it lists the pieces");
        return ExitCode::FAILURE;
    };
    let mut round = (piece.prepare)();
    for _ in 0..rounds {
        round();
    }
    println!("{}", rounds * piece.operations);
    ExitCode::SUCCESS
}
