//! A simulated disk and clock, to prove what a crash cannot take.
//!
//! ```text
//!   log under test ──▶ SimDisk ──crash(seed)──▶ SimDisk ──▶ log opened again ──▶ Promises::check
//!                                                                    what was promised, what may be seen
//! ```
//!
//! [`SimDisk`] implements the log's `Disk`: it keeps apart what is written and what is durable, and a power cut
//! leaves any mix the assumptions of `docs/log-format.md` allow. [`SimClock`] implements its `Clock`.
//! [`Promises`] is the judge: it is told what the log acknowledged and says whether what is found may be.
//! [`fuzz`] is for whoever reads bytes he did not write. Everything random comes from a seed, so every failure can be played again.
//!
//! ```
//! use std::path::Path;
//! use ratatoskr_log::{Disk, OpenMode};
//! use ratatoskr_sim::{SimDisk, Survival};
//!
//! let disk = SimDisk::new();
//! let file = disk.open(Path::new("/note"), OpenMode::CreateNew)?;
//! file.write_all_at(b"hello", 0)?;
//! file.sync_data()?;
//! // The content is durable, the name is not:
//! assert!(disk.crash(Survival::Nothing).list(Path::new("/"))?.is_empty());
//! disk.sync_dir(Path::new("/"))?;
//! assert_eq!(disk.crash(Survival::Nothing).list(Path::new("/"))?, ["note"]);
//! # Ok::<(), std::io::Error>(())
//! ```

mod clock;
mod disk;
mod faults;
mod fields;
mod fuzz;
mod handle;
mod mutator;
mod names;
mod promises;
mod sectors;
mod tree;

pub use clock::SimClock;
pub use disk::SimDisk;
pub use faults::Lie;
pub use fuzz::{Target, fuzz};
pub use mutator::{Mutator, Shape};
pub use promises::{Broken, Event, Loss, Promises, State, TopicState};
pub use tree::Survival;
