//! `millstream serve`: a broker in this process.
//!
//! Invariant: the first signal stops it gracefully, the second at once.

use std::net::SocketAddr;
use std::path::PathBuf;

use millstream_broker::config::{Config, Overrides};

use crate::failure::{Failure, Result};
use crate::output::{Output, json};
use crate::signals::Stop;
use crate::{connection, logging, output};

/// Run a broker.
///
/// Its configuration comes from defaults, a TOML file, the environment (MILLSTREAM_SECTION_KEY)
/// and flags; later ones win. --print-config shows the result.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// A configuration file, TOML.
    #[arg(long, value_name = "FILE", env = "MILLSTREAM_CONFIG", hide_env_values = true)]
    config: Option<PathBuf>,
    /// Where logs, metadata, modules and certificates lie [default: ./millstream-data].
    #[arg(long, value_name = "DIR", env = connection::DATA_DIR_VARIABLE, hide_env_values = true)]
    data_dir: Option<PathBuf>,
    /// The UDP address for clients [default: 127.0.0.1:9440].
    #[arg(long, value_name = "ADDR")]
    listen: Option<SocketAddr>,
    /// The TCP address for /metrics, /healthz and /readyz [default: 127.0.0.1:9441].
    #[arg(long, value_name = "ADDR")]
    admin: Option<SocketAddr>,
    /// The broker's number in the cluster [default: 1].
    #[arg(long, value_name = "N")]
    node_id: Option<u32>,
    /// Brokers of the cluster to be part of, HOST:PORT with commas between. Matters until it is.
    #[arg(long, value_name = "ADDRS")]
    join: Option<String>,
    /// What the broker shares the fate of, such as a rack or a zone: replicas are spread over them.
    #[arg(long, value_name = "NAME")]
    rack: Option<String>,
    /// How log lines look [default: text].
    #[arg(long, value_name = "FORMAT")]
    log_format: Option<Format>,
    /// What is logged, such as info, or info,millstream_broker=debug [default: info].
    #[arg(long, value_name = "LEVEL")]
    log_level: Option<String>,
    /// Check the configuration and leave.
    #[arg(long)]
    check: bool,
    /// Print the configuration in force and leave.
    #[arg(long)]
    print_config: bool,
}

/// How log lines look.
#[derive(Clone, Copy, Debug, clap::ValueEnum)]
enum Format {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

impl Format {
    const fn name(self) -> &'static str {
        match self {
            Self::Text => "text",
            Self::Json => "json",
        }
    }
}

/// Runs a broker until it is told to stop.
pub(crate) fn run(args: Args, output: Output) -> Result {
    let (check, print_config) = (args.check, args.print_config);
    let config = load(args)?;
    logging::filter(&config.log.level)?;
    if print_config {
        return print(&config, output);
    }
    if check {
        output::say("the configuration is good");
        return Ok(());
    }
    logging::start(&config.log.level, config.log.format)?;
    serve(config)
}

fn load(args: Args) -> Result<Config> {
    let flags = Overrides::default()
        .set("server", "data_dir", args.data_dir.map(|dir| dir.display().to_string()))
        .set("server", "listen", args.listen)
        .set("server", "node_id", args.node_id)
        .set("server", "join", args.join)
        .set("server", "rack", args.rack)
        .set("admin", "listen", args.admin)
        .set("log", "format", args.log_format.map(Format::name))
        .set("log", "level", args.log_level);
    let environment = std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)));
    Config::load(args.config.as_deref(), environment, &flags).map_err(|error| {
        Failure::new(error)
            .or_hint("`millstream serve --print-config`, without what is wrong, shows every key and its value")
    })
}

fn print(config: &Config, output: Output) -> Result {
    output::text(&match output {
        Output::Table => config.to_toml(),
        Output::Json => json(config),
    })
}

fn serve(config: Config) -> Result {
    // Only waits: the broker brings its own threads.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let (mut first, mut second) = (Stop::listen()?, Stop::listen()?);
        let shutdown = async {
            let signal = first.requested().await;
            tracing::info!(signal, "stopping; the same again stops at once");
        };
        let impatience = async {
            second.requested().await;
            second.requested().await
        };
        tokio::select! {
            ended = millstream_broker::run(config, shutdown) => ended.map_err(Failure::new),
            signal = impatience => Err(Failure::new(format!("stopped at once by a second {signal}"))
                .or_hint("nothing: the next start recovers by itself")),
        }
    })
}
