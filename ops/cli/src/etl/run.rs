//! `millstream etl run`.

use std::path::PathBuf;
use std::sync::Arc;

use millstream_etl::{Progress, RunSpec};

use super::view::Ran;
use super::watch::watch;
use crate::connection::Connection;
use crate::failure::Result;
use crate::output::{Output, print};
use crate::progress;

/// Write a range of a topic into NDJSON, CSV or Parquet files: each record exactly once, however often it
/// is killed and run again.
#[derive(clap::Args)]
#[command(after_long_help = EXAMPLE)]
pub(super) struct Args {
    /// What to read and where to write, in TOML; --help shows one with everything in it.
    file: PathBuf,
}

const EXAMPLE: &str = r#"A file, with everything that can be in it:

  topic      = "flights"
  partitions = [0, 1]           # all of them when left out
  parallel   = 2                # partitions at a time; as many as cores when left out
  read_uncommitted = false      # default shown

  # Which records: "since-last-run", or from and to, each "earliest", "latest", a time, an offset, or
  # offsets of partitions such as { 0 = 1200, 1 = 900 }. Defaults shown.
  range = { from = "earliest", to = "latest" }

  [filter]                      # decides on the broker what is kept; everything when left out
  module = "keep-late@1"
  params = { column = 8, above = 60 }

  [input]
  format    = "csv"             # or "json", or "raw": a text that is one column as it is
  delimiter = ","               # default shown
  null      = "NA"              # the text that means none; there is none when left out
  on_error  = "fail"            # default shown; or "skip": leave out and count

  [[columns]]                   # for each column
  name  = "delay"
  type  = "int64"               # or "float64", "bool", "string", "timestamp"
  null  = ""                    # for this column
  index = 8                     # which field of CSV, from 0; its own place when left out
  # field = "arr_delay"         # which field of JSON; that of its name when left out

  [output]
  directory   = "late"          # made if it is not there
  format      = "parquet"       # or "ndjson", or "csv"
  compression = "zstd"          # default shown; or "snappy", or "none": for Parquet
  null        = ""              # default shown: what stands for none in CSV
  metadata    = ["_partition", "_offset", "_timestamp", "_key"] # columns besides; none when left out
  roll_bytes  = "128MiB"        # default shown: how large a file becomes
  roll_rows   = 1000000         # how many rows it has at most; no limit when left out
"#;

pub(super) fn run(args: Args, connection: &Connection, output: Output) -> Result {
    let spec = RunSpec::read(&args.file)?;
    connection.session(async |client| {
        let progress = Arc::<Progress>::default();
        let work = millstream_etl::run(client, &spec, Arc::clone(&progress));
        let bar = |total| progress::records("reading", total);
        let summary = watch(&progress, bar, work).await?;
        print(&Ran(summary), output)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_example_in_the_help_is_a_file_that_can_be_run() {
        let (_, file) = EXAMPLE.split_once("\n\n").expect("a heading and the file");
        RunSpec::parse(file).expect("a run");
    }
}
