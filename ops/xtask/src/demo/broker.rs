//! A broker as a child process on free ports of the loopback interface.
//!
//! Invariant: the child never outlives this value: dropping it asks the broker to stop, and then
//! makes it.

use std::fs::{self, File};
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Error, Result, bail};

use super::cli::Millstream;
use super::{tail, wait};

/// How long a broker may take until it serves.
const START: Duration = Duration::from_secs(60);
/// How long it may take to leave once it was asked to.
const STOP: Duration = Duration::from_secs(15);
/// Another process may take a port between our looking and the broker's binding.
const ATTEMPTS: usize = 5;

/// A running broker.
pub(crate) struct Broker {
    child: Child,
    binary: PathBuf,
    data: PathBuf,
    log: PathBuf,
    listen: SocketAddr,
    admin: SocketAddr,
    started: Instant,
    took: Duration,
}

impl Broker {
    /// Starts a broker on a data directory and waits until it is ready.
    pub(crate) fn start(binary: &Path, data: &Path) -> Result<Self> {
        let mut last = None;
        for _ in 0..ATTEMPTS {
            match Self::attempt(binary, data) {
                Ok(broker) => return Ok(broker),
                Err(error) if error.to_string().contains("in use") => last = Some(error),
                Err(error) => return Err(error),
            }
        }
        Err(last.context("no attempt was made")?)
    }

    fn attempt(binary: &Path, data: &Path) -> Result<Self> {
        let addresses = (free_udp()?, free_tcp()?);
        let mut broker = Self::spawn(binary, data, addresses, |command| command)?;
        broker.wait()?;
        Ok(broker)
    }

    /// Starts one at addresses for clients and for the admin port, and does not wait.
    pub(crate) fn spawn(
        binary: &Path,
        data: &Path,
        (listen, admin): (SocketAddr, SocketAddr),
        more: impl FnOnce(&mut Command) -> &mut Command,
    ) -> Result<Self> {
        fs::create_dir_all(data).with_context(|| format!("cannot create {}", data.display()))?;
        let log = data.with_extension("log");
        let started = Instant::now();
        let mut serve = Command::new(binary);
        serve
            .arg("serve")
            .arg("--data-dir")
            .arg(data)
            .args(["--listen", &listen.to_string(), "--admin", &admin.to_string()])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(File::create(&log).context("cannot create the broker's log")?);
        let child = more(&mut serve).spawn();
        let child = child.with_context(|| format!("{} did not start", binary.display()))?;
        let (binary, data) = (binary.to_owned(), data.to_owned());
        let took = Duration::ZERO;
        Ok(Self { child, binary, data, log, listen, admin, started, took })
    }

    /// Waits until it is ready.
    pub(crate) fn wait(&mut self) -> Result<()> {
        wait::until("the broker to be ready", START, || self.ready())
            .map_err(|error| self.explain(error))?;
        self.took = self.started.elapsed();
        Ok(())
    }

    fn ready(&mut self) -> Result<Option<()>> {
        if let Some(status) = self.ended()? {
            bail!("the broker left: {status}\n{}", tail(&self.log, 20));
        }
        Ok(answers(self.admin, "/readyz").then_some(()))
    }

    /// How it ended, if it has.
    pub(crate) fn ended(&mut self) -> Result<Option<ExitStatus>> {
        Ok(self.child.try_wait()?)
    }

    /// Where it writes what it says.
    pub(crate) fn log(&self) -> &Path {
        &self.log
    }

    /// Its process.
    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// Where clients find it.
    pub(crate) fn listen(&self) -> SocketAddr {
        self.listen
    }

    /// How long it took from its start until it was ready.
    pub(crate) fn took(&self) -> Duration {
        self.took
    }

    /// The command line, turned to this broker.
    pub(crate) fn client(&self) -> Millstream {
        Millstream::new(&self.binary, &self.listen.to_string(), &self.data)
    }

    /// An error, with the end of the broker's log.
    pub(crate) fn explain(&self, error: Error) -> Error {
        error.context(format!("the broker's log ends with\n{}\n", tail(&self.log, 20)))
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        if matches!(self.child.try_wait(), Ok(Some(_))) {
            return;
        }
        // Whatever fails here, the last line makes an end of it.
        let id = self.child.id().to_string();
        let asked = Command::new("kill").args(["-TERM", &id]).stderr(Stdio::null()).status();
        if matches!(asked, Ok(status) if status.success()) {
            let left = wait::until("the broker to leave", STOP, || Ok(self.child.try_wait()?));
            if left.is_err() {
                eprintln!("the broker did not leave within {} s of SIGTERM", STOP.as_secs());
            }
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn free_udp() -> Result<SocketAddr> {
    Ok(UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).context("no free UDP port")?.local_addr()?)
}

fn free_tcp() -> Result<SocketAddr> {
    Ok(TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).context("no free TCP port")?.local_addr()?)
}

/// Whether an HTTP GET is answered with 200.
fn answers(at: SocketAddr, path: &str) -> bool {
    let asked = || -> std::io::Result<bool> {
        let patience = Duration::from_secs(1);
        let mut stream = TcpStream::connect_timeout(&at, patience)?;
        stream.set_read_timeout(Some(patience))?;
        let request = format!("GET {path} HTTP/1.1\r\nhost: {at}\r\nconnection: close\r\n\r\n");
        stream.write_all(request.as_bytes())?;
        let mut answer = String::new();
        stream.take(4096).read_to_string(&mut answer)?;
        Ok(answer.split_whitespace().nth(1) == Some("200"))
    };
    asked().unwrap_or(false)
}

#[cfg(test)]
mod tests {
    use std::thread;

    use super::*;

    fn server(answer: &'static str) -> SocketAddr {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let at = listener.local_addr().unwrap();
        thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            // All of it: a socket that is closed over unread bytes takes the answer with it.
            let mut request = Vec::new();
            while !request.ends_with(b"\r\n\r\n") {
                let mut byte = [0];
                stream.read_exact(&mut byte).unwrap();
                request.extend(byte);
            }
            assert!(request.starts_with(b"GET /readyz"));
            stream.write_all(answer.as_bytes()).unwrap();
        });
        at
    }

    #[test]
    fn only_the_status_200_means_ready() {
        assert!(answers(server("HTTP/1.1 200 OK\r\n\r\nready"), "/readyz"));
        assert!(!answers(server("HTTP/1.1 503 Service Unavailable\r\n\r\n"), "/readyz"));
        assert!(!answers(free_tcp().unwrap(), "/readyz"));
    }

    #[test]
    fn a_broker_that_leaves_at_once_is_explained_by_its_log() {
        let folder = tempfile::tempdir().unwrap();
        let script = folder.path().join("broker.sh");
        fs::write(&script, "#!/bin/sh\necho no such disk >&2\nexit 1\n").unwrap();
        let mut mode = fs::metadata(&script).unwrap().permissions();
        std::os::unix::fs::PermissionsExt::set_mode(&mut mode, 0o755);
        fs::set_permissions(&script, mode).unwrap();
        let error = Broker::start(&script, &folder.path().join("data")).err().unwrap();
        assert!(format!("{error:#}").contains("no such disk"), "{error:#}");
    }
}
