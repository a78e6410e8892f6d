//! `docs/config.md`, written from the table.

use std::fmt::Write as _;

use super::sources::FILE_DEFAULT;
use super::table::SETTINGS;

/// The text of `docs/config.md`. A test compares it with the file;
/// `ratatoskr config --markdown > docs/config.md` writes it anew.
pub fn markdown() -> String {
    let mut page = format!(
        "# Configuration\n\n\
         `ratatoskr serve` needs none: every setting has a default. A value is taken from the last of these that \
         gives one:\n\n\
         1. the default below,\n\
         2. the file: `--config FILE`, else the file that `RATATOSKR_CONFIG` names, else `{FILE_DEFAULT}` in the \
         current folder if it is there,\n\
         3. the environment,\n\
         4. the flags of `serve`.\n\n\
         `ratatoskr config` prints every value in force and where it came from. Unknown keys, unknown `RATATOSKR_` \
         variables and values out of range are errors, also where a later source overrides them.\n\n\
         A size is a number of bytes, or a number with a unit: `64MiB` (powers of 1024), `100MB` (powers of 1000). A \
         duration is a number with a unit: `250ms`, `30s`, `15m`, `12h`, `7d`, `2w`. `none` means no bound of that \
         kind.\n\n\
         | key in the file | flag | variable | default | allowed |\n|---|---|---|---|---|\n"
    );
    for setting in SETTINGS {
        let (flag, variable, allowed) = (setting.flag(), setting.variable(), setting.kind.allowed());
        let row = format!(
            "| `{}` | `--{flag}` | `{variable}` | `{}` | {allowed} |\n",
            setting.key, setting.default
        );
        page.push_str(&row);
    }
    page.push_str("\n## What each is for\n\n");
    for setting in SETTINGS {
        writeln!(page, "- **`{}`**: {}", setting.key, setting.help).expect("a String takes everything");
    }
    page.push_str(
        "\n## A file\n\n```toml\n\
         # ratatoskr.toml: keys are flat; what is not given keeps its default.\n\
         data_dir = \"/var/lib/ratatoskr\"\n\
         grpc_addr = \"127.0.0.1:50051\"\n\
         retention_age = \"3d\"\n\
         retention_bytes = \"20GiB\"\n\
         subscribers_max = 1000\n\
         ```\n",
    );
    page.push_str("\nThis page is written by `ratatoskr config --markdown > docs/config.md`.\n");
    page
}
