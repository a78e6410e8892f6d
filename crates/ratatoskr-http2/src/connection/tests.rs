//! A connection against a peer that says what it likes.
//!
//! ```text
//!   rules    one rule of RFC 9113 a line: what is said, what comes of it          (words: wire)
//!   flow     windows, turns, what is sent and when
//!   calls    streams from their beginning to every end they can have
//!   limits   what a peer gets that asks too much
//!   random   two ends, a pipe cut anywhere; noise and damaged traffic
//! ```

mod calls;
mod flow;
mod limits;
mod random;
mod rules;
mod wire;
