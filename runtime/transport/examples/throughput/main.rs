//! What the transport carries on this machine: bulk, small frames and round trips, beside plain quinn.
//!
//! ```text
//! cargo run --release -p millstream-transport --example throughput [-- GIGABYTES]
//! ```
//!
//! Two processes, each with one current-thread runtime, over loopback. Every line is one run; what
//! counts is the ratio of lines of one invocation.

#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a measurement, not a part of the broker"
)]

mod baseline;
mod cost;
mod framed;

use std::io::{BufRead, BufReader};
use std::process::{Child, ChildStdout, Command, Stdio};

/// Bytes of one bulk body, as a producer's batch.
const BODY: usize = 512 << 10;

fn main() {
    let mut args = std::env::args().skip(1);
    match args.next().as_deref() {
        Some("serve-framed") => runtime().block_on(framed::serve()),
        Some("serve-baseline") => runtime().block_on(baseline::serve()),
        gigabytes => run(gigabytes.map_or(4, |g| g.parse().expect("gigabytes to push"))),
    }
}

fn run(gigabytes: u64) {
    for _ in 0..3 {
        let mut server = Server::start("serve-baseline");
        runtime().block_on(baseline::bulk(&server.hello, gigabytes));
        server.finish();
        let mut server = Server::start("serve-framed");
        runtime().block_on(framed::bulk(&server.hello, gigabytes));
        server.finish();
    }
    for (batch, flush) in [(1, "each flushed"), (64, "64 to a flush")] {
        let mut server = Server::start("serve-framed");
        runtime().block_on(framed::small(&server.hello, batch, flush));
        server.finish();
    }
    let mut server = Server::start("serve-framed");
    for in_flight in [1, 16, 256] {
        runtime().block_on(framed::round_trips(&server.hello, in_flight));
    }
    for in_flight in [1, 16, 256] {
        runtime().block_on(framed::calls(&server.hello, in_flight));
    }
    server.child.kill().unwrap();
    server.child.wait().unwrap();
}

/// The other process; its first line says how to reach it, its last what it cost.
struct Server {
    child: Child,
    output: BufReader<ChildStdout>,
    hello: String,
}

impl Server {
    fn start(mode: &str) -> Self {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .arg(mode)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut output = BufReader::new(child.stdout.take().unwrap());
        let mut hello = String::new();
        output.read_line(&mut hello).unwrap();
        Self { child, output, hello: hello.trim().to_owned() }
    }

    fn finish(&mut self) {
        let mut line = String::new();
        self.output.read_line(&mut line).unwrap();
        println!("    {}", line.trim());
        self.child.wait().unwrap();
    }
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap()
}
