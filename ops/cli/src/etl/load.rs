//! `millstream etl load`.

use std::path::PathBuf;
use std::sync::Arc;

use millstream_etl::{LoadSpec, Progress};

use super::view::Loaded;
use super::watch::watch;
use crate::connection::Connection;
use crate::failure::Result;
use crate::output::{Output, print};
use crate::progress;

/// Load NDJSON, CSV or Parquet files into a topic: each row exactly once for readers of what is committed,
/// however often it is killed and run again.
#[derive(clap::Args)]
#[command(after_long_help = EXAMPLE)]
pub(super) struct Args {
    /// What to read and where it goes, in TOML; --help shows one with everything in it.
    file: PathBuf,
}

const EXAMPLE: &str = r#"A file, with everything that can be in it:

  name  = "flights-2013-01"     # under which the cluster remembers how far it is
  topic = "flights"             # which has to be there
  files = ["flights.csv"]       # in their order; they may not change before the load is finished

  [input]
  format    = "csv"             # or "ndjson", or "parquet"
  header    = true              # default shown: whether the first line of CSV names the columns
  delimiter = ","               # default shown
  null      = "NA"              # the text that means none; there is none when left out
  on_error  = "fail"            # default shown; or "skip": leave out and count

  [[columns]]                   # what values are made of; as the file has it when left out
  name  = "delay"
  type  = "int64"               # or "float64", "bool", "string", "timestamp"
  field = "arr_delay"           # its name in the header or in the row; its own name when left out

  [record]
  value     = "json"            # default shown: an object of the columns; or "line": as it is
  key       = "carrier"         # which column is the key; none when left out
  timestamp = "time_hour"       # which is the time; when it is loaded, when left out

  [transaction]                 # defaults shown: a transaction ends with the first that is reached
  rows  = 1000
  bytes = "1MiB"
"#;

pub(super) fn run(args: Args, connection: &Connection, output: Output) -> Result {
    let spec = LoadSpec::read(&args.file)?;
    connection.session(async |client| {
        let progress = Arc::<Progress>::default();
        let work = millstream_etl::load(client, &spec, Arc::clone(&progress));
        let bar = |total| progress::bytes("loading", Some(total));
        let summary = watch(&progress, bar, work).await?;
        print(&Loaded(summary), output)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_example_in_the_help_is_a_file_that_can_be_loaded() {
        let (_, file) = EXAMPLE.split_once("\n\n").expect("a heading and the file");
        LoadSpec::parse(file).expect("a load");
    }
}
